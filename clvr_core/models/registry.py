"""Loads models by name: embedded ones, presets, or a TOML file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import Away, BadInput, JudgeFailure
from ..protocols import Vlm
from ..run.run_models import RunModels
from ..world import EXACT, WORLDS, World, embedded_weights, full_name, names, world_named

if TYPE_CHECKING:
    from .config import Config, ExecutorSettings
    from .memory_plan import MemoryPlan, Mode


@dataclass(frozen=True, slots=True)
class Models(RunModels):
    """The models of a run, and what a caller needs to know to use them.

    width, height: canvas size, in pixels, that the executor was made for.
    check: raises BadInput for a brief that these models cannot read; None if they read any.
    memory: how the models share the device, one line; empty if none of them is in this process.
    """

    width: int
    height: int
    check: Callable[[str], object] | None = None
    memory: str = ""


@contextmanager
def _quiet() -> Iterator[None]:
    """
    Hide the progress bars of diffusers and transformers, since small weights load at once, and what diffusers logs of
    a file that is missing: BadInput says it in one sentence.
    """
    from diffusers.utils import logging as diffusers
    from transformers.utils import logging as transformers

    shown = [library for library in (diffusers, transformers) if library.is_progress_bar_enabled()]
    level = diffusers.get_verbosity()
    for library in shown:
        library.disable_progress_bar()
    diffusers.set_verbosity(diffusers.CRITICAL)
    try:
        yield
    finally:
        diffusers.set_verbosity(level)
        for library in shown:
            library.enable_progress_bar()


def _embedded(world: World, folder: Path, exact: bool) -> Models:
    """Load the models of a world. exact: with its programs as controller and judge, though there are learned ones.

    Raises BadInput if the weights in the folder or its reader are missing."""
    with _quiet():
        executor = world.load_executor(folder)
    vlm = world.vlm(exact)

    def check(prompt: str) -> None:
        vlm.require_readable(prompt)
        executor.text_length(prompt)

    return Models(vlm, executor, world.canvas, world.canvas, check)


def _load_vlm(settings: Any, on_cpu: bool) -> Vlm:
    """Load the model of `Server`, `Local` or `Embedded` settings. on_cpu: a local one, whatever device its settings
    name.
    """
    from ..vlm.local import Local, load_local
    from ..vlm.server import ServerVlm
    from .config import Embedded

    if isinstance(settings, Embedded):
        return world_named(settings.kind).vlm()
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
    except (JudgeFailure, Away) as error:
        place = f" at {settings.url}" if isinstance(settings, Server) else ""
        raise BadInput(f"{error}; mend the model{place} or its entry in {path}") from error


def _configured(config: Config, path: Path) -> Models:
    """Load the models of a configuration with its witnesses. path: of its file, named in errors."""
    from .witnesses import judged_with, load_witnesses

    # First, since they load in a moment: a package may be missing.
    witnesses = load_witnesses(config.witnesses)
    return judged_with(_without_witnesses(config, path), witnesses)


def _without_witnesses(config: Config, path: Path) -> Models:
    from .config import Embedded, ExecutorSettings
    from .device_sharing import Turns, with_device_lock
    from .executors import device_of, load_executor, mover_of

    # The same model twice would fill the memory twice.
    verifier = config.verifier if config.verifier not in (None, config.controller) else None
    named = {"controller": config.controller} | ({"verifier": verifier} if verifier else {})
    settings = config.executor
    local = settings if isinstance(settings, ExecutorSettings) and not settings.embedded else None
    device = device_of(local.device) if local else "cpu"
    plan = _plan(config.memory, local, named, device) if local else None
    sharing = plan is not None and plan.mode != "resident"
    loaded: dict[str, Any] = {
        name: _load_vlm(each, sharing and _can_leave(each, device)) for name, each in named.items()
    }
    turns = Turns(device)
    if sharing:
        turns.movers |= {name: model.move for name, model in loaded.items() if _can_leave(named[name], device)}
        loaded = {
            name: with_device_lock(model, turns, name) if name in turns.movers else model
            for name, model in loaded.items()
        }
    for name, each in named.items():
        _check_sight(loaded[name], each, path)
    vlm, judge = loaded["controller"], loaded.get("verifier")
    check = vlm.require_readable if isinstance(config.controller, Embedded) else None
    if isinstance(settings, ExecutorSettings) and not local:
        world = world_named(settings.kind)
        with _quiet():
            executor = world.load_executor(Path(settings.folder) if settings.folder else None)
        return Models(vlm, executor, world.canvas, world.canvas, check or executor.text_length, judge=judge)
    with _quiet() if local else nullcontext():
        executor = load_executor(settings, device, plan.mode if plan else "resident")
    if plan and sharing:
        turns.movers["executor"] = mover_of(executor, plan.mode)
        executor = with_device_lock(executor, turns, "executor")
    return Models(vlm, executor, settings.width, settings.height, check, plan.summary if plan else "", judge=judge)


def _plan(
    memory: Mode | Literal["auto"], executor: ExecutorSettings, vlms: Mapping[str, Any], device: str
) -> MemoryPlan:
    """Plan how the models share the device. vlms: settings by the names `controller` and `verifier`.

    A CPU has one memory for all, so moving weights gains nothing there. Quantised models cannot move; they take their
    part of the memory away from the others.
    """
    from .executors import weights_of
    from .memory_plan import ITEM, free_bytes, model_weights, plan

    names = {"controller": "VLM", "verifier": "verifier"}
    weights = [
        model_weights(Path(settings.folder), ITEM[settings.dtype], names[name], name)
        for name, settings in vlms.items()
        if _can_leave(settings, device)
    ]
    free = free_bytes(device)
    for settings in vlms.values():
        if free is not None and _here(settings, device) and settings.quantise != "none":
            free -= model_weights(Path(settings.folder), 1).nbytes
    mode = "resident" if memory == "auto" and device == "cpu" else memory
    return plan([*weights, *weights_of(executor)], free, mode)


def _here(settings: Any, device: str) -> bool:
    """Whether these settings are of a model on this device of this machine."""
    from ..vlm.local import Local
    from .executors import device_of, same

    return isinstance(settings, Local) and same(device_of(settings.device), device)


def _can_leave(settings: Any, device: str) -> bool:
    """Whether the model is on the device and can leave it: quantised weights cannot move."""
    return _here(settings, device) and settings.quantise == "none"


def load_judge(name: str) -> Vlm:
    """Load the verifier alone of named models or a TOML file, without the executor's weights.

    Raises as `load_models` does.
    """
    if not name.endswith(".toml"):
        world = name.removesuffix(EXACT)
        if world not in ("embedded", *WORLDS):
            raise BadInput(f"unknown judge {name!r}; choose {', '.join(WORLDS)}, or give a file like clvr.toml")
        return world_named(world).vlm(exact=world != name)
    from ..witness.judge import with_witnesses
    from .config import read_config
    from .witnesses import load_witnesses

    config = read_config(Path(name))
    settings = config.verifier or config.controller
    vlm = _load_vlm(settings, on_cpu=False)
    _check_sight(vlm, settings, Path(name))
    return with_witnesses(vlm, load_witnesses(config.witnesses))


def _installed(name: str) -> Models:
    found = embedded_weights(name)
    assert found is not None, name
    return _embedded(*found, name.endswith(EXACT))


MODELS: dict[str, Callable[[], Models]] = {name: partial(_installed, name) for name in names()}
"""The embedded models, by name, with the weights that are installed."""
LIBRARIES = ("transformers", "diffusers", "accelerate")


def load_models(name: str, weights: str = "") -> Models:
    """Load models by name.

    name: of embedded models or of a preset, a folder of embedded weights, or the path of a TOML file.
    weights: a folder of embedded weights in place of those that are installed; or the one that holds the weights of a
        preset, for which empty takes the environment variable.

    Raises BadInput for an unknown name, for weights or libraries that are missing or damaged, for a server that does
    not answer, and for a vision-language model that does not see.
    """
    try:
        return _load(name, weights)
    except ModuleNotFoundError as error:
        # torch is not in requirements.txt; the caller says how to get it.
        if str(error.name).partition(".")[0] not in LIBRARIES:
            raise
        raise BadInput(
            f"the models {name} need {error.name}, which is not installed; run: pip install -r requirements.txt"
        ) from error


def _load(name: str, weights: str) -> Models:
    if name.endswith(".toml"):
        from .config import read_config

        return _configured(read_config(Path(name)), Path(name))
    if full_name(name) in MODELS and not weights:
        return MODELS[full_name(name)]()
    if found := embedded_weights(name, weights):
        return _embedded(*found, name.endswith(EXACT))
    from .presets import FILE, presets

    known = presets()
    if name not in known:
        raise BadInput(
            f"unknown models {name!r}; choose one of {', '.join((*MODELS, *known))}, or give a file like clvr.toml"
        )
    return _configured(known[name].config(weights), FILE)
