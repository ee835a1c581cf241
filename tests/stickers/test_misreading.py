"""Readers that err: at their rate, within what the world can show, and where they are weak always alike."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from clvr_core.stickers.misreading import MOST, WEAK, Weakness, misread, near
from clvr_core.stickers.perceive import Perception
from clvr_core.stickers.sampling import WORDS, random_scene
from clvr_core.stickers.scene import BACKDROPS, NATURAL, SIGN, Scene, Thing, looks
from clvr_core.stickers.spec import AtLeast, Item, Only, Place, Relation

CAT, CAR = Thing("cat", "red", "small", 0), Thing("car", "blue", "large", 4)
STOP = Thing(SIGN, NATURAL, "large", 8, word="STOP")
SEEDS = range(2000)


def seen(*things: Thing, backdrop: str = "plain") -> Perception:
    return Perception(Scene(things).things, backdrop)


def many(count: int) -> Perception:
    return seen(*(replace(CAT, cell=cell) for cell in range(count)))


class TestMisread:
    def test_nothing_is_misread_at_zero(self):
        rng = random.Random(0)
        for _ in range(50):
            scene = random_scene(rng, 5)
            perception = Perception(scene.things, scene.backdrop, ())
            assert misread(perception, 0.0, rng) == perception

    def test_each_part_is_misread_as_often_as_it_is_set(self):
        rng, shown, count = random.Random(1), seen(CAT, STOP, backdrop="sea"), 4000
        found = [misread(shown, 0.2, rng) for _ in range(count)]
        cats = [each.at(0) for each in found if each.at(0)]
        signs = [each.at(8) for each in found if each.at(8)]
        for wrong, among in (
            (count - len(cats), count),
            (count - len(signs), count),
            (sum(cat.noun != "cat" for cat in cats), len(cats)),
            (sum(cat.size != "small" for cat in cats), len(cats)),
            (sum(sign.word != "STOP" for sign in signs), len(signs)),
            (sum(each.backdrop != "sea" for each in found), count),
        ):
            assert wrong / among == pytest.approx(0.2, abs=0.03)

    def test_what_is_read_instead_can_be_drawn(self):
        rng = random.Random(2)
        for _ in range(300):
            scene = random_scene(rng, 9)
            found = misread(Perception(scene.things, scene.backdrop, (3,)), 0.5, rng)
            assert found.unclear == (3,) and found.backdrop in BACKDROPS
            assert all(thing.color in looks(thing.noun) for thing in found.things)
            assert all(bool(thing.word) == (thing.noun == SIGN) for thing in found.things)

    def test_always_misread_nothing_is_seen(self):
        assert misread(seen(CAT, CAR, STOP), 1.0, random.Random(5)).things == ()

    def test_the_same_chance_misreads_the_same(self):
        shown = Perception(random_scene(random.Random(6), 9).things)
        once, again, other = (misread(shown, 0.5, random.Random(seed)) for seed in (1, 1, 2))
        assert once == again != other

    def test_an_unclear_backdrop_stays_unclear(self):
        assert misread(Perception((), None), 1.0, random.Random(0)).backdrop is None

    @pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
    def test_a_rate_is_a_probability(self, rate):
        with pytest.raises(ValueError, match="probability"):
            misread(seen(), rate, random.Random(0))


@pytest.mark.parametrize("word", [*WORDS[:30], "Z", "QQQQQ"])
def test_a_near_word_differs_in_one_letter(word):
    found = {near(word, random.Random(seed)) for seed in range(20)}
    assert found
    assert all(len(each) == len(word) and sum(a != b for a, b in zip(each, word)) == 1 for each in found)


class TestWeakness:
    def rate(self, errs) -> float:
        return sum(errs(Weakness(0.05, seed)) for seed in SEEDS) / len(SEEDS)

    def test_counts_above_four_are_one_off_and_smaller_ones_are_right(self):
        for number in (5, 8):
            assert self.rate(lambda weak, number=number: weak.count(CAT.key, number) != number) == pytest.approx(
                0.05 * WEAK, abs=0.03
            )
            assert {Weakness(0.1, seed).count(CAT.key, number) - number for seed in range(60)} == {-1, 0, 1}
        assert self.rate(lambda weak: weak.count(CAT.key, 4) != 4) == 0

    def test_left_and_right_are_exchanged_and_above_and_below_are_not(self):
        left, above = (Relation(CAT.key, kind, CAR.key) for kind in ("left of", "above"))
        assert self.rate(lambda weak: weak.side(left).kind == "right of") == pytest.approx(0.05 * WEAK, abs=0.03)
        assert self.rate(lambda weak: weak.side(above) != above) == 0

    def test_a_pair_that_is_mirrored_is_so_in_whichever_words(self):
        one, two = Relation(CAT.key, "left of", CAR.key), Relation(CAR.key, "right of", CAT.key)
        for seed in range(100):
            weak = Weakness(0.1, seed)
            assert (weak.side(one) == one) == (weak.side(two) == two)

    def test_a_word_one_letter_off_is_taken_for_the_one_asked_for(self):
        assert self.rate(lambda weak: weak.reads("STEP", "STOP")) == pytest.approx(0.05 * WEAK, abs=0.03)
        for shown in ("SNAP", "STOPS", "TOP"):
            assert self.rate(lambda weak, shown=shown: weak.reads(shown, "STOP")) == 0
        assert self.rate(lambda weak: weak.reads("STOP", "STOP")) == 1
        assert self.rate(lambda weak: weak.reads("B", "A")) == 0

    def test_it_errs_in_half_of_all_cases_at_most(self):
        wrong = sum(Weakness(1.0, seed).count(CAT.key, 6) != 6 for seed in SEEDS)
        assert wrong / len(SEEDS) == pytest.approx(MOST, abs=0.04)

    def test_statements_are_judged_by_what_is_misread(self):
        six, five = Item("cat", "red", 6), Item("cat", "red", 5)
        left = Relation(CAT.key, "left of", CAR.key)
        word = Item(SIGN, NATURAL, word="STOP")
        for seed in range(80):
            weak = Weakness(0.1, seed)
            counted = weak.count(CAT.key, 6)
            assert weak.holds(six, many(6)) == (counted == 6) and weak.holds(five, many(6)) == (counted == 5)
            assert weak.holds(AtLeast(six), many(6)) == (counted >= 6)
            assert weak.holds(left, seen(CAT, CAR)) == (weak.side(left) == left)
            assert weak.holds(word, seen(replace(STOP, word="STEP"))) == weak.reads("STEP", "STOP")
            assert weak.holds(Only((six,)), many(6)) and weak.holds(Item("cat", "red", 2), many(2))

    def test_size_and_place_are_read_as_they_are(self):
        item = Item("cat", "red", 1, "small", Place("top", "left"))
        weak = Weakness(0.5, 1)
        assert weak.holds(item, seen(CAT)) and not weak.holds(item, seen(replace(CAT, cell=1)))
        assert not weak.holds(item, seen(replace(CAT, size="large")))

    def test_without_a_rate_it_reads_exactly(self):
        rng = random.Random(3)
        for seed in range(50):
            scene = random_scene(rng, 8)
            statements = [Item(thing.noun, thing.color, 1, thing.size) for thing in scene.things]
            perception = Perception(scene.things, scene.backdrop)
            assert all(Weakness(0.0, seed).holds(each, perception) == each.holds(scene) for each in statements)
