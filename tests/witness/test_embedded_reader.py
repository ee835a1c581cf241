"""The witness of things with the embedded world's reader: as an exact detector, and as one that errs at a set rate."""

from __future__ import annotations

import random

import pytest

from clvr_core.brief import Goal
from clvr_core.shapes import CANVAS
from clvr_core.shapes.perceive import perceive
from clvr_core.shapes.render import render
from clvr_core.shapes.scene import COLORS, RADII, SHAPES, Scene, Thing
from clvr_core.shapes.words import NUMBERS, PLURALS
from clvr_core.trajectory import Verdict
from clvr_core.witness import agree
from clvr_core.witness.objects import ObjectWitness
from clvr_core.witness.things import Found


class Reader:
    """misses: probability that a thing is not found; it hangs on picture and thing."""

    name = "embedded reader"

    def __init__(self, misses=0.0):
        self.misses = misses

    def knows(self, thing):
        return thing in SHAPES

    def find(self, picture, things):
        draw, found = random.Random(picture.tobytes()), []
        for thing in perceive(picture).things:
            (x, y), reach = thing.center, RADII[thing.size]
            if draw.random() >= self.misses:
                box = tuple(edge / CANVAS for edge in (x - reach, y - reach, x + reach, y + reach))
                found.append(Found(thing.shape, 0.9, box))
        return found


def pictures(count):
    """Pictures of some things of one kind among others, with the kind and the number."""
    draw = random.Random(7)
    for _ in range(count):
        (shape, other), (color, paint) = draw.sample(SHAPES, 2), draw.sample(COLORS, 2)
        cells, number = draw.sample(range(9), 7), draw.randint(1, 5)
        kinds = [(shape, color)] * number + [(other, color)] + [(shape, paint)] * (6 - number)
        things = tuple(Thing(*kind, draw.choice(tuple(RADII)), cell) for kind, cell in zip(kinds, cells))
        yield render(Scene(things)), shape, color, number


def goal(number, color, shape):
    words = f"{color} {shape if number == 1 else PLURALS[shape]}"
    return Goal("g1", f"exactly {NUMBERS[number]} {words}")


@pytest.mark.parametrize("off", [-1, 0, 1])
def test_an_exact_reader_tells_the_number_of_every_kind_and_colour(off):
    witness, told = ObjectWitness(Reader()), 0
    for picture, shape, color, number in pictures(30):
        if number + off < 1:
            continue
        (said,) = witness.look(picture, [goal(number + off, color, shape)]).values()
        assert (said.says, said.words) == ("no" if off else "yes", f'finds {number} "{color} {shape}"')
        told += 1
    assert told >= 20


def test_one_that_errs_leaves_goals_open_and_never_fails_or_meets_one_alone():
    witness, wrong, all_told = ObjectWitness(Reader(0.2)), 0, 0
    for picture, shape, color, number in pictures(60):
        (said,) = witness.look(picture, [goal(number, color, shape)]).values()
        wrong, all_told = wrong + (said.says == "no"), all_told + 1
        assert agree(Verdict("g1", "met"), [said]).state == ("met" if said.says == "yes" else "unsure")
        assert agree(Verdict("g1", "unmet"), [said]).state == ("unsure" if said.says == "yes" else "unmet")
    # 0.2 a thing, one to five things: some 45 percent.
    assert 0.25 < wrong / all_told < 0.65
