"""Transformers of the embedded world as ComfyUI's MODEL, so that its merges and LoRA loaders take them; and back.

ComfyUI's own loader refuses them: it takes the heads of every FLUX.2 to have 128 channels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.lora
import torch

from ...clvr_core.errors import BadInput
from ...clvr_core.executor.weights import in_diffusers_layout, merged_state, settings_of
from ...clvr_core.merge.recipe import MergeRecipe
from ...clvr_core.world import world_named
from ..host.sticker_files import BASE, sticker_file
from ..merge.live_patch import PREFIX, shapes_of, weight_of

Shapes = dict[str, tuple[int, ...]]


def load_model(path: Path) -> Any:
    """Load a transformer of the embedded world, in any layout, as a ModelPatcher in fp32.

    Raises BadInput for a file of another model, and as `make_plan` does.
    """
    import comfy.model_detection
    import comfy.model_management
    import comfy.model_patcher

    recipe = MergeRecipe(path, layout="bfl", dtype="fp32")
    state = merged_state(recipe, surveyed=False)
    require_stickers(f"weights is {path.name}, which is", {name: tuple(each.shape) for name, each in state.items()})
    settings = settings_of({name: tuple(each.shape) for name, each in in_diffusers_layout(state).items()})
    config = comfy.model_detection.model_config_from_unet(state, "")
    config.unet_config |= {
        "axes_dim": list(settings["axes_dims_rope"]),
        "num_heads": settings["num_attention_heads"],
    }
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model(state, "")
    model.load_model_weights(state, "")
    devices = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    return comfy.model_patcher.ModelPatcher(model, *devices)


def state_of_model(model: Any) -> dict[str, torch.Tensor]:
    """Return the weights of a MODEL with its patches, in fp32 on the CPU, by diffusers' names.

    Raises BadInput unless it is a transformer of the embedded world.
    """
    shapes = shapes_of(model)
    require_stickers("model is", {name.removeprefix(PREFIX): shape for name, shape in shapes.items()})
    state = {}
    for key in shapes:
        (weight, convert), *patches = weight_of(model, key)
        value = convert(weight.detach().to("cpu", torch.float32, copy=True))
        state[key.removeprefix(PREFIX)] = comfy.lora.calculate_weight(patches, value, key, torch.float32)
    return in_diffusers_layout(state)


def require_stickers(start: str, shapes: Shapes) -> None:
    """Raise BadInput, which begins with `start`, unless these are names and shapes of the embedded world's transformer.

    Norms may be called `scale`, as Black Forest Labs do, or `weight`, as newer files of ComfyUI do.
    """
    path = sticker_file("diffusion_models", BASE)
    assert path is not None
    base = merged_state(MergeRecipe(path, layout="bfl"), surveyed=False)
    wanted, given = (
        {name.replace("_norm.scale", "_norm.weight"): tuple(shape) for name, shape in each.items()}
        for each in ({name: tuple(tensor.shape) for name, tensor in base.items()}, shapes)
    )
    if wanted != given:
        odd = next(name for name in [*wanted, *given] if wanted.get(name) != given.get(name))
        name = world_named().name
        raise BadInput(
            f"{start} no transformer of the {name} world: {odd} has the shape {given.get(odd)}, and there {wanted.get(odd)}; "
            "choose embedded weights or a merge of them, and for other models use Load Diffusion Model and Executor"
        )
