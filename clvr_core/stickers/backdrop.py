"""Backdrops, drawn by formula: what lies behind the stickers."""

from __future__ import annotations

from functools import cache

import numpy as np

from .scene import BACKDROPS, CANVAS

Color = tuple[float, float, float]

_Y, _X = (axis.astype(np.float32) for axis in np.indices((CANVAS, CANVAS)))


@cache
def backdrop(name: str) -> np.ndarray:
    """Return the backdrop: uint8 192 x 192 x 3, not to be written to. Raises ValueError for a name that is none."""
    if name not in BACKDROPS:
        raise ValueError(f"unknown backdrop {name!r}; there are {', '.join(BACKDROPS)}")
    painted = _PAINTERS[name]().round().clip(0, 255).astype(np.uint8)
    painted.setflags(write=False)
    return painted


def _flat(color: Color) -> np.ndarray:
    return np.broadcast_to(np.asarray(color, np.float32), (CANVAS, CANVAS, 3)).copy()


def _gradient(*stops: tuple[float, Color]) -> np.ndarray:
    """Colours from top to bottom; a stop is its height, 0 at the top to 1 at the bottom, and its colour."""
    heights = [height for height, _ in stops]
    line = np.stack(
        [np.interp(_Y[:, 0] / (CANVAS - 1), heights, [color[c] for _, color in stops]) for c in range(3)], -1
    )
    return np.broadcast_to(line[:, None].astype(np.float32), (CANVAS, CANVAS, 3)).copy()


def _blend(canvas: np.ndarray, cover: np.ndarray, color: Color) -> np.ndarray:
    """The canvas with a colour laid over it; cover is H x W in 0..1."""
    return canvas + cover.clip(0, 1)[..., None] * (np.asarray(color, np.float32) - canvas)


def _disc(x: float, y: float, radius: float, soft: float = 1.0) -> np.ndarray:
    return np.clip((radius - np.hypot(_X - x, _Y - y)) / soft + 0.5, 0, 1)


def _below(line: np.ndarray) -> np.ndarray:
    """Cover of what lies below a line; line has a height in pixels for each column."""
    return (_Y - line[None] + 0.5).clip(0, 1)


def _waves(height: float, *waves: tuple[float, float, float]) -> np.ndarray:
    """A line of hills; a wave is its amplitude in pixels, its length in pixels and its phase in turns."""
    line = np.full(CANVAS, height, np.float32)
    for size, length, phase in waves:
        line = line + size * np.sin(2 * np.pi * (_X[0] / length + phase))
    return line


def _cloud(canvas: np.ndarray, x: float, y: float, scale: float, color: Color, cover: float) -> np.ndarray:
    puffs = ((-14, 2, 9), (0, -3, 12), (14, 1, 10), (26, 5, 6), (-25, 5, 6))
    shape = np.max([_disc(x + dx * scale, y + dy * scale, r * scale, 3) for dx, dy, r in puffs], axis=0)
    return _blend(canvas, shape * cover, color)


def _plain() -> np.ndarray:
    return _flat((228, 230, 234))


def _day() -> np.ndarray:
    canvas = _gradient((0, (96, 178, 240)), (1, (206, 236, 252)))
    for x, y, scale in ((38, 26, 1.0), (140, 60, 1.1), (60, 120, 0.9), (168, 150, 0.8)):
        canvas = _cloud(canvas, x, y, scale, (255, 255, 255), 0.75)
    return canvas


def _night() -> np.ndarray:
    canvas = _gradient((0, (16, 20, 58)), (1, (52, 54, 118)))
    stars = np.random.default_rng(7).uniform(4, CANVAS - 4, (46, 2))
    for index, (x, y) in enumerate(stars):
        canvas = _blend(canvas, _disc(x, y, 0.8 + 0.5 * (index % 3), 1.2) * 0.9, (250, 244, 210))
    return canvas


def _sunset() -> np.ndarray:
    canvas = _gradient((0, (94, 62, 138)), (0.45, (232, 108, 104)), (0.72, (252, 176, 92)), (1, (255, 214, 130)))
    canvas = _blend(canvas, _disc(96, 150, 40, 30) * 0.8, (255, 236, 170))
    for height, cover in ((62, 0.35), (92, 0.3), (118, 0.25)):
        band = np.exp(-(((_Y - height - 3 * np.sin(_X / 23 + height)) / 3.5) ** 2))
        canvas = _blend(canvas, band * cover, (255, 200, 190))
    return canvas


def _meadow() -> np.ndarray:
    canvas = _gradient((0, (150, 206, 246)), (0.4, (216, 238, 250)), (1, (216, 238, 250)))
    canvas = _blend(canvas, _below(_waves(62, (9, 150, 0.1), (4, 70, 0.4))), (150, 200, 112))
    canvas = _blend(canvas, _below(_waves(98, (8, 170, 0.55), (3, 60, 0.0))), (120, 182, 84))
    canvas = _blend(canvas, _below(_waves(140, (7, 140, 0.3), (3, 80, 0.7))), (94, 160, 66))
    for index, (x, y) in enumerate(np.random.default_rng(3).uniform((6, 108), (186, 188), (26, 2))):
        canvas = _blend(canvas, _disc(x, y, 1.4, 1), ((255, 246, 170), (255, 200, 220), (250, 250, 250))[index % 3])
    return canvas


def _snow() -> np.ndarray:
    canvas = _gradient((0, (170, 190, 214)), (0.5, (220, 228, 238)), (1, (220, 228, 238)))
    canvas = _blend(canvas, _below(_waves(84, (10, 180, 0.2), (4, 66, 0.1))), (226, 234, 246))
    canvas = _blend(canvas, _below(_waves(126, (8, 150, 0.6), (3, 90, 0.3))), (246, 249, 255))
    for x, y in np.random.default_rng(11).uniform(3, CANVAS - 3, (60, 2)):
        canvas = _blend(canvas, _disc(x, y, 1.5, 1.2) * 0.95, (255, 255, 255))
    return canvas


def _sea() -> np.ndarray:
    canvas = _gradient((0, (128, 204, 244)), (0.34, (220, 242, 250)), (0.341, (24, 116, 170)), (1, (10, 62, 122)))
    for row in range(9):
        y = 74 + row * 14
        wave = np.exp(-(((_Y - y - 2.2 * np.sin(2 * np.pi * (_X / 32 + row * 0.37))) / (1.1 + row * 0.12)) ** 2))
        gap = 0.5 + 0.5 * np.sin(2 * np.pi * (_X / 64 + row * 0.23))
        canvas = _blend(canvas, wave * gap * 0.7, (170, 222, 240))
    return canvas


def _indoors() -> np.ndarray:
    canvas = _flat((240, 222, 196))
    canvas = _blend(canvas, ((_X // 12) % 2) * 0.25, (250, 238, 220))
    floor = (_Y >= 134).astype(np.float32)
    canvas = _blend(canvas, floor, (178, 122, 76))
    plank = floor * (((_Y - 134) % 15 < 1) | ((_X + 26 * ((_Y - 134) // 15)) % 64 < 1))
    canvas = _blend(canvas, plank * 0.8, (130, 84, 48))
    return _blend(canvas, ((_Y >= 126) & (_Y < 134)).astype(np.float32), (252, 248, 240))


_PAINTERS = {
    "plain": _plain,
    "day": _day,
    "night": _night,
    "sunset": _sunset,
    "meadow": _meadow,
    "snow": _snow,
    "sea": _sea,
    "indoors": _indoors,
}
