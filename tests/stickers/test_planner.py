"""Plans: where the things of a brief are to stand, and the changes that lead there without losing what is already right."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from clvr_core.stickers.perceive import Perception
from clvr_core.stickers.planner import Change, changes, closest, layout
from clvr_core.stickers.sampling import grouped_scene, random_brief, random_edit, random_scene, random_sign
from clvr_core.stickers.scene import CELLS, NATURAL, NOUNS, PLAIN, SIGN, Edit, Scene, Thing, apply
from clvr_core.stickers.spec import Item, Place, Relation, Spec
from tests.waiting import counting_calls

RED, BLUE, GREEN = Item("cat", "red"), Item("car", "blue"), Item("tree", NATURAL)
SAYS = Item(SIGN, NATURAL, word="STOP")


def thing(item: Item, cell: int, size: str = "small") -> Thing:
    return Thing(item.noun, item.color, size, cell)


def shuffled(rng: random.Random, scene: Scene) -> Scene:
    cells = rng.sample(CELLS, len(scene.things))
    return replace(scene, things=tuple(replace(each, cell=cell) for each, cell in zip(scene.things, cells)))


def spoiled(rng: random.Random, scene: Scene) -> Scene:
    for _ in range(rng.randint(1, 3)):
        scene = apply(random_edit(rng, scene), scene)
    return scene


def cases(seed: int, count: int):
    """A spec that some scene meets, and a canvas: anything, the scene with a few edits, or its things in other places."""
    rng = random.Random(seed)
    for number in range(count):
        scene, spec, _ = random_brief(rng, 1 + number % 8)
        yield spec, (random_scene(rng, rng.randint(0, 9)), spoiled(rng, scene), shuffled(rng, scene))[number // 8 % 3]


def after(change: Change, scene: Scene) -> Scene:
    for edit in change.edits:
        scene = apply(edit, scene)
    return scene


def kinds(scene: Scene) -> tuple:
    return scene.backdrop, {each.cell: each.kind for each in scene.things}


def keeps(before: Scene, now: Scene, target: Scene) -> bool:
    """No kind of thing that is wanted has become rarer, unless there were more than enough."""
    old, new, wanted = (Counter(each.key for each in scene.things) for scene in (before, now, target))
    return all(new[key] >= min(old[key], wanted[key]) for key in wanted)


def seen(scene: Scene) -> Perception:
    return Perception(scene.things, scene.backdrop)


class TestLayout:
    def test_every_brief_that_can_be_met_is_met(self):
        for spec, canvas in cases(1, 250):
            target = layout(spec, canvas, random.Random(0))
            assert target is not None and spec.holds(target)

    def test_a_canvas_that_meets_the_brief_is_left_alone(self):
        rng = random.Random(2)
        for number in range(300):
            scene, spec, _ = random_brief(rng, 1 + number % 8)
            assert layout(spec, scene, rng) == scene

    def test_what_stands_right_stays_when_something_is_missing(self):
        rng = random.Random(3)
        for number in range(300):
            scene, spec, _ = random_brief(rng, 2 + number % 7)
            left = scene.without([rng.choice(scene.things).cell])
            assert set(left.things) <= set(layout(spec, left, rng).things)

    def test_the_same_chance_gives_the_same_layout(self):
        for spec, canvas in cases(4, 50):
            assert layout(spec, canvas, random.Random(7)) == layout(spec, canvas, random.Random(7))

    @pytest.mark.parametrize(
        "spec",
        [
            Spec((replace(RED, count=4, place=Place(row="top")),)),
            Spec((replace(RED, place=Place("top", "left")), replace(BLUE, place=Place("top", "left")))),
            Spec((RED, BLUE), (Relation(RED.key, "above", BLUE.key), Relation(BLUE.key, "above", RED.key))),
            Spec((replace(RED, place=Place(column="left")), BLUE), (Relation(RED.key, "right of", BLUE.key),)),
            Spec(
                (RED, BLUE, GREEN),
                tuple(Relation(a.key, "left of", b.key) for a, b in ((RED, BLUE), (BLUE, GREEN), (GREEN, RED))),
            ),
        ],
    )
    def test_there_is_none_for_what_cannot_be(self, spec):
        assert layout(spec, Scene(), random.Random(0)) is None

    def test_eight_things_are_placed_or_given_up_within_bounded_work(self):
        items = tuple(Item(noun, color) for noun in NOUNS[:4] for color in ("green", "pink"))
        ring = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 0)]
        impossible = Spec(items, tuple(Relation(items[a].key, "left of", items[b].key) for a, b in ring))
        with counting_calls() as calls:
            assert layout(impossible, random_scene(random.Random(0), 9), random.Random(0)) is None
            assert layout(Spec(items), random_scene(random.Random(1), 9), random.Random(0)) is not None
        assert calls[0] < 60_000

    def test_a_thing_that_is_too_much_is_painted_over_rather_than_another_cell_filled(self):
        canvas = Scene((thing(GREEN, 4),))
        assert layout(Spec((RED,)), canvas, random.Random(0)).things[0].cell == 4


class TestTheBackdropAndTheWord:
    def test_the_backdrop_is_that_of_the_brief_or_else_that_of_the_canvas(self):
        assert layout(Spec((RED,), (), "sea"), Scene((), "night"), random.Random(0)).backdrop == "sea"
        assert layout(Spec((RED,)), Scene((), "night"), random.Random(0)).backdrop == "night"
        assert layout(Spec((RED,)), Scene(), random.Random(0)).backdrop == PLAIN

    def test_a_sign_is_large_and_says_what_is_asked_or_what_it_says_already(self):
        there = random_sign(random.Random(0), 3)
        open_word = Spec((replace(SAYS, word=None),))
        assert layout(Spec((SAYS,)), Scene((there,)), random.Random(0)).things == (
            Thing(SIGN, NATURAL, "large", 3, word="STOP"),
        )
        assert layout(open_word, Scene((there,)), random.Random(0)).things == (there,)
        assert layout(open_word, Scene(), random.Random(0)).things[0].word


class TestClosest:
    def test_is_the_layout_where_there_is_one(self):
        for spec, canvas in cases(5, 100):
            assert closest(spec, canvas, random.Random(0)) == layout(spec, canvas, random.Random(0))

    def test_of_contradicting_relations_the_first_ones_hold(self):
        first = Relation(RED.key, "above", BLUE.key)
        spec = Spec((RED, BLUE), (first, Relation(BLUE.key, "above", RED.key)))
        assert Spec(spec.items, (first,)).holds(closest(spec, Scene(), random.Random(0)))


class TestChanges:
    def test_a_canvas_that_is_right_needs_none(self):
        for spec, canvas in cases(6, 150):
            target = layout(spec, canvas, random.Random(0))
            assert changes(target, seen(target)) == []

    def test_all_of_them_in_order_give_the_target(self):
        for spec, canvas in cases(7, 200):
            target = layout(spec, canvas, random.Random(0))
            for change in changes(target, seen(canvas)):
                canvas = after(change, canvas)
            assert kinds(canvas) == kinds(target)

    def test_those_that_lose_nothing_when_made_alone_come_first(self):
        for spec, canvas in cases(8, 150):
            target = layout(spec, canvas, random.Random(0))
            harmless = [keeps(canvas, after(change, canvas), target) for change in changes(target, seen(canvas))]
            assert harmless == sorted(harmless, reverse=True)

    def test_on_a_canvas_with_a_few_faults_hardly_any_loses_something(self):
        rng, number, harmless = random.Random(9), 0, 0
        for count in range(600):
            scene, spec, _ = random_brief(rng, 1 + count % 8)
            canvas = spoiled(rng, scene)
            target = layout(spec, canvas, random.Random(0))
            good = [keeps(canvas, after(change, canvas), target) for change in changes(target, seen(canvas))]
            number, harmless = number + len(good), harmless + sum(good)
        assert number > 600 and harmless > 0.99 * number

    def test_a_change_is_one_or_two_edits_of_different_cells(self):
        for spec, canvas in cases(10, 150):
            for change in changes(layout(spec, canvas, random.Random(0)), seen(canvas)):
                assert 1 <= len(change.edits) <= 2
                assert len(change.cells) == sum(len(edit.cells) for edit in change.edits)

    def test_a_change_names_the_items_it_serves_and_a_removal_none(self):
        for spec, canvas in cases(11, 150):
            wanted = {item.key for item in spec.items}
            for change in changes(layout(spec, canvas, random.Random(0)), seen(canvas)):
                alone = {edit.kind for edit in change.edits}
                assert change.keys <= wanted and (bool(change.keys) or alone in ({"remove"}, {"backdrop"}))
                assert change.of_backdrop == (alone == {"backdrop"})


class TestTheChangeThatIsChosen:
    def only(self, target: Scene, canvas: Scene) -> Edit:
        (change,) = changes(target, seen(canvas))
        (edit,) = change.edits
        return edit

    def test_what_is_missing_is_put(self):
        assert self.only(Scene((thing(RED, 4),)), Scene()) == Edit("put", 4, thing=thing(RED, 4))

    def test_what_is_too_much_is_removed(self):
        assert self.only(Scene((thing(RED, 4),)), Scene((thing(RED, 4), thing(BLUE, 0)))) == Edit("remove", 0)

    def test_a_wrong_size_is_resized(self):
        assert self.only(Scene((thing(RED, 4, "large"),)), Scene((thing(RED, 4),))) == Edit("resize", 4, size="large")

    def test_a_wrong_colour_alone_is_recoloured(self):
        assert self.only(Scene((thing(RED, 4),)), Scene((Thing("cat", "blue", "small", 4),))) == Edit(
            "recolor", 4, color="red"
        )

    def test_a_wrong_place_is_moved_from(self):
        assert self.only(Scene((thing(RED, 4),)), Scene((thing(RED, 0),))) == Edit("move", 0, to=4)

    def test_a_thing_of_the_wrong_kind_is_replaced(self):
        assert self.only(Scene((thing(RED, 4),)), Scene((thing(BLUE, 4),))) == Edit("put", 4, thing=thing(RED, 4))

    def test_a_wrong_place_and_size_are_mended_in_one_change(self):
        (change,) = changes(Scene((thing(RED, 4, "large"),)), seen(Scene((thing(RED, 0),))))
        assert change.edits == (Edit("put", 4, thing=thing(RED, 4, "large")), Edit("remove", 0))

    def test_two_things_in_each_others_places_change_over_at_once(self):
        (change,) = changes(Scene((thing(RED, 0), thing(BLUE, 8))), seen(Scene((thing(BLUE, 0), thing(RED, 8)))))
        assert {edit.cell for edit in change.edits} == {0, 8} and change.keys == {RED.key, BLUE.key}

    def test_a_displaced_thing_goes_before_the_one_that_needs_its_place(self):
        first, second = changes(Scene((thing(RED, 1), thing(BLUE, 5))), seen(Scene((thing(RED, 0), thing(BLUE, 1)))))
        assert first.edits == (Edit("move", 1, to=5),)
        assert second.edits == (Edit("put", 1, thing=thing(RED, 1)), Edit("remove", 0))

    def test_a_missing_thing_takes_the_place_of_another_in_one_change(self):
        (change,) = changes(Scene((thing(RED, 1), thing(BLUE, 5))), seen(Scene((thing(BLUE, 1),))))
        assert change.edits == (Edit("put", 1, thing=thing(RED, 1)), Edit("put", 5, thing=thing(BLUE, 5)))

    def test_what_is_unclear_is_cleared_away_wherever_it_lies(self):
        canvas = Perception((thing(RED, 0),), PLAIN, (1, 4))
        assert changes(Scene((thing(RED, 0),)), canvas) == [Change((Edit("remove", 1),)), Change((Edit("remove", 4),))]

    def test_a_thing_that_is_unclear_is_painted_anew(self):
        (change,) = changes(Scene((thing(RED, 0),)), Perception((), PLAIN, (0,)))
        assert change.edits == (Edit("put", 0, thing=thing(RED, 0)),)

    def test_a_wrong_word_is_written_anew(self):
        stop, step = (Thing(SIGN, NATURAL, "large", 4, word=word) for word in ("STOP", "STEP"))
        assert self.only(Scene((stop,)), Scene((step,))) == Edit("word", 4, word="STOP")

    def test_a_wrong_backdrop_and_an_unclear_one_are_changed_first(self):
        target = Scene((thing(RED, 4),), "night")
        for there in ("day", None):
            first, second = changes(target, Perception((), there))
            assert first.edits == (Edit("backdrop", None, backdrop="night"),) and first.of_backdrop
            assert second.edits == (Edit("put", 4, thing=thing(RED, 4)),)


def test_counted_things_are_changed_one_at_a_time():
    scene = grouped_scene(random.Random(1), 8)
    found = changes(scene, Perception())
    assert len(found) == 8 and all(len(change.edits) == 1 for change in found)
