"""Writing specs and edits as prompts, in the registers that the model is trained on. grammar.py reads all of them."""

from __future__ import annotations

import random

from .scene import COLUMNS, GRID, NATURAL, ROWS, SIGN, Edit, Scene, Thing, cell_name
from .spec import AtLeast, Backdrop, Item, Only, Place, Relation, Spec, Statement
from .words import BACKDROP_WORDS, NUMBERS, PLURAL_FORMS, SINGULARS, SIZE_FORMS

NOTHING_BUT = "nothing but: "
AT_LEAST = "at least "
REGISTERS = ("terse", "sentence", "verbose", "geneval")
THE_SCENE = "the scene is "
OTHERWISE = 0.15
"""How often a varied prompt takes another name, plural or word of size than the usual one, where there is one."""
BETWEEN = {
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over"),
    "below": ("below", "under", "beneath"),
}


def noun_words(color: str, noun: str, size: str | None = None, count: int = 1, rng: random.Random | None = None) -> str:
    """Return "small blue dogs" and the like; a natural look has no colour word."""
    name = _form(SINGULARS[noun] if count == 1 else PLURAL_FORMS[noun], rng)
    if color != NATURAL:
        name = f"{color} {name}"
    return f"{_form(SIZE_FORMS[size], rng)} {name}" if size else name


def _form(forms: tuple[str, ...], rng: random.Random | None) -> str:
    if rng is None or len(forms) == 1 or rng.random() >= OTHERWISE:
        return forms[0]
    return forms[1 + int(rng.random() * (len(forms) - 1))]


def article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def place_words(place: Place) -> str:
    if place.row and place.column:
        return f"{place.row} {place.column}"
    if place.row:
        return f"{place.row} row"
    return f"{place.column} column" if place.column else ""


def item_words(item: Item, register: str = "sentence", rng: random.Random | None = None) -> str:
    words = noun_words(item.color, item.noun, item.size, item.count, rng)
    if item.word:
        words += f' {rng.choice(("that says", "saying", "that reads")) if rng else "that says"} "{item.word}"'
    place = place_words(item.place)
    if register == "terse":
        number = "" if item.count == 1 else f"{item.count} "
        return f"{number}{words} {place}".strip()
    counted = article(words) if item.count == 1 else f"{NUMBERS[item.count]} {words}"
    if not place:
        return counted
    preposition = "at" if item.place.row and item.place.column else "in"
    verb = rng.choice(("", "placed ", "that sits ")) if register == "verbose" and rng and item.count == 1 else ""
    return f"{counted} {verb}{preposition} the {place}"


def relation_words(relation: Relation, register: str = "sentence", rng: random.Random | None = None) -> str:
    a, b = noun_words(*relation.a, rng=rng), noun_words(*relation.b, rng=rng)
    words = rng.choice(BETWEEN[relation.kind]) if rng and register != "terse" else relation.kind
    return f"{a} {words} {b}" if register == "terse" else f"the {a} is {words} the {b}"


def backdrop_words(name: str, rng: random.Random | None = None) -> str:
    return rng.choice(BACKDROP_WORDS[name]) if rng else BACKDROP_WORDS[name][0]


def write(spec: Spec, register: str = "sentence", rng: random.Random | None = None) -> str:
    """Return the spec as a prompt.

    With `rng` the order of clauses and the choice of words vary; without, the order is the spec's own. The register
    `geneval` is GenEval's "a photo of ..." (arXiv 2310.11513), whose relation stands between the two things.
    """
    items, relations = list(spec.items), list(spec.relations)
    if rng:
        rng.shuffle(items)
        rng.shuffle(relations)
    scene = [backdrop_words(spec.backdrop, rng)] if spec.backdrop else []
    if register == "geneval" and len(relations) == 1 and len(items) == 2:
        by_key = {item.key: item_words(item, register, rng) for item in items}
        a, b = relations[0].a, relations[0].b
        words = rng.choice(BETWEEN[relations[0].kind]) if rng else relations[0].kind
        return " ".join(["a photo of", by_key[a], words, by_key[b], *scene])
    names = [item_words(item, register, rng) for item in items]
    tails = [relation_words(relation, register, rng) for relation in relations]
    if register == "terse":
        return ", ".join(names + scene + tails)
    joined = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
    if register == "geneval":
        return ". ".join([" ".join(["a photo of", joined, *scene]), *tails])
    if register == "sentence":
        return ". ".join([" ".join([joined, *scene]), *tails]) + "."
    pick = rng.choice if rng else (lambda options: options[0])
    start = pick(
        (
            "please draw a clean picture with",
            "create a simple image that contains",
            "show me stickers of",
            "paint a scene with",
        )
    )
    joined = f" {pick(('together with', 'and also', 'plus'))} ".join(names)
    ending = pick(("nothing else is in the picture.", "", ""))
    return " ".join(filter(None, [" ".join([start, joined, *scene]) + ".", *(f"{tail}." for tail in tails), ending]))


def goal_words(statement: Statement) -> str:
    """Return the statement as the text of a goal."""
    if isinstance(statement, Only):
        return NOTHING_BUT + write(Spec(statement.items), "terse")
    if isinstance(statement, AtLeast):
        return AT_LEAST + item_words(statement.item)
    if isinstance(statement, Backdrop):
        return THE_SCENE + backdrop_words(statement.name)
    return item_words(statement) if isinstance(statement, Item) else relation_words(statement)


def describe(thing: Thing, register: str = "sentence") -> str:
    """Return a thing in words: its kind and its cell."""
    size = None if thing.noun == SIGN else thing.size
    place = Place(ROWS[thing.cell // GRID], COLUMNS[thing.cell % GRID])
    return item_words(Item(thing.noun, thing.color, 1, size, place, thing.word or None), register)


def whole(scene: Scene) -> Spec:
    """Return the fullest spec of a scene: the backdrop, each size and word, and each place as far as the things of one
    colour and noun share it."""
    groups: dict[tuple[str, str], list[Thing]] = {}
    for thing in scene.things:
        groups.setdefault(thing.key, []).append(thing)
    items = []
    for (color, noun), things in groups.items():
        sizes, words = {thing.size for thing in things}, {thing.word for thing in things}
        rows, columns = {thing.cell // GRID for thing in things}, {thing.cell % GRID for thing in things}
        place = Place(
            ROWS[rows.pop()] if len(rows) == 1 else None, COLUMNS[columns.pop()] if len(columns) == 1 else None
        )
        size = sizes.pop() if len(sizes) == 1 and noun != SIGN else None
        items.append(Item(noun, color, len(things), size, place, (words.pop() or None) if len(words) == 1 else None))
    return Spec(tuple(items), (), scene.backdrop)


def new_words(thing: Thing, *, sized: bool = True, rng: random.Random | None = None) -> str:
    """Return what an instruction calls a thing that is to be put: with its article, without its place."""
    size = thing.size if sized and thing.noun != SIGN else None
    return item_words(Item(thing.noun, thing.color, 1, size, word=thing.word or None), rng=rng)


def _called(thing: Thing | None, rng: random.Random | None) -> str:
    """Return what an instruction calls a thing that is there: by colour and noun, by its noun, or the object."""
    part = 0 if rng is None else rng.random()
    if thing is None or part >= 0.75:
        return "object"
    return noun_words(thing.color if part < 0.5 else NATURAL, thing.noun, rng=rng)


def instruct(edit: Edit, scene: Scene, rng: random.Random | None = None) -> str:
    """Return the edit as an instruction for the canvas that shows `scene`. Without `rng` the first wording is used."""
    pick = rng.choice if rng else (lambda options: options[0])
    if edit.kind == "backdrop" and edit.backdrop:
        return pick(
            (
                f"change the scene to {edit.backdrop}",
                f"set the background to {edit.backdrop}",
                f"make the scene {edit.backdrop}",
            )
        )
    assert edit.cell is not None
    there, cell = scene.at(edit.cell), cell_name(edit.cell)
    target = f"the {_called(there, rng)} at the {cell}"
    if edit.kind == "put" and edit.thing is not None:
        new = new_words(edit.thing, sized=rng is None or rng.random() < 0.8, rng=rng)
        if there is not None:
            return pick((f"replace {target} with {new}", f"change {target} to {new}"))
        return pick((f"add {new} at the {cell}", f"put {new} at the {cell}", f"place {new} at the {cell}"))
    if edit.kind == "remove":
        return f"{pick(('remove', 'delete', 'erase'))} {target}"
    if edit.kind == "word":
        return pick(
            (
                f'change the word on the sign at the {cell} to "{edit.word}"',
                f'write "{edit.word}" on the sign at the {cell}',
            )
        )
    if edit.kind == "recolor":
        look = "its own color" if edit.color == NATURAL else edit.color
        return pick(
            (
                f"make {target} {look}" if edit.color != NATURAL else f"give {target} its own color",
                f"change the color of {target} to {look}",
                f"recolor {target} to {look}",
            )
        )
    if edit.kind == "resize":
        return pick((f"make {target} {edit.size}", f"change {target} to {edit.size}"))
    if edit.to is None:
        raise ValueError(f"no words for the edit {edit!r}")
    return f"move {target} to the {cell_name(edit.to)}"


def restore(cell: int, reference: int = 2) -> str:
    """Return the instruction that restores one cell from an earlier canvas, given as the reference of that number."""
    return f"restore the {cell_name(cell)} from image {reference}"
