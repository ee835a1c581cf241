"""Models by the name a person types."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .errors import BadInput
from .protocols import Executor, Vlm


@dataclass(frozen=True, slots=True)
class Models:
    """`width`, `height`: the size of canvas, in pixels, that the executor was made for. `check` raises BadInput for a brief that these
    models cannot read; None if they read anything."""

    vlm: Vlm
    executor: Executor
    width: int
    height: int
    check: Callable[[str], None] | None = None


@contextmanager
def _no_bars() -> Iterator[None]:
    """Small weights load at once; the libraries' bars would only stand between the person and the message."""
    from diffusers.utils import logging as diffusers
    from transformers.utils import logging as transformers

    shown = [library for library in (diffusers, transformers) if library.is_progress_bar_enabled()]
    for library in shown:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()


def _shapes() -> Models:
    from . import shapes

    with _no_bars():
        vlm, executor = shapes.load_vlm(), shapes.load_executor(shapes.WEIGHTS)

    def check(prompt: str) -> None:
        vlm.check(prompt)
        executor.text_length(prompt)

    return Models(vlm, executor, shapes.CANVAS, shapes.CANVAS, check)


MODELS: dict[str, Callable[[], Models]] = {"shapes": _shapes}


def load_models(name: str) -> Models:
    """Raises BadInput for a name that is not known, and for weights that are missing or damaged."""
    if name not in MODELS:
        raise BadInput(f"unknown models {name!r}; choose one of {', '.join(MODELS)}")
    return MODELS[name]()
