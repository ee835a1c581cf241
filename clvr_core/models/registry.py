"""Models by the name a person types."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadInput, JudgeFailure
from ..protocols import Vlm
from ..run.run_models import RunModels

if TYPE_CHECKING:
    from .config import Config
    from .memory_plan import MemoryPlan


@dataclass(frozen=True, slots=True)
class Models(RunModels):
    """`width`, `height`: the size of canvas, in pixels, that the executor was made for. `check` raises BadInput for a brief that these
    models cannot read; None if they read anything. `judge`: None if the controller's model judges too. `memory`: how they share the
    device, in a line; empty if they need not."""

    width: int
    height: int
    check: Callable[[str], None] | None = None
    memory: str = ""


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


def _shapes(folder: str) -> Models:
    from .. import shapes

    with _no_bars():
        vlm, executor = shapes.load_vlm(), shapes.load_executor(getattr(shapes, folder))

    def check(prompt: str) -> None:
        vlm.require_readable(prompt)
        executor.text_length(prompt)

    return Models(vlm, executor, shapes.CANVAS, shapes.CANVAS, check)


def _eyes(settings: Any, on_cpu: bool) -> Vlm:
    from ..vlm.local import Local, load_local
    from ..vlm.server import ServerVlm
    from .config import Embedded

    if isinstance(settings, Embedded):
        from ..shapes import load_vlm

        return load_vlm()
    if isinstance(settings, Local):
        return load_local(dataclasses.replace(settings, device="cpu") if on_cpu else settings)
    return ServerVlm(settings.endpoint)


def _check_sight(vlm: Vlm, settings: Any, path: Path) -> None:
    from ..vlm.sight import check_sight
    from .config import Embedded, Server

    if isinstance(settings, Embedded):
        return
    try:
        check_sight(vlm)
    except JudgeFailure as error:
        place = f" at {settings.url}" if isinstance(settings, Server) else ""
        raise BadInput(f"{error}; mend the model{place} or its entry in {path}") from error


def _configured(config: Config, path: Path) -> Models:
    from .config import Embedded, ImageServer
    from .device_sharing import Turns, with_device_lock
    from .executors import device_of, load_executor, mover_of

    # The same model twice would fill the memory twice.
    verifier = config.verifier if config.verifier not in (None, config.controller) else None
    eyes = {"controller": config.controller} | ({"verifier": verifier} if verifier else {})
    painter = config.executor
    local = not isinstance(painter, ImageServer) and painter.kind != "shapes"
    device = device_of(painter.device) if local else "cpu"
    shared = _plan(config, eyes, device) if local else None
    turns = shared is not None and shared.mode != "resident"
    loaded: dict[str, Any] = {
        name: _eyes(settings, turns and _shares(settings, device)) for name, settings in eyes.items()
    }
    order = Turns(device)
    if turns:
        order.movers |= {name: model.move for name, model in loaded.items() if _shares(eyes[name], device)}
        loaded = {
            name: with_device_lock(model, order, name) if name in order.movers else model
            for name, model in loaded.items()
        }
    for name, settings in eyes.items():
        _check_sight(loaded[name], settings, path)
    check = loaded["controller"].require_readable if isinstance(config.controller, Embedded) else None
    vlm, judge = loaded["controller"], loaded.get("verifier")
    if not isinstance(painter, ImageServer) and painter.kind == "shapes":
        shapes = MODELS["shapes"]()
        return Models(
            vlm, shapes.executor, shapes.width, shapes.height, check or shapes.executor.text_length, judge=judge
        )
    with _no_bars() if local else nullcontext():
        executor = load_executor(painter, device, shared.mode if shared else "resident")
    if turns:
        order.movers["executor"] = mover_of(executor, shared.mode)
        executor = with_device_lock(executor, order, "executor")
    return Models(vlm, executor, painter.width, painter.height, check, shared.told if shared else "", judge=judge)


def _plan(config: Config, eyes: dict[str, Any], device: str) -> MemoryPlan:
    """A CPU has one memory for all, and moving within it gains nothing. Quantised eyes stay where they are, so others have less."""
    from .executors import weights_of
    from .memory_plan import ITEM, free_bytes, model_weights, plan

    names = {"controller": "VLM", "verifier": "verifier"}
    weights = [
        model_weights(Path(settings.folder), ITEM[settings.dtype], names[name], name)
        for name, settings in eyes.items()
        if _shares(settings, device)
    ]
    free = free_bytes(device)
    for settings in eyes.values():
        if free is not None and _here(settings, device) and settings.quantise != "none":
            free -= model_weights(Path(settings.folder), 1).nbytes
    mode = "resident" if config.memory == "auto" and device == "cpu" else config.memory
    return plan([*weights, *weights_of(config.executor)], free, mode)


def _here(settings: Any, device: str) -> bool:
    """Whether the model runs on the executor's device."""
    from ..vlm.local import Local
    from .executors import device_of, same

    return isinstance(settings, Local) and same(device_of(settings.device), device)


def _shares(settings: Any, device: str) -> bool:
    """Whether it can also leave it."""
    return _here(settings, device) and settings.quantise == "none"


def load_judge(name: str) -> Vlm:
    """The verifier alone, of the models of that name or of a TOML file; the executor's weights stay where they are. Raises as
    `load_models` does."""
    if not name.endswith(".toml"):
        if name != "shapes":
            raise BadInput(f"unknown judge {name!r}; choose shapes, or give a file like clvr.toml")
        from .. import shapes

        return shapes.load_vlm()
    from .config import read_config

    config = read_config(Path(name))
    settings = config.verifier or config.controller
    vlm = _eyes(settings, on_cpu=False)
    _check_sight(vlm, settings, Path(name))
    return vlm


SHAPES = {"shapes": "MERGED", "shapes-base": "WEIGHTS", "shapes-distilled": "DISTILLED"}
"""The embedded models: which of the folders that `clvr_core.shapes` names each draws with."""
MODELS: dict[str, Callable[[], Models]] = {name: partial(_shapes, folder) for name, folder in SHAPES.items()}
LIBRARIES = ("transformers", "diffusers", "accelerate")


def load_models(name: str, weights: str = "") -> Models:
    """The models of that name, or those that a TOML file names. weights: the folder that holds those of a preset.

    Raises BadInput for a name that is not known, for weights or libraries that are missing or damaged, and for a server that does not
    answer or whose model does not see.
    """
    try:
        return _load(name, weights)
    except ModuleNotFoundError as error:
        # torch stands in no requirements.txt; whoever called says where it comes from.
        if str(error.name).partition(".")[0] not in LIBRARIES:
            raise
        raise BadInput(
            f"the models {name} need {error.name}, which is not installed; run: pip install -r requirements.txt"
        ) from error


def _load(name: str, weights: str) -> Models:
    if name.endswith(".toml"):
        from .config import read_config

        return _configured(read_config(Path(name)), Path(name))
    if name in MODELS:
        return MODELS[name]()
    from .presets import FILE, presets

    known = presets()
    if name not in known:
        raise BadInput(
            f"unknown models {name!r}; choose one of {', '.join((*MODELS, *known))}, or give a file like clvr.toml"
        )
    return _configured(known[name].config(weights), FILE)
