"""How much an edit damaged what it was not meant to change, by what was measured on the pixels. Pure functions."""

from __future__ import annotations

import math

from ..brief import Box
from ..trajectory import Change, Finding

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


def kept_the_rest(change: Change | None, tolerance: float | None, elsewhere: tuple[Box, ...] = ()) -> Finding | None:
    """What was measured, as the word of a witness on whether the edit kept the rest; None if nothing was measured.

    tolerance: damage that is allowed; None for the usual.
    elsewhere: areas of large change that were not meant.
    """
    if change is None:
        return None
    limit, found = tolerance or 1.0, damage(change)
    kept = found <= limit
    strength = 1 - found / limit if kept else 1 - limit / found
    return Finding("changes", "yes" if kept else "no", round(strength, 3), in_words(change), elsewhere)


def in_words(change: Change) -> str:
    """Say what happened to that which was to stay, with the same figures as the viewer."""
    moved = math.hypot(*change.offset or (0.0,))
    light, tint = change.colour[0], math.hypot(*change.colour[1:])
    parts = (
        change.outside >= 0.005 and f"{change.outside:.0%} repainted",
        moved >= 0.5 and f"moved {moved:.1f} px",
        abs((change.scale or 1.0) - 1) >= 0.002 and f"scaled by {change.scale:.3f}",
        abs(light) >= 0.5 and f"{'lighter' if light > 0 else 'darker'} ({light:+.1f} L)",
        tint >= 1 and f"tinted ({change.colour[1]:+.1f} a, {change.colour[2]:+.1f} b)",
        abs(change.sharpness - 1) >= 0.03
        and f"{'sharper' if change.sharpness > 1 else 'softer'} ({change.sharpness:.0%})",
        abs(change.noise) >= 0.5 and f"{'noisier' if change.noise > 0 else 'smoother'} ({change.noise:+.1f} levels)",
    )
    return f"the rest: {', '.join(part for part in parts if part) or 'as before'}"
