"""The executor that clvr.toml names, brought to its device."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadInput
from ..merge.recipe import Lora
from ..protocols import Executor, Movable, Offloadable
from .config import PARTS, ExecutorSettings, ImageServer
from .memory_plan import ITEM, Mode, Weights, pipeline_weights

if TYPE_CHECKING:
    import torch

TEXT_LAYERS = 27
"""Of Klein's text encoder, which is a whole Qwen3."""


def device_of(name: str) -> str:
    """As torch names it; `auto` is a GPU if there is one."""
    import torch

    if name != "auto":
        return name
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator.type if accelerator else "cpu"


def weights_of(painter: ExecutorSettings) -> tuple[Weights, ...]:
    """What the executor will hold here, by the headers of its files."""
    from ..executor.weights import located

    if painter.kind == "shapes":
        return ()
    folder = located(painter.folder, painter.hub, painter.download) if painter.folder or painter.hub else None
    files = {name: Path(getattr(painter, name)) for name in PARTS if name != "tokenizer" and getattr(painter, name)}
    layers = TEXT_LAYERS if painter.kind == "klein" else None
    return tuple(
        pipeline_weights(folder, ITEM[painter.dtype], files, ITEM[painter.storage] if painter.storage else None, layers)
    )


def load_executor(painter: ExecutorSettings | ImageServer, device: str, mode: Mode = "resident") -> Executor:
    """Raises BadInput for what is missing, damaged, or not what its kind says. mode: as `MemoryPlan`; anything but `resident` leaves
    the weights on the CPU, to be moved by `move`."""
    if isinstance(painter, ImageServer):
        from ..executor.remote import RemoteExecutor

        return RemoteExecutor(painter)
    import torch

    from ..executor.weights import located, state_of

    dtype, loras = getattr(torch, painter.dtype), [Lora.parse(text) for text in painter.loras]
    folder = located(painter.folder, painter.hub, painter.download) if painter.folder or painter.hub else None
    if painter.kind == "klein":
        executor: Any = _klein(painter, folder, dtype, loras)
        executor.recipe = sampled(executor.recipe, painter.steps, painter.guidance)
    else:
        from ..executor.generic import GenericExecutor, load_pipeline
        from ..executor.qwen import QwenEditExecutor

        pipe = load_pipeline(folder, dtype)
        if painter.transformer or loras:
            _put(
                pipe,
                state_of(Path(painter.transformer) if painter.transformer else folder / "transformer", dtype, loras),
                folder,
            )
        kind = QwenEditExecutor if painter.kind == "qwen-edit" else GenericExecutor
        executor = kind(pipe, painter.steps, painter.guidance, folder.name)
        executor.references = painter.references
    executor.name = _name(painter, folder)
    place(executor.pipe, device, mode, dtype, painter.storage)
    return executor


def _klein(painter: ExecutorSettings, folder: Path | None, dtype: Any, loras: Sequence[Lora]) -> Any:
    from ..executor import single_file
    from ..executor.klein import KleinExecutor, published
    from ..executor.weights import flux2

    parts: dict[str, Any] = {}
    # The words first: they are what is forgotten, and the rest takes its time.
    if painter.tokenizer:
        parts["tokenizer"] = single_file.load_tokenizer(Path(painter.tokenizer))
    if painter.transformer or loras:
        parts["transformer"] = flux2(
            Path(painter.transformer) if painter.transformer else folder / "transformer", dtype, loras
        )
    if painter.text_encoder:
        parts["text_encoder"] = single_file.load_encoder(Path(painter.text_encoder), dtype, TEXT_LAYERS)
    if painter.vae:
        parts["vae"] = single_file.load_vae(Path(painter.vae), dtype)
    if folder:
        return KleinExecutor.load(folder, "cpu", dtype, published, **parts)
    # A file does not say what it is, but for its name: flux-2-klein-base-4b.
    distilled = "base" not in Path(painter.transformer).name and (painter.guidance or 0) <= 1
    return KleinExecutor(single_file.pipeline(**parts, distilled=distilled), published(distilled))


def sampled(recipe: Any, steps: int | None, guidance: float | None) -> Any:
    """The recipe with these settings in place of its own; 4 steps are those of distilled or merged weights, which have no guidance."""
    if steps is None and guidance is None:
        return recipe
    change = {name: value for name, value in (("steps", steps), ("guidance", guidance)) if value is not None}
    return replace(recipe, generate=replace(recipe.generate, **change), edit=replace(recipe.edit, **change))


def place(pipe: Any, device: str, mode: Mode, dtype: Any, storage: str = "") -> None:
    """Brings the pipeline to the device in the way of the mode; its layers one by one where diffusers cannot do so with its parts. Raises
    BadInput if it is too large for that."""
    import torch

    from ..executor.out_of_memory import fits
    from ..executor.weights import align

    if torch.device(device).type == "cpu":
        for part in pipe.components.values():
            align(part)
    if storage == "fp8":
        pipe.transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype)
    if mode == "resident":
        if not fits(pipe.to, device):
            raise BadInput(
                f"the executor does not fit into the memory of {device}; close what else uses it, or set memory to offloaded or streamed "
                "in a file like clvr.toml"
            )
    # A modular pipeline cannot be offloaded, nor one that does not say in which order its parts are used.
    elif mode == "offloaded" and getattr(pipe, "model_cpu_offload_seq", None):
        pipe.enable_model_cpu_offload(device=device)
    elif mode in ("offloaded", "streamed"):
        _stream(pipe, torch.device(device))


def _stream(pipe: Any, onto: torch.device) -> None:
    """As `DiffusionPipeline.enable_group_offload`, which a modular pipeline lacks."""
    import torch
    from diffusers.hooks import apply_group_offloading

    way = {"offload_device": torch.device("cpu"), "offload_type": "leaf_level", "use_stream": onto.type == "cuda"}
    for part in pipe.components.values():
        if hasattr(part, "enable_group_offload"):
            part.enable_group_offload(onload_device=onto, **way)
        elif isinstance(part, torch.nn.Module):
            apply_group_offloading(part, onload_device=onto, **way)


def mover_of(executor: Executor, mode: Mode) -> Callable[[str], object]:
    """Return the function that makes room for other models, or comes back. mode: that the executor was placed with."""
    if mode == "sequential" and isinstance(executor, Movable):
        return executor.move
    if isinstance(executor, Offloadable):
        # diffusers brings its parts to the device by itself; other models only need them gone.
        return lambda device: executor.offload()
    raise TypeError(f"{type(executor).__name__} cannot share a device: it is neither Movable nor Offloadable")


def same(one: str, other: str) -> bool:
    """Whether both name one device, as cuda and cuda:0 do. A name that torch does not know is told by whoever brings a model there."""
    import torch

    try:
        first, second = torch.device(one), torch.device(other)
    except RuntimeError:
        return False
    return (first.type, first.index or 0) == (second.type, second.index or 0)


def _put(pipe: Any, state: dict[str, Any], folder: Path) -> None:
    try:
        pipe.transformer.load_state_dict(state, strict=True, assign=True)
    except (AttributeError, RuntimeError) as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise BadInput(f"the weights do not fit the transformer in {folder}: {first[:200]}") from error


def _name(painter: ExecutorSettings, folder: Path | None) -> str:
    """What tells one executor from another in a trajectory: nothing of where it lies."""
    files = (painter.transformer, painter.text_encoder, painter.vae, *painter.loras)
    names = [painter.hub or (folder.name if folder else ""), *(Path(text).name for text in files)]
    settings = {name: getattr(painter, name) for name in ("steps", "guidance", "storage") if getattr(painter, name)}
    return " + ".join(filter(None, names)) + (f" {json.dumps(settings)}" if settings else "")
