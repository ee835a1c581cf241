"""The content of a brief: items, their places and relations; and whether a scene agrees."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .scene import CELL, CELLS, COLORS, COLUMNS, GRID, ROWS, SHAPES, Thing
from .words import RELATIONS


@dataclass(frozen=True, slots=True)
class Place:
    """A row, a column, or with both a cell."""

    row: str | None = None
    column: str | None = None

    @property
    def cells(self) -> tuple[int, ...]:
        rows = range(GRID) if self.row is None else (ROWS.index(self.row),)
        columns = range(GRID) if self.column is None else (COLUMNS.index(self.column),)
        return tuple(row * GRID + column for row in rows for column in columns)


ANYWHERE = Place()


@dataclass(frozen=True, slots=True)
class Item:
    shape: str
    color: str
    count: int = 1
    size: str | None = None
    place: Place = ANYWHERE

    @property
    def key(self) -> tuple[str, str]:
        return self.color, self.shape

    def holds(self, things: Sequence[Thing]) -> bool:
        mine = [thing for thing in things if (thing.color, thing.shape) == self.key]
        return (
            len(mine) == self.count
            and all(self.size in (None, thing.size) for thing in mine)
            and all(thing.cell in self.place.cells for thing in mine)
        )


@dataclass(frozen=True, slots=True)
class Relation:
    """`a` and `b` are keys (colour, shape) of items of count one."""

    a: tuple[str, str]
    kind: str
    b: tuple[str, str]

    def holds(self, things: Sequence[Thing]) -> bool:
        first = [thing for thing in things if (thing.color, thing.shape) == self.a]
        second = [thing for thing in things if (thing.color, thing.shape) == self.b]
        return len(first) == 1 and len(second) == 1 and related(first[0], self.kind, second[0])


def related(a: Thing, kind: str, b: Thing) -> bool:
    """True if the centres are at least half a cell apart in the direction named; the other axis does not matter."""
    (ax, ay), (bx, by) = a.center, b.center
    distance = {"left of": bx - ax, "right of": ax - bx, "above": by - ay, "below": ay - by}[kind]
    return distance >= CELL // 2


@dataclass(frozen=True, slots=True)
class AtLeast:
    """At least as many of the item as it counts: a waymark towards a number that one instruction cannot reach."""

    item: Item

    def holds(self, things: Sequence[Thing]) -> bool:
        item = self.item
        fitting = [thing for thing in things if replace(item, count=1).holds([thing])]
        return len(fitting) >= item.count


@dataclass(frozen=True, slots=True)
class Only:
    """Nothing is drawn that the items do not ask for, and no more than they ask for."""

    items: tuple[Item, ...]

    def holds(self, things: Sequence[Thing]) -> bool:
        asked = {item.key: item.count for item in self.items}
        return all(
            count <= asked.get(key, 0) for key, count in Counter((thing.color, thing.shape) for thing in things).items()
        )


Statement = Only | Item | AtLeast | Relation
WAYMARK = 2


@dataclass(frozen=True, slots=True)
class Spec:
    items: tuple[Item, ...]
    relations: tuple[Relation, ...] = ()

    @property
    def total(self) -> int:
        return sum(item.count for item in self.items)

    def holds(self, things: Sequence[Thing]) -> bool:
        """True if the things are exactly those the spec names, and stand as it says."""
        return (
            len(things) == self.total
            and all(item.holds(things) for item in self.items)
            and all(relation.holds(things) for relation in self.relations)
        )

    @property
    def statements(self) -> tuple[Statement, ...]:
        """The checklist: nothing else, each item, waymarks for counts above WAYMARK, each relation.

        All hold where the spec does.
        """
        return (Only(self.items), *(mark for item in self.items for mark in (item, *waymarks(item))), *self.relations)

    @property
    def attributes(self) -> int:
        """How many colours and sizes are stated."""
        return sum(1 + (item.size is not None) for item in self.items)

    @property
    def placed(self) -> int:
        """How many items have a place."""
        return sum(item.place != ANYWHERE for item in self.items)

    @property
    def written(self) -> tuple[str, ...]:
        """The words to be written, of which this world has none."""
        return ()

    @property
    def bits(self) -> float:
        """Description length under the grammar: the number of choices each statement makes, in bits.

        An item costs log2(shapes x colours) and log2(8) for its count; a stated size one bit; a stated place
        log2(cells / cells it allows) for each thing; a relation log2(kinds) and two pointers among the items.
        """
        pointer = math.log2(max(2, len(self.items)))
        bits = 0.0
        for item in self.items:
            bits += math.log2(len(SHAPES) * len(COLORS)) + 3
            bits += item.count * ((item.size is not None) + math.log2(len(CELLS) / len(item.place.cells)))
        return bits + len(self.relations) * (math.log2(len(RELATIONS)) + 2 * pointer)


def waymarks(item: Item) -> tuple[AtLeast, ...]:
    return tuple(AtLeast(replace(item, count=count)) for count in range(item.count - WAYMARK, 0, -WAYMARK))
