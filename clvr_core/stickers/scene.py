"""The world: what can stand on a canvas, and the edits that turn one scene into another.

A canvas is a backdrop and a 3 x 3 grid of cells of 64 px. A cell holds at most one thing: a sticker of a noun in its
natural look or in one colour, small or large, or a sign with a word on it. Noun, colour, size, cell, word and backdrop
are what a prompt can name; the offset inside the cell never is, so a prompt always leaves something for the model to
choose.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

CANVAS = 192
CELL = 64
GRID = CANVAS // CELL
JITTER = 3

ROWS = ("top", "middle", "bottom")
COLUMNS = ("left", "center", "right")
SPANS = {"small": 40, "large": 56}
"""Pixels that the longer side of a sticker takes."""
SIZES = tuple(SPANS)
BACKDROPS = ("plain", "day", "night", "sunset", "meadow", "snow", "sea", "indoors")
PLAIN = "plain"

ART = {
    # Classes of COCO, and so of GenEval.
    "bicycle": "1f6b2",
    "car": "1f697",
    "motorcycle": "1f3cd-fe0f",
    "airplane": "2708-fe0f",
    "bus": "1f68c",
    "train": "1f686",
    "truck": "1f69a",
    "boat": "26f5",
    "traffic light": "1f6a6",
    "stop sign": "1f6d1",
    "bird": "1f426",
    "cat": "1f408",
    "dog": "1f415",
    "horse": "1f40e",
    "sheep": "1f411",
    "cow": "1f404",
    "elephant": "1f418",
    "bear": "1f43b",
    "zebra": "1f993",
    "giraffe": "1f992",
    "backpack": "1f392",
    "umbrella": "2602-fe0f",
    "handbag": "1f45c",
    "tie": "1f454",
    "suitcase": "1f9f3",
    "frisbee": "1f94f",
    "skis": "1f3bf",
    "sports ball": "26bd",
    "kite": "1fa81",
    "skateboard": "1f6f9",
    "tennis racket": "1f3be",
    "bottle": "1f37e",
    "wine glass": "1f377",
    "cup": "2615",
    "knife": "1f52a",
    "spoon": "1f944",
    "bowl": "1f963",
    "banana": "1f34c",
    "apple": "1f34e",
    "sandwich": "1f96a",
    "orange": "1f34a",
    "broccoli": "1f966",
    "carrot": "1f955",
    "hot dog": "1f32d",
    "pizza": "1f355",
    "donut": "1f369",
    "cake": "1f382",
    "chair": "1fa91",
    "couch": "1f6cb-fe0f",
    "potted plant": "1fab4",
    "bed": "1f6cf-fe0f",
    "toilet": "1f6bd",
    "tv": "1f4fa",
    "laptop": "1f4bb",
    "computer mouse": "1f5b1-fe0f",
    "computer keyboard": "2328-fe0f",
    "cell phone": "1f4f1",
    "book": "1f4d5",
    "clock": "23f0",
    "vase": "1f3fa",
    "scissors": "2702-fe0f",
    "teddy bear": "1f9f8",
    "toothbrush": "1faa5",
    # Others.
    "tree": "1f333",
    "house": "1f3e0",
    "balloon": "1f388",
    "rocket": "1f680",
    "fish": "1f41f",
    "crown": "1f451",
    "guitar": "1f3b8",
    # The shapes of the world before this one, as far as there are stickers of them.
    "heart": "2764-fe0f",
    "star": "2b50",
    "circle": "26aa",
    "square": "2b1c",
    "triangle": "1f53a",
    "diamond": "1f537",
    "cross": "274c",
}
"""Noun -> code points of its picture in Fluent Emoji, hexadecimal."""
NOUNS = tuple(ART)
SIGN = "sign"
MOST_LETTERS = 5
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

NATURAL = "natural"
TINTS = {
    # hue in turns, saturation, lightness of the middle grey, contrast about it
    "red": (0.985, 0.82, 0.46, 0.8),
    "orange": (0.075, 0.95, 0.52, 0.7),
    "yellow": (0.14, 0.95, 0.55, 0.75),
    "green": (0.355, 0.65, 0.42, 0.8),
    "blue": (0.615, 0.80, 0.50, 0.8),
    "purple": (0.765, 0.60, 0.50, 0.8),
    "pink": (0.92, 0.85, 0.76, 0.45),
    "brown": (0.065, 0.55, 0.29, 0.6),
    "black": (0.62, 0.05, 0.16, 0.45),
    "white": (0.60, 0.08, 0.88, 0.45),
}
COLORS = tuple(TINTS)
OWN = {
    "stop sign": "red",
    "bird": "red",
    "horse": "brown",
    "giraffe": "orange",
    "umbrella": "purple",
    "suitcase": "blue",
    "frisbee": "blue",
    "bowl": "blue",
    "banana": "yellow",
    "apple": "red",
    "orange": "orange",
    "broccoli": "green",
    "carrot": "orange",
    "chair": "brown",
    "couch": "blue",
    "bed": "blue",
    "toilet": "white",
    "computer mouse": "white",
    "book": "red",
    "toothbrush": "red",
    "tree": "green",
    "balloon": "red",
    "fish": "blue",
    "crown": "yellow",
    "guitar": "red",
    "heart": "red",
    "star": "yellow",
    "circle": "white",
    "square": "white",
    "triangle": "red",
    "diamond": "blue",
    "cross": "red",
}
"""The colour that a noun has by itself: "a yellow banana" and "a banana" are the same sticker."""


def look(noun: str, color: str | None) -> str:
    """Return how a noun named with that colour, or with none, is drawn: a tint, or NATURAL."""
    return NATURAL if color in (None, NATURAL, OWN.get(noun)) or noun == SIGN else color


def looks(noun: str) -> tuple[str, ...]:
    """Return the looks that a noun can have, NATURAL first."""
    return (NATURAL,) if noun == SIGN else (NATURAL, *(color for color in COLORS if color != OWN.get(noun)))


CELLS = tuple(range(GRID * GRID))


def cell_of(row: str, column: str) -> int:
    return ROWS.index(row) * GRID + COLUMNS.index(column)


def cell_name(cell: int) -> str:
    return f"{ROWS[cell // GRID]} {COLUMNS[cell % GRID]}"


@dataclass(frozen=True, slots=True)
class Thing:
    """A sticker, or a sign.

    noun: of NOUNS, or SIGN.
    color: of COLORS, or NATURAL; a sign is always NATURAL.
    size: of SIZES; a sign is always large.
    dx, dy: offset from the centre of the cell in pixels, -JITTER to JITTER.
    word: on a sign, one to five capital letters; empty for a sticker.
    """

    noun: str
    color: str
    size: str
    cell: int
    dx: int = 0
    dy: int = 0
    word: str = ""

    @property
    def center(self) -> tuple[int, int]:
        """(x, y) in pixels."""
        return (self.cell % GRID) * CELL + CELL // 2 + self.dx, (self.cell // GRID) * CELL + CELL // 2 + self.dy

    @property
    def kind(self) -> tuple[str, str, str, str]:
        return self.noun, self.color, self.size, self.word

    @property
    def key(self) -> tuple[str, str]:
        """(colour, noun): what a brief calls the thing by."""
        return self.color, self.noun


@dataclass(frozen=True, slots=True)
class Scene:
    """A backdrop, and things in the order of their cells. Raises ValueError if two share a cell."""

    things: tuple[Thing, ...] = ()
    backdrop: str = PLAIN

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
        return replace(self, things=tuple(thing for thing in self.things if thing.cell not in gone))

    def with_thing(self, thing: Thing) -> Scene:
        """The scene with the thing in its cell, in place of what was there."""
        return replace(self, things=(*self.without([thing.cell]).things, thing))


@dataclass(frozen=True, slots=True)
class Edit:
    """One change. `cell` is where it happens, None for the whole picture.

    put      the cell ends up holding `thing`, whatever was there
    remove   the cell ends up empty
    recolor  the thing there takes `color`
    resize   the thing there takes `size`
    move     the thing there goes to the free cell `to`, with `thing.dx, thing.dy` as its new offset
    word     the sign there says `word`
    backdrop the scene becomes `backdrop`
    """

    kind: str
    cell: int | None
    thing: Thing | None = None
    color: str | None = None
    size: str | None = None
    to: int | None = None
    word: str | None = None
    backdrop: str | None = None

    @property
    def cells(self) -> frozenset[int]:
        """The cells whose content may change; none for a change of the backdrop, which leaves every thing."""
        return frozenset(cell for cell in (self.cell, self.to) if cell is not None)


def apply(edit: Edit, scene: Scene) -> Scene:
    """Return the scene after the edit. An edit of an empty cell changes nothing.

    Raises ValueError for a move onto a taken cell and for an edit without what its kind needs.
    """
    if edit.kind == "backdrop":
        if edit.backdrop is None:
            raise ValueError("a change of the backdrop names none")
        return replace(scene, backdrop=edit.backdrop)
    if edit.cell is None:
        raise ValueError(f"an edit of the kind {edit.kind!r} names no cell")
    rest, there = scene.without([edit.cell]), scene.at(edit.cell)
    if edit.kind == "put":
        if edit.thing is None:
            raise ValueError("a put has no thing")
        return rest.with_thing(edit.thing)
    if there is None or edit.kind == "remove":
        return rest
    if edit.kind == "recolor" and edit.color is not None:
        after = replace(there, color=edit.color)
    elif edit.kind == "resize" and edit.size is not None:
        after = replace(there, size=edit.size)
    elif edit.kind == "word" and edit.word is not None:
        after = replace(there, word=edit.word)
    elif edit.kind == "move" and edit.to is not None:
        moved = replace(there, cell=edit.to)
        after = replace(moved, dx=edit.thing.dx, dy=edit.thing.dy) if edit.thing else moved
        return replace(rest, things=(*rest.things, after))
    else:
        raise ValueError(f"unknown edit {edit.kind!r}, or one without what it needs")
    return rest.with_thing(after)
