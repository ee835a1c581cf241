"""The embedded world: scenes, words for them, an exact eye, a controller, and small weights of FLUX.2 Klein's own classes."""

from __future__ import annotations

from pathlib import Path

from .scene import CANVAS

WEIGHTS = Path(__file__).parent / "weights"
"""The base: what the others start from, 20 steps with guidance."""
DISTILLED = Path(__file__).parent / "distilled"
"""The same model in 4 steps without guidance."""
ALIGNED = Path(__file__).parent / "aligned"
"""A LoRA on the base that has learnt to read traces."""
MERGED = Path(__file__).parent / "merged"
"""What `clvr merge` makes of the three: both deltas on the base, 4 steps. What the loop draws with unless told otherwise."""

__all__ = ["ALIGNED", "CANVAS", "DISTILLED", "MERGED", "WEIGHTS", "load_executor", "load_vlm"]


def load_vlm(flip: float = 0.0, seed: int = 0):
    """The controller and verifier; `flip` as in ShapesVlm."""
    from .judge import ShapesVlm

    return ShapesVlm(flip, seed)


def load_executor(folder: Path = MERGED):
    """The shipped weights in a KleinExecutor. Raises BadInput if they are missing or damaged."""
    from ..executor.klein import KleinExecutor

    executor = KleinExecutor.load(folder)
    executor.name = "shapes" if folder == MERGED else f"shapes ({folder.name})"
    return executor
