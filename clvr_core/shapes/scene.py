"""The world: what can stand on a canvas, and the edits that turn one scene into another.

A canvas is a 3 x 3 grid of cells; a cell holds at most one thing. Shape, colour, size and cell are the things a prompt
can name; the offset inside the cell never is, so a prompt always leaves something for the model to choose.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

CANVAS = 96
CELL = 32
GRID = CANVAS // CELL
JITTER = 3
BACKGROUND = (245, 245, 245)

ROWS = ("top", "middle", "bottom")
COLUMNS = ("left", "center", "right")
SHAPES = ("circle", "square", "triangle", "diamond", "cross")
RADII = {"small": 7, "large": 12}
SIZES = tuple(RADII)
PALETTE = {
    "red": (210, 30, 45),
    "green": (40, 160, 60),
    "blue": (50, 80, 220),
    "yellow": (250, 215, 50),
    "purple": (150, 60, 190),
    "orange": (240, 120, 20),
    "cyan": (40, 190, 210),
    "black": (25, 25, 25),
}
COLORS = tuple(PALETTE)
CELLS = tuple(range(GRID * GRID))


def cell_of(row: str, column: str) -> int:
    return ROWS.index(row) * GRID + COLUMNS.index(column)


def cell_name(cell: int) -> str:
    return f"{ROWS[cell // GRID]} {COLUMNS[cell % GRID]}"


@dataclass(frozen=True, slots=True)
class Thing:
    shape: str
    color: str
    size: str
    cell: int
    dx: int = 0
    dy: int = 0

    @property
    def center(self) -> tuple[int, int]:
        """(x, y) in pixels."""
        return (self.cell % GRID) * CELL + CELL // 2 + self.dx, (self.cell // GRID) * CELL + CELL // 2 + self.dy

    @property
    def kind(self) -> tuple[str, str, str]:
        return self.shape, self.color, self.size


@dataclass(frozen=True, slots=True)
class Scene:
    """Things in the order of their cells. Raises ValueError if two share a cell."""

    things: tuple[Thing, ...] = ()

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.things, key=lambda thing: thing.cell))
        cells = [thing.cell for thing in ordered]
        if len(set(cells)) != len(cells):
            raise ValueError(f"two things share a cell: {cells}")
        object.__setattr__(self, "things", ordered)

    def at(self, cell: int) -> Thing | None:
        return next((thing for thing in self.things if thing.cell == cell), None)

    def free(self) -> tuple[int, ...]:
        taken = {thing.cell for thing in self.things}
        return tuple(cell for cell in CELLS if cell not in taken)

    def without(self, cells: Iterable[int]) -> Scene:
        gone = set(cells)
        return Scene(tuple(thing for thing in self.things if thing.cell not in gone))


@dataclass(frozen=True, slots=True)
class Edit:
    """One change. `cell` is where it happens.

    put      the cell ends up holding `thing`, whatever was there
    remove   the cell ends up empty
    recolor  the thing there takes `color`
    resize   the thing there takes `size`
    move     the thing there goes to the free cell `to`, with `thing.dx, thing.dy` as its new offset
    """

    kind: str
    cell: int
    thing: Thing | None = None
    color: str | None = None
    size: str | None = None
    to: int | None = None

    @property
    def cells(self) -> frozenset[int]:
        return frozenset({self.cell} if self.to is None else {self.cell, self.to})


def apply(edit: Edit, scene: Scene) -> Scene:
    """Return the scene after the edit. An edit of an empty cell changes nothing.

    Raises ValueError for a move onto a taken cell and for an edit without what its kind needs.
    """
    rest, there = scene.without([edit.cell]), scene.at(edit.cell)
    if edit.kind == "put":
        if edit.thing is None:
            raise ValueError("a put has no thing")
        return Scene((*rest.things, edit.thing))
    if there is None or edit.kind == "remove":
        return rest
    if edit.kind == "recolor":
        after = replace(there, color=edit.color)
    elif edit.kind == "resize":
        after = replace(there, size=edit.size)
    elif edit.kind == "move":
        moved = replace(there, cell=edit.to)
        after = replace(moved, dx=edit.thing.dx, dy=edit.thing.dy) if edit.thing else moved
    else:
        raise ValueError(f"unknown edit {edit.kind!r}")
    return Scene((*rest.things, after))
