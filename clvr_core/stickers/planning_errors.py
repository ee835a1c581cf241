"""A planner that errs: what it takes a brief for."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from .grammar import MOST_THINGS
from .misreading import INVERSE, MANY, MOST, near
from .planner import layout
from .scene import BACKDROPS, COLUMNS, NOUNS, ROWS, SIGN, SIZES, Scene, look, looks
from .spec import Backdrop, Item, Relation, Spec

Chance = Callable[[object], random.Random]
"""Item, relation or backdrop -> the chance that decides about it."""


def anew(seed: str) -> Chance:
    """Return the chance of a planner whose errors are independent: each plan, which the seed names, errs anew."""
    rng = random.Random(seed)
    return lambda said: rng


def always(seed: str) -> Chance:
    """Return the chance of a planner whose errors are correlated: the same words are taken for the same thing in every
    plan."""
    return lambda said: random.Random(f"{seed}/{said}")


def misunderstood(spec: Spec, rate: float, chance: Chance, weak: float = 1.0) -> Spec:
    """Return the spec with each item, at `rate`, wrong in one of the things that it says (colour, noun, count, size,
    word, place), each relation, at the same rate, inverted, and the backdrop, at the same rate, another.

    weak: how much more often, at a rate of MOST at most, errs what language models err in most: a count above MANY is
        one off, and left and right are exchanged.

    An error after which the items could not stand together on the canvas, or a relation would be without a single
    thing, is not made.
    """
    often = min(MOST, weak * rate) if weak > 1 else rate
    found = spec
    for item in spec.items:
        rng = chance(item)
        many = weak > 1 and item.count > MANY
        if rng.random() < (often if many else rate):
            found = _with(found, item, _recounted(item, rng) if many else _wrong(item, rng))
    relations = []
    for asked, relation in zip(spec.relations, found.relations):
        sideways = relation.kind in ("left of", "right of")
        wrong = chance(asked).random() < (often if sideways else rate)
        relations.append(replace(relation, kind=INVERSE[relation.kind]) if wrong else relation)
    backdrop = spec.backdrop
    if backdrop is not None:
        rng = chance(Backdrop(backdrop))
        backdrop = _other(backdrop, BACKDROPS, rng) if rng.random() < rate else backdrop
    return Spec(found.items, tuple(relations), backdrop)


def _recounted(item: Item, rng: random.Random) -> Item:
    return replace(item, count=item.count + rng.choice((-1, 1)) if item.count > 1 else 2)


def _wrong(item: Item, rng: random.Random) -> Item:
    """The item with one attribute that it does not have."""
    said = ["count"] + (["word"] * (item.word is not None) if item.noun == SIGN else ["color", "noun"])
    said += ["size"] * (item.size is not None) + ["row"] * (item.place.row is not None)
    said += ["column"] * (item.place.column is not None)
    attribute = rng.choice(said)
    if attribute == "count":
        return _recounted(item, rng)
    if attribute == "word":
        return replace(item, word=near(item.word or "", rng))
    if attribute in ("row", "column"):
        lines = ROWS if attribute == "row" else COLUMNS
        return replace(
            item, place=replace(item.place, **{attribute: _other(getattr(item.place, attribute), lines, rng)})
        )
    if attribute == "noun":
        noun = _other(item.noun, NOUNS, rng)
        return replace(item, noun=noun, color=look(noun, item.color))
    values = {"color": looks(item.noun), "size": SIZES}[attribute]
    return replace(item, **{attribute: _other(getattr(item, attribute), values, rng)})


def _other(value: str, values: tuple[str, ...], rng: random.Random) -> str:
    return rng.choice([each for each in values if each != value])


def _with(spec: Spec, item: Item, wrong: Item) -> Spec:
    """The spec with the wrong item in place of the item, in its relations too; the spec itself if that cannot be
    drawn."""
    others = [other for other in spec.items if other is not item]
    if any(other.key == wrong.key for other in others) or spec.total - item.count + wrong.count > MOST_THINGS:
        return spec
    rename = lambda key: wrong.key if key == item.key else key  # noqa: E731
    relations = tuple(Relation(rename(each.a), each.kind, rename(each.b)) for each in spec.relations)
    if wrong.count != 1 and any(wrong.key in (each.a, each.b) for each in relations):
        return spec
    items = tuple(wrong if other is item else other for other in spec.items)
    drawable = layout(Spec(items), Scene(), random.Random(0)) is not None
    return Spec(items, relations, spec.backdrop) if drawable else spec
