"""The witness of things with the embedded world's reader: as an exact detector, and as one that errs at a set rate."""

from __future__ import annotations

import random

import numpy as np
import pytest

from clvr_core.brief import Goal
from clvr_core.stickers.scene import CANVAS, SPANS, Scene, Thing, looks
from clvr_core.stickers.simulated import perceive_rendered, rendered
from clvr_core.stickers.words import NUMBERS, PLURALS
from clvr_core.trajectory import Verdict
from clvr_core.witness import agree
from clvr_core.witness.objects import ObjectWitness
from clvr_core.witness.things import Found

INKS = {"red": (200, 30, 30), "green": (30, 160, 60), "blue": (40, 80, 220), "yellow": (240, 220, 40)}
NOUNS = tuple(noun for noun in ("cat", "car", "tree", "bird", "cup", "boat") if set(INKS) <= set(looks(noun)))


class Reader:
    """misses: probability that a thing is not found; it hangs on picture and thing."""

    name = "embedded reader"

    def __init__(self, misses=0.0):
        self.misses = misses

    def knows(self, thing):
        return thing in NOUNS

    def find(self, picture, things):
        draw, found = random.Random(picture.tobytes()), []
        for thing in perceive_rendered(picture).things:
            (x, y), reach = thing.center, SPANS[thing.size] // 2
            if draw.random() >= self.misses:
                box = tuple(edge / CANVAS for edge in (x - reach, y - reach, x + reach, y + reach))
                found.append(Found(thing.noun, 0.9, box))
        return found


def blocks(scene):
    """Each thing is a block of its colour."""
    picture = np.full((CANVAS, CANVAS, 3), 245, np.uint8)
    for thing in scene.things:
        (x, y), reach = thing.center, SPANS[thing.size] // 2
        picture[y - reach : y + reach, x - reach : x + reach] = INKS[thing.color]
    return picture


def pictures(count):
    """Pictures of some things of one kind among others, with the kind and the number."""
    draw = random.Random(7)
    for _ in range(count):
        (noun, other), (color, paint) = draw.sample(NOUNS, 2), draw.sample(tuple(INKS), 2)
        cells, number = draw.sample(range(9), 7), draw.randint(1, 5)
        kinds = [(noun, color)] * number + [(other, color)] + [(noun, paint)] * (6 - number)
        things = tuple(Thing(*kind, draw.choice(tuple(SPANS)), cell) for kind, cell in zip(kinds, cells))
        yield rendered(Scene(things), blocks), noun, color, number


def goal(number, color, noun):
    words = f"{color} {noun if number == 1 else PLURALS[noun]}"
    return Goal("g1", f"exactly {NUMBERS[number]} {words}")


@pytest.mark.parametrize("off", [-1, 0, 1])
def test_an_exact_reader_tells_the_number_of_every_kind_and_colour(off):
    witness, told = ObjectWitness(Reader()), 0
    for picture, noun, color, number in pictures(30):
        if number + off < 1:
            continue
        (said,) = witness.look(picture, [goal(number + off, color, noun)]).values()
        assert (said.says, said.words) == ("no" if off else "yes", f'finds {number} "{color} {noun}"')
        told += 1
    assert told >= 20


def test_one_that_errs_leaves_goals_open_and_never_fails_or_meets_one_alone():
    witness, wrong, all_told = ObjectWitness(Reader(0.2)), 0, 0
    for picture, noun, color, number in pictures(60):
        (said,) = witness.look(picture, [goal(number, color, noun)]).values()
        wrong, all_told = wrong + (said.says == "no"), all_told + 1
        assert agree(Verdict("g1", "met"), [said]).state == ("met" if said.says == "yes" else "unsure")
        assert agree(Verdict("g1", "unmet"), [said]).state == ("unsure" if said.says == "yes" else "unmet")
    # 0.2 a thing, one to five things: some 45 percent.
    assert 0.25 < wrong / all_told < 0.65
