"""A run that ended for its budget goes on under a larger one, and ends as if it had had that from the start."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from clvr_core.brief import Brief, Budget
from clvr_core.errors import BadInput
from clvr_core.run.run_folder import BEST, JOURNAL, RunFolder, trajectory_from
from clvr_core.run.session import RunModels, Session, drive, go_on, start
from clvr_core.storage.png import trajectory_of
from tests.fakes import FakeExecutor
from tests.run.killable import PROMPT, VLM
from tests.run.script import a_brief, edit, generate, scripted
from tests.stickers.oracle import SIZE, OracleExecutor

STRATEGIES = ("clvr", "director", "strokes")
LONG = Budget(rounds=7, patience=5)


@pytest.fixture(autouse=True, scope="module")
def without_waiting_for_the_disk():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


class Counting(OracleExecutor):
    def __init__(self) -> None:
        super().__init__(fault=0.8)
        self.seeds: list[int] = []

    def draw(self, requests):
        self.seeds += [request.seed for request in requests]
        return super().draw(requests)


def brief_of(strategy: str, budget: Budget = LONG) -> Brief:
    return Brief(PROMPT, strategy, 4, **SIZE, budget=budget, candidates=1, final_ab=True)


def begun(folder: Path, brief: Brief, executor=None) -> Path:
    drive(start(brief, RunModels(VLM, executor or Counting()), folder))
    return folder


def gone_on(folder: Path, budget: Budget = LONG, executor=None):
    return drive(go_on(RunFolder.open(folder), RunModels(VLM, executor or Counting()), budget))


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key != "seconds"}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def left_by(folder: Path) -> dict[str, object]:
    """All that must be the same: every picture to the byte, the lines that stand, without times, and the names of the files."""
    pictures = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    lines = without_times(RunFolder.open(folder).lines)
    return {**pictures, JOURNAL: lines, "files": sorted(path.name for path in folder.iterdir())}


def journal(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / JOURNAL).read_bytes().splitlines()]


@pytest.fixture(scope="module")
def long(tmp_path_factory) -> dict[str, Path]:
    """One long run of each strategy. Never written to."""
    base = tmp_path_factory.mktemp("long")
    runs = {strategy: begun(base / strategy, brief_of(strategy)) for strategy in STRATEGIES}
    assert any("compared" in {line["event"] for line in journal(run)} for run in runs.values())
    assert all(sum(line["event"] == "drawn" for line in journal(run)) >= 4 for run in runs.values())
    return runs


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("rounds", range(1, 7))
def test_the_bytes_are_those_of_one_long_run_and_no_round_is_done_twice(long, tmp_path, strategy, rounds):
    first, second = Counting(), Counting()
    folder = begun(tmp_path / "run", brief_of(strategy, replace(LONG, rounds=rounds)), first)
    written = (folder / JOURNAL).read_bytes()
    told = trajectory_from(RunFolder.open(folder).lines)
    kept = [
        candidate.seed
        for step in told.steps
        if step.reason != "drawn for the final comparison"
        for candidate in step.candidates
    ]
    gone_on(folder, executor=second)
    assert left_by(folder) == left_by(long[strategy])
    assert (folder / JOURNAL).read_bytes().startswith(written), "nothing that was written is lost"
    assert not set(kept) & set(second.seeds), "what was drawn for a round is not drawn again"


@pytest.mark.parametrize("limit", [{"patience": 1}, {"evaluations": 9}, {"images": 2}, {"vlm_tokens": 40}])
def test_whatever_the_limit_was(long, tmp_path, limit):
    folder = begun(tmp_path / "run", brief_of("clvr", replace(LONG, **limit)))
    assert left_by(folder) != left_by(long["clvr"]), "the limit ended it"
    gone_on(folder)
    assert left_by(folder) == left_by(long["clvr"])


def test_it_goes_on_again_and_again(long, tmp_path):
    folder = begun(tmp_path / "run", brief_of("clvr", replace(LONG, rounds=1)))
    for rounds in range(2, 8):
        assert gone_on(folder, replace(LONG, rounds=rounds)).brief.budget.rounds == rounds
    assert left_by(folder) == left_by(long["clvr"])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_so_does_one_that_was_stopped_anywhere_before(long, tmp_path, strategy):
    whole = begun(tmp_path / "whole", brief_of(strategy, replace(LONG, rounds=3)))
    for count in range(1, len(journal(whole)), 2):
        folder = Path(shutil.copytree(whole, tmp_path / str(count)))
        (folder / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in journal(whole)[:count]))
        (folder / BEST).unlink()
        gone_on(folder)
        assert left_by(folder) == left_by(long[strategy]), count


def test_a_run_that_met_every_goal_keeps_its_end_but_for_the_budget_it_names(tmp_path):
    canvases, actions = {0: "muu", 1: "mmm", 2: "muu"}, [generate("a barn"), edit()]

    def played(folder, budget):
        brief = a_brief(budget=budget, final_ab=True)
        drive(start(brief, RunModels(scripted(actions, canvases, prefers=1), FakeExecutor()), folder))
        return folder

    small, large = played(tmp_path / "small", Budget(rounds=5)), played(tmp_path / "large", Budget(rounds=9))
    vlm, executor = scripted(), FakeExecutor()
    drive(go_on(RunFolder.open(small), RunModels(vlm, executor), Budget(rounds=9)))
    assert not vlm.chats and not vlm.decides and not executor.requests, "no model is asked anything"
    assert left_by(small) == left_by(large) and trajectory_of(small / BEST).brief.budget.rounds == 9


def test_an_end_that_had_no_room_for_the_comparison_gets_it(tmp_path):
    script = {"actions": [generate("a barn"), edit()], "canvases": {0: "muu", 1: "mmm", 2: "muu"}, "prefers": 1}
    brief = a_brief(budget=Budget(evaluations=8), final_ab=True)
    drive(start(brief, RunModels(scripted(**script), FakeExecutor()), tmp_path / "small"))
    assert trajectory_from(journal(tmp_path / "small")).canvases == 2
    vlm = scripted([], {2: "muu"}, prefers=lambda first, second: 0.9 if first == 1 else 0.1)
    executor = FakeExecutor(images=[FakeExecutor().draw([request])[0].picture * 3 for request in [_request()]])
    ended = drive(go_on(RunFolder.open(tmp_path / "small"), RunModels(vlm, executor), Budget()))
    assert ended.canvases == 3 and ended.outcome.choice == "preferred to the one-shot picture in both orders"


def _request():
    from clvr_core.protocols import DrawRequest

    return DrawRequest("x", 0, (), 8, 8)


def test_the_same_budget_changes_nothing_and_a_tighter_one_is_refused(long, tmp_path):
    folder = Path(shutil.copytree(long["clvr"], tmp_path / "run"))
    before = left_by(folder), (folder / JOURNAL).read_bytes()
    gone_on(folder)
    assert (left_by(folder), (folder / JOURNAL).read_bytes()) == before
    for tighter in ({"rounds": 6}, {"patience": 4}, {"images": 99}, {"seconds": 1e6}):
        with pytest.raises(BadInput, match=r"has a larger budget than it is to go on with; give at least as much"):
            gone_on(folder, replace(LONG, **tighter))
    assert (left_by(folder), (folder / JOURNAL).read_bytes()) == before


def test_a_budget_that_would_make_the_rounds_on_record_others_is_refused(tmp_path):
    folder = begun(tmp_path / "run", Brief(PROMPT, "best-of-n", 2, **SIZE, budget=Budget(images=2)))
    with pytest.raises(BadInput, match="this budget of images makes other rounds"):
        gone_on(folder, Budget(images=3))


def test_pictures_that_were_taken_back_are_cleared_away_even_after_a_kill(tmp_path):
    vlm = scripted([generate(), edit(), edit()], {0: "muu", 1: "mmu", 2: "muu", 3: "muu"}, prefers=1)
    drive(start(a_brief(budget=Budget(patience=1), final_ab=True), RunModels(vlm, FakeExecutor()), tmp_path / "run"))
    rival = tmp_path / "run" / "canvas-003.png"
    assert rival.exists()
    folder = RunFolder.open(tmp_path / "run")
    assert go_on(folder, RunModels(scripted(), FakeExecutor()), Budget(patience=2)).advance() is not None
    assert not rival.exists() and (tmp_path / "run" / "canvas-002.png").exists()
    rival.write_bytes(b"left by a process that was killed before it could clear up")
    assert RunFolder.open(tmp_path / "run").lines == folder.lines and not rival.exists()


@pytest.mark.parametrize("keep", [0, 99, "3", None])
def test_a_rewind_that_cannot_be_is_damage(long, tmp_path, keep):
    folder = Path(shutil.copytree(long["clvr"], tmp_path / "run"))
    lines = [*journal(folder)[:4], {"event": "rewind", "keep": keep}]
    (folder / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(BadInput, match=r"trajectory\.jsonl is damaged \(line 5 keeps .* of 4 lines\)"):
        RunFolder.open(folder)


def test_a_session_can_be_walked_through_call_by_call(long):
    lines = RunFolder.open(long["clvr"]).lines
    walked = Session(brief_of("clvr"), RunModels(VLM, Counting()), RunFolder(long["clvr"], lines))
    call, positions = walked.advance(upto=0), []
    while call is not None:
        positions.append(walked.position)
        result = walked.on_record(call)
        walked.note(call, result)
        call = walked.advance(result, upto=walked.position)
    calls = [
        number
        for number, line in enumerate(lines)
        if line["event"] in ("goals", "action", "drawn", "judged", "repaired", "compared")
    ]
    assert positions == calls and walked.done
