"""Paintings in strokes, exactly: the scene graph of a brief in growing sub-scenes, and the instructions that lead from one to
the next, as Think in Strokes (arXiv 2604.04746) makes its multi-turn data.

The graph's nodes are the items of the brief with their attributes, its edges the relations between them. The backdrop and the
first node come first, then nodes that are related to what stands. Not all strokes add: some mend what was painted before.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from .phrases import instruct, noun_words, whole, write
from .sampling import random_thing
from .scene import NATURAL, SIGN, SIZES, Edit, Scene, Thing, apply, cell_name
from .spec import ANYWHERE, Item, Spec

FIRST, LATER = 3, 2
"""Things that the first stroke paints, and each one after it, at most."""
MENDED = 0.5
"""Share of the paintings in which each kind of mending occurs, where it can."""

Kind = Literal["paint", "add", "modify", "swap", "remove"]


@dataclass(frozen=True, slots=True)
class Stroke:
    """One stroke of a painting.

    kind: `paint` begins the picture; `modify` changes a look or a size, `swap` exchanges two things, `remove` takes away
        what nobody asked for.
    words: the instruction; of the first one the same as `description`.
    description: what the canvas should show after it, in words. An unasked thing that was painted is not in it.
    scene: what it shows then.
    """

    kind: Kind
    words: str
    description: str
    scene: Scene


def order_of(spec: Spec, rng: random.Random) -> list[Item]:
    """Return the nodes of the graph in the order in which they are painted: from one on, those that are related to what
    stands before the others."""
    left = rng.sample(spec.items, len(spec.items))
    found: list[Item] = []
    while left:
        keys = {item.key for item in found}
        beside = {key for each in spec.relations for key in (each.a, each.b) if {each.a, each.b} & keys}
        following = next((item for item in left if item.key in beside), left[0])
        found.append(following)
        left.remove(following)
    return found


def subscenes(spec: Spec, target: Scene, rng: random.Random) -> list[Scene]:
    """Return the growing sub-scenes of a scene that meets the spec, the last one being the scene itself."""
    things = [thing for item in order_of(spec, rng) for thing in target.things if thing.key == item.key]
    found, count = [], min(FIRST, len(things))
    while True:
        found.append(Scene(tuple(things[:count]), target.backdrop))
        if count == len(things):
            return found
        count = min(count + LATER, len(things))


def painted(spec: Spec, target: Scene, rng: random.Random, mended: float = MENDED) -> list[Stroke]:
    """Return the strokes that paint a scene which meets the spec. mended: as MENDED; 0 for additions alone."""
    scenes = subscenes(spec, target, rng)
    changes: list[tuple[Kind, list[Edit]]] = []
    taken: set[int] = set()
    for way in (_exchanged, _open_look, _unasked):
        if rng.random() < mended and (found := way(spec, scenes, taken, rng)):
            kind, scenes, edits = found
            changes.append((kind, edits))
            taken.update(*(edit.cells for edit in edits))
    intruders = frozenset[int]().union(*(edit.cells for kind, edits in changes if kind == "remove" for edit in edits))
    rng.shuffle(changes)

    def stroke(kind: Kind, before: Scene, after: Scene, edits: Sequence[Edit]) -> Stroke:
        words = " and ".join(instruct(edit, before) for edit in edits)
        asked = write(whole(after.without(intruders)), "terse")
        return Stroke(kind, words or asked, asked, after)

    strokes = [stroke("paint", Scene(), scenes[0], [])]
    for before, after in pairwise(scenes):
        new = [thing for thing in after.things if before.at(thing.cell) is None]
        strokes.append(stroke("add", before, after, [Edit("put", thing.cell, thing=thing) for thing in new]))
    for kind, edits in changes:
        before = after = strokes[-1].scene
        for edit in edits:
            after = apply(edit, after)
        if kind == "remove":
            intruders = frozenset()
        strokes.append(stroke(kind, before, after, edits))
    return strokes


Way = tuple[Kind, list[Scene], list[Edit]]


def _open_look(spec: Spec, scenes: list[Scene], taken: set[int], rng: random.Random) -> Way | None:
    """Leave the colour of a thing open at first, or give it the other size where the brief leaves the size open."""
    things = [thing for thing in scenes[-1].things if thing.noun != SIGN]
    tinted = [each for each in things if each.color != NATURAL and _alone(each, scenes[-1]) and each.cell not in taken]
    if tinted:
        thing = rng.choice(tinted)
        plain, edit = replace(thing, color=NATURAL), Edit("recolor", thing.cell, color=thing.color)
        if all(other.key != plain.key for other in things):
            return "modify", _with(scenes, {thing.cell: plain}), [edit]
    free = [each for each in things if all(item.size is None for item in _of(spec, each)) and each.cell not in taken]
    if not free:
        return None
    thing = rng.choice(free)
    other = replace(thing, size=SIZES[1 - SIZES.index(thing.size)])
    return "modify", _with(scenes, {thing.cell: other}), [Edit("resize", thing.cell, size=thing.size)]


def _exchanged(spec: Spec, scenes: list[Scene], taken: set[int], rng: random.Random) -> Way | None:
    """Paint two things of the first sub-scene in each other's cells, where the brief leaves their places open; how they
    stand to one another is put right at the end."""
    open_ = [
        thing
        for thing in scenes[0].things
        if _alone(thing, scenes[-1])
        and thing.cell not in taken
        and all(item.place == ANYWHERE for item in _of(spec, thing))
    ]
    if len(open_) < 2:
        return None
    one, other = rng.sample(open_, 2)
    there = {one.cell: replace(other, cell=one.cell), other.cell: replace(one, cell=other.cell)}
    return "swap", _with(scenes, there), [Edit("put", each.cell, thing=each) for each in (one, other)]


def _unasked(spec: Spec, scenes: list[Scene], taken: set[int], rng: random.Random) -> Way | None:
    """Let the first picture show a thing that nobody asked for, in a cell that stays free."""
    free = scenes[-1].free()
    if not free:
        return None
    thing = random_thing(rng, rng.choice(free), 0.0)
    if any(item.noun == thing.noun for item in spec.items):
        return None
    return "remove", [scene.with_thing(thing) for scene in scenes], [Edit("remove", thing.cell)]


def _alone(thing: Thing, scene: Scene) -> bool:
    return sum(other.key == thing.key for other in scene.things) == 1


def _of(spec: Spec, thing: Thing) -> list[Item]:
    return [item for item in spec.items if item.key == thing.key]


def _with(scenes: list[Scene], there: dict[int, Thing]) -> list[Scene]:
    """The sub-scenes with other things in these cells, as far as something stands there."""
    return [replace(scene, things=tuple(there.get(each.cell, each) for each in scene.things)) for scene in scenes]


def why(stroke: Stroke, before: Scene) -> str:
    """Return what a painter says of a stroke in the first person."""
    if stroke.kind == "paint":
        return f"I begin with the background and the core of the scene: {stroke.description}."
    stands = ", ".join(f"{noun_words(*thing.key)} {cell_name(thing.cell)}" for thing in before.things)
    reason = {
        "add": "What stands is right as far as it goes; what is missing is painted next.",
        "modify": "One thing has not yet the look that was asked for.",
        "swap": "Two things do not stand to one another as they should, so I exchange them.",
        "remove": "There is something that nobody asked for.",
    }[stroke.kind]
    return f"The canvas shows {stands}. {reason} I {stroke.words}, and leave the rest as it is."
