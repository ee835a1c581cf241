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
from ..weights.layout import layout_of, prefix_of

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
    with make_plan(recipe) as plan:
        if loras:
            survey(plan)
        data = torch.empty(plan.nbytes, dtype=torch.uint8)
        view = data.numpy().data

        def take(start: int, window: memoryview, size: int) -> None:
            view[start : start + size] = window[:size]

        Stream(plan).run(take)
        found = {}
        for output in plan.outputs:
            if output.dtype not in TYPES:
                raise BadInput(
                    f"{path}: {output.name} is {output.dtype}, which no transformer has; give the file of a diffusion model"
                )
            raw = data[output.start : output.start + output.nbytes]
            found[output.name.removeprefix(prefix)] = raw.view(TYPES[output.dtype]).reshape(output.shape)
        return found


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
