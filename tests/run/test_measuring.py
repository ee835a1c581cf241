"""What a run records of the pixels that an edit changed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clvr_core.brief import Brief, Goal
from clvr_core.executor.masks import MARGIN
from clvr_core.protocols import Drawing
from clvr_core.run.canvases import Canvases
from clvr_core.run.loop import Judge, Judgement
from clvr_core.run.measuring import meant_by, with_changes
from clvr_core.run.memory_folder import MemoryFolder
from clvr_core.trajectory import Action, Candidate, EditCheck, Remark, Step, Trajectory

SIDE = 64
FIRST, SECOND = (0.0, 0.0, 0.25, 0.25), (0.5, 0.5, 0.75, 0.75)
GOALS = (
    Goal("here", "a cat at the left", area=(0.0, 0.0, 0.5, 1.0)),
    Goal("somewhere", "a dog"),
    Goal("all", "at night", "global"),
)


def dotted() -> np.ndarray:
    return np.random.default_rng(3).integers(40, 200, (SIDE, SIDE, 3), dtype=np.uint8)


def painted(picture: np.ndarray, box) -> np.ndarray:
    picture = picture.copy()
    left, top, right, bottom = (round(SIDE * edge) for edge in box)
    picture[top:bottom, left:right] = 255
    return picture


class Run:
    """A run whose pictures are given: canvas 0 drawn from words, each further one an edit of the one before."""

    def __init__(self, *pictures: np.ndarray) -> None:
        self.trajectory = Trajectory(Brief("x", width=SIDE, height=SIDE), GOALS)
        self.canvases = Canvases(MemoryFolder())
        self.actions = [Action("GENERATE", scene_prompt="x")]
        for canvas, picture in enumerate(pictures):
            self.canvases.add(canvas, 1, Drawing(picture, 1), self.trajectory)

    def edit(self, region=None, *goals: str) -> Action:
        return Action("EDIT", edit_prompt="x", references=(len(self.trajectory.steps) - 1,), region=region, goals=goals)

    def judged(self, action: Action | None = None) -> Step:
        """The next step, judged and measured."""
        place = len(self.trajectory.steps)
        action = action or Action("GENERATE", scene_prompt="x")
        step = Step(place, action, candidates=(Candidate(place, "", 1, ""),), chosen=place)
        before = action.references[0] if action.references else None
        call = Judge(self.trajectory.with_step(step), GOALS, (place,), before, action)
        judgement = with_changes(Judgement(((),), (EditCheck(),)), call, self.canvases)
        step = replace(step, edit=judgement.edits[0])
        self.trajectory = self.trajectory.with_step(step)
        return step


@pytest.fixture
def run() -> Run:
    first = dotted()
    second = painted(first, FIRST)
    return Run(first, second, painted(second, SECOND))


def test_a_picture_drawn_from_words_is_not_measured(run):
    assert run.judged().edit == EditCheck()


def test_an_edit_is_measured_outside_its_region_and_the_margin_of_its_mask(run):
    run.judged()
    change = run.judged(run.edit(FIRST)).edit.change
    assert change.outside == 0 and change.meant == ((0.0, 0.0, 0.25 + MARGIN, 0.25 + MARGIN),)


def test_what_it_changes_elsewhere_is_on_record(run):
    run.judged()
    assert run.judged(run.edit(SECOND)).edit.change.outside == pytest.approx(16 * 16 / (SIDE**2 * 0.89), rel=0.1)


def test_against_the_source_what_earlier_edits_were_meant_to_change_is_left_out(run):
    run.judged()
    assert run.judged(run.edit(FIRST)).edit.drift is None
    edit = run.judged(run.edit(SECOND)).edit
    assert edit.drift.outside == 0 and len(edit.drift.meant) == 2
    assert [step.index for step in run.trajectory.edits_since_source(2)] == [1, 2]


def test_without_a_measure_of_an_earlier_edit_nothing_is_said_of_the_source(run):
    run.judged()
    run.judged(run.edit(FIRST))
    *steps, last = run.trajectory.steps
    run.trajectory = replace(run.trajectory, steps=(*steps, replace(last, edit=EditCheck(True, 0.1))))
    edit = run.judged(run.edit(SECOND)).edit
    assert edit.change is not None and edit.drift is None


def test_what_the_artist_painted_is_where_change_was_meant(run):
    run.judged()
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:16, :16] = 255
    remark = Remark(0, mask="mask-000.png", sha256=run.canvases.add_mask("mask-000.png", mask))
    run.trajectory = replace(run.trajectory, remarks=(remark,))
    change = run.judged(run.edit(SECOND)).edit.change
    assert change.outside == 0 and change.meant == (FIRST,)


@pytest.mark.parametrize(
    "goals, meant",
    [
        (("here",), (GOALS[0].area,)),
        (("here", "somewhere"), None),
        (("here", "all"), ((0.0, 0.0, 1.0, 1.0),)),
        ((), None),
    ],
)
def test_without_a_region_the_goals_say_where_if_all_of_them_do(run, goals, meant):
    assert meant_by(run.trajectory, Action("EDIT", edit_prompt="x", goals=goals)) == meant


def test_a_canvas_of_another_size_is_not_compared():
    run = Run(dotted(), dotted()[:32])
    run.judged()
    assert run.judged(run.edit(FIRST)).edit == EditCheck()


def test_an_edit_from_an_ancestor_means_the_places_of_the_edits_that_it_makes_again_and_one_more(run):
    """Canvas 3 is made of canvas 0: both squares again, one for the open goal, and one that nobody asked for."""
    run.judged()
    run.judged(run.edit(FIRST))
    run.judged(run.edit(SECOND))
    run.trajectory = replace(run.trajectory, current=2)
    third, fourth = (0.75, 0.0, 1.0, 0.25), (0.0, 0.75, 0.125, 0.875)
    merged = run.canvases.picture(2)
    for box in (third, fourth):
        merged = painted(merged, box)
    run.canvases.add(3, 1, Drawing(merged, 1), run.trajectory)
    change = run.judged(Action("EDIT", edit_prompt="all", references=(0,), goals=("somewhere",))).edit.change
    assert len(change.meant) == 3 and 0 < change.outside < 0.03, "the fourth is damage"


def test_two_canvases_are_measured_once_in_a_round_and_anew_in_the_next(run):
    first = run.canvases.pair(0, 1)
    assert first is not None and run.canvases.pair(0, 1) is first and run.canvases.pair(1, 0) is not first
    run.canvases.add(3, 1, Drawing(run.canvases.picture(1).copy(), 1), run.trajectory)
    assert run.canvases.pair(0, 3) is first, "the same pixels under another number"
    run.canvases.forget({0, 1})
    assert run.canvases.pair(0, 1) is not first
    run.canvases.add(4, 1, Drawing(dotted()[:32], 1), run.trajectory)
    assert run.canvases.pair(0, 4) is None, "another size"
