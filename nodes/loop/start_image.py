"""The picture that a run starts from."""

from __future__ import annotations

import torch

from ...clvr_core.brief import Brief
from ...clvr_core.protocols import Picture
from ...clvr_core.run.start_image import beginning_with, crop_to_size, fit_to_canvas
from ..host.pictures import as_pictures
from ..host.sockets import ExecutorHandle


def what_is_lost(image: torch.Tensor | None, picture: Picture | None) -> str:
    """Say in a warning that the picture which the run starts from has fewer pixels than this IMAGE; "" if it has not."""
    if image is None or picture is None or tuple(image.shape[1:3]) == picture.shape[:2]:
        return ""
    (height, width), (drawn_height, drawn_width) = image.shape[1:3], picture.shape[:2]
    return (
        f"warning: image has {width} x {height} pixels, and was scaled down to {drawn_width} x {drawn_height}, the "
        "canvas of the executor; raise its width and height to keep more"
    )


def start_from_image(
    image: torch.Tensor | None, brief: Brief, executor: ExecutorHandle
) -> tuple[Brief, Picture | None]:
    """Return the brief of a run that starts from the first picture of this IMAGE, and that picture.

    The picture is scaled down to the executor's canvas, then cropped to sides that the executor can draw; one that fits
    stays as it is.
    """
    if image is None:
        return brief, None
    picture, size = as_pictures(image[:1])[0], (executor.width, executor.height)
    picture = fit_to_canvas(picture, *size, executor.step) if executor.step else crop_to_size(picture, *size)
    return beginning_with(brief, picture), picture
