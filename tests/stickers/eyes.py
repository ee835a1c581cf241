"""Pictures that carry their scene in their bytes, and the eyes that read them: for what is about words and plans, not about pixels."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from clvr_core.stickers.codes import FIELDS, codes, scene_of
from clvr_core.stickers.perceive import Perception
from clvr_core.stickers.scene import CANVAS, CELL, CELLS, GRID, Scene

UNCLEAR = 200


def picture_of(scene: Scene, unclear: Collection[int] = (), backdrop_is_clear: bool = True) -> np.ndarray:
    """A uint8 192 x 192 x 3 picture that `perceive` reads: each cell says in its own middle what it holds."""
    cells, (backdrop,) = codes([scene])
    picture = np.full((CANVAS, CANVAS, 3), 40 + 10 * int(backdrop) if backdrop_is_clear else UNCLEAR, np.uint8)
    for cell in CELLS:
        row = np.full(FIELDS, UNCLEAR, np.int64) if cell in unclear else cells[0, cell].astype(np.int64) % 256
        _middle(picture, cell)[:] = row.astype(np.uint8)[:, None]
    return picture


def perceive(picture: np.ndarray) -> Perception:
    rows = np.stack([_middle(picture, cell)[:, 0] for cell in CELLS])
    unclear = tuple(cell for cell in CELLS if rows[cell, 0] == UNCLEAR)
    clear = rows * (rows[:, :1] != UNCLEAR)
    ground = int(picture[0, 0, 0])
    scene = scene_of(clear.astype(np.uint8).view(np.int8), 0 if ground == UNCLEAR else (ground - 40) // 10)
    return Perception(scene.things, None if ground == UNCLEAR else scene.backdrop, unclear)


def _middle(picture: np.ndarray, cell: int) -> np.ndarray:
    y, x = cell // GRID * CELL + CELL // 2, cell % GRID * CELL + CELL // 2 - FIELDS // 2
    return picture[y, x : x + FIELDS]
