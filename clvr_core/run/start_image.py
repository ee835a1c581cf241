"""The picture that a run begins from: canvas 0, which no step drew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image, ImageOps

from ..brief import Brief
from ..errors import BadInput
from ..protocols import Picture
from ..storage.png import save_png
from ..trajectory import Candidate, Trajectory
from .run_folder import RunFolder, digest_of


def fit_to_canvas(picture: Picture, width: int, height: int, step: int) -> Picture:
    """The picture at most as large as a canvas of this size, in its own proportions, its sides cut to multiples of `step` pixels, one at
    least; as it is where that fits."""
    high, wide = picture.shape[:2]
    scale = min(1.0, (width * height / (wide * high)) ** 0.5)
    return crop_to_size(picture, *(max(step, int(side * scale) // step * step) for side in (wide, high)))


def crop_to_size(picture: Picture, width: int, height: int) -> Picture:
    """Scaled, and cut in the middle where the proportions are others."""
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(ImageOps.fit(Image.fromarray(picture), (width, height), Image.Resampling.LANCZOS))


def beginning_with(brief: Brief, picture: Picture) -> Brief:
    """The brief of a run that edits this picture, at its size."""
    height, width = picture.shape[:2]
    return replace(brief, picture=digest_of(picture), width=width, height=height)


def receive(trajectory: Trajectory, picture: Picture | None, folder: RunFolder | None) -> Candidate | None:
    """The canvas, on disk before the first line of the run speaks of it; None for a run that begins from nothing.

    `picture` None: it is on disk. Raises BadInput if it is not, or is another than the brief names.
    """
    digest = trajectory.brief.picture
    if not digest:
        return None
    if picture is not None and digest_of(picture) != digest:
        raise BadInput("the picture to begin from is not the one that the brief names; make the brief anew from it")
    if picture is None and (folder is None or not folder.lines):
        raise BadInput("the run begins from a picture, and none was given with the brief")
    if folder and not folder.lines:
        with folder.writing():
            save_png(folder.canvas_path(0), picture, trajectory, 0, texts=folder.texts)
    return Candidate(0, folder.canvas_path(0).name if folder else "", 0, digest)
