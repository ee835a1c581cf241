"""Whatever was done to a journal: the run goes on, or one sentence says what is wrong with it."""

from __future__ import annotations

import copy
import json
import os
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from clvr_core.batch import Job, run_batch
from clvr_core.brief import Brief, Budget, Goal
from clvr_core.errors import BadInput
from clvr_core.models.registry import Models
from clvr_core.run.lines import standing, trajectory_from
from clvr_core.run.memory_folder import MemoryFolder
from clvr_core.run.reading import read_journal, read_trajectory
from clvr_core.run.run_folder import JOURNAL, RunFolder
from clvr_core.run.session import RunModels, Session, drive, resume
from tests.fakes import FakeExecutor, FakeVlm
from tests.run import journals
from tests.run.script import a_brief
from tests.run.test_session import EVERYTHING, everything
from tests.waiting import ending

CHANGES = 50
"""Of each run."""
VALUES = (None, "", "x", "g1", "EDIT", "END", [], [[]], {}, -1, 0, 1, 7, 99, 10**30, 0.5, -0.5, 1e300, True, [0, 0, 1])


class Kept(MemoryFolder):
    """The runs of tests.run.journals, kept in memory with their pictures."""

    made: Kept

    @classmethod
    def create(cls, path: Path) -> Kept:
        cls.made = cls()
        return cls.made

    @classmethod
    def open(cls, path: Path) -> Kept:
        return cls.made

    def changed(self, lines: list[dict[str, Any]]) -> MemoryFolder:
        other = MemoryFolder()
        other.lines, other._drawings, other._masks = lines, dict(self._drawings), dict(self._masks)
        return other


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Kept]:
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journals, "RunFolder", Kept)
        for name in ("nice-missed", "rolled-back", "reviewed", "validated", "given", "rewound"):
            journals.RUNS[name](Path("memory"))
            found[name] = Kept.made
    found["everything"] = Kept()
    drive(Session(a_brief(**EVERYTHING), RunModels(everything(), FakeExecutor()), found["everything"]))
    found["set"] = Kept()
    brief = a_brief(strategy="best-of-n", candidates=2, judging="set", goals=(Goal("g1", "a cat"), Goal("g2", "a dog")))
    drive(Session(brief, models(), found["set"]))
    return found


def models() -> RunModels:
    """They answer nothing that is of use, so that whatever goes on ends soon."""
    return RunModels(FakeVlm(lambda messages: "no", lambda images, questions: [0.5] * len(questions)), FakeExecutor())


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in parsed JSON, as the container and the key."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in ((value, key), *places(value[key]))]


def damaged(lines: list[dict[str, Any]], rng: random.Random) -> list[dict[str, Any]]:
    number = rng.randrange(len(lines))
    lines = [*lines[:number], copy.deepcopy(lines[number]), *lines[number + 1 :]]
    found = places(lines[number])
    container, key = rng.choice([place for place in found if place != (lines[number], "event")])
    how = rng.randrange(5)
    if how == 0:
        del container[key]
    elif how == 1 and isinstance(container[key], list) and container[key]:
        container[key].append(copy.deepcopy(rng.choice(container[key])))
    elif how == 2:
        other, place = rng.choice(places(rng.choice(lines)))
        container[key] = copy.deepcopy(other[place])
    else:
        container[key] = copy.deepcopy(rng.choice(VALUES))
    return lines[: number + 1] if rng.random() < 0.7 else lines


@pytest.mark.parametrize(
    "name", ["nice-missed", "rolled-back", "reviewed", "validated", "given", "rewound", "everything", "set"]
)
def test_any_one_change_of_a_journal_is_a_sentence_or_goes_on(runs, name):
    rng, ended = random.Random(name), 0
    for _ in range(CHANGES):
        lines = damaged(runs[name].lines, rng)
        with ending():
            try:
                ended += drive(resume(runs[name].changed(lines), models())).outcome is not None
            except BadInput as error:
                assert "\n" not in str(error) and len(str(error)) < 1000
            except Exception as error:
                raise AssertionError(f"{error!r} for {json.dumps(lines)}") from error
            with suppress(ValueError):
                trajectory_from(standing(lines)[0])
    assert 0 < ended < CHANGES


def at(event: str, change):
    def damage(lines):
        number = next(number for number, line in enumerate(lines) if line["event"] == event)
        change(lines[number]["result"])
        return lines[: number + 1]

    return damage


@pytest.mark.parametrize(
    ("event", "change", "said"),
    [
        ("judged", {"verdicts": []}, "0 pictures are judged, and 2 are due"),
        ("judged", {"verdicts": [[], []]}, r"the verdicts are on \[\], and the goals are \['g1', 'g2', 'g3'\]"),
        ("judged", {"pick": 7}, "it picks picture 7 of 2"),
        ("judged", {"pick": -1}, "it picks picture -1 of 2"),
        ("judged", {"edits": [{}]}, "1 edits are judged, and 2 are due"),
        ("judged", lambda it: it["verdicts"][0].append(it["verdicts"][0][0]), "the verdicts are on .*'g1', 'g1'"),
        ("judged", lambda it: it["verdicts"][0][0].update(goal="zz"), "the verdicts are on .*'zz'"),
        (
            "drawn",
            lambda it: it["candidates"][0].update(canvas=99),
            r"it draws the canvases \[99, 1\], and the next one is 0",
        ),
        ("drawn", lambda it: it["candidates"][0].update(nfe=-1), "a picture of -1 evaluations"),
        ("drawn", {"cost": {"evaluations": -(10**9)}}, "the cost has -1000000000"),
        ("action", lambda it: it["action"].update(kind="GIVEN"), "the action is GIVEN, and GENERATE can be chosen"),
        ("action", lambda it: it["action"].update(references=[99]), r"refers to \[99\], and \[\] are offered"),
        ("action", lambda it: it["action"].update(goals=["g9"]), r"serves \['g9'\], which are no goals of the run"),
        ("action", lambda it: it["action"].update(region=[0.5, 0, 0.5, 1]), r"the region is \[0.5, 0.0, 0.5, 1.0\]"),
        ("action", lambda it: it["action"].update(strength=2.0), "the strength is 2.0"),
        ("goals", lambda it: it["goals"].append(it["goals"][0]), "two goals have one id: g1, g2, g3, g1"),
        ("goals", lambda it: it["goals"][0].update(conflicts_with=["g1"]), r"goal 'g1' conflicts with \['g1'\]"),
        ("goals", lambda it: it["goals"][0].update(feasibility=-1.0), "the feasibility of goal 'g1' is -1.0"),
        ("compared", {"winner": 2}, "the winner is 2; it must be 0, 1 or -1"),
    ],
)
def test_what_no_call_can_have_given_is_named_by_its_line(runs, event, change, said):
    change = change if callable(change) else lambda it, values=change: it.update(values)
    lines = at(event, change)(copy.deepcopy(runs["everything"].lines))
    with pytest.raises(BadInput, match=rf"line {len(lines)} of {JOURNAL} is damaged \(.*{said}.*; restore the file"):
        drive(resume(runs["everything"].changed(lines), models()))


def test_a_run_that_is_not_damaged_has_no_flaw(runs):
    for kept in runs.values():
        for count in range(1, len(kept.lines) + 1):
            resume(kept.changed(copy.deepcopy(kept.lines[:count])), models()).advance()


def test_in_a_batch_it_is_the_end_of_that_run_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)
    jobs = [Job(f"run-{number}", Brief("a cat", width=8, height=8, budget=Budget(rounds=2))) for number in range(3)]

    def batch():
        vlm = models().vlm
        return [(run.state, run.reason) for run in run_batch(jobs, Models(vlm, FakeExecutor(), 8, 8), tmp_path, 1)]

    whole = batch()
    journal = tmp_path / "run-0" / JOURNAL
    lines = at("judged", lambda it: it.update(verdicts=[]))(read_journal(journal.parent).lines)
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (failed, why), *others = batch()
    assert (failed, others) == ("failed", whole[1:]) and why.startswith(f"{journal.parent}: line {len(lines)} of")


@pytest.mark.parametrize("bytes_", [b"\xff\xfe\n", b'"start"\n', b'{"event":"start"}\n', b"[]\n[]\n", b"{}\n{}\n"])
def test_readers_and_writers_say_a_sentence_of_bytes_that_are_no_run(tmp_path, bytes_):
    (tmp_path / JOURNAL).write_bytes(bytes_)
    with pytest.raises(BadInput, match=str(tmp_path)):
        read_trajectory(tmp_path)
    with pytest.raises(BadInput):
        resume(RunFolder.open(tmp_path), models())
