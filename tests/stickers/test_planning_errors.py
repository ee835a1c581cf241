"""A planner that errs: at its rate, in one thing an item, and never into a brief that cannot be drawn."""

from __future__ import annotations

import random

import pytest

from clvr_core.stickers.grammar import MOST_THINGS, parse
from clvr_core.stickers.judge import StickersVlm
from clvr_core.stickers.misreading import WEAK
from clvr_core.stickers.planner import closest, layout
from clvr_core.stickers.planning_errors import always, anew, misunderstood
from clvr_core.stickers.sampling import random_brief
from clvr_core.stickers.scene import Scene
from clvr_core.stickers.spec import Spec

BRIEF = parse(
    'a small red cat at the top left, two blue cars and a sign that says "STOP" at night. the sign is above the red cat'
)


def specs(count: int) -> list[Spec]:
    rng = random.Random("planning")
    return [random_brief(rng, 1 + number % 8)[1] for number in range(count)]


def test_without_errors_the_brief_is_what_it_says():
    assert misunderstood(BRIEF, 0.0, anew("0")) == BRIEF and StickersVlm()._understood(BRIEF, 3) is BRIEF


def test_errors_are_as_frequent_as_they_are_set():
    items = wrong = 0
    for number, spec in enumerate(specs(400)):
        found = misunderstood(spec, 0.2, anew(str(number)))
        items, wrong = items + len(spec.items), wrong + sum(a != b for a, b in zip(spec.items, found.items))
    assert 0.15 < wrong / items < 0.21


def test_what_is_misunderstood_can_still_be_drawn():
    for number, spec in enumerate(specs(300)):
        found = misunderstood(spec, 1.0, anew(str(number)))
        assert layout(Spec(found.items), Scene(), random.Random(0)) is not None and found.total <= MOST_THINGS
        assert len({item.key for item in found.items}) == len(spec.items)
        keys = {item.key: item for item in found.items}
        assert all(keys[each.a].count == keys[each.b].count == 1 for each in found.relations)


def test_a_relation_is_inverted():
    spec = parse("a red cat and a blue car. the red cat is left of the blue car")
    seen = {misunderstood(spec, 0.5, anew(str(number))).relations[0].kind for number in range(20)}
    assert seen == {"left of", "right of"}


def test_each_plan_errs_anew_and_the_same_plan_the_same():
    vlm = StickersVlm(planning=0.5)
    plans = [vlm._understood(BRIEF, attempt) for attempt in range(12)]
    assert len({str(plan) for plan in plans}) > 3 and plans == [
        vlm._understood(BRIEF, attempt) for attempt in range(12)
    ]


@pytest.mark.parametrize("planning", [0.0, 0.7])
def test_a_plan_names_the_place_of_every_thing_as_it_was_understood(planning):
    prompt = "a small red cat and two blue cars"
    vlm = StickersVlm(seed=4, planning=planning)
    plan, understood = parse(vlm.plan(prompt, 1)), vlm._understood(parse(prompt), 0)
    scene = closest(plan, Scene(), random.Random(0))
    assert understood.holds(scene) and parse(prompt).holds(scene) == (understood == parse(prompt))


def test_the_backdrop_and_the_word_can_be_misunderstood_too():
    found = [misunderstood(BRIEF, 0.9, anew(str(number))) for number in range(60)]
    words = {item.word for spec in found for item in spec.items if item.noun == "sign"}
    assert len({spec.backdrop for spec in found}) > 4 and len(words) > 3
    assert all(len(word) == 4 and sum(a != b for a, b in zip(word, "STOP")) <= 1 for word in words)


class TestCorrelated:
    def test_every_plan_misunderstands_the_same(self):
        seeds = range(12)
        vlms = [StickersVlm(seed=seed, planning=0.4, planning_errors="correlated") for seed in seeds]
        plans = [[vlm._understood(BRIEF, attempt) for attempt in range(4)] for vlm in vlms]
        assert all(plan == each[0] for each in plans for plan in each)
        assert len({str(each[0]) for each in plans}) > 4

    def test_the_same_words_are_misunderstood_alike_in_another_brief(self):
        one, two = parse("two blue cars and a dog"), parse("two blue cars and three hot dogs at sea")
        for seed in range(30):
            chance = always(f"{seed}/plan")
            assert misunderstood(one, 0.4, chance).items[0] == misunderstood(two, 0.4, chance).items[0]

    def test_large_counts_and_left_and_right_suffer_most_and_counts_by_one(self):
        many, few = parse("six dogs"), parse("two dogs")
        side = parse("a cat left of a dog")
        above = parse("a cat above a dog")

        def share(spec: Spec) -> float:
            found = [misunderstood(spec, 0.05, always(str(seed)), WEAK) for seed in range(1500)]
            return (
                sum(
                    each.items != spec.items if not spec.relations else each.relations != spec.relations
                    for each in found
                )
                / 1500
            )

        assert share(many) == pytest.approx(0.2, abs=0.04) and share(few) == pytest.approx(0.05, abs=0.025)
        wrong = {misunderstood(many, 0.3, always(str(seed)), WEAK).items[0].count for seed in range(60)}
        assert wrong == {5, 6, 7}
        # A relation also changes when one of its two things is taken for another.
        assert share(side) > share(above) + 0.08


def test_the_name_tells_the_rate_and_the_kind():
    assert StickersVlm(seed=3, planning=0.1).name == "stickers (planning 0.1 independent, seed 3)"
    vlm = StickersVlm(seed=3, planning=0.1, planning_errors="correlated")
    assert vlm.name == "stickers (planning 0.1 correlated, seed 3)"
