"""How deep a canvas is, and when the next edit starts from its clean source."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clvr_core.brief import Brief, Budget, Goal
from clvr_core.policy.base import Directive
from clvr_core.policy.clvr import Clvr
from clvr_core.policy.depth import from_clean_source
from clvr_core.policy.rules import best
from clvr_core.trajectory import Change, EditCheck
from tests.fakes import step, trajectory

GOALS = tuple(Goal(f"g{number}", f"thing {number}") for number in (1, 2, 3, 4))
LEFT, RIGHT, MIDDLE = (0.0, 0.0, 0.4, 1.0), (0.6, 0.0, 1.0, 1.0), (0.3, 0.0, 0.7, 1.0)


def states(met: int) -> dict[str, str]:
    return {goal.id: "met" if place < met else "unmet" for place, goal in enumerate(GOALS)}


def edited(canvas: int, of: int, met: int = 0, kept: tuple | None = None, **fields):
    """An edit of canvas `of`; `kept`: the box outside which nothing changed."""
    done = step("EDIT", canvas, of, states(met), references=(of,), edit_prompt=f"edit {canvas}", **fields)
    check = EditCheck(change=None if kept is None else Change(offset=(0.0, 0.0), scale=1.0, meant=(kept,)))
    return replace(done, edit=check)


def chain(edits: int, depth: int | None = 3, **fields):
    """A generation that met one goal, and edits that met no more than two."""
    steps = [step("GENERATE", 0, None, states(1)), *(edited(canvas, canvas - 1, 2) for canvas in range(1, edits + 1))]
    brief = Brief("things", budget=Budget(depth=depth))
    return trajectory(*steps, goals=GOALS, **{"brief": brief, **fields})


def plan(run):
    return from_clean_source(run, Clvr().directive(run))


def test_the_depth_of_a_canvas_counts_the_edits_in_a_row():
    run = chain(4)
    assert [run.depth(canvas) for canvas in range(5)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("places", "depth"),
    [
        ((LEFT, RIGHT), 1),
        ((LEFT, LEFT), 2),
        ((LEFT, RIGHT, MIDDLE), 2),
        ((LEFT, None, RIGHT), 3),
        ((None, LEFT, RIGHT), 2),
        ((LEFT, RIGHT, LEFT, RIGHT), 2),
    ],
)
def test_an_edit_that_kept_the_rest_wears_its_own_place_alone(places, depth):
    edits = [edited(number, number - 1, 2, place) for number, place in enumerate(places, 1)]
    assert trajectory(step("GENERATE", 0), *edits).depth(len(places)) == depth


def test_an_edit_that_changed_one_pixel_of_the_rest_wears_the_whole():
    one = edited(2, 1, 2, LEFT)
    one = replace(one, edit=EditCheck(change=replace(one.edit.change, strength=20.0, offset=(0.0, 0.0))))
    assert trajectory(step("GENERATE", 0), edited(1, 0, 2, RIGHT), one).depth(2) == 2


def test_a_canvas_that_its_step_did_not_propose_is_taken_to_wear_the_whole():
    one = replace(edited(1, 0, 2, LEFT), chosen=5)
    assert trajectory(step("GENERATE", 0), one, edited(2, 1, 2, RIGHT)).depth(2) == 2


def test_below_the_limit_the_strategy_decides_alone():
    assert plan(chain(2)).source is None and plan(chain(2)) == Clvr().directive(chain(2))


def test_at_the_limit_the_edit_starts_from_the_clean_source_and_serves_what_was_won_too():
    found = plan(chain(3))
    assert found.source == 0 and found.focus == ("g2", "g3", "g4") and {"EDIT", "GENERATE"} <= {*found.allowed}


def test_without_a_limit_edits_go_on_without_end():
    assert plan(chain(9, depth=None)).source is None


def test_a_run_that_edits_a_given_picture_does_not_draw_it_anew():
    run = chain(3, brief=Brief("things", picture="ab" * 32, budget=Budget(depth=3)))
    assert plan(run).source == 0 and "GENERATE" not in plan(run).allowed


def test_a_fixed_action_and_one_that_is_no_edit_stay():
    run = chain(3)
    for directive in (Directive(("g3",), ("GENERATE",)), Directive((), ("EDIT",))):
        assert from_clean_source(run, directive) == directive


@pytest.mark.parametrize(("failures", "source"), [(1, 0), (2, None)])
def test_after_two_failures_from_the_source_the_current_canvas_is_edited(failures, source):
    failed = [edited(canvas, 0, 1, accepted=False) for canvas in range(4, 4 + failures)]
    steps = [*chain(3).steps, *(replace(one, parent=3) for one in failed)]
    run = trajectory(*steps, goals=GOALS, brief=chain(3).brief)
    assert plan(run).source == source


class TestAccepting:
    def accept(self, met: int, of: int = 0, depth: int | None = 3):
        proposed = replace(edited(4, of, met), index=4, parent=3, score=0.5)
        return Clvr().accept(chain(3, depth), proposed)

    def test_a_less_edited_canvas_that_lost_nothing_is_kept(self):
        found = self.accept(2)
        assert found.accepted and found.ruling == "less edited" and "1 times" in found.reason and "3" in found.reason

    def test_a_gain_is_called_a_gain(self):
        assert self.accept(3).ruling == "goals gained"

    def test_one_that_lost_a_goal_is_rolled_back(self):
        assert self.accept(1).ruling == "goals lost"

    def test_one_that_is_as_deep_is_rolled_back(self):
        assert self.accept(2, of=2).ruling == "no gain"

    def test_without_a_limit_nothing_changes(self):
        assert self.accept(2, depth=None).ruling == "no gain"

    def test_the_less_edited_canvas_takes_the_lead_from_the_one_it_replaced(self):
        kept = replace(edited(4, 0, 2), parent=1, ruling="less edited")
        assert best([*chain(1).steps, kept]) is kept
        assert best([*chain(1).steps, replace(kept, parent=0)]).chosen == 1
        assert best([*chain(1).steps, replace(kept, ruling="")]).chosen == 1
