"""How much an edit damaged what it was not meant to change, by what was measured on the pixels. Pure functions."""

from __future__ import annotations

import math

from ..trajectory import Change

REPAINTED = 0.1
"""Share of the rest that changed visibly."""
MOVED = 1.5
"""Pixels."""
GROWN = 0.005
"""Of the factor, up or down."""
TINTED = 3.0
"""Distance in CIELAB between the mean colours; about 2 is seen side by side."""
BLURRED = 0.2
"""Of the steps between neighbouring pixels, up or down."""
NOISY = 3.0
"""Levels of 0..255."""


def damage(change: Change | None) -> float:
    """0 for none, 1 where the worst of the measures reaches its usual limit above, and so on in proportion; 0 if
    nothing was measured."""
    if change is None:
        return 0.0
    return max(
        change.outside / REPAINTED,
        math.hypot(*change.offset or (0.0,)) / MOVED,
        abs((change.scale or 1.0) - 1) / GROWN,
        math.hypot(*change.colour) / TINTED,
        abs(change.sharpness - 1) / BLURRED,
        abs(change.noise) / NOISY,
    )
