"""The picture that a run begins from: canvas 0, which no step drew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image, ImageOps

from ..brief import Brief
from ..errors import BadInput
from ..protocols import Drawing, Picture
from ..trajectory import Candidate, Trajectory
from .store import RunStore, digest_of


def fit_to_canvas(picture: Picture, width: int, height: int, step: int) -> Picture:
    """Scale the picture down to at most `width` x `height` pixels in area, in its own proportions, and crop both sides
    to multiples of `step` pixels (at least one multiple). A picture that fits already is returned unchanged."""
    high, wide = picture.shape[:2]
    scale = min(1.0, (width * height / (wide * high)) ** 0.5)
    return crop_to_size(picture, *(max(step, int(side * scale) // step * step) for side in (wide, high)))


def crop_to_size(picture: Picture, width: int, height: int) -> Picture:
    """Scale the picture to this size; where the proportions differ, crop it around the centre."""
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(ImageOps.fit(Image.fromarray(picture), (width, height), Image.Resampling.LANCZOS))


def beginning_with(brief: Brief, picture: Picture) -> Brief:
    """The brief of a run that edits this picture, at the picture's size."""
    height, width = picture.shape[:2]
    return replace(brief, picture=digest_of(picture), width=width, height=height)


def receive(trajectory: Trajectory, picture: Picture | None, store: RunStore) -> Candidate | None:
    """Save the picture before the journal names it, and return it as canvas 0; None for a run that begins from nothing.

    picture: None if the run is continued, so that the picture is in the store already.
    Raises BadInput if there is no picture, or if it is not the one that the brief names.
    """
    digest = trajectory.brief.picture
    if not digest:
        return None
    if picture is not None and digest_of(picture) != digest:
        raise BadInput("the picture to begin from is not the one that the brief names; make the brief anew from it")
    if not store.lines:
        if picture is None:
            raise BadInput("the run begins from a picture, and none was given with the brief")
        store.save_canvas(0, Drawing(picture, 0), trajectory, None)
    return Candidate(0, store.file_of(0), 0, digest)
