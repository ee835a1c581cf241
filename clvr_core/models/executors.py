"""Loads the executor that clvr.toml names and places it in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
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

    from ..executor.klein import SamplingRecipe

OPTIONS = ("steps", "guidance", "storage", "tiled_vae")
"""Settings that the name of an executor says, since they change its pictures."""
TILE = 512
"""Pixels of a side of a tile of the VAE."""
TEXT_LAYERS = 27
"""Layers of Klein's text encoder, a Qwen3, that are read."""


def device_of(name: str) -> str:
    """Return the name of a device as torch has it; `auto` is the accelerator if there is one."""
    import torch

    if name != "auto":
        return name
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator.type if accelerator else "cpu"


def weights_of(settings: ExecutorSettings) -> tuple[Weights, ...]:
    """Return the sizes of the executor's parts in memory, from the headers of their files."""
    if settings.embedded:
        return ()
    folder = _folder(settings)
    files = {name: Path(getattr(settings, name)) for name in PARTS if name != "tokenizer" and getattr(settings, name)}
    layers = TEXT_LAYERS if settings.kind == "klein" else None
    return tuple(
        pipeline_weights(
            folder, ITEM[settings.dtype], files, ITEM[settings.storage] if settings.storage else None, layers
        )
    )


def load_executor(settings: ExecutorSettings | ImageServer, device: str, mode: Mode = "resident") -> Executor:
    """Load the executor and place it in memory.

    device: as torch names it.
    mode: as in `MemoryPlan`; `sequential` leaves the weights on the CPU until the executor is moved.

    Raises BadInput for weights that are missing, damaged or of another kind than the settings say.
    """
    if isinstance(settings, ImageServer):
        from ..executor.remote import RemoteExecutor

        return RemoteExecutor(settings)
    import torch

    dtype: torch.dtype = getattr(torch, settings.dtype)
    folder = _folder(settings)
    executor = (_load_klein if settings.kind == "klein" else _load_pipeline)(settings, folder, dtype)
    executor.name = _name(settings, folder)
    if settings.tiled_vae:
        tile(executor.pipe, TILE)
    place(executor.pipe, device, mode, dtype, settings.storage)
    return executor


def _folder(settings: ExecutorSettings) -> Path | None:
    """The folder in diffusers' format; None if the executor is put together from files."""
    from ..executor.weights import located

    return located(settings.folder, settings.hub, settings.download) if settings.folder or settings.hub else None


def _load_pipeline(settings: ExecutorSettings, folder: Path | None, dtype: torch.dtype) -> Any:
    from ..executor.generic import GenericExecutor, load_pipeline
    from ..executor.qwen import QwenEditExecutor
    from ..executor.weights import state_of

    assert folder is not None, "ExecutorSettings asks for a folder or a hub name unless the kind is klein"
    pipe = load_pipeline(folder, dtype)
    if settings.transformer or settings.loras:
        transformer = Path(settings.transformer) if settings.transformer else folder / "transformer"
        _load_transformer(pipe, state_of(transformer, dtype, _loras(settings)), folder)
    cls = {"generic": GenericExecutor, "qwen-edit": QwenEditExecutor}[settings.kind]
    executor = cls(pipe, settings.steps, settings.guidance, folder.name)
    if settings.references is not None:
        executor.references = settings.references
    return executor


def _load_klein(settings: ExecutorSettings, folder: Path | None, dtype: torch.dtype) -> Any:
    from ..executor import single_file
    from ..executor.klein import KleinExecutor, published
    from ..executor.weights import flux2

    parts: dict[str, Any] = {}
    # The tokenizer first: people forget it, and loading the rest takes long.
    if settings.tokenizer:
        parts["tokenizer"] = single_file.load_tokenizer(Path(settings.tokenizer))
    if settings.transformer:
        parts["transformer"] = flux2(Path(settings.transformer), dtype, _loras(settings))
    elif settings.loras and folder:
        parts["transformer"] = flux2(folder / "transformer", dtype, _loras(settings))
    if settings.text_encoder:
        parts["text_encoder"] = single_file.load_encoder(Path(settings.text_encoder), dtype, TEXT_LAYERS)
    if settings.vae:
        parts["vae"] = single_file.load_vae(Path(settings.vae), dtype)
    if folder:
        executor = KleinExecutor.load(folder, "cpu", dtype, published, **parts)
    else:
        # Only the name of a file says whether it is distilled: flux-2-klein-base-4b is not.
        distilled = "base" not in Path(settings.transformer).name and (settings.guidance or 0) <= 1
        executor = KleinExecutor(single_file.pipeline(**parts, distilled=distilled), published(distilled))
    executor.recipe = with_settings(executor.recipe, settings.steps, settings.guidance)
    return executor


def _loras(settings: ExecutorSettings) -> list[Lora]:
    return [Lora.parse(text) for text in settings.loras]


def with_settings(recipe: SamplingRecipe, steps: int | None, guidance: float | None) -> SamplingRecipe:
    """Replace the steps and the guidance of a recipe, for pictures with and without references, where they are not
    None.
    """
    if steps is None and guidance is None:
        return recipe
    change = {name: value for name, value in (("steps", steps), ("guidance", guidance)) if value is not None}
    return replace(recipe, generate=replace(recipe.generate, **change), edit=replace(recipe.edit, **change))


def place(pipe: Any, device: str, mode: Mode, dtype: Any, storage: str = "") -> None:
    """Place the pipeline in memory.

    mode: as in `MemoryPlan`; `offloaded` becomes `streamed` if diffusers cannot offload the pipeline part by part.
    dtype: that the transformer computes in.
    storage: `fp8` stores the transformer in float8_e4m3fn; empty stores it as loaded.

    Raises BadInput if the device is too small for a resident pipeline.
    """
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
    # A modular pipeline cannot be offloaded, nor one without an order in which its parts are used.
    elif mode == "offloaded" and getattr(pipe, "model_cpu_offload_seq", None):
        pipe.enable_model_cpu_offload(device=device)
    elif mode in ("offloaded", "streamed"):
        _stream(pipe, torch.device(device))


def tile(pipe: Any, size: int) -> None:
    """Have the pipeline's VAE encode and decode in tiles of `size` pixels; a VAE that takes no size keeps its own.

    Raises BadInput for a pipeline without a VAE that can.
    """
    vae: Any = getattr(pipe, "vae", None)
    try:
        vae.enable_tiling()
    except (AttributeError, NotImplementedError) as error:
        raise BadInput(
            f"the VAE of {type(pipe).__name__}, a {type(vae).__name__}, has no tiles; remove tiled_vae from [executor]"
        ) from error
    if hasattr(vae, "tile_sample_min_size"):  # diffusers' default is the size that the VAE was trained on, 1024
        per_latent = vae.tile_sample_min_size // vae.tile_latent_min_size
        vae.tile_sample_min_size, vae.tile_latent_min_size = size, size // per_latent


def _stream(pipe: Any, onto: torch.device) -> None:
    """Stream the layers to the device one by one, as `DiffusionPipeline.enable_group_offload`, which modular pipelines
    lack.
    """
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
    """Whether both names mean one device, as cuda and cuda:0 do.

    False for a name that torch does not know; moving a model there raises.
    """
    import torch

    try:
        first, second = torch.device(one), torch.device(other)
    except RuntimeError:
        return False
    return (first.type, first.index or 0) == (second.type, second.index or 0)


def _load_transformer(pipe: Any, state: dict[str, Any], folder: Path) -> None:
    try:
        pipe.transformer.load_state_dict(state, strict=True, assign=True)
    except (AttributeError, RuntimeError) as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise BadInput(f"the weights do not fit the transformer in {folder}: {first[:200]}") from error


def _name(settings: ExecutorSettings, folder: Path | None) -> str:
    """Return the name of the executor in trajectories: weights and settings, without paths."""
    files = (settings.transformer, settings.text_encoder, settings.vae, *settings.loras)
    names = [settings.hub or (folder.name if folder else ""), *(Path(text).name for text in files)]
    options = {name: getattr(settings, name) for name in OPTIONS if getattr(settings, name)}
    return " + ".join(filter(None, names)) + (f" {json.dumps(options)}" if options else "")
