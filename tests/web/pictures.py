"""Screenshots held against those on record."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

SHOTS = Path(__file__).parent / "shots"
SQUARE = 16
TOLERANCE = 12.0
"""Of 255, the mean difference of a square of 16 x 16 pixels: letters of another font pass, a part that is missing does not."""
SHARE = 0.03
"""Of all squares, those that may differ by more."""


def check(shot: Path) -> None:
    """Raises AssertionError if the screenshot differs from the one of its name on record. CLVR_KEEP_SHOTS=1 puts it on record instead."""
    kept = SHOTS / shot.name
    if os.environ.get("CLVR_KEEP_SHOTS"):
        with Image.open(shot) as image:
            image.convert("RGB").quantize(128).save(kept, optimize=True)
        return
    found, wanted = squares(shot), squares(kept)
    assert found.shape == wanted.shape, (
        f"{shot} has {found.shape[:2]} squares of 16 pixels, {kept.name} has {wanted.shape[:2]}"
    )
    differ = (np.abs(found - wanted).mean(-1) > TOLERANCE).mean()
    assert differ <= SHARE, (
        f"{differ:.1%} of {shot} differ from {kept.name}; look at both, and if it is right: CLVR_KEEP_SHOTS=1"
    )


def squares(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        picture = np.asarray(image.convert("RGB"), np.float32)
    height, width = (side // SQUARE * SQUARE for side in picture.shape[:2])
    return picture[:height, :width].reshape(height // SQUARE, SQUARE, width // SQUARE, SQUARE, 3).mean((1, 3))
