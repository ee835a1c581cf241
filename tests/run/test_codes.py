"""The codes beside the sentences of a run, and how a record from before there were any gets them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import get_args

import pytest

from clvr_core.brief import Budget, Goal
from clvr_core.run.lines import standing, trajectory_from
from clvr_core.run.run_folder import BEST, JOURNAL, RunFolder, read_trajectory
from clvr_core.run.session import RunModels, Session, drive, resume
from clvr_core.storage.png import trajectory_of
from clvr_core.trajectory import Action, Ended, Outcome, Remark, Ruling, Step, Trajectory, with_codes
from tests.fakes import FakeExecutor
from tests.run.recorded import models_of, whole_lines
from tests.run.script import END, VALIDATE, a_brief, edit, generate, scripted

EARLIER = Path(__file__).parents[1] / "data" / "before_the_move" / "runs"
ONE_NICE = (Goal("g1", "a"), Goal("g2", "b"), Goal("g3", "c", need="nice"))
ENDLESS = [generate(), *repeat(edit(), 9)]


def play(actions, canvases, reviewer=None, **brief) -> Trajectory:
    vlm = scripted(actions, canvases, edits=brief.pop("edits", None), prefers=6)
    session = Session(a_brief(**brief), RunModels(vlm, FakeExecutor()), reviewer=reviewer)
    run = drive(session)
    assert trajectory_from(session.folder.lines) == run, "the journal keeps the codes"
    return run


def without_codes(run: Trajectory) -> Trajectory:
    """The run as an earlier version wrote it."""
    steps = tuple(replace(step, ruling="") for step in run.steps)
    return replace(run, route="", steps=steps, outcome=replace(run.outcome, ended=""))


def by_artist(say: str):
    return lambda run: (Remark(0, say), None)


RUNS = {
    "goals met": lambda: play([generate()], {0: "mmm"}),
    "end action": lambda: play([generate(), END], {0: "mmu"}, goals=ONE_NICE),
    "accepted by the artist": lambda: play([generate()], {0: "muu"}, by_artist("accept")),
    "stopped by the artist": lambda: play([generate()], {0: "muu"}, by_artist("stop")),
    "budget spent": lambda: play(ENDLESS, dict.fromkeys(range(9), "muu"), budget=Budget(2)),
    "no improvement": lambda: play(ENDLESS, dict.fromkeys(range(9), "muu")),
    "controller failed": lambda: play(["no"] * 9, {0: "uuu", 1: "muu", 2: "mmu"}, budget=Budget(patience=2)),
    "all drawn": lambda: play([], dict.fromkeys(range(4), "muu"), strategy="best-of-n"),
}


@pytest.mark.parametrize("ended", [code for code in get_args(Ended) if code])
def test_every_way_to_end_has_its_code(ended):
    run = RUNS[ended]()
    assert run.outcome.ended == ended and run.route and all(step.ruling for step in run.steps)
    assert with_codes(without_codes(run)) == run, "the sentence alone gives the same code"


def test_every_ruling_has_its_code():
    canvases = {0: ["m?u", "muu"], 1: "umu", 2: "muu", 3: "eee", 4: "mmu", 5: "mmm", 6: "mmm", 7: "uuu"}
    actions = [generate(), VALIDATE, END, *repeat(edit(), 6)]
    run = play(actions, canvases, edits={5: (0.1, 0.1)}, budget=Budget(9, patience=9), final_ab=True)
    found = [step.ruling for step in run.steps]
    expected = [
        "first canvas",
        "judged again",
        "end refused",
        "goals lost",
        "no gain",
        "not judged",
        "goals gained",
        "over-edited",
        "goals gained",
        "one-shot rival",
    ]
    assert found == expected
    assert with_codes(without_codes(run)) == run


def test_a_lost_goal_has_its_own_ruling():
    run = play([generate(), edit()], {0: "mmu", 1: "muu"}, budget=Budget(2))
    assert run.steps[1].ruling == "goals lost" and with_codes(without_codes(run)) == run


@pytest.mark.parametrize("name", ["clvr", "director", "strokes", "embedded"])
def test_an_earlier_run_is_read_with_codes_from_its_journal_and_its_picture(name):
    lines = [json.loads(line) for line in (EARLIER / name / JOURNAL).read_bytes().splitlines()]
    assert not any("route" in line for line in lines)
    run, carried = trajectory_from(standing(lines)[0]), trajectory_of(EARLIER / name / BEST)
    for record in (run, carried):
        assert record.route in ("one shot", "staged") and record.gate.startswith(record.route)
        assert record.outcome.ended and all(step.ruling for step in record.steps)


def test_an_earlier_run_that_is_continued_has_the_codes_throughout(tmp_path):
    folder = Path(shutil.copytree(EARLIER / "half", tmp_path / "half"))
    run = drive(resume(RunFolder.open(folder), models_of(EARLIER / "clvr", whole_lines(folder))))
    assert read_trajectory(folder) == run
    assert run.outcome.ended and run.route and all(step.ruling for step in trajectory_of(folder / BEST).steps)


@pytest.mark.parametrize("code", [*get_args(Ended), *get_args(Ruling)])
def test_a_code_on_record_is_not_changed_by_the_sentence(code):
    if code in get_args(Ended):
        given = Outcome("any sentence", None, False, ended=code)
        assert with_codes(Trajectory(a_brief(), outcome=given)).outcome == given
    else:
        step = Step(0, Action("GENERATE"), reason="any sentence", ruling=code)
        assert with_codes(Trajectory(a_brief(), steps=(step,))).steps == (step,)
