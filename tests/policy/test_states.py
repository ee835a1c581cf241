"""States of a guided run: which kinds of action each allows, and how often each is tried on one canvas."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clvr_core.brief import Brief, Goal
from clvr_core.policy.base import Directive
from clvr_core.policy.clvr import Clvr
from clvr_core.policy.states import RETRIES, guide, since_current, smaller_share, state_of, together
from clvr_core.trajectory import Remark
from tests.fakes import goals, step, trajectory

GUIDED = Brief("a barn and a cat", guided=True)
FIRST = step("GENERATE", 0, verdicts={"g1": "met", "g2": "unmet"})
TWO = goals("a barn", "a cat")
PLACES = (TWO[0], Goal("g2", "the cat is left of the barn", "layout"))


def failed(kind: str = "EDIT", canvas: int = 1, **fields):
    return step(kind, canvas, parent=0, accepted=False, **fields)


def run(*steps, listed=TWO, brief=GUIDED, **fields):
    return trajectory(FIRST, *steps, goals=listed, brief=brief, **fields)


def tried(edits: int, redraws: int = 0, listed=TWO, **fields):
    kinds = ["EDIT"] * edits + ["GENERATE"] * redraws
    return run(*(failed(kind, number) for number, kind in enumerate(kinds, 1)), listed=listed, **fields)


def directive(trajectory_, redraws: bool = True) -> Directive:
    return guide(trajectory_, Clvr().directive(trajectory_), redraws)


def test_before_the_first_canvas_it_is_generated():
    empty = trajectory(goals=TWO, brief=GUIDED)
    assert state_of(empty) == "generate" and directive(empty) == Clvr().directive(empty)


@pytest.mark.parametrize(
    ("edits", "redraws", "state"),
    [
        (0, 0, "refine"),
        (1, 0, "refine"),
        (2, 0, "regenerate"),
        (2, 1, "refine"),
        (4, 1, "regenerate"),
        (4, 2, "refine"),
        (9, 2, "refine"),
    ],
)
def test_stalled_edits_are_drawn_anew_until_that_is_used_up(edits, redraws, state):
    assert state_of(tried(edits, redraws)) == state


@pytest.mark.parametrize(("edits", "redraws", "state"), [(0, 0, "refine"), (1, 0, "regenerate"), (1, 1, "refine")])
def test_wrong_positions_are_drawn_anew_after_one_edit(edits, redraws, state):
    assert state_of(tried(edits, redraws, PLACES)) == state


def test_wrong_positions_beside_other_faults_are_edited_as_usual():
    listed = (*PLACES, Goal("g3", "a moon"))
    assert state_of(tried(1, listed=listed)) == "refine"


def test_a_given_picture_and_a_strategy_of_strokes_are_never_drawn_anew():
    assert state_of(tried(5), redraws=False) == "refine"
    assert state_of(tried(5, brief=replace(GUIDED, picture="0" * 64))) == "refine"


def test_failures_of_another_canvas_and_of_before_a_remark_do_not_count():
    later = run(failed(), failed(canvas=2), step("EDIT", 3, parent=0, verdicts={"g1": "met", "g2": "unmet"}))
    assert later.current == 3 and since_current(later) == () and state_of(later) == "refine"
    steered = tried(2, remarks=(Remark(2, words="warmer light"),))
    assert state_of(steered) == "refine" and state_of(tried(2, remarks=(Remark(2),))) == "regenerate"


def test_where_only_nice_goals_are_open_the_run_may_be_finished():
    nice = (TWO[0], replace(TWO[1], need="nice"))
    assert state_of(run(listed=nice)) == "finalize"


class TestTheDirective:
    def test_drawing_anew_is_all_that_is_allowed_and_serves_every_goal(self):
        found = directive(tried(2))
        assert (found.allowed, found.focus, found.stage) == (("GENERATE",), ("g1", "g2"), "")

    def test_validate_is_allowed_at_any_time_once_for_a_canvas(self):
        assert directive(run()).allowed == ("GENERATE", "EDIT", "VALIDATE", "END")
        again = run(*[step("VALIDATE", parent=0)] * RETRIES["validate"])
        assert "VALIDATE" not in directive(again).allowed
        moved = run(step("VALIDATE", parent=0), step("EDIT", 1, parent=0, verdicts={"g1": "unmet", "g2": "met"}))
        assert "VALIDATE" in directive(moved).allowed

    def test_end_is_allowed_until_it_was_refused(self):
        refused = run(step("END", parent=0, accepted=False))
        assert directive(refused).allowed == ("GENERATE", "EDIT", "VALIDATE")

    def test_strategies_without_end_do_not_get_it(self):
        assert guide(run(), Directive(("g2",), ("EDIT",))).allowed == ("EDIT", "VALIDATE")

    def test_a_run_that_is_not_guided_goes_as_before(self):
        plain = tried(2, brief=Brief("a barn and a cat"))
        assert directive(plain) == Clvr().directive(plain)


class TestTogether:
    AREAS = (
        Goal("g1", "a cat", area=(0.0, 0.0, 0.5, 0.5)),
        Goal("g2", "a dog", area=(0.1, 0.0, 0.5, 0.5)),
        Goal("g3", "a cow", area=(0.5, 0.5, 1.0, 1.0)),
        Goal("g4", "soft light", "global", area=(0.0, 0.0, 1.0, 1.0)),
        Goal("g5", "a moon"),
        Goal("g6", "no moon", conflicts_with=("g5",)),
    )

    def test_one_edit_serves_all_that_do_not_stand_in_each_others_way(self):
        every = tuple(goal.id for goal in self.AREAS)
        assert together(trajectory(goals=self.AREAS), every) == ("g1", "g3", "g4", "g5")

    def test_what_waits_has_its_turn_once_the_other_is_met(self):
        assert together(trajectory(goals=self.AREAS), ("g2", "g6")) == ("g2", "g6")

    def test_the_common_part_as_a_share_of_the_smaller_box(self):
        assert smaller_share((0, 0, 1, 1), (0.2, 0.2, 0.4, 0.4)) == pytest.approx(1)
        assert smaller_share((0, 0, 0.5, 1), (0.5, 0, 1, 1)) == 0 and smaller_share((0, 0, 0, 0), (0, 0, 1, 1)) == 0
