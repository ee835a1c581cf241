"""A planner that errs: what it takes a brief for."""

from __future__ import annotations

import random
from dataclasses import replace

from .grammar import MOST_THINGS
from .planner import layout
from .scene import COLORS, COLUMNS, ROWS, SHAPES, SIZES
from .spec import Item, Relation, Spec

INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def misunderstood(spec: Spec, rate: float, rng: random.Random) -> Spec:
    """Return the spec with each item, at `rate`, wrong in one of the things that it says (colour, shape, count, size,
    place), and each relation, at the same rate, inverted.

    An error after which the items could not stand together on the canvas, or a relation would be without a single
    thing, is not made.
    """
    found = spec
    for item in spec.items:
        if rng.random() < rate:
            found = _with(found, item, _wrong(item, rng))
    relations = tuple(
        replace(relation, kind=INVERSE[relation.kind]) if rng.random() < rate else relation
        for relation in found.relations
    )
    return Spec(found.items, relations)


def _wrong(item: Item, rng: random.Random) -> Item:
    """The item with one attribute that it does not have."""
    said = ["color", "shape", "count"] + ["size"] * (item.size is not None) + ["row"] * (item.place.row is not None)
    said += ["column"] * (item.place.column is not None)
    attribute = rng.choice(said)
    if attribute == "count":
        return replace(item, count=item.count + rng.choice((-1, 1)) if item.count > 1 else 2)
    if attribute in ("row", "column"):
        lines = ROWS if attribute == "row" else COLUMNS
        return replace(
            item, place=replace(item.place, **{attribute: _other(getattr(item.place, attribute), lines, rng)})
        )
    values = {"color": COLORS, "shape": SHAPES, "size": SIZES}[attribute]
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
    return Spec(items, relations) if layout(Spec(items), (), random.Random(0)) is not None else spec
