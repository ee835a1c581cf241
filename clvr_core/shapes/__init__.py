"""The shapes world: scenes, prompts for them, an exact perceiver, a controller, and small weights of FLUX.2 Klein's own
classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .scene import CANVAS

if TYPE_CHECKING:
    from .judge import Errors

WEIGHTS = Path(__file__).parent / "weights"
"""The base weights that the others start from: 20 steps with guidance."""
DISTILLED = Path(__file__).parent / "distilled"
"""The base distilled to 4 steps without guidance."""
ALIGNED = Path(__file__).parent / "aligned"
"""A LoRA on the base, trained to read traces."""
MERGED = Path(__file__).parent / "merged"
"""The merge of the three by `clvr merge`: both deltas on the base, 4 steps. The default weights of the loop."""

__all__ = ["ALIGNED", "CANVAS", "DISTILLED", "MERGED", "WEIGHTS", "load_executor", "load_vlm"]


def load_vlm(
    flip: float = 0.0,
    seed: int = 0,
    errors: Errors = "independent",
    planning: float = 0.0,
    planning_errors: Errors = "independent",
):
    """Return the embedded controller and verifier; arguments as in ShapesVlm."""
    from .judge import ShapesVlm

    return ShapesVlm(flip, seed, errors, planning, planning_errors)


def load_executor(folder: Path = MERGED):
    """Load the shipped weights into a KleinExecutor. Raises BadInput if they are missing or damaged."""
    from ..executor.klein import KleinExecutor

    executor = KleinExecutor.load(folder)
    executor.name = "shapes" if folder == MERGED else f"shapes ({folder.name})"
    return executor
