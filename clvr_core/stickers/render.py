"""Scene -> picture."""

from __future__ import annotations

import numpy as np

from .art import cutout
from .backdrop import backdrop
from .scene import CANVAS, CELL, GRID, Scene


def render(scene: Scene) -> np.ndarray:
    """Return the scene as it should be drawn: uint8 192 x 192 x 3. Raises BadInput if the pictures of the stickers are
    not there (see art.folder)."""
    canvas = backdrop(scene.backdrop).astype(np.float32)
    for thing in scene.things:
        top, left = thing.cell // GRID * CELL, thing.cell % GRID * CELL
        # A sticker leaves a margin of the jitter on every side of its cell, so that what is rolled round is empty.
        piece = np.roll(cutout(thing.noun, thing.color, thing.size, thing.word), (thing.dy, thing.dx), (0, 1))
        cover = piece[..., 3:].astype(np.float32) / 255
        patch = canvas[top : top + CELL, left : left + CELL]
        patch += cover * (piece[..., :3] - patch)
    assert canvas.shape == (CANVAS, CANVAS, 3)
    return canvas.round().astype(np.uint8)
