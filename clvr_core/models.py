"""Models by the name a person types."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import BadInput, JudgeFailure
from .protocols import Executor, Vlm

if TYPE_CHECKING:
    from .config import Server
    from .vlm.local import Local


@dataclass(frozen=True, slots=True)
class Models:
    """`width`, `height`: the size of canvas, in pixels, that the executor was made for. `check` raises BadInput for a brief that these
    models cannot read; None if they read anything. `judge`: None if the controller's model judges too."""

    vlm: Vlm
    executor: Executor
    width: int
    height: int
    check: Callable[[str], None] | None = None
    judge: Vlm | None = None


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


def _eyes(settings: Server | Local) -> Vlm:
    from .vlm.local import Local, load_local
    from .vlm.server import ServerVlm

    return load_local(settings) if isinstance(settings, Local) else ServerVlm(settings.endpoint)


def _configured(path: Path) -> Models:
    from .config import read_config
    from .vlm.sight import check_sight

    config = read_config(path)
    vlm = _eyes(config.controller)
    # The same model twice would fill the memory twice.
    judge = _eyes(config.verifier) if config.verifier not in (None, config.controller) else None
    try:
        check_sight(vlm)
        if judge:
            check_sight(judge)
    except JudgeFailure as error:
        raise BadInput(f"{error}; mend the model or its entry in {path}") from error
    painter = config.executor
    if painter.kind == "shapes":
        shapes = _shapes()
        return Models(vlm, shapes.executor, shapes.width, shapes.height, shapes.executor.text_length, judge)
    from .executor.klein import load_klein

    executor = load_klein(Path(painter.folder), painter.device, painter.dtype)
    return Models(vlm, executor, painter.width, painter.height, None, judge)


MODELS: dict[str, Callable[[], Models]] = {"shapes": _shapes}


def load_models(name: str) -> Models:
    """The models of that name, or those that a TOML file names. Raises BadInput for a name that is not known, for weights that are
    missing or damaged, and for a server that does not answer or whose model does not see."""
    if name.endswith(".toml"):
        return _configured(Path(name))
    if name not in MODELS:
        raise BadInput(f"unknown models {name!r}; choose one of {', '.join(MODELS)}, or give a file like clvr.toml")
    return MODELS[name]()
