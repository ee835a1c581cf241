"""Random scenes, briefs and edits, for training the base model and for measuring it.

Training draws millions of them, so the draws are written for speed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from .phrases import REGISTERS, instruct, restore, write
from .scene import (
    BACKDROPS,
    CELLS,
    COLUMNS,
    GRID,
    JITTER,
    LETTERS,
    NATURAL,
    NOUNS,
    PLAIN,
    ROWS,
    SIGN,
    SIZES,
    Edit,
    Scene,
    Thing,
    apply,
    looks,
)
from .spec import ANYWHERE, Item, Place, Relation, Spec, related
from .words import RELATIONS

# How often training shows each number of things; natural captions name few.
T2I_COUNTS = {1: 0.16, 2: 0.25, 3: 0.30, 4: 0.13, 5: 0.07, 6: 0.05, 7: 0.02, 8: 0.02}
GROUPS = {1: 0.74, 2: 0.13, 3: 0.07, 4: 0.04, 5: 0.02}
"""How many things of one kind stand in a scene with counts."""
ALIKE = 0.08
"""Share of the scenes with counts in which all things are of one kind."""
UNTINTED = 0.4
SIGNED = 0.22
"""Share of the scenes with counts that have a sign."""
SETTING = 0.5
"""Share of the scenes with a backdrop other than the plain one."""
PLAIN_SAID = 0.12
"""Share of the briefs of a plain scene that say so. A brief that names no backdrop means the plain one."""
EDIT_KINDS = {
    "put": 0.32,
    "remove": 0.15,
    "recolor": 0.14,
    "resize": 0.08,
    "move": 0.14,
    "word": 0.08,
    "backdrop": 0.09,
}
REGISTER_ODDS = (0.35, 0.25, 0.15, 0.25)
"""Of REGISTERS."""
WORDS = tuple(
    (
        "A I ART BAR BUS CAT DOG END FUN GAS GO HI HOT ICE IN JOY KEY LAB MAP NEW NO OK ON OPEN OUT PAY RED SEA SHOP SKY STOP SUN TAXI TEA "
        "TO UP WAY YES ZOO BANK BIKE BOAT BOOK CAFE CITY COLD EXIT FISH FOOD FREE GIFT GOLD HELP HOME HOPE INFO KIDS LAKE LEFT LOVE MENU "
        "MILK MOON NEWS NORTH PARK PLAY POOL POST PULL PUSH RAIN REST ROAD ROOM SALE SALT SNOW SOUP STAR TREE WAIT WARM WEST WIND ZONE "
        "ALARM APPLE BEACH BREAD CLOSE CREAM DAILY DANCE DREAM EARTH ENTER FRESH FRUIT GREEN HAPPY HELLO HORSE HOTEL HOUSE JUICE LIGHT "
        "LUCKY MAGIC MUSIC NIGHT OCEAN PARTY PEACE PIZZA PLANT QUIET RIGHT RIVER SALAD SMILE SOUTH SPACE SPORT SUGAR SWEET TABLE THANK "
        "TIGER TODAY TRAIN TRUCK VIDEO VOICE WATER WORLD YOUTH ZEBRA"
    ).split()
)
"""Words that signs often say; half of them say random letters instead."""

_LOOKS = {noun: looks(noun)[1:] for noun in NOUNS}
_PLACES = tuple(
    tuple(Place(row, column) for column in (None, *COLUMNS)) for row in (None, *ROWS)
)  # by row + 1 and column + 1, 0 for none
_OTHERS = tuple(name for name in BACKDROPS if name != PLAIN)
_LENGTHS = tuple(accumulate((0.1, 0.2, 0.3, 0.2, 0.2)))
_SPREAD = 2 * JITTER + 1


@dataclass(frozen=True, slots=True)
class Telling:
    """Odds of the statements in a brief of a scene.

    The first three: that all, half or none of the places are stated. Then those of 0, 1 and 2 relations where places
    are left open, and of 0 and 1 relation where every place is stated. A brief in GenEval's form states a place, and a
    size, rarely (`geneval`), and as often as not a relation between two things.
    """

    places: tuple[float, ...] = (0.5, 0.25, 0.25)
    relations: tuple[float, ...] = (0.7, 0.2, 0.1)
    relations_placed: tuple[float, ...] = (0.9, 0.1)
    geneval: float = 0.1


MEASURED = Telling()
TAUGHT = Telling(places=(0.3, 0.3, 0.4), relations=(0.45, 0.35, 0.2))
"""Odds for training: relations between things without a place are learnt last, so they come more often than in the
measure."""


def _pick(rng: random.Random, values: Sequence):
    return values[int(rng.random() * len(values))]


def _weighted(odds: dict) -> tuple[tuple, tuple[float, ...]]:
    return tuple(odds), tuple(accumulate(odds.values()))


def _draw(rng: random.Random, values: Sequence, steps: Sequence[float]):
    """Return a value; `steps` are the odds added up."""
    at = rng.random() * steps[-1]
    for value, step in zip(values, steps):
        if at < step:
            return value
    return values[-1]


_T2I_COUNTS = _weighted(T2I_COUNTS)
_EDIT_KINDS = _weighted(EDIT_KINDS)
_GROUPS = _weighted(GROUPS)
_REGISTERS = _weighted(dict(zip(REGISTERS, REGISTER_ODDS, strict=True)))
_SIGNS = _weighted({1: 0.6, 2: 0.25, 3: 0.15})


def jitter(rng: random.Random) -> int:
    return int(rng.random() * _SPREAD) - JITTER


def random_word(rng: random.Random) -> str:
    """Return a word for a sign: letters at random, or one that signs often say."""
    if rng.random() < 0.5:
        return _pick(rng, WORDS)
    return "".join([_pick(rng, LETTERS) for _ in range(_draw(rng, (1, 2, 3, 4, 5), _LENGTHS))])


def random_look(rng: random.Random, noun: str) -> str:
    return NATURAL if rng.random() < UNTINTED else _pick(rng, _LOOKS[noun])


def random_sign(rng: random.Random, cell: int) -> Thing:
    return Thing(SIGN, NATURAL, "large", cell, jitter(rng), jitter(rng), random_word(rng))


def random_thing(rng: random.Random, cell: int, signs: float = 0.1) -> Thing:
    """Return a sticker, or with the odds of `signs` a sign."""
    if rng.random() < signs:
        return random_sign(rng, cell)
    noun = _pick(rng, NOUNS)
    return Thing(noun, random_look(rng, noun), _pick(rng, SIZES), cell, jitter(rng), jitter(rng))


def random_backdrop(rng: random.Random) -> str:
    return _pick(rng, _OTHERS) if rng.random() < SETTING else PLAIN


def random_scene(rng: random.Random, count: int) -> Scene:
    return Scene(tuple([random_thing(rng, cell) for cell in rng.sample(CELLS, count)]), random_backdrop(rng))


def grouped_scene(rng: random.Random, count: int) -> Scene:
    """Return a scene in which some things share colour and noun, so that a brief can state counts, and with at most one
    sign."""
    cells, things = rng.sample(CELLS, count), []
    alike = rng.random() < ALIKE
    if count and rng.random() < SIGNED and not alike:
        things.append(random_sign(rng, cells[0]))
    kinds = set()
    while len(things) < count:
        noun = _pick(rng, NOUNS)
        key = (noun, random_look(rng, noun))
        if key in kinds:
            continue
        kinds.add(key)
        size, left = _pick(rng, SIZES), count - len(things)
        for _ in range(left if alike else min(_draw(rng, *_GROUPS), left)):
            things.append(Thing(*key, size, cells[len(things)], jitter(rng), jitter(rng)))
    return Scene(tuple(things), random_backdrop(rng))


def tell(scene: Scene, rng: random.Random, placed: float, sized: float = 0.5, relations: int = 0) -> Spec:
    """Return a spec true of the scene, which states each place with probability `placed`, each size with `sized`, and
    at most that many relations. It states every word, and every backdrop but the plain one."""
    groups: dict[tuple[str, str], list[Thing]] = {}
    for thing in scene.things:
        key = (thing.color, thing.noun)
        if key in groups:
            groups[key].append(thing)
        else:
            groups[key] = [thing]
    items = tuple([_item(things, rng, placed, sized) for things in groups.values()])
    backdrop = scene.backdrop if scene.backdrop != PLAIN or rng.random() < PLAIN_SAID else None
    if not relations:
        return Spec(items, (), backdrop)
    singles = [things[0] for things in groups.values() if len(things) == 1]
    found: list[Relation] = []
    for _ in range(relations):
        if len(singles) < 2:
            break
        a, b = rng.sample(singles, 2)
        if any({relation.a, relation.b} == {a.key, b.key} for relation in found):
            continue
        kinds = [kind for kind in RELATIONS if related(a, kind, b)]
        found.append(Relation(a.key, _pick(rng, kinds), b.key))
    return Spec(items, tuple(found), backdrop)


def _item(things: list[Thing], rng: random.Random, placed: float, sized: float) -> Item:
    first, place, size = things[0], ANYWHERE, None
    alone = len(things) == 1
    if first.noun != SIGN and rng.random() < sized and (alone or len({thing.size for thing in things}) == 1):
        size = first.size
    if rng.random() < placed:
        row, column = divmod(first.cell, GRID)
        if alone:
            if rng.random() < 0.15:
                row, column = (row, -1) if rng.random() < 0.5 else (-1, column)
        else:
            row = row if all(thing.cell // GRID == row for thing in things) else -1
            column = column if all(thing.cell % GRID == column for thing in things) else -1
        place = _PLACES[row + 1][column + 1]
    word = None
    if first.noun == SIGN and (alone or len({thing.word for thing in things}) == 1):
        word = first.word
    return Item(first.noun, first.color, len(things), size, place, word)


def random_brief(rng: random.Random, count: int) -> tuple[Scene, Spec, str]:
    """Return a scene, a spec true of it, and the spec as a prompt in a random register."""
    scene = grouped_scene(rng, count)
    return scene, *brief_of(scene, rng)


def brief_of(scene: Scene, rng: random.Random, telling: Telling = MEASURED) -> tuple[Spec, str]:
    """Return a spec true of the scene, and the spec as a prompt in a random register."""
    register = _draw(rng, *_REGISTERS)
    if register == "geneval":
        pair = len(scene.things) == 2 and scene.things[0].key != scene.things[1].key
        spec = tell(scene, rng, telling.geneval, telling.geneval, int(pair and rng.random() < 0.5))
        return spec, write(spec, register, rng)
    placed = rng.choices((1.0, 0.5, 0.0), telling.places)[0]
    odds = telling.relations if placed < 1 else telling.relations_placed
    relations = rng.choices(range(len(odds)), odds)[0]
    spec = tell(scene, rng, placed, relations=relations)
    return spec, write(spec, register, rng)


def random_edit(rng: random.Random, scene: Scene, kind: str | None = None) -> Edit:
    """Return an edit that the scene allows; a `put` if the kind needs a thing or a free cell and there is none, and
    where it needs a sign and there is none, the putting of one."""
    kind = kind or _draw(rng, *_EDIT_KINDS)
    if kind == "backdrop":
        return Edit(kind, None, backdrop=_pick(rng, [name for name in BACKDROPS if name != scene.backdrop]))
    things = scene.things
    if kind in ("recolor", "resize", "word"):
        things = tuple([thing for thing in things if (thing.noun == SIGN) == (kind == "word")])
    free = scene.free() if kind in ("put", "move") or not things else ()
    if kind == "put" or not things or (kind == "move" and not free):
        cell = _pick(rng, free) if free and (not scene.things or rng.random() < 0.7) else _pick(rng, scene.things).cell
        return Edit("put", cell, thing=random_thing(rng, cell, 1.0 if kind == "word" else 0.1))
    there = _pick(rng, things)
    if kind == "recolor":
        others = [look for look in looks(there.noun)[1:] if look != there.color]
        natural = there.color != NATURAL and rng.random() < 0.25
        return Edit(kind, there.cell, color=NATURAL if natural else _pick(rng, others))
    if kind == "resize":
        return Edit(kind, there.cell, size=SIZES[1 - SIZES.index(there.size)])
    if kind == "word":
        word = random_word(rng)
        while word == there.word:
            word = random_word(rng)
        return Edit(kind, there.cell, word=word)
    if kind == "move":
        to = _pick(rng, free)
        moved = Thing(there.noun, there.color, there.size, to, jitter(rng), jitter(rng), there.word)
        return Edit(kind, there.cell, thing=moved, to=to)
    return Edit(kind, there.cell)


@dataclass(frozen=True, slots=True)
class Sample:
    """One training pair.

    prompt: of the executor.
    references: the canvases given, the one to edit first.
    target: the wanted canvas.
    cells: the cells that the edit names; none for one of the backdrop.
    """

    prompt: str
    references: tuple[Scene, ...]
    target: Scene
    cells: frozenset[int] = frozenset()


def t2i_sample(rng: random.Random, telling: Telling = MEASURED) -> Sample:
    scene = grouped_scene(rng, _draw(rng, *_T2I_COUNTS))
    return Sample(brief_of(scene, rng, telling)[1], (), scene)


def edit_sample(rng: random.Random, before: Scene | None = None) -> Sample:
    """Return one or two edits of a canvas, by default one with 0 to 8 things; one in twelve holds already and must change
    nothing."""
    if before is None:
        before = random_scene(rng, int(rng.random() * 9))
    first = random_edit(rng, before)
    if rng.random() < 0.1 and (said := _holding(rng, before, first)):
        return Sample(said, (before,), before, first.cells)
    after, words, cells = apply(first, before), instruct(first, before, rng), first.cells
    if rng.random() < 0.3:
        second = random_edit(rng, after)
        if not second.cells & cells and not first.kind == second.kind == "backdrop":
            words += _pick(rng, (" and ", ", ", " then ", ". ")) + instruct(second, after, rng)
            after, cells = apply(second, after), cells | second.cells
    return Sample(
        words + _pick(rng, ("", "", ". keep everything else", ". leave the rest unchanged")), (before,), after, cells
    )


def _holding(rng: random.Random, before: Scene, edit: Edit) -> str | None:
    """Return an instruction of the edit's kind that the canvas meets already, if there is one."""
    if edit.kind == "backdrop":
        return instruct(Edit("backdrop", None, backdrop=before.backdrop), before, rng)
    there = None if edit.cell is None else before.at(edit.cell)
    if there is None:
        return None
    if edit.kind == "word":
        return instruct(Edit("word", there.cell, word=there.word), before, rng)
    if edit.kind == "resize":
        return instruct(Edit("resize", there.cell, size=there.size), before, rng)
    if edit.kind in ("put", "recolor"):
        return instruct(Edit("put", there.cell, thing=there), before.without([there.cell]), rng)
    return None


def signed_sample(rng: random.Random, telling: Telling = MEASURED) -> Sample:
    """Return a brief of a scene with one to three signs, which say one word, and at most two stickers."""
    signs, others = _draw(rng, *_SIGNS), int(rng.random() * 3)
    cells, word = rng.sample(CELLS, signs + others), random_word(rng)
    boards = [replace(random_sign(rng, cell), word=word) for cell in cells[:signs]]
    scene = Scene((*boards, *(random_thing(rng, cell, 0.0) for cell in cells[signs:])), random_backdrop(rng))
    return Sample(brief_of(scene, rng, telling)[1], (), scene, frozenset(cells[:signs]))


def word_sample(rng: random.Random, before: Scene | None = None) -> Sample:
    """Return one edit that changes the word of a sign or puts a sign, by default on a canvas with up to eight things of
    which half are signs."""
    if before is None:
        filled = rng.sample(CELLS, int(rng.random() * 9))
        before = Scene(tuple([random_thing(rng, cell, 0.5) for cell in filled]), random_backdrop(rng))
    if before.free() and rng.random() < 0.4:
        cell = _pick(rng, before.free())
        edit = Edit("put", cell, thing=random_sign(rng, cell))
    else:
        edit = random_edit(rng, before, "word")
    return Sample(instruct(edit, before, rng), (before,), apply(edit, before), edit.cells)


def restore_sample(rng: random.Random) -> Sample:
    """Return a sample of two canvases: one cell of the first is restored from the second, or the second is an earlier
    state to ignore."""
    if rng.random() < 0.4:
        plain = edit_sample(rng)
        earlier = apply(random_edit(rng, plain.references[0]), plain.references[0])
        return Sample(plain.prompt, (plain.references[0], earlier), plain.target, plain.cells)
    before = random_scene(rng, 1 + int(rng.random() * 7))
    other = before
    for _ in range(1 + (rng.random() < 0.5)):
        other = apply(random_edit(rng, other), other)
    changed = [cell for cell in CELLS if before.at(cell) != other.at(cell)]
    cell = _pick(rng, changed or CELLS)
    there = other.at(cell)
    target = before.with_thing(there) if there else before.without([cell])
    return Sample(restore(cell), (before, other), target, frozenset({cell}))
