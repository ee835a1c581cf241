"""The trained weights of a transformer: all of them, or a LoRA; and frozen copies that can replace them for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from ..errors import BadInput

if TYPE_CHECKING:
    from diffusers import Flux2Transformer2DModel

FILE = "pytorch_lora_weights.safetensors"
TARGETS = (
    r".*\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out|linear_in|linear_out|to_qkv_mlp_proj)"
    r"|single_transformer_blocks\.\d+\.attn\.to_out"
)
"""The linear layers of the blocks; in a double block to_out is a list, in a single block a layer."""


@dataclass(frozen=True)
class Lora:
    """The adapter to train.

    rank: 0 trains all weights of the transformer instead.
    alpha: the delta is scaled by alpha / rank.
    """

    rank: int = 32
    alpha: int = 32


def attach(transformer: Flux2Transformer2DModel, lora: Lora, start: Path | None = None) -> None:
    """Freeze the transformer and add a LoRA to its linear layers, loaded from `start` if given. With rank 0, make all
    weights trainable.

    Raises BadInput if the LoRA in `start` cannot be read or does not fit.
    """
    if not lora.rank:
        if start:
            raise BadInput(
                f"the LoRA {start} cannot be gone on from with rank 0, which trains all weights; merge it first"
            )
        transformer.requires_grad_(True)
        return
    from peft import LoraConfig, set_peft_model_state_dict
    from safetensors.torch import load_file

    transformer.requires_grad_(False)
    transformer.add_adapter(LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=TARGETS))
    for parameter in trained(transformer):
        # A step of the optimiser is lost in the rounding of bfloat16.
        parameter.data = parameter.data.float()
    if start is None:
        return
    try:
        state = {name.removeprefix("transformer."): value for name, value in load_file(start / FILE).items()}
        result = set_peft_model_state_dict(transformer, state)
        wrong = [*result.unexpected_keys, *(name for name in result.missing_keys if "lora_" in name)]
    except (OSError, SafetensorError, RuntimeError) as error:
        raise BadInput(f"the LoRA in {start} cannot be loaded: {str(error).splitlines()[0][:200]}") from error
    if wrong:
        raise BadInput(f"the LoRA in {start} does not fit a LoRA of rank {lora.rank} on these weights: {wrong[0]}")


def gathered(transformer: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return all weights whole and on the CPU. Every process must call it, because each may hold only a part."""
    state = transformer.state_dict().items()
    return {
        name: (value.full_tensor() if hasattr(value, "full_tensor") else value).detach().cpu() for name, value in state
    }


def save_lora(transformer: Flux2Transformer2DModel, state: dict[str, torch.Tensor], folder: Path) -> None:
    """Write the LoRA in the layout that diffusers, ComfyUI and `clvr merge` read, with rank and alpha in the metadata.

    state: from `gathered`.
    """
    from diffusers import Flux2KleinPipeline
    from peft import get_peft_model_state_dict

    layers: dict[str, torch.nn.Module | torch.Tensor] = {
        name: value.float().contiguous()
        for name, value in get_peft_model_state_dict(transformer, state_dict=state).items()
    }
    config: Any = transformer.peft_config  # peft sets it, so that no class declares it
    Flux2KleinPipeline.save_lora_weights(
        folder,
        transformer_lora_layers=layers,
        transformer_lora_adapter_metadata=config["default"].to_dict(),
    )


def trained(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


class FrozenCopy:
    """A copy of the trained weights, which can replace them for a while and follow them slowly."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.tensors = [parameter.detach().clone() for parameter in trained(model)]

    @torch.no_grad()
    def follow(self, model: torch.nn.Module, decay: float) -> None:
        for tensor, parameter in zip(self.tensors, trained(model)):
            tensor.lerp_(parameter.detach(), 1 - decay)

    @contextmanager
    def standing_in(self, model: torch.nn.Module) -> Iterator[None]:
        """Use the copy in place of the trained weights inside the `with`. Gradients must not flow through what is
        computed there."""
        parameters = trained(model)
        now = [parameter.data for parameter in parameters]
        with torch.no_grad():
            try:
                for parameter, tensor in zip(parameters, self.tensors):
                    parameter.data = tensor
                yield
            finally:
                for parameter, tensor in zip(parameters, now):
                    parameter.data = tensor
