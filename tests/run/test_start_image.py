"""A run that begins from a picture: it is canvas 0, judged first, edited and never painted over from nothing."""

from __future__ import annotations

from itertools import repeat

import numpy as np
import pytest

from clvr_core.brief import STRATEGIES, Brief, Budget
from clvr_core.errors import BadInput
from clvr_core.run.run_folder import BEST, JOURNAL, REPORT, RunFolder, trajectory_from
from clvr_core.run.session import RunModels, Session, drive, go_on, resume
from clvr_core.run.start_image import beginning_with
from clvr_core.storage.png import read_png
from tests.fakes import FakeExecutor, grey
from tests.run.script import PROMPT, asked, edit, generate, judged, scripted, seen

PICTURE = grey(10, 24, 16)
"""What tests.run.script takes for canvas 0; FakeExecutor's own first picture would be the same."""


def hands(*values: int) -> FakeExecutor:
    return FakeExecutor([grey(value, 24, 16) for value in values])


def brief(**fields) -> Brief:
    return Brief(**{"prompt": PROMPT, "strategy": "director", "candidates": 1, "final_ab": True, **fields})


def start(brief: Brief, vlm, executor, out, listener=None) -> Session:
    return Session(
        beginning_with(brief, PICTURE),
        RunModels(vlm, executor),
        RunFolder.create(out),
        listener=listener,
        picture=PICTURE,
    )


def test_it_is_judged_and_the_first_round_edits_it(tmp_path):
    vlm, executor = scripted([edit(), edit("add a moon", 1)], {0: "muu", 1: "mmu", 2: "mmm"}), hands(20, 30)
    trajectory = drive(start(brief(), vlm, executor, tmp_path / "run"))
    assert [step.action.kind for step in trajectory.steps] == ["GIVEN", "EDIT", "EDIT"]
    assert judged(vlm) == [0, 1, 2] and seen(executor) == [(0,), (1,)] and trajectory.outcome.met
    assert (trajectory.brief.width, trajectory.brief.height) == (24, 16)
    assert all((request.width, request.height) == (24, 16) for request in executor.requests)
    assert trajectory.cost.images == 2, "the given picture was not drawn"
    assert '"kind":"GIVEN"' in (tmp_path / "run" / REPORT).read_text().replace(" ", "")


def test_a_picture_that_meets_every_goal_is_handed_back_untouched(tmp_path):
    executor = hands()
    trajectory = drive(start(brief(), scripted([], {0: "mmm"}), executor, tmp_path / "run"))
    assert trajectory.outcome.canvas == 0 and trajectory.outcome.met and not executor.requests
    assert np.array_equal(read_png(tmp_path / "run" / BEST)[0], PICTURE)


def test_if_no_edit_is_better_it_stays_the_best():
    vlm = scripted([edit()], {0: "mmu", 1: "muu", 2: "muu"}, edits={})
    trajectory = drive(
        Session(beginning_with(brief(budget=Budget(rounds=1)), PICTURE), RunModels(vlm, hands(20)), picture=PICTURE)
    )
    assert trajectory.best == 0 and not trajectory.steps[1].accepted


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_strategy_paints_another_picture(strategy):
    """Not even when it is stuck, nor to compare with the end."""
    vlm = scripted([edit()] * 20, dict.fromkeys(range(20), "muu"), inspections=repeat(0.1))
    executor = FakeExecutor([grey(20 + 10 * number, 24, 16) for number in range(12)])
    drive(
        Session(
            beginning_with(brief(strategy=strategy, budget=Budget(rounds=6, patience=6)), PICTURE),
            RunModels(vlm, executor),
            picture=PICTURE,
        )
    )
    assert executor.requests and all(request.references for request in executor.requests)
    for message in asked(vlm, "action"):
        assert "GENERATE" not in message.data["allowed"]


def test_a_controller_that_would_paint_anew_is_not_let():
    vlm, executor = scripted([generate()] * 2, {0: "muu", 1: "mmm"}), hands(20)
    trajectory = drive(
        Session(beginning_with(brief(strategy="clvr"), PICTURE), RunModels(vlm, executor), picture=PICTURE)
    )
    assert trajectory.steps[1].action.kind == "EDIT" and seen(executor) == [(0,)]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("line", range(1, 9))
def test_a_run_killed_after_any_line_goes_on_from_the_disk_alone(tmp_path, line):
    script = {0: "muu", 1: "mmu", 2: "mmm"}
    whole = drive(start(brief(), scripted([edit(), edit("b", 1)], script), hands(20, 30), tmp_path / "whole"))

    def kill(event, told, lines=[]):  # noqa: B006
        lines.append(event)
        if len(lines) == line:
            raise Killed

    path = tmp_path / "run"
    with pytest.raises(Killed):
        drive(start(brief(), scripted([edit(), edit("b", 1)], script), hands(20, 30), path, kill))
    done = [each["event"] for each in RunFolder.open(path).lines].count("action"), RunFolder.open(path).lines
    drawn = [each["event"] for each in done[1]].count("drawn")
    rest = scripted([edit(), edit("b", 1)][done[0] :], script)
    trajectory = drive(resume(RunFolder.open(path), RunModels(rest, hands(*[20, 30][drawn:]))))
    assert trajectory.outcome == whole.outcome and [step.action for step in trajectory.steps] == [
        step.action for step in whole.steps
    ]
    pictures = [
        {file.name: file.read_bytes() for file in folder.glob("*.png")} for folder in (path, tmp_path / "whole")
    ]
    assert pictures[0] == pictures[1] and len(pictures[0]) == 4


def test_under_a_larger_budget_and_in_a_fork_the_picture_is_there(tmp_path):
    script = {0: "muu", 1: "mmu", 2: "mmm"}
    path, small = tmp_path / "run", Budget(rounds=1)
    drive(start(brief(budget=small), scripted([edit()], script), hands(20), path))
    fork = RunFolder.open(path).fork(tmp_path / "fork", 4, Budget(rounds=3))
    assert np.array_equal(fork.picture(0), PICTURE)
    trajectory = drive(
        go_on(RunFolder.open(path), RunModels(scripted([edit("b", 1)], script), hands(30)), Budget(rounds=3))
    )
    assert trajectory.outcome.met and np.array_equal(RunFolder.open(path).picture(0), PICTURE)


def test_another_picture_than_the_briefs_is_refused(tmp_path):
    named = beginning_with(brief(), PICTURE)
    with pytest.raises(BadInput, match="not the one that the brief names"):
        Session(named, RunModels(scripted(), hands()), RunFolder.create(tmp_path / "a"), picture=grey(99, 24, 16))
    with pytest.raises(BadInput, match="none was given"):
        Session(named, RunModels(scripted(), hands()))
    folder = tmp_path / "b"
    drive(start(brief(), scripted([], {0: "mmm"}), hands(), folder))
    lines = (folder / JOURNAL).read_bytes().splitlines(keepends=True)
    (folder / JOURNAL).write_bytes(b"".join(lines[:2]))
    (folder / "canvas-000.png").write_bytes((folder / "canvas-000.png").read_bytes()[:-40])
    with pytest.raises(BadInput, match="missing or damaged"):
        drive(resume(RunFolder.open(folder), RunModels(scripted([], {0: "mmm"}), hands())))


def test_the_trajectory_reads_back(tmp_path):
    drive(start(brief(), scripted([edit()], {0: "muu", 1: "mmm"}), hands(20), tmp_path / "run"))
    told = trajectory_from(RunFolder.open(tmp_path / "run").lines)
    assert (
        told.steps[0].action.kind == "GIVEN"
        and told.brief.picture
        and told.steps[0].candidates[0].file == "canvas-000.png"
    )
