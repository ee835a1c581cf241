"""Models by the name a person types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .errors import BadInput
from .protocols import Executor, Vlm


@dataclass(frozen=True, slots=True)
class Models:
    """`width`, `height`: the size of canvas, in pixels, that the executor was made for."""

    vlm: Vlm
    executor: Executor
    width: int
    height: int


def _shapes() -> Models:
    from .shapes import CANVAS, load_executor, load_vlm

    return Models(load_vlm(), load_executor(), CANVAS, CANVAS)


MODELS: dict[str, Callable[[], Models]] = {"shapes": _shapes}


def load_models(name: str) -> Models:
    """Raises BadInput for a name that is not known, and for weights that are missing or damaged."""
    if name not in MODELS:
        raise BadInput(f"unknown models {name!r}; choose one of {', '.join(MODELS)}")
    return MODELS[name]()
