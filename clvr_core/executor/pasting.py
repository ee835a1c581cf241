"""Puts back what an edit changed where it was not meant to: the parent's own pixels, up to a soft seam."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from ..protocols import Picture
from ..trajectory import Change
from ..verifier.changes import within_boxes

SEAM = 0.02
"""Width of a seam, as a share of the longer side."""


def put_back(before: Picture, after: Picture, change: Change) -> Picture:
    """Return the edited picture with everything outside `change.meant` taken from the picture before it, bit for bit.

    What the edit put inside is first moved back by the offset and scale that were measured, then its colours by the
    shift that is found in a ring around it, and blends into its surroundings over a seam on its own side. Without a
    place that was meant, the whole picture is moved back and nothing is pasted.

    before, after: uint8 H x W x 3, of one size.
    """
    after = _moved_back(before, after, change)
    if not change.meant:
        return after
    height, width = before.shape[:2]
    inside = within_boxes(change.meant, width, height)
    return blend(before, _recoloured(before, after, inside), inside)


def blend(outer: Picture, inner: Picture, inside: np.ndarray) -> Picture:
    """Return `inner` where `inside` (boolean H x W) holds and `outer` elsewhere, bit for bit, with a soft seam on the
    inner side."""
    place, blended = _around(inside), outer.copy()
    weight, under = _softened(inside)[place][..., None], outer[place]
    mixed = under + weight * (inner[place].astype(np.float32) - under)
    blended[place] = np.where(weight == 0, under, np.rint(mixed).astype(np.uint8))
    return blended


def _around(inside: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns from the first to the last where something is inside."""
    found = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    rows, columns = (slice(int(each[0]), int(each[-1]) + 1) if len(each) else slice(0) for each in found)
    return rows, columns


def _softened(inside: np.ndarray) -> np.ndarray:
    """0 outside, rising to 1 over the width of the seam inwards; float32 H x W. The edge of the picture is no seam."""
    reach = max(1, round(SEAM * max(inside.shape)))
    mask = Image.fromarray(inside.astype(np.uint8) * 255).filter(ImageFilter.BoxBlur(reach))
    # A straight edge lies where the blur is a half, and a corner where it is a quarter.
    return np.clip(np.asarray(mask, np.float32) / 127.5 - 1, 0, 1) * inside


def _moved_back(before: Picture, after: Picture, change: Change) -> Picture:
    """The edited picture without its offset and scale; what comes from beyond its edge is taken from before the edit."""
    (right, down), scale = change.offset or (0.0, 0.0), change.scale or 1.0
    if (right, down, scale) == (0.0, 0.0, 1.0):
        return after
    height, width = after.shape[:2]
    x, y = width / 2, height / 2
    matrix = (scale, 0.0, x * (1 - scale) + right, 0.0, scale, y * (1 - scale) + down)
    turn = {"size": (width, height), "method": Image.Transform.AFFINE, "data": matrix}
    moved = Image.fromarray(after).transform(**turn, resample=Image.Resampling.BICUBIC)
    there = Image.new("L", (width, height), 255).transform(**turn, resample=Image.Resampling.NEAREST)
    return np.where(np.asarray(there)[..., None] == 255, np.asarray(moved), before)


def _recoloured(before: Picture, after: Picture, inside: np.ndarray) -> Picture:
    """The edited picture with the colours inside moved by what separates the two, as a median, in a ring around it."""
    reach = max(2, round(2 * SEAM * max(inside.shape)))
    near = Image.fromarray(inside.astype(np.uint8) * 255).filter(ImageFilter.BoxBlur(reach))
    ring = (np.asarray(near) > 0) & ~inside
    if not ring.any():
        return after
    shift = np.median(before[ring].astype(np.int16) - after[ring], axis=0)
    if not shift.any():
        return after
    place, moved = _around(inside), after.copy()
    moved[place] = np.clip(np.rint(after[place] + shift), 0, 255).astype(np.uint8)
    return moved
