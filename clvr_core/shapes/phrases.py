"""Writing specs and edits as prompts, in the registers that the model is trained on. grammar.py reads all of them."""

from __future__ import annotations

import random

from .scene import COLUMNS, GRID, ROWS, Edit, Scene, Thing, cell_name
from .spec import AtLeast, Item, Only, Place, Relation, Spec, Statement
from .words import NUMBERS, PLURALS

NOTHING_BUT = "nothing but: "
AT_LEAST = "at least "
REGISTERS = ("terse", "sentence", "verbose")
LEFT = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}


def noun(color: str, shape: str, size: str | None = None, count: int = 1) -> str:
    return " ".join(filter(None, (size, color, shape if count == 1 else PLURALS[shape])))


def place_words(place: Place) -> str:
    if place.row and place.column:
        return f"{place.row} {place.column}"
    if place.row:
        return f"{place.row} row"
    return f"{place.column} column" if place.column else ""


def item_words(item: Item, register: str = "sentence", rng: random.Random | None = None) -> str:
    words = noun(item.color, item.shape, item.size, item.count)
    place = place_words(item.place)
    if register == "terse":
        number = "" if item.count == 1 else f"{item.count} "
        return f"{number}{words} {place}".strip()
    number = "a" if item.count == 1 else NUMBERS[item.count]
    if item.color == "orange" and item.size is None and item.count == 1:
        number = "an"
    if not place:
        return f"{number} {words}"
    preposition = "at" if item.place.row and item.place.column else "in"
    verb = rng.choice(("", "placed ", "that sits ")) if register == "verbose" and rng and item.count == 1 else ""
    return f"{number} {words} {verb}{preposition} the {place}"


def relation_words(relation: Relation, register: str = "sentence", rng: random.Random | None = None) -> str:
    a, b = noun(*relation.a), noun(*relation.b)
    words = (rng or random.Random(0)).choice(LEFT[relation.kind]) if register != "terse" else relation.kind
    return f"{a} {words} {b}" if register == "terse" else f"the {a} is {words} the {b}"


def write(spec: Spec, register: str = "sentence", rng: random.Random | None = None) -> str:
    """The spec as a prompt.

    With `rng` the order of clauses and the choice of words vary; without, the order is the spec's own.
    """
    items, relations = list(spec.items), list(spec.relations)
    if rng:
        rng.shuffle(items)
        rng.shuffle(relations)
    names = [item_words(item, register, rng) for item in items]
    tails = [relation_words(relation, register, rng) for relation in relations]
    if register == "terse":
        return ", ".join(names + tails)
    if register == "sentence":
        joined = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
        return ". ".join([joined, *tails]) + "."
    pick = rng.choice if rng else (lambda options: options[0])
    start = pick(
        ("please draw a clean picture with", "create a simple image that contains", "show me a plain scene with")
    )
    background = pick(("on a light background ", "", ""))
    joined = f" {pick(('together with', 'and also', 'plus'))} ".join(names)
    ending = pick(("nothing else is in the picture.", "", ""))
    return " ".join(
        filter(None, [f"{start} {joined} {background}".strip() + ".", *(f"{tail}." for tail in tails), ending])
    )


def goal_words(statement: Statement) -> str:
    """The statement as the text of a goal."""
    if isinstance(statement, Only):
        return NOTHING_BUT + write(Spec(statement.items), "terse")
    if isinstance(statement, AtLeast):
        return AT_LEAST + item_words(statement.item)
    return item_words(statement) if isinstance(statement, Item) else relation_words(statement)


def describe(thing: Thing) -> str:
    """Return a thing in words: its kind and its cell."""
    return f"a {noun(thing.color, thing.shape, thing.size)} at the {cell_name(thing.cell)}"


def whole(scene: Scene) -> Spec:
    """Return the fullest spec of a scene: each size, and each place as far as the things of one colour and shape share
    it."""
    groups: dict[tuple[str, str], list[Thing]] = {}
    for thing in scene.things:
        groups.setdefault((thing.shape, thing.color), []).append(thing)
    items = []
    for (shape, color), things in groups.items():
        sizes = {thing.size for thing in things}
        rows, columns = {thing.cell // GRID for thing in things}, {thing.cell % GRID for thing in things}
        place = Place(
            ROWS[rows.pop()] if len(rows) == 1 else None, COLUMNS[columns.pop()] if len(columns) == 1 else None
        )
        items.append(Item(shape, color, len(things), sizes.pop() if len(sizes) == 1 else None, place))
    return Spec(tuple(items))


def instruct(edit: Edit, scene: Scene, rng: random.Random | None = None) -> str:
    """Return the edit as an instruction for the canvas that shows `scene`. Without `rng` the first wording is used."""
    pick = rng.choice if rng else (lambda options: options[0])
    there = scene.at(edit.cell)
    cell = cell_name(edit.cell)
    names = (
        ["object"]
        if there is None
        else [noun(there.color, there.shape), noun(there.color, there.shape), there.shape, "object"]
    )
    target = f"the {pick(names)} at the {cell}"
    if edit.kind == "put" and edit.thing is not None:
        size = edit.thing.size if rng is None or rng.random() < 0.8 else None
        new = noun(edit.thing.color, edit.thing.shape, size)
        if there is not None:
            return pick((f"replace {target} with a {new}", f"change {target} to a {new}"))
        return pick((f"add a {new} at the {cell}", f"put a {new} at the {cell}", f"place a {new} at the {cell}"))
    if edit.kind == "remove":
        return f"{pick(('remove', 'delete', 'erase'))} {target}"
    if edit.kind == "recolor":
        return pick(
            (
                f"make {target} {edit.color}",
                f"change the color of {target} to {edit.color}",
                f"recolor {target} to {edit.color}",
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
