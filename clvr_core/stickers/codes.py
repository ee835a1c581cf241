"""Scenes as small integers, for batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .scene import BACKDROPS, CELLS, COLORS, LETTERS, MOST_LETTERS, NATURAL, NOUNS, SIGN, SIZES, Scene, Thing

KINDS = ("", *NOUNS, SIGN)
"""What a cell can hold, by number; 0 is an empty cell."""
LOOKS = (NATURAL, *COLORS)
NOUN, LOOK, SIZE, DX, DY, WORD = range(6)
FIELDS = WORD + MOST_LETTERS
"""noun (of KINDS), look (of LOOKS), size (of SIZES), dx, dy, then the letters: 0 none, 1 A to 26 Z."""
_KIND = {kind: index for index, kind in enumerate(KINDS)}
_LOOK = {look: index for index, look in enumerate(LOOKS)}


def codes(scenes: Sequence[Scene]) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 N x 9 x FIELDS of the cells, and int8 N of the backdrops."""
    cells = np.zeros((len(scenes), len(CELLS), FIELDS), np.int8)
    for row, scene in zip(cells, scenes):
        for thing in scene.things:
            word = [LETTERS.index(letter) + 1 for letter in thing.word] + [0] * (MOST_LETTERS - len(thing.word))
            row[thing.cell] = (
                _KIND[thing.noun],
                _LOOK[thing.color],
                SIZES.index(thing.size),
                thing.dx,
                thing.dy,
                *word,
            )
    return cells, np.array([BACKDROPS.index(scene.backdrop) for scene in scenes], np.int8)


def scene_of(cells: np.ndarray, backdrop: int) -> Scene:
    """The scene of one row of codes."""
    things = []
    for cell, row in enumerate(cells.tolist()):
        if row[NOUN]:
            word = "".join(LETTERS[letter - 1] for letter in row[WORD:] if letter)
            things.append(Thing(KINDS[row[NOUN]], LOOKS[row[LOOK]], SIZES[row[SIZE]], cell, row[DX], row[DY], word))
    return Scene(tuple(things), BACKDROPS[backdrop])
