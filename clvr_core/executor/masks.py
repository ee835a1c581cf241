"""Masks: where an edit may change the canvas."""

from __future__ import annotations

from math import ceil

import numpy as np

from ..brief import Box
from ..errors import BadInput
from ..protocols import DrawRequest, Picture
from .pasting import blend

MARGIN = 0.04
"""Share of the canvas by which a mask is larger than its region, on each side."""


def mask_of(region: Box, width: int, height: int) -> Picture:
    """Return a mask, uint8 height x width, 255 in the region and MARGIN around it, since a model that names a box is
    not exact.

    region: left, top, right, bottom in fractions 0..1.
    """
    left, top, right, bottom = region
    mask = np.zeros((height, width), np.uint8)
    rows = slice(max(int((top - MARGIN) * height), 0), ceil((bottom + MARGIN) * height))
    mask[rows, max(int((left - MARGIN) * width), 0) : ceil((right + MARGIN) * width)] = 255
    return mask


def within_mask(request: DrawRequest, picture: Picture) -> Picture:
    """Replace the pixels outside the mask by those of the first reference, bit for bit, with a soft seam on the inner
    side.

    Raises BadInput if mask, reference and picture differ in size.
    """
    if request.mask is None or not request.references:
        return picture
    if request.mask.shape != picture.shape[:2] or request.references[0].shape != picture.shape:
        raise BadInput("the mask, the canvas it belongs to and the picture to draw must have one size")
    return blend(request.references[0], picture, request.mask > 127)
