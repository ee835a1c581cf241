"""Where an edit may change the canvas."""

from __future__ import annotations

from math import ceil

import numpy as np

from ..brief import Box
from ..protocols import Picture

MARGIN = 0.04
"""Share of the canvas by which a mask is larger than the region it is made from."""


def mask_of(region: Box, width: int, height: int) -> Picture:
    """uint8 H x W, 255 in the region and MARGIN around it: a box that was told by eye is a rough one."""
    left, top, right, bottom = region
    mask = np.zeros((height, width), np.uint8)
    rows = slice(max(int((top - MARGIN) * height), 0), ceil((bottom + MARGIN) * height))
    mask[rows, max(int((left - MARGIN) * width), 0) : ceil((right + MARGIN) * width)] = 255
    return mask
