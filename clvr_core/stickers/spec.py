"""The content of a brief: backdrop, items, words, places and relations; and whether a scene agrees."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace

from .scene import BACKDROPS, CELL, CELLS, COLORS, COLUMNS, GRID, LETTERS, NATURAL, NOUNS, ROWS, SIGN, Scene, Thing
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
    """So many stickers of one look, or one sign with its word.

    noun: of NOUNS, or SIGN.
    color: a look as scene.look gives it: of COLORS, or NATURAL.
    word: on a sign; None if the brief leaves it open, and for a sticker.
    """

    noun: str
    color: str
    count: int = 1
    size: str | None = None
    place: Place = ANYWHERE
    word: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.color, self.noun

    def holds(self, scene: Scene) -> bool:
        mine = [thing for thing in scene.things if thing.key == self.key]
        return len(mine) == self.count and all(self.fits(thing) for thing in mine)

    def fits(self, thing: Thing) -> bool:
        """True if one thing is what the item asks for, its number aside."""
        return (
            thing.key == self.key
            and self.size in (None, thing.size)
            and self.word in (None, thing.word)
            and thing.cell in self.place.cells
        )


@dataclass(frozen=True, slots=True)
class Relation:
    """`a` and `b` are keys (colour, noun) of items of count one."""

    a: tuple[str, str]
    kind: str
    b: tuple[str, str]

    def holds(self, scene: Scene) -> bool:
        first = [thing for thing in scene.things if thing.key == self.a]
        second = [thing for thing in scene.things if thing.key == self.b]
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

    def holds(self, scene: Scene) -> bool:
        return sum(self.item.fits(thing) for thing in scene.things) >= self.item.count


@dataclass(frozen=True, slots=True)
class Only:
    """Nothing is drawn that the items do not ask for, and no more than they ask for."""

    items: tuple[Item, ...]

    def holds(self, scene: Scene) -> bool:
        asked = {item.key: item.count for item in self.items}
        found = Counter(thing.key for thing in scene.things)
        return all(count <= asked.get(key, 0) for key, count in found.items())


@dataclass(frozen=True, slots=True)
class Backdrop:
    """The whole picture has this backdrop."""

    name: str

    def holds(self, scene: Scene) -> bool:
        return scene.backdrop == self.name


Statement = Only | Item | AtLeast | Relation | Backdrop
WAYMARK = 2


@dataclass(frozen=True, slots=True)
class Spec:
    """backdrop: None if the brief leaves it open."""

    items: tuple[Item, ...]
    relations: tuple[Relation, ...] = ()
    backdrop: str | None = None

    @property
    def total(self) -> int:
        return sum(item.count for item in self.items)

    def holds(self, scene: Scene) -> bool:
        """True if the things are exactly those the spec names, and stand as it says, before the backdrop it says."""
        return (
            len(scene.things) == self.total
            and self.backdrop in (None, scene.backdrop)
            and all(item.holds(scene) for item in self.items)
            and all(relation.holds(scene) for relation in self.relations)
        )

    @property
    def statements(self) -> tuple[Statement, ...]:
        """The checklist: the backdrop, nothing else, each item, waymarks for counts above WAYMARK, each relation.

        All hold where the spec does.
        """
        return (
            *((Backdrop(self.backdrop),) if self.backdrop else ()),
            Only(self.items),
            *(mark for item in self.items for mark in (item, *waymarks(item))),
            *self.relations,
        )

    @property
    def attributes(self) -> int:
        """How many colours, sizes and backdrops are stated."""
        said = sum((item.color != NATURAL) + (item.size is not None) for item in self.items)
        return said + (self.backdrop is not None)

    @property
    def placed(self) -> int:
        """How many items have a place."""
        return sum(item.place != ANYWHERE for item in self.items)

    @property
    def written(self) -> tuple[str, ...]:
        """The words to be written on signs."""
        return tuple(item.word for item in self.items if item.word)

    @property
    def bits(self) -> float:
        """Description length under the grammar: the number of choices each statement makes, in bits.

        An item costs log2(nouns x (colours + 1)) and log2(8) for its count; a stated size one bit; a stated place
        log2(cells / cells it allows) for each thing; a word log2(26) for each letter and log2(5) for their number; a
        relation log2(kinds) and two pointers among the items; a backdrop log2(backdrops).
        """
        pointer = math.log2(max(2, len(self.items)))
        bits = math.log2(len(BACKDROPS)) if self.backdrop else 0.0
        for item in self.items:
            bits += 3 + (0 if item.noun == SIGN else math.log2(len(NOUNS) * (len(COLORS) + 1)))
            bits += math.log2(5) + len(item.word) * math.log2(len(LETTERS)) if item.word else 0
            bits += item.count * ((item.size is not None) + math.log2(len(CELLS) / len(item.place.cells)))
        return bits + len(self.relations) * (math.log2(len(RELATIONS)) + 2 * pointer)


def waymarks(item: Item) -> tuple[AtLeast, ...]:
    return tuple(AtLeast(replace(item, count=count)) for count in range(item.count - WAYMARK, 0, -WAYMARK))
