"""Weights from a folder, the hub's cache on this machine, a single file of a transformer, with LoRAs merged in."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from ..errors import BadInput
from ..merge.plan import make_plan
from ..merge.recipe import DTYPES, Lora, MergeRecipe
from ..merge.stream import Stream
from ..merge.survey import survey
from ..weights.checkpoint import open_checkpoint
from ..weights.layout import atoms_of, layout_of, prefix_of, tensor_of

NAMES: dict[torch.dtype, Literal["bf16", "fp16", "fp32"]] = {
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.float32: "fp32",
}
TYPES = {DTYPES[name]: dtype for dtype, name in NAMES.items()}
WANTED = ("*.json", "*.txt", "*.jinja", "*.model", "*/*.safetensors")
"""Files of a hub repository that diffusers loads; repositories also hold single files for other programs."""


def located(folder: str, hub: str = "", download: bool = False) -> Path:
    """Return the folder of a pipeline: `folder`, or that of `hub` (owner/name) in the hub's cache, which is fetched
    only with `download`.

    Raises BadInput if it is not there.
    """
    if not hub:
        if not Path(folder).is_dir():
            raise BadInput(f"{folder} is not a folder; give the one that holds model_index.json")
        return Path(folder)
    import huggingface_hub

    if download:
        # clvr sets this to keep everything off the network; `download` is the permission.
        os.environ["HF_HUB_OFFLINE"] = "0"
        huggingface_hub.constants.HF_HUB_OFFLINE = False
    try:
        return Path(huggingface_hub.snapshot_download(hub, local_files_only=not download, allow_patterns=list(WANTED)))
    except Exception as error:  # the hub, its cache and the network each raise their own kinds
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        remedy = (
            "check the name and the connection"
            if download
            else f"put it there with: hf download {hub}, or set download = true"
        )
        raise BadInput(f"{hub} is not in the hub's cache on this machine ({first[:160]}); {remedy}") from error


def state_of(path: Path, dtype: torch.dtype, loras: Sequence[Lora] = ()) -> dict[str, torch.Tensor]:
    """Read weights by diffusers' names, with the LoRAs merged in and each weight rounded once, to `dtype`.

    FLUX.2 is read in any layout and prefix, also from scaled fp8; other families keep the names of the file.
    Raises BadInput as `make_plan` and `survey` do.
    """
    checkpoint = open_checkpoint(path)
    prefix = prefix_of(checkpoint.tensors)
    layout = layout_of(name.removeprefix(prefix) for name in checkpoint.tensors)
    checkpoint.close()
    recipe = MergeRecipe(
        path, loras=tuple(loras), layout="base" if layout == "plain" else "diffusers", dtype=NAMES[dtype]
    )
    return merged_state(recipe, surveyed=bool(loras))


def merged_state(recipe: MergeRecipe, surveyed: bool = True) -> dict[str, torch.Tensor]:
    """Merge in memory: the same bits as `merge` writes, by the names of the recipe's layout without their prefix.

    surveyed: check the inputs by a sample first, as a merge of differences must.

    Raises BadInput as `make_plan` and `survey` do, and for weights that are not bf16, fp16 or fp32.
    """
    with make_plan(recipe) as plan:
        if surveyed:
            survey(plan)
        data = torch.empty(plan.nbytes, dtype=torch.uint8)
        view = data.numpy().data

        def take(start: int, window: memoryview, size: int) -> None:
            view[start : start + size] = window[:size]

        Stream(plan).run(take)
        prefix = plan.base.prefix if plan.layout == plan.base.layout else ""
        found = {}
        for output in plan.outputs:
            if output.dtype not in TYPES:
                raise BadInput(
                    f"{recipe.base}: {output.name} is {output.dtype}, which no transformer has; give the file of a diffusion model"
                )
            raw = data[output.start : output.start + output.nbytes]
            found[output.name.removeprefix(prefix)] = raw.view(TYPES[output.dtype]).reshape(output.shape)
        return found


def in_diffusers_layout(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights of a FLUX.2 transformer by diffusers' names. state: in either layout, by names without prefix."""
    layout = layout_of(state)
    atoms: dict[str, torch.Tensor] = {}
    for name, values in state.items():
        parts = atoms_of(name, layout)
        atoms |= zip(parts, values.chunk(len(parts)))
    names = dict.fromkeys(tensor_of(atom, "diffusers") for atom in atoms)
    return {name: torch.cat([atoms[atom] for atom in atoms_of(name, "diffusers")]) for name in names}


@torch.no_grad()
def reload(module: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Copy weights into the parameters of a module, wherever these are and in whichever dtype.

    Raises BadInput, with the module unchanged, unless names and shapes are the module's own.
    """
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    wanted = {name: tuple(each.shape) for name, each in own.items() if name in module.state_dict()}
    given = {name: tuple(each.shape) for name, each in state.items()}
    if wanted != given:
        odd = next(name for name in [*wanted, *given] if wanted.get(name) != given.get(name))
        raise BadInput(
            f"the merged weights do not fit the models' own diffusion model: {odd} is {given.get(odd)}, expected {wanted.get(odd)}; "
            "give --base the weights of the same model as --models"
        )
    for name, values in state.items():
        own[name].copy_(values)


ALIGNMENT = 64
"""Bytes: where torch's own allocator places a tensor on a CPU."""


def align(part: Any) -> None:
    """Copy each weight and buffer of a module that does not start at a multiple of `ALIGNMENT` bytes to memory that
    does.

    A weight that is mapped from a safetensors file starts wherever its header ends, and on some CPUs the address
    decides which kernel multiplies it: then weights that are copied (offloaded) draw other last bits than weights that
    are not (resident). Anything but a torch module is left alone.
    """
    if not isinstance(part, torch.nn.Module):
        return
    for tensor in (*part.parameters(), *part.buffers()):
        if tensor.device.type == "cpu" and tensor.data_ptr() % ALIGNMENT:
            tensor.data = tensor.data.clone(memory_format=torch.preserve_format)


def flux2(path: Path, dtype: torch.dtype, loras: Sequence[Lora] = ()) -> Any:
    """Load a Flux2Transformer2DModel from a file by ComfyUI's or Black Forest Labs' names, or a folder of diffusers'.

    Its configuration is read from the shapes of the tensors. Raises BadInput for another model.
    """
    from diffusers import Flux2Transformer2DModel

    state = state_of(path, dtype, loras)
    try:
        settings = settings_of({name: tuple(tensor.shape) for name, tensor in state.items()})
        with torch.device("meta"):
            model = Flux2Transformer2DModel(**settings)
        model.load_state_dict(state, strict=True, assign=True)
    except (KeyError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise BadInput(
            f"{path} is no whole FLUX.2 transformer ({first[:200]}); give a file of FLUX.2 Klein's diffusion model"
        ) from error
    return model.eval().requires_grad_(False)


def settings_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Return the configuration of a FLUX.2 transformer. shapes: of its tensors, by diffusers' names.

    Raises KeyError or ValueError for another model.
    """

    def blocks(kind: str) -> int:
        return 1 + max(int(found[1]) for name in shapes if (found := re.match(rf"{kind}\.(\d+)\.", name)))

    width, channels = shapes["x_embedder.weight"]
    (head,) = shapes["transformer_blocks.0.attn.norm_q.weight"]
    out = shapes["proj_out.weight"][0]
    return {
        "in_channels": channels,
        "out_channels": None if out == channels else out,
        "num_layers": blocks("transformer_blocks"),
        "num_single_layers": blocks("single_transformer_blocks"),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": shapes["context_embedder.weight"][1],
        "timestep_guidance_channels": shapes["time_guidance_embed.timestep_embedder.linear_1.weight"][1],
        "mlp_ratio": shapes["transformer_blocks.0.ff.linear_out.weight"][1] / width,
        "axes_dims_rope": (head // 4,) * 4,
        "guidance_embeds": "time_guidance_embed.guidance_embedder.linear_1.weight" in shapes,
    }
