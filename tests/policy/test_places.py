"""Faults that witnesses have found, as the place of the next edit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clvr_core.brief import Goal
from clvr_core.policy.places import within_faults
from clvr_core.trajectory import Action, Finding, Verdict
from tests.fakes import step, trajectory

SIGN, CUP = (0.4, 0.2, 0.6, 0.4), (0.0, 0.5, 0.2, 0.7)
GOALS = (Goal("g1", 'a sign that says "OPEN"', "text"), Goal("g2", "two cups"), Goal("g3", "dusk", "global"))


def fault(goal, box, says="no", state="unsure"):
    return Verdict(goal, state, witnesses=(Finding("text", says, fault=box),))


def run(*verdicts, failed=()):
    first = replace(step("GENERATE", 0), verdicts=verdicts)
    return trajectory(first, *failed, goals=GOALS)


def edit(*goals, references=(0,), **fields):
    return Action("EDIT", references=references, goals=goals, **fields)


def test_an_edit_is_confined_to_the_fault_of_its_goal():
    found = within_faults(run(fault("g1", SIGN)), edit("g1"))
    assert found.region == (0.37, 0.17, 0.63, 0.43), "15 percent of its sides larger, on each side"


def test_of_several_goals_the_place_holds_all_faults():
    found = within_faults(run(fault("g1", SIGN), fault("g2", CUP, state="unmet")), edit("g1", "g2"))
    left, top, right, bottom = found.region
    assert (left, right) == (0.0, pytest.approx(0.69)) and top < 0.2 and bottom > 0.7


@pytest.mark.parametrize(
    ("verdicts", "action"),
    [
        pytest.param([fault("g1", SIGN)], edit("g1", "g3"), id="a goal without a place"),
        pytest.param([fault("g1", None)], edit("g1"), id="nowhere in particular"),
        pytest.param([fault("g1", SIGN, "yes")], edit("g1"), id="no fault"),
        pytest.param([fault("g1", SIGN, state="met")], edit("g1"), id="a goal that is met"),
        pytest.param([fault("g1", SIGN)], edit(), id="an edit for no goal"),
        pytest.param([fault("g1", SIGN)], edit("g1", references=(7,)), id="another canvas"),
        pytest.param([fault("g1", SIGN)], edit("g1", region=CUP), id="a region of its own"),
        pytest.param([fault("g1", SIGN)], Action("GENERATE", goals=("g1",)), id="no edit"),
    ],
)
def test_another_action_stays_as_it_is(verdicts, action):
    assert within_faults(run(*verdicts), action) == action


def test_where_the_place_has_failed_the_next_edit_may_change_more():
    tried = replace(step("EDIT", 1, parent=0, accepted=False), action=edit("g1", region=SIGN))
    assert within_faults(run(fault("g1", SIGN), failed=(tried,)), edit("g1")).region is None
    other = replace(tried, action=edit("g2", region=SIGN))
    assert within_faults(run(fault("g1", SIGN), failed=(other,)), edit("g1")).region is not None


def test_a_place_at_the_edge_stays_inside_the_picture():
    assert within_faults(run(fault("g1", (0.0, 0.9, 1.0, 1.0))), edit("g1")).region == (0.0, 0.885, 1.0, 1.0)
