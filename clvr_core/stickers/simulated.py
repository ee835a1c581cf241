"""An executor that is simulated: a program that draws what it is told and errs at set rates, for planning and for the
training of a planner without weights that draw.

Its pictures carry their scene in their own pixels, so that what stands on them is known exactly: as blocks of colour
(`picture_of`), for a controller that is a program, or as the world's real pictures with the scene in the lowest bits
(`rendered`), for one that looks.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..executor.masks import within_mask
from ..protocols import Drawing, DrawRequest, Picture
from .codes import FIELDS, KINDS, LOOKS, codes, scene_of
from .grammar import Instruction, NotInGrammar, parse_instruction, read
from .misreading import near
from .perceive import Perception
from .planner import closest
from .proxies import after
from .render import render
from .sampling import jitter, random_edit, random_thing
from .scene import (
    BACKDROPS,
    CANVAS,
    CELL,
    CELLS,
    GRID,
    JITTER,
    LETTERS,
    NOUNS,
    SIGN,
    SIZES,
    SPANS,
    Scene,
    Thing,
    apply,
    looks,
)
from .spec import ANYWHERE, Spec

NFE = {"base": (56, 12), "merged": (4, 4)}
"""Evaluations of a picture and of an edit: of the base by the world's recipe, and of weights distilled to four steps."""
LOW = np.array([0, 0, 0, -JITTER, -JITTER] + [0] * (FIELDS - 5))
HIGH = np.array([len(KINDS) - 1, len(LOOKS) - 1, len(SIZES) - 1, JITTER, JITTER] + [len(LETTERS)] * (FIELDS - 5))
"""Least and greatest value of each field of a cell's code."""
GROUND, STEP = 40, 10
"""Brightness of the first backdrop, and what each further one is brighter by."""
NO_GROUND, UNCLEAR = 20, 100
"""Brightness of an unclear backdrop, and a value that no field has."""


def picture_of(scene: Scene, unclear: Collection[int] = (), backdrop_is_clear: bool = True) -> Picture:
    """A uint8 192 x 192 x 3 picture that `perceive` here reads: each cell says in its own middle what it holds, by how much
    brighter than the first the other pixels of a row are. So a shift of the colours, as by what is put back, changes no word.
    """
    cells, (backdrop,) = codes([scene])
    ground = GROUND + STEP * int(backdrop) if backdrop_is_clear else NO_GROUND
    picture = np.full((CANVAS, CANVAS, 3), ground, np.uint8)
    for thing in scene.things:
        _patch(picture, thing)
    for cell in CELLS:
        row = np.full(FIELDS, UNCLEAR) if cell in unclear else cells[0, cell].astype(np.int64)
        _middle(picture, cell)[:] = (ground + np.concatenate([[0], row])).astype(np.uint8)[:, None]
    return picture


def _patch(picture: Picture, thing: Thing) -> None:
    """A block of the thing's size and of a colour of its kind, so that what is measured on pixels sees it."""
    (x, y), half = thing.center, SPANS[thing.size] // 2
    color = np.frombuffer(hashlib.sha256("/".join(thing.kind).encode()).digest()[:3], np.uint8)
    picture[y - half : y + half, x - half : x + half] = color


def perceive(picture: Picture) -> Perception:
    """What the picture shows. A cell with a code of no thing, such as one that the seam of an edit blended, is unclear."""
    rows = np.stack([_middle(picture, cell)[:, 0] for cell in CELLS]).astype(np.int64)
    told = rows[:, 1:] - rows[:, :1]
    clear = np.all((told >= LOW) & (told <= HIGH), axis=1)
    backdrop = round((int(picture[0, 0, 0]) - GROUND) / STEP)
    known = 0 <= backdrop < len(BACKDROPS)
    scene = scene_of((told * clear[:, None]).astype(np.int8), backdrop if known else 0)
    return Perception(scene.things, scene.backdrop if known else None, tuple(np.flatnonzero(~clear).tolist()))


def _middle(picture: Picture, cell: int) -> np.ndarray:
    y, x = cell // GRID * CELL + CELL // 2, cell % GRID * CELL + CELL // 2 - FIELDS // 2
    return picture[y, x : x + 1 + FIELDS]


BITS = 8 * (FIELDS + 1)
"""Of a cell in its lowest bits: its code, and the backdrop's."""
CHECK = 32
"""Bits that tell whether the others are whole."""


def rendered(scene: Scene, draw: Callable[[Scene], Picture] = render) -> Picture:
    """Return the scene as it should be drawn, uint8 192 x 192 x 3, with what each cell holds in the lowest bits of the
    pixels in its middle, which no eye sees. draw: gives the picture without them.

    Raises BadInput if the pictures of the stickers are not there."""
    picture, (cells, backdrops) = draw(scene), codes([scene])
    for cell in CELLS:
        code = np.concatenate([cells[0, cell], backdrops]).astype(np.int8).tobytes()
        bits = np.unpackbits(np.frombuffer(code + _check(code), np.uint8))
        strip = _strip(picture, cell)
        strip[:] = (strip & 254) | bits.reshape(strip.shape)
    return picture


def perceive_rendered(picture: Picture) -> Perception:
    """Return what a picture of `rendered` shows. A cell whose bits are not whole, as under the seam of a mask, is
    unclear; the backdrop is that of most cells."""
    found, unclear, backdrops = np.zeros((len(CELLS), FIELDS), np.int8), [], []
    for cell in CELLS:
        told = np.packbits(_strip(picture, cell) & 1).tobytes()
        code, check = told[: BITS // 8], told[BITS // 8 :]
        if check != _check(code):
            unclear.append(cell)
            continue
        *found[cell], backdrop = np.frombuffer(code, np.int8)
        backdrops.append(int(backdrop))
    backdrop = max(set(backdrops), key=backdrops.count) if backdrops else None
    scene = scene_of(found, backdrop or 0)
    return Perception(scene.things, None if backdrop is None else scene.backdrop, tuple(unclear))


def _strip(picture: Picture, cell: int) -> np.ndarray:
    rows, columns = 4, (BITS + CHECK) // 12
    y, x = cell // GRID * CELL + (CELL - rows) // 2, cell % GRID * CELL + (CELL - columns) // 2
    return picture[y : y + rows, x : x + columns]


def _check(code: bytes) -> bytes:
    return hashlib.sha256(code).digest()[: CHECK // 8]


@dataclass(frozen=True, slots=True)
class Rates:
    """How often the simulated executor errs, each a probability.

    thing: a thing that is drawn alone is wrong: missing, twice there, of another noun, look or size.
    crowd: what each further thing adds to it.
    place: a stated place is missed.
    relation: a relation between things is passed by; it may hold all the same.
    letter: a letter is another one.
    backdrop: the scene is another one.
    edit: a change of an instruction is not carried out, or wrongly.
    spill: an edit changes something else too.
    systematic: share of these errors that belong to the prompt, and so come back with every seed.
    """

    thing: float = 0.03
    crowd: float = 0.02
    place: float = 0.02
    relation: float = 0.25
    letter: float = 0.2
    backdrop: float = 0.02
    edit: float = 0.06
    spill: float = 0.04
    systematic: float = 0.3


def said(prompt: str) -> Spec:
    """Return what a prompt says, and of one that a model wrote in words beyond the grammar, or for more than a canvas holds, the
    clauses that can be drawn, the first ones first."""
    try:
        return read(prompt)
    except NotInGrammar:
        pass
    kept: list[str] = []
    for clause in prompt.split(","):
        try:
            read(", ".join([*kept, clause]))
        except NotInGrammar:
            continue
        kept.append(clause)
    return read(", ".join(kept))


class SimulatedExecutor:
    """Draws pictures that carry their scene.

    nfe: evaluations of a new picture and of an edit.
    paint, read: scene -> picture -> what it shows: `picture_of` and `perceive`, or `rendered` and `perceive_rendered`.
    """

    def __init__(
        self,
        rates: Rates = Rates(),
        nfe: tuple[int, int] = NFE["base"],
        paint: Callable[[Scene], Picture] = picture_of,
        read: Callable[[Picture], Perception] = perceive,
    ) -> None:
        self.rates, self.costs, self.name = rates, nfe, "simulated"
        self.paint, self.read = paint, read

    def nfe(self, request: DrawRequest) -> int:
        return self.costs[bool(request.references)]

    def draw(self, requests: Sequence[DrawRequest]) -> list[Drawing]:
        return [Drawing(within_mask(each, self.paint(self._scene(each))), self.nfe(each)) for each in requests]

    def _scene(self, request: DrawRequest) -> Scene:
        return self._edited(request) if request.references else self._drawn(request)

    def _chance(self, request: DrawRequest, what: str) -> random.Random:
        """The source of one decision: the prompt's own for the systematic share of the decisions, else the seed's."""
        words = f"{request.prompt}/{what}"
        shared = random.Random(f"shared/{words}").random() < self.rates.systematic
        return random.Random(words if shared else f"{request.seed}/{words}")

    def _errs(self, request: DrawRequest, what: str, rate: float) -> bool:
        return self._chance(request, what).random() < rate

    def _drawn(self, request: DrawRequest) -> Scene:
        spec, rates = said(request.prompt), self.rates
        kept = tuple(each for each in spec.relations if not self._errs(request, f"relation/{each}", rates.relation))
        scene = closest(replace(spec, relations=kept), Scene(), random.Random(request.seed))
        assert scene is not None, "a layout without relations is always found"
        placed = {item.key for item in spec.items if item.place != ANYWHERE}
        wrong = rates.thing + rates.crowd * (len(scene.things) - 1)
        found: dict[int, Thing] = {thing.cell: thing for thing in scene.things}
        for number, thing in enumerate(scene.things):
            rng = self._chance(request, f"thing/{thing.key}/{number}")
            drawn = self._lettered(request, thing, number)
            if thing.key in placed and self._errs(request, f"place/{thing.key}/{number}", rates.place):
                drawn = replace(drawn, cell=_free(found, rng, thing.cell))
            drawn = replace(drawn, dx=jitter(rng), dy=jitter(rng))
            del found[thing.cell]
            found[drawn.cell] = drawn
            if rng.random() < wrong:
                _spoil(found, drawn, rng)
        backdrop = scene.backdrop
        if self._errs(request, "backdrop", rates.backdrop):
            backdrop = self._chance(request, "other backdrop").choice([each for each in BACKDROPS if each != backdrop])
        return Scene(tuple(found.values()), backdrop)

    def _lettered(self, request: DrawRequest, thing: Thing, number: int) -> Thing:
        word = thing.word
        for place in range(len(thing.word)):
            rng = self._chance(request, f"letter/{number}/{place}")
            if rng.random() < self.rates.letter:
                word = word[:place] + near(word[place], rng) + word[place + 1 :]
        return replace(thing, word=word)

    def _edited(self, request: DrawRequest) -> Scene:
        given = [self.read(reference).scene() for reference in request.references]
        scene = given[0]
        for number, change in enumerate(parse_instruction(request.prompt)):
            rng = self._chance(request, f"edit/{number}")
            fails, wrongly = rng.random() < self.rates.edit, rng.random() < 0.5
            if fails and not (wrongly and change.kind == "put"):
                continue
            now = after(_settled(change, rng), scene, given)
            there = None if change.cell is None else now.at(change.cell)
            if there is not None and change.kind in ("put", "word"):
                now = now.with_thing(self._lettered(request, there, number))
            if fails and there is not None:
                found = {thing.cell: thing for thing in now.things}
                _spoil(found, found[there.cell], rng)
                now = replace(now, things=tuple(found.values()))
            scene = now
        rng = self._chance(request, "spill")
        return apply(random_edit(rng, scene), scene) if rng.random() < self.rates.spill else scene


def _free(found: dict[int, Thing], rng: random.Random, own: int) -> int:
    """Another cell that is free, or the own one if there is none."""
    return rng.choice([cell for cell in CELLS if cell not in found] or [own])


def _spoil(found: dict[int, Thing], thing: Thing, rng: random.Random) -> None:
    kinds = ["missing", "twice"] + (["noun", "look", "look", "size"] if thing.noun != SIGN else [])
    kind = rng.choice(kinds)
    if kind == "missing":
        del found[thing.cell]
    elif kind == "twice":
        cell = _free(found, rng, thing.cell)
        found[cell] = replace(thing, cell=cell)
    elif kind == "noun":
        noun = rng.choice([each for each in NOUNS if each != thing.noun])
        found[thing.cell] = replace(
            thing, noun=noun, color=thing.color if thing.color in looks(noun) else looks(noun)[0]
        )
    elif kind == "look":
        found[thing.cell] = replace(
            thing, color=rng.choice([each for each in looks(thing.noun) if each != thing.color])
        )
    else:
        found[thing.cell] = replace(thing, size=SIZES[1 - SIZES.index(thing.size)])


def _settled(change: Instruction, rng: random.Random) -> Instruction:
    """What the words leave open is drawn at random."""
    if change.kind != "put":
        return change
    thing = random_thing(rng, 0, 1.0 if change.noun == SIGN else 0.0)
    return replace(change, size=change.size or thing.size, word=change.word or thing.word or None)
