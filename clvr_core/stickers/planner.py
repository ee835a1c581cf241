"""Planning on the sticker canvas: a cell for each thing of the brief, and the changes that lead there."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace

from .perceive import Perception
from .sampling import WORDS
from .scene import CELLS, GRID, NATURAL, SIGN, SIZES, Edit, Scene, Thing, apply
from .spec import Item, Relation, Spec

MOST_NODES = 20_000


@dataclass(frozen=True, slots=True)
class Change:
    """Edits that belong together, one or two, and the keys (colour, noun) of the items they serve; a removal serves
    none, nor does a change of the backdrop."""

    edits: tuple[Edit, ...]
    keys: frozenset[tuple[str, str]] = frozenset()

    @property
    def cells(self) -> frozenset[int]:
        return frozenset().union(*(edit.cells for edit in self.edits))

    @property
    def of_backdrop(self) -> bool:
        return any(edit.kind == "backdrop" for edit in self.edits)


def layout(spec: Spec, seen: Scene, rng: random.Random) -> Scene | None:
    """A scene that meets the spec and keeps as much as it can of what is seen, of an empty Scene() nothing. None if no
    arrangement meets it.

    Depth-first over the cells of each thing, cheapest cells first, cut by the best cost so far and by MOST_NODES.
    """
    slots = _slots(spec)
    there = {thing.cell: thing for thing in seen.things}
    order = {cell: rng.random() for cell in CELLS}
    best: dict = {"cost": None, "cells": None, "nodes": 0}

    def cost(item: Item, cell: int) -> int:
        thing = there.get(cell)
        if thing is None:
            return 3
        if thing.key == item.key:
            return 0 if _right(item, thing) else 1
        return 2

    # What the rest must cost at least, so that no branch is followed that cannot win.
    least = [min(cost(item, cell) for cell in item.place.cells) for item in slots]
    rest = [sum(least[index:]) for index in range(len(slots) + 1)]

    def place(index: int, taken: dict[int, Item], spent: int) -> None:
        best["nodes"] += 1
        if (best["cost"] is not None and spent + rest[index] >= best["cost"]) or best["nodes"] > MOST_NODES:
            return
        if index == len(slots):
            best["cost"], best["cells"] = spent, dict(taken)
            return
        item = slots[index]
        lowest = max((cell for cell, other in taken.items() if other is item), default=-1)
        options = [cell for cell in item.place.cells if cell not in taken and cell > lowest]
        for cell in sorted(options, key=lambda cell: (cost(item, cell), order[cell])):
            taken[cell] = item
            if _agree(spec.relations, taken):
                place(index + 1, taken, spent + cost(item, cell))
            del taken[cell]

    place(0, {}, 0)
    if best["cells"] is None:
        return None
    things = tuple(_thing(item, cell, there.get(cell), rng) for cell, item in best["cells"].items())
    return Scene(things, spec.backdrop or seen.backdrop)


def closest(spec: Spec, seen: Scene, rng: random.Random) -> Scene | None:
    """The layout of the spec; where its relations cannot all hold, of as many of the first ones as can."""
    kept = (replace(spec, relations=spec.relations[:count]) for count in range(len(spec.relations), -1, -1))
    return next((scene for part in kept if (scene := layout(part, seen, rng))), None)


def _slots(spec: Spec) -> list[Item]:
    """One entry for each thing, the most constrained first."""
    related = {key for relation in spec.relations for key in (relation.a, relation.b)}
    ordered = sorted(spec.items, key=lambda item: (len(item.place.cells), item.key not in related))
    return [item for item in ordered for _ in range(item.count)]


def _agree(relations: Collection[Relation], taken: dict[int, Item]) -> bool:
    cells = {item.key: cell for cell, item in taken.items()}
    for relation in relations:
        a, b = cells.get(relation.a), cells.get(relation.b)
        if a is None or b is None:
            continue
        across, down = a % GRID - b % GRID, a // GRID - b // GRID
        if not {"left of": across < 0, "right of": across > 0, "above": down < 0, "below": down > 0}[relation.kind]:
            return False
    return True


def _right(item: Item, thing: Thing) -> bool:
    """Say whether a thing is what the item asks for, its cell aside."""
    return thing.key == item.key and item.size in (None, thing.size) and item.word in (None, thing.word)


def _thing(item: Item, cell: int, there: Thing | None, rng: random.Random) -> Thing:
    if there is not None and _right(item, there):
        return there
    if item.noun == SIGN:
        return Thing(SIGN, NATURAL, "large", cell, word=item.word or rng.choice(WORDS))
    return Thing(item.noun, item.color, item.size or rng.choice(SIZES), cell)


def changes(target: Scene, seen: Perception) -> list[Change]:
    """Return the changes that turn the perceived canvas into the target, in an order in which each is possible.

    Changes that leave no item with fewer things than before, each made alone, come first. So two things in each other's
    cells are exchanged at once, and a change that displaces a thing comes after that thing was moved. What is unclear is
    cleared away.
    """
    junk = set(seen.unclear)
    now = seen.scene()
    clean = now.without(junk)
    held = {thing.cell: thing for thing in clean.things}
    settled = {
        thing.cell for thing in target.things if (there := held.get(thing.cell)) is not None and there.key == thing.key
    }
    loose: dict[tuple[str, str], list[int]] = {}
    for cell, thing in held.items():
        if cell not in settled:
            loose.setdefault(thing.key, []).append(cell)
    found = [Change((Edit("backdrop", None, backdrop=target.backdrop),))] * (target.backdrop != seen.backdrop)
    found += [
        Change((edit,), frozenset({thing.key}))
        for thing in target.things
        if thing.cell in settled and (edit := _amended(held[thing.cell], thing))
    ]
    done = set(settled)
    for thing in target.things:
        source = _source(thing, target, held, loose)
        if source is not None and thing.cell not in junk and now.at(thing.cell) is None:
            found.append(Change((Edit("move", source, to=thing.cell),), frozenset({thing.key})))
            done.add(thing.cell)
            loose[thing.key].remove(source)
            del held[source]
    for thing in sorted(target.things, key=lambda thing: thing.key not in loose):
        if thing.cell in done:
            continue
        done.add(thing.cell)
        sources = [cell for cell in loose.get(thing.key, ()) if cell not in done or target.at(cell) is None]
        if not sources:
            found.append(Change((_become(thing, held),), frozenset({thing.key})))
            continue
        source = sources[0]
        loose[thing.key].remove(source)
        other = target.at(source)
        if other is None:
            found.append(Change((_become(thing, held), Edit("remove", source)), frozenset({thing.key})))
        else:
            done.add(source)
            found.append(Change((_become(other, held), _become(thing, held)), frozenset({thing.key, other.key})))
    used = {cell for change in found for cell in change.cells}
    wrong = [cell for cell in CELLS if target.at(cell) is None and cell not in used and (cell in held or cell in junk)]
    found += [Change((Edit("remove", cell),)) for cell in wrong]
    return sorted(found, key=lambda change: not _loses_nothing(change, clean, target))


def _source(thing: Thing, target: Scene, held: dict[int, Thing], loose: dict[tuple[str, str], list[int]]) -> int | None:
    """Return the cell of an equal thing that can be moved. Not the cell of a missing thing: both change in one
    instruction."""
    for cell in loose.get(thing.key, ()):
        other = target.at(cell)
        if held[cell].kind == thing.kind and (other is None or loose.get(other.key)):
            return cell
    return None


def _loses_nothing(change: Change, now: Scene, target: Scene) -> bool:
    """True if after the change there are as many of each item of the target as before, or as many as it needs."""
    after = now
    for edit in change.edits:
        after = apply(edit, after)
    before, left, wanted = (Counter(thing.key for thing in scene.things) for scene in (now, after, target))
    return all(left[key] >= min(before[key], count) for key, count in wanted.items())


def _amended(there: Thing, wanted: Thing) -> Edit | None:
    """Return the edit that gives a thing the size, or a sign the word, that is wanted; None if it has it."""
    if there.word != wanted.word:
        return Edit("word", wanted.cell, word=wanted.word)
    return None if there.size == wanted.size else Edit("resize", wanted.cell, size=wanted.size)


def _become(thing: Thing, held: dict[int, Thing]) -> Edit:
    there = held.get(thing.cell)
    if there is not None and (there.noun, there.size) == (thing.noun, thing.size):
        return Edit("recolor", thing.cell, color=thing.color)
    return Edit("put", thing.cell, thing=replace(thing, dx=0, dy=0))
