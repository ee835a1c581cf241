"""A planner that errs: at its rate, in one thing an item, and never into a brief that cannot be drawn."""

from __future__ import annotations

import random

import pytest

from clvr_core.shapes.grammar import MOST_THINGS, parse
from clvr_core.shapes.judge import ShapesVlm
from clvr_core.shapes.planner import closest, layout
from clvr_core.shapes.planning_errors import misunderstood
from clvr_core.shapes.sampling import random_brief
from clvr_core.shapes.spec import Spec

BRIEF = parse("a small red circle at the top left and two blue squares. a green cross is above the red circle")


def specs(count: int) -> list[Spec]:
    rng = random.Random("planning")
    return [random_brief(rng, 1 + number % 8)[1] for number in range(count)]


def test_without_errors_the_brief_is_what_it_says():
    assert misunderstood(BRIEF, 0.0, random.Random(0)) == BRIEF and ShapesVlm()._understood(BRIEF, 3) is BRIEF


def test_errors_are_as_frequent_as_they_are_set():
    items = wrong = 0
    for number, spec in enumerate(specs(400)):
        found = misunderstood(spec, 0.2, random.Random(number))
        items, wrong = items + len(spec.items), wrong + sum(a != b for a, b in zip(spec.items, found.items))
    assert 0.15 < wrong / items < 0.21


def test_what_is_misunderstood_can_still_be_drawn():
    for number, spec in enumerate(specs(300)):
        found = misunderstood(spec, 1.0, random.Random(number))
        assert layout(Spec(found.items), (), random.Random(0)) is not None and found.total <= MOST_THINGS
        assert len({item.key for item in found.items}) == len(spec.items)
        keys = {item.key: item for item in found.items}
        assert all(keys[each.a].count == keys[each.b].count == 1 for each in found.relations)


def test_a_relation_is_inverted():
    spec = parse("a red circle and a blue square. the red circle is left of the blue square")
    seen = {misunderstood(spec, 0.5, random.Random(number)).relations[0].kind for number in range(20)}
    assert seen == {"left of", "right of"}


def test_each_plan_errs_anew_and_the_same_plan_the_same():
    vlm = ShapesVlm(planning=0.5)
    plans = [vlm._understood(BRIEF, attempt) for attempt in range(12)]
    assert len({str(plan) for plan in plans}) > 3 and plans == [
        vlm._understood(BRIEF, attempt) for attempt in range(12)
    ]


@pytest.mark.parametrize("planning", [0.0, 0.7])
def test_a_plan_names_the_place_of_every_thing_as_it_was_understood(planning):
    prompt = "a small red circle and two blue squares"
    vlm = ShapesVlm(seed=4, planning=planning)
    plan, understood = parse(vlm.plan(prompt, 1)), vlm._understood(parse(prompt), 0)
    scene = closest(plan, (), random.Random(0))
    assert understood.holds(scene.things) and parse(prompt).holds(scene.things) == (understood == parse(prompt))
