"""Random scenes, briefs and edits, for training the base model and for measuring it."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from .phrases import REGISTERS, instruct, restore, write
from .scene import CELLS, COLORS, COLUMNS, GRID, JITTER, ROWS, SHAPES, SIZES, Edit, Scene, Thing, apply
from .spec import ANYWHERE, Item, Place, Relation, Spec, related

# How often training shows each number of things; natural captions name few.
T2I_COUNTS = {1: 0.15, 2: 0.25, 3: 0.36, 4: 0.14, 5: 0.07, 6: 0.03}


@dataclass(frozen=True, slots=True)
class Telling:
    """Odds of the statements in a brief of a scene.

    The first three: that all, half or none of the places are stated. Then those of 0, 1 and 2 relations where places
    are left open, and of 0 and 1 relation where every place is stated.
    """

    places: tuple[float, ...] = (0.5, 0.25, 0.25)
    relations: tuple[float, ...] = (0.7, 0.2, 0.1)
    relations_placed: tuple[float, ...] = (0.9, 0.1)


MEASURED = Telling()
TAUGHT = Telling(places=(0.3, 0.3, 0.4), relations=(0.45, 0.35, 0.2))
"""Odds for training: relations between things without a place are learnt last, so they come more often than in the
measure."""

EDIT_KINDS = {"put": 0.4, "remove": 0.2, "recolor": 0.15, "resize": 0.1, "move": 0.15}


def jitter(rng: random.Random) -> int:
    return rng.randint(-JITTER, JITTER)


def random_thing(rng: random.Random, cell: int) -> Thing:
    return Thing(rng.choice(SHAPES), rng.choice(COLORS), rng.choice(SIZES), cell, jitter(rng), jitter(rng))


def random_scene(rng: random.Random, count: int) -> Scene:
    return Scene(tuple(random_thing(rng, cell) for cell in rng.sample(CELLS, count)))


def grouped_scene(rng: random.Random, count: int) -> Scene:
    """Return a scene in which some things share colour and shape, so that a brief can state counts."""
    kinds = rng.sample([(shape, color) for shape in SHAPES for color in COLORS], count)
    cells, things = rng.sample(CELLS, count), []
    while len(things) < count:
        shape, color = kinds.pop()
        size = rng.choice(SIZES)
        for _ in range(min(rng.choices((1, 2, 3), (0.78, 0.15, 0.07))[0], count - len(things))):
            things.append(Thing(shape, color, size, cells[len(things)], jitter(rng), jitter(rng)))
    return Scene(tuple(things))


def tell(scene: Scene, rng: random.Random, placed: float, sized: float = 0.5, relations: int = 0) -> Spec:
    """Return a spec true of the scene, which states each place with probability `placed`, each size with `sized`, and
    at most that many relations."""
    groups: dict[tuple[str, str], list[Thing]] = {}
    for thing in scene.things:
        groups.setdefault((thing.color, thing.shape), []).append(thing)
    items = [_item(things, rng, placed, sized) for things in groups.values()]
    singles = [things[0] for things in groups.values() if len(things) == 1]
    found = []
    for _ in range(relations):
        if len(singles) < 2:
            break
        a, b = rng.sample(singles, 2)
        kinds = [kind for kind in ("left of", "right of", "above", "below") if related(a, kind, b)]
        relation = Relation((a.color, a.shape), rng.choice(kinds), (b.color, b.shape))
        if not any({relation.a, relation.b} == {other.a, other.b} for other in found):
            found.append(relation)
    return Spec(tuple(items), tuple(found))


def _item(things: list[Thing], rng: random.Random, placed: float, sized: float) -> Item:
    first, sizes = things[0], {thing.size for thing in things}
    size = first.size if len(sizes) == 1 and rng.random() < sized else None
    rows, columns = {thing.cell // GRID for thing in things}, {thing.cell % GRID for thing in things}
    place = ANYWHERE
    if rng.random() < placed:
        row = ROWS[first.cell // GRID] if len(rows) == 1 else None
        column = COLUMNS[first.cell % GRID] if len(columns) == 1 else None
        if len(things) == 1 and rng.random() < 0.15:
            row, column = rng.choice(((row, None), (None, column)))
        place = Place(row, column)
    return Item(first.shape, first.color, len(things), size, place)


def random_brief(rng: random.Random, count: int) -> tuple[Scene, Spec, str]:
    """Return a scene, a spec true of it, and the spec as a prompt in a random register."""
    scene = grouped_scene(rng, count)
    return scene, *brief_of(scene, rng)


def brief_of(scene: Scene, rng: random.Random, telling: Telling = MEASURED) -> tuple[Spec, str]:
    """Return a spec true of the scene, and the spec as a prompt in a random register."""
    placed = rng.choices((1.0, 0.5, 0.0), telling.places)[0]
    odds = telling.relations if placed < 1 else telling.relations_placed
    relations = rng.choices(range(len(odds)), odds)[0]
    spec = tell(scene, rng, placed, relations=relations)
    return spec, write(spec, rng.choices(REGISTERS, (0.45, 0.35, 0.2))[0], rng)


def random_edit(rng: random.Random, scene: Scene, kind: str | None = None) -> Edit:
    """Return an edit that the scene allows; a `put` if the kind needs a thing or a free cell and there is none."""
    kind = kind or rng.choices(list(EDIT_KINDS), list(EDIT_KINDS.values()))[0]
    if not scene.things or (kind == "move" and not scene.free()):
        kind = "put"
    if kind == "put":
        free = scene.free()
        cell = rng.choice(free) if free and (not scene.things or rng.random() < 0.7) else rng.choice(scene.things).cell
        return Edit("put", cell, thing=random_thing(rng, cell))
    there = rng.choice(scene.things)
    if kind == "recolor":
        return Edit(kind, there.cell, color=rng.choice([color for color in COLORS if color != there.color]))
    if kind == "resize":
        return Edit(kind, there.cell, size=next(size for size in SIZES if size != there.size))
    if kind == "move":
        to = rng.choice(scene.free())
        return Edit(kind, there.cell, thing=replace(there, cell=to, dx=jitter(rng), dy=jitter(rng)), to=to)
    return Edit(kind, there.cell)


@dataclass(frozen=True, slots=True)
class Sample:
    """One training pair.

    prompt: of the executor.
    references: the canvases given, the one to edit first.
    target: the wanted canvas.
    cells: the cells that the edit names.
    """

    prompt: str
    references: tuple[Scene, ...]
    target: Scene
    cells: frozenset[int] = frozenset()


def t2i_sample(rng: random.Random) -> Sample:
    scene, _, prompt = random_brief(rng, rng.choices(list(T2I_COUNTS), list(T2I_COUNTS.values()))[0])
    return Sample(prompt, (), scene)


def edit_sample(rng: random.Random) -> Sample:
    """Return one or two edits of a canvas with 0 to 8 things; one in ten holds already and must change nothing."""
    before = random_scene(rng, rng.randint(0, 8))
    first = random_edit(rng, before)
    after, words, cells = apply(first, before), instruct(first, before, rng), first.cells
    if rng.random() < 0.08:
        undone = Edit("put", first.cell, thing=before.at(first.cell)) if before.at(first.cell) else None
        if undone and first.kind in ("put", "recolor", "resize"):
            return Sample(instruct(undone, before.without([first.cell]), rng), (before,), before, first.cells)
    if rng.random() < 0.3:
        second = random_edit(rng, after)
        if not second.cells & cells:
            words += rng.choice((" and ", ", ", " then ", ". ")) + instruct(second, after, rng)
            after, cells = apply(second, after), cells | second.cells
    return Sample(
        words + rng.choice(("", "", ". keep everything else", ". leave the rest unchanged")), (before,), after, cells
    )


def restore_sample(rng: random.Random) -> Sample:
    """Return a sample of two canvases: one cell of the first is restored from the second, or the second is an earlier
    state to ignore."""
    if rng.random() < 0.4:
        plain = edit_sample(rng)
        earlier = apply(random_edit(rng, plain.references[0]), plain.references[0])
        return replace(plain, references=(plain.references[0], earlier))
    before = random_scene(rng, rng.randint(1, 7))
    other = before
    for _ in range(rng.randint(1, 2)):
        other = apply(random_edit(rng, other), other)
    changed = [cell for cell in CELLS if before.at(cell) != other.at(cell)]
    cell = rng.choice(changed or CELLS)
    there = other.at(cell)
    rest = before.without([cell])
    return Sample(restore(cell), (before, other), Scene((*rest.things, there)) if there else rest, frozenset({cell}))
