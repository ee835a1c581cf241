"""Reads the optional fields of a reply: one that makes no sense is left out with a warning, and the rest stands."""

from __future__ import annotations

import math
from typing import Any

from ..brief import Box
from ..text import one_line

GRID = 1000
"""Qwen3-VL and others name places on a grid of so many steps in each direction."""


class Optional:
    """warnings: what was left out, a sentence each."""

    def __init__(self, width: int, height: int) -> None:
        """width, height: of the canvas, in pixels."""
        self.size = width, height
        self.warnings: list[str] = []

    def box(self, name: str, value: Any) -> Box | None:
        """Return [left, top, right, bottom] in fractions, also where the model wrote them on a grid or in pixels."""
        if value is None or value == []:
            return None
        box = _scaled(value, *self.size) if isinstance(value, list) and len(value) == 4 else None
        if box is None:
            self._left_out(name, value, "[left, top, right, bottom] in fractions from 0 to 1")
        return box

    def fraction(self, name: str, value: Any, usual: float | None) -> float | None:
        """Return a number from 0 to 1; `usual` where there is none. Above 1 it is read as one of a hundred."""
        if value is None:
            return usual
        if not _is_number(value) or not 0 <= value <= 100 or (usual is None and value > 1):
            self._left_out(name, value, "a number from 0 to 1")
            return usual
        return float(value if value <= 1 else value / 100)

    def places(self, name: str, value: Any, count: int) -> list[int]:
        """Return places in a list of `count` things, the first being 1."""
        listed = value if isinstance(value, (list, tuple)) else [value]
        right = [place for place in listed if type(place) is int and 1 <= place <= count]
        for place in listed:
            if place not in right:
                self._left_out(name, place, f"a place from 1 to {count}")
        return right

    def _left_out(self, name: str, value: Any, wanted: str) -> None:
        self.warnings.append(f"{name} is {one_line(repr(value), 60)}, not {wanted}; it was left out")


def _scaled(numbers: list[Any], width: int, height: int) -> Box | None:
    if not all(map(_is_number, numbers)):
        return None
    left, top, right, bottom = map(float, numbers)
    most = max(left, top, right, bottom)
    if most <= 1.05:  # fractions, perhaps rounded beyond the edge
        left, top, right, bottom = (min(number, 1.0) for number in (left, top, right, bottom))
    elif most <= GRID:
        left, top, right, bottom = (number / GRID for number in (left, top, right, bottom))
    else:
        left, top, right, bottom = left / width, top / height, right / width, bottom / height
    return (left, top, right, bottom) if 0 <= left < right <= 1 and 0 <= top < bottom <= 1 else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9 and math.isfinite(value)
