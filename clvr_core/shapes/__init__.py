"""The embedded world: scenes, words for them, an exact eye, a controller, and small weights of FLUX.2 Klein's own classes."""

from __future__ import annotations

from pathlib import Path

from .scene import CANVAS

WEIGHTS = Path(__file__).parent / "weights"

__all__ = ["CANVAS", "WEIGHTS", "load_executor", "load_vlm"]


def load_vlm(flip: float = 0.0, seed: int = 0):
    """The controller and verifier; `flip` as in ShapesVlm."""
    from .judge import ShapesVlm

    return ShapesVlm(flip, seed)


def load_executor(folder: Path = WEIGHTS):
    """The shipped weights in a KleinExecutor. Raises BadInput if they are missing or damaged."""
    from ..executor.klein import KleinExecutor

    executor = KleinExecutor.load(folder)
    executor.name = "shapes"
    return executor
