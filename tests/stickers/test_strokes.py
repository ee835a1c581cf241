"""Paintings in strokes: what the sub-scenes hold, and that each instruction leads from one to the next."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

from clvr_core.stickers.critique import contradiction
from clvr_core.stickers.grammar import parse, parse_instruction
from clvr_core.stickers.planner import closest
from clvr_core.stickers.proxies import after
from clvr_core.stickers.sampling import random_brief
from clvr_core.stickers.scene import Scene
from clvr_core.stickers.spec import Spec
from clvr_core.stickers.strokes import FIRST, LATER, Stroke, order_of, painted, subscenes, why


def paintings(count: int, mended: float = 0.5) -> list[tuple[Spec, list[Stroke]]]:
    rng, found = random.Random(2), []
    while len(found) < count:
        target, _, prompt = random_brief(rng, 3 + len(found) % 4)
        spec = parse(prompt)
        if spec.holds(target):
            found.append((spec, painted(spec, target, rng, mended)))
    return found


def kinds(scene: Scene) -> list[tuple[object, ...]]:
    return [(*thing.kind, thing.cell) for thing in scene.things]


def test_each_instruction_read_by_the_grammar_gives_the_next_scene_and_the_last_one_meets_the_brief():
    for spec, strokes in paintings(120):
        assert spec.holds(strokes[-1].scene)
        for before, stroke in pairwise(strokes):
            scene = before.scene
            for change in parse_instruction(stroke.words):
                scene = after(change, scene, [before.scene])
            assert kinds(scene) == kinds(stroke.scene), stroke.words


def test_all_kinds_of_strokes_occur_and_without_mending_only_additions():
    found = Counter(stroke.kind for _, strokes in paintings(120) for stroke in strokes)
    assert found["paint"] == 120 and min(found[kind] for kind in ("add", "modify", "swap", "remove")) >= 5
    assert {stroke.kind for _, strokes in paintings(40, 0.0) for stroke in strokes} == {"paint", "add"}


def test_sub_scenes_grow_by_a_few_things_with_what_is_related_side_by_side():
    rng = random.Random(1)
    spec = parse("a cat, a dog, a red car, a banana. the banana is left of the cat.")
    for _ in range(20):
        order = [item.noun for item in order_of(spec, rng)]
        assert abs(order.index("cat") - order.index("banana")) == 1, order
    target = closest(spec, Scene(), rng)
    assert target is not None and subscenes(spec, target, rng)[-1] == target
    for spec, strokes in paintings(40, 0.0):
        sizes = [len(stroke.scene.things) for stroke in strokes]
        assert sizes[0] <= FIRST and all(0 < new - old <= LATER for old, new in pairwise(sizes))
        assert sizes[-1] == spec.total


def test_what_nobody_asked_for_is_in_no_description_and_no_instruction_contradicts_the_brief():
    swapped = 0
    for spec, strokes in paintings(120):
        scene = {item.noun for item in spec.items}
        for stroke in strokes:
            assert {item.noun for item in parse(stroke.description).items} <= scene
            kind = "GENERATE" if stroke.kind == "paint" else "EDIT"
            said = contradiction(spec, {"kind": kind, "edit_prompt": stroke.words, "scene_prompt": stroke.words})
            # Two that are exchanged at the end may stand the other way round at first.
            assert not said or any(each.kind == "swap" for each in strokes), (stroke, said)
            swapped += bool(said)
    assert swapped < 10


def test_the_painter_says_what_stands_and_what_comes():
    (_, strokes), *_ = paintings(1)
    assert why(strokes[0], Scene()).startswith("I begin with the background")
    words = why(strokes[1], strokes[0].scene)
    assert strokes[1].words in words and strokes[0].scene.things[0].noun in words
