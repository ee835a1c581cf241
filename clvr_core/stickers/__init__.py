"""The sticker world: scenes of 3-D emoji, prompts for them, an exact reader, a controller, and small weights of FLUX.2
Klein's own classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .scene import CANVAS

if TYPE_CHECKING:
    from .judge import Errors

__all__ = ["CANVAS", "load_vlm"]


def load_vlm(
    flip: float = 0.0,
    seed: int = 0,
    errors: Errors = "independent",
    planning: float = 0.0,
    planning_errors: Errors = "independent",
):
    """Return the embedded controller and verifier; arguments as in StickersVlm."""
    from .judge import StickersVlm

    return StickersVlm(flip, seed, errors, planning, planning_errors)
