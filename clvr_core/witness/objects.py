"""The witness of things: counts and places by the boxes of an object detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from ..brief import Box, Goal
from ..protocols import Picture
from ..trajectory import Finding
from .things import NAME, Found, Limits, asked, finding_on, things_of

USUAL = Limits()
MAX_FOUND = 300
SHARE = 0.2
"""Share of a box that must have a colour for the thing in it to have it."""


class Finder(Protocol):
    """Finds things by their names."""

    name: str

    def knows(self, thing: str) -> bool:
        """Whether a thing of this name, a noun in the singular, can be found."""
        ...

    def find(self, picture: Picture, things: Sequence[str]) -> Sequence[Found]:
        """Return the things of these names, also those of low scores. picture: uint8 H x W x 3."""
        ...


class ObjectWitness:
    """Compares what a detector finds with what the goals say of numbers and places."""

    def __init__(self, finder: Finder, limits: Limits = USUAL) -> None:
        self._finder, self._limits = finder, limits

    @property
    def name(self) -> str:
        limits = "" if self._limits == USUAL else f", from {self._limits.seen:g}, perhaps {self._limits.perhaps:g}"
        return f"{NAME} ({self._finder.name}{limits})"

    def look(self, picture: Picture, goals: Sequence[Goal]) -> Mapping[str, Finding]:
        about = {goal.id: what for goal in goals if (what := asked(goal)) is not None}
        about = {
            goal: what
            for goal, what in about.items()
            if all(self._finder.knows(thing.name) for thing in things_of(what))
        }
        if not about:
            return {}
        names = sorted({thing.name for what in about.values() for thing in things_of(what)})
        found = sorted(self._finder.find(picture, names), key=lambda one: -one.score)[:MAX_FOUND]
        color_of = partial(colors_in, picture)
        said = {goal: finding_on(what, found, color_of, self._limits) for goal, what in about.items()}
        return {goal: finding for goal, finding in said.items() if finding is not None}


def colors_in(picture: Picture, box: Box) -> frozenset[str]:
    """The names, of COLORS, of the colours that fill at least SHARE of the middle of a box."""
    height, width = picture.shape[:2]
    left, top, right, bottom = box
    inset_x, inset_y = (right - left) * 0.15, (bottom - top) * 0.15
    rows = slice(
        int((top + inset_y) * height), max(int((top + inset_y) * height) + 1, int((bottom - inset_y) * height))
    )
    columns = slice(
        int((left + inset_x) * width), max(int((left + inset_x) * width) + 1, int((right - inset_x) * width))
    )
    part = picture[rows, columns]
    if part.size == 0:
        return frozenset()
    step = max(1, int(np.sqrt(part.shape[0] * part.shape[1] / 4096)))
    named = color_names(part[::step, ::step].reshape(-1, 3))
    return frozenset(name for name, mask in named.items() if mask.mean() >= SHARE)


def color_names(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """For each colour of COLORS which pixels (N x 3, uint8) people call that, roughly: by hue, saturation and value."""
    rgb = pixels.astype(np.float32) / 255
    value, low = rgb.max(1), rgb.min(1)
    chroma = value - low
    saturation = np.where(value > 0, chroma / np.maximum(value, 1e-6), 0)
    red, green, blue = rgb.T
    safe = np.maximum(chroma, 1e-6)
    hue = np.where(
        value == red,
        (green - blue) / safe % 6,
        np.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    degrees = hue * 60
    vivid = (saturation >= 0.25) & (value >= 0.2)
    warm = (degrees >= 8) & (degrees < 45)
    return {
        "red": vivid & ((degrees < 15) | (degrees >= 340)) & ((saturation >= 0.55) | (value < 0.7)),
        "orange": vivid & (degrees >= 12) & (degrees < 45) & (value >= 0.65) & (saturation >= 0.5),
        "yellow": vivid & (degrees >= 42) & (degrees < 68) & (value >= 0.5),
        "green": vivid & (degrees >= 68) & (degrees < 172),
        "cyan": vivid & (degrees >= 165) & (degrees < 200) & (value >= 0.5),
        "blue": vivid & (degrees >= 192) & (degrees < 258),
        "purple": vivid & (degrees >= 250) & (degrees < 320),
        "pink": (saturation >= 0.12) & (value >= 0.6) & ((degrees >= 300) | (degrees < 12)) & (saturation < 0.7),
        "brown": vivid & warm & (value < 0.68),
        "black": value < 0.22,
        "white": (value >= 0.82) & (saturation < 0.14),
        "gray": (saturation < 0.16) & (value >= 0.2) & (value < 0.85),
    }
