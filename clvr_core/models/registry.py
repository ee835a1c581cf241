"""Loads models by name: embedded ones, presets, a TOML file, or the folder of a vision-language model."""

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
from ..world import World, embedded_weights, full_name, names, vlm_named, world_named

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


def _embedded(world: World, folder: Path, name: str) -> Models:
    """Load the models of a world. name: as `--models` has it, which says who steers and judges.

    Raises BadInput if the weights in the folder, its reader or its learned model are missing."""
    executor = world.load_executor(folder)
    vlm = vlm_named(name)

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
        return vlm_named(settings.kind)
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
    from ..executor.quiet import quietly
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
        executor = world.load_executor(Path(settings.folder) if settings.folder else None)
        return Models(vlm, executor, world.canvas, world.canvas, check or executor.text_length, judge=judge)
    with quietly() if local else nullcontext():
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
    """Load a verifier as `load_vlm` does."""
    return load_vlm(name, "verifier")


def load_vlm(name: str, part: Literal["controller", "verifier"]) -> Vlm:
    """Load one vision-language model, without an executor's weights: a teacher, a judge, or what gives rewards.

    name: of embedded models or of a preset, the path of a TOML file, or the folder of a vision-language model in
        transformers' form.
    part: of a preset or a file; a verifier with its witnesses. A folder is one model for both.

    Raises as `load_models` does, and for a folder that holds no vision-language model.
    """
    with _libraries(name):
        if name == SIMULATED:
            return _simulated().verifier
        if full_name(name) in MODELS:
            return vlm_named(name)
        if Path(name).is_dir():
            return _in_folder(Path(name))
        what = "judge" if part == "verifier" else "controller"
        return _of_config(*_config(name, what, " or the folder of a vision-language model"), part)


def _config(name: str, what: str, more: str = "", weights: str = "") -> tuple[Config, Path]:
    """Return the configuration of a TOML file or a preset, and its file.

    what: is named, for errors. more: can be given besides, for errors. weights: of a preset, as for `load_models`.
    """
    from .config import read_config
    from .presets import FILE, presets

    if name.endswith(".toml"):
        return read_config(Path(name)), Path(name)
    if name not in (known := presets()):
        raise BadInput(
            f"unknown {what} {name!r}; choose one of {', '.join((*MODELS, *known))}, or give a file like clvr.toml{more}"
        )
    return known[name].config(weights), FILE


def _of_config(config: Config, path: Path, part: str) -> Vlm:
    from ..witness.judge import with_witnesses
    from .witnesses import load_witnesses

    settings = config.controller if part == "controller" else config.verifier or config.controller
    vlm = _load_vlm(settings, on_cpu=False)
    _check_sight(vlm, settings, path)
    return vlm if part == "controller" else with_witnesses(vlm, load_witnesses(config.witnesses))


def _in_folder(folder: Path) -> Vlm:
    """Load the model of a folder: one of the learned model's make as `NeuralVlm`, any other with the defaults of `Local`."""
    from ..stickers.neural import NeuralVlm, is_learned
    from ..vlm.local import Local, load_local
    from ..vlm.sight import check_sight

    if not (folder / "config.json").is_file():
        raise BadInput(
            f"the folder {folder} holds no vision-language model: there is no config.json in it; give one with config.json, "
            "safetensors and the processor, as transformers saves them"
        )
    if is_learned(folder):
        return NeuralVlm(folder)
    vlm = load_local(Local(str(folder)))
    try:
        check_sight(vlm)
    except JudgeFailure as error:
        raise BadInput(f"{error}; give another folder than {folder}") from error
    return vlm


def _installed(name: str) -> Models:
    found = embedded_weights(name)
    assert found is not None, name
    return _embedded(*found, name)


def _simulated() -> Models:
    """A program that draws what it is told and errs at set rates in place of weights, and a controller and judge that
    never err: for data sets and tests of the loop. Its pictures are the world's real ones.

    Raises BadInput if the pictures of the stickers are not there."""
    from ..stickers.judge import StickersVlm
    from ..stickers.scene import CANVAS, Scene
    from ..stickers.simulated import NFE, Rates, SimulatedExecutor, perceive_rendered, rendered

    rendered(Scene())
    vlm = StickersVlm(read=perceive_rendered)
    executor = SimulatedExecutor(Rates(), NFE["merged"], rendered, perceive_rendered)
    return Models(vlm, executor, CANVAS, CANVAS, vlm.require_readable)


SIMULATED = "simulated"
"""The name of models that draw by a program."""
MODELS: dict[str, Callable[[], Models]] = {
    **{name: partial(_installed, name) for name in names()},
    SIMULATED: _simulated,
}
"""The embedded models, by name, with the weights that are installed; and the simulated ones."""
LIBRARIES = ("transformers", "diffusers", "accelerate")


def load_models(name: str, weights: str = "") -> Models:
    """Load models by name.

    name: of embedded models or of a preset, a folder of embedded weights, or the path of a TOML file.
    weights: a folder of embedded weights in place of those that are installed; or the one that holds the weights of a
        preset, for which empty takes the environment variable.

    Raises BadInput for an unknown name, for weights or libraries that are missing or damaged, for a server that does
    not answer, and for a vision-language model that does not see.
    """
    with _libraries(name):
        return _load(name, weights)


@contextmanager
def _libraries(name: str) -> Iterator[None]:
    """Raise BadInput for a library that is not installed. name: of the models that need it."""
    try:
        yield
    except ModuleNotFoundError as error:
        # torch is not in requirements.txt; the caller says how to get it.
        if str(error.name).partition(".")[0] not in LIBRARIES:
            raise
        raise BadInput(
            f"the models {name} need {error.name}, which is not installed; run: pip install -r requirements.txt"
        ) from error


def _load(name: str, weights: str) -> Models:
    if full_name(name) in MODELS and not weights:
        return MODELS[full_name(name)]()
    if found := embedded_weights(name, weights):
        return _embedded(*found, name)
    return _configured(*_config(name, "models", weights=weights))
