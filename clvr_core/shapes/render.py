"""Scene -> picture, anti-aliased by 4 x 4 supersampling."""

from __future__ import annotations

from functools import cache

import numpy as np

from .scene import BACKGROUND, CANVAS, CELL, PALETTE, RADII, Scene

SUPERSAMPLING = 4


@cache
def coverage(shape: str, radius: float, shift: tuple[float, float] = (0.0, 0.0), side: int = CELL) -> np.ndarray:
    """How much of each pixel the shape covers, float32 side x side in 0..1, centred on side // 2 plus the shift (x, y)
    in pixels."""
    axis = (np.arange(side * SUPERSAMPLING) + 0.5) / SUPERSAMPLING - side // 2 - 0.5
    x, y = axis[None, :] - shift[0], axis[:, None] - shift[1]
    r = radius
    if shape == "circle":
        inside = x**2 + y**2 <= r**2
    elif shape == "square":
        inside = np.maximum(abs(x), abs(y)) <= 0.88 * r
    elif shape == "triangle":
        inside = (y <= 0.8 * r) & (abs(x) <= (y + r) * 0.55)
    elif shape == "diamond":
        inside = abs(x) + abs(y) <= r
    elif shape == "cross":
        inside = (np.minimum(abs(x), abs(y)) <= 0.34 * r) & (np.maximum(abs(x), abs(y)) <= r)
    else:
        raise ValueError(f"unknown shape {shape!r}")
    blocks = inside.reshape(side, SUPERSAMPLING, side, SUPERSAMPLING)
    return blocks.mean((1, 3), dtype=np.float32)


def render(scene: Scene) -> np.ndarray:
    """uint8 96 x 96 x 3."""
    canvas = np.empty((CANVAS, CANVAS, 3), np.float32)
    canvas[:] = BACKGROUND
    half = CELL // 2
    for thing in scene.things:
        x, y = thing.center
        alpha = coverage(thing.shape, RADII[thing.size])
        y0, x0 = max(y - half, 0), max(x - half, 0)
        y1, x1 = min(y + half, CANVAS), min(x + half, CANVAS)
        cut = alpha[y0 - y + half : y1 - y + half, x0 - x + half : x1 - x + half, None]
        patch = canvas[y0:y1, x0:x1]
        patch += cut * (np.asarray(PALETTE[thing.color], np.float32) - patch)
    return canvas.round().astype(np.uint8)
