"""A guided run keeps an edit that won what it was for, where the judge says that something else was lost and the pixels say that nothing
else changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clvr_core.brief import Brief, Budget, Goal
from clvr_core.policy.clvr import Clvr
from clvr_core.trajectory import Change, EditCheck
from tests.fakes import step, trajectory

GOALS = tuple(Goal(f"g{number}", f"thing {number}") for number in (1, 2, 3))
BEFORE = {"g1": "met", "g2": "unmet", "g3": "met"}
KEPT = EditCheck(change=Change(offset=(0.0, 0.0), scale=1.0, meant=((0.0, 0.0, 0.3, 0.3),)))
MOVED = EditCheck(change=Change(offset=(5.0, 0.0), scale=1.0, meant=((0.0, 0.0, 0.3, 0.3),)))


def ruled(after: dict[str, str], served=("g2",), check=KEPT, guided=True, kind="EDIT"):
    brief = Brief("things", guided=guided, budget=Budget(tolerance=0.13))
    run = trajectory(step("GENERATE", 0, None, BEFORE), goals=GOALS, brief=brief)
    words = {"references": (0,), "edit_prompt": "an edit"} if kind == "EDIT" else {"scene_prompt": "a scene"}
    tried = replace(step(kind, 1, 0, after, goals=tuple(served), **words), edit=check)
    return Clvr().accept(run, replace(tried, score=0.5))


def test_the_edit_is_kept_and_what_seems_lost_is_told():
    found = ruled({"g1": "unmet", "g2": "met", "g3": "met"})
    assert found.accepted and found.ruling == "goals gained" and found.reason == "kept: now met g2, lost g1"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"guided": False}, id="in no other run"),
        pytest.param({"check": MOVED}, id="not if something else moved"),
        pytest.param({"check": EditCheck()}, id="not if nothing was measured"),
        pytest.param({"served": ("g3",)}, id="not for a goal that it does not serve"),
        pytest.param({"served": ("g1", "g2")}, id="not if it lost what it serves"),
        pytest.param({"kind": "GENERATE"}, id="not for a new picture"),
    ],
)
def test_otherwise_it_is_rolled_back(change):
    assert not ruled({"g1": "unmet", "g2": "met", "g3": "met"}, **change).accepted


@pytest.mark.parametrize(
    "after", [{"g1": "unmet", "g2": "met", "g3": "unmet"}, {"g1": "unmet", "g2": "unmet", "g3": "met"}]
)
def test_more_than_one_loss_and_no_gain_are_believed(after):
    assert not ruled(after).accepted
