"""A makeshift reader: the encoder of a folder of weights, and the linear layer by which that encoder was trained.

It serves while the reader (reader.py) has no weights. It is not independent of what draws, since both share the latents;
it knows no unclear cell; and what a blurred decoder spoils, it misreads. Whoever reads by it says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..errors import BadInput
from ..executor.small_klein import patchify
from ..weights.shared import place_of
from .codes import KINDS, LOOKS
from .scene import BACKDROPS, LETTERS, MOST_LETTERS, SIZES

FILE = "readout.safetensors"
"""The linear layer, beside the weights."""
SPLIT = (len(KINDS), len(LOOKS), len(SIZES), *(len(LETTERS) + 1 for _ in range(MOST_LETTERS)), len(BACKDROPS), 2)
"""Outputs of the layer for a token: kind, look, size, letters, backdrop, offset."""
NEVER = -1e4
"""Logit of what the layer does not know: that a cell, or the backdrop, is unclear."""


def outputs(layer: nn.Module, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the layer reads in the form of Reader. tokens: N x 9 x C, before normalisation."""
    kind, look, size, *letters, backdrop, offset = layer(tokens).split(SPLIT, dim=-1)
    never = kind.new_full((*kind.shape[:2], 1), NEVER)
    cells = torch.cat([kind, never, look, size, offset, *letters], -1)
    return cells, torch.cat([backdrop.mean(1), never[:, 0]], -1)


class EncoderReader(nn.Module):
    """Reads pictures through a VAE's encoder; input and outputs as of Reader."""

    def __init__(self, vae: Any, layer: nn.Module) -> None:
        super().__init__()
        self.vae, self.layer = vae, layer

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        latents = self.vae.encode(pictures * 2 - 1).latent_dist.mode()
        return outputs(self.layer, patchify(latents).flatten(2).transpose(1, 2))


def load_layer(folder: Path) -> nn.Linear:
    """Load the linear layer of a folder of weights. Raises BadInput if its file is missing or damaged."""
    try:
        state = load_file(folder / FILE)
        layer = nn.Linear(state["weight"].shape[1], sum(SPLIT))
        layer.load_state_dict(state)
    except (OSError, SafetensorError, KeyError, RuntimeError) as error:
        raise BadInput(
            f"{folder / FILE} cannot be read: {str(error).splitlines()[0]}; name weights that `clvr train stickers base` wrote"
        ) from error
    return layer


def load(folder: Path) -> EncoderReader:
    """Load the reader of a folder of weights. Raises BadInput as `load_layer` does, and for a VAE that is damaged."""
    from diffusers import AutoencoderKLFlux2

    layer = load_layer(folder)
    try:
        vae = AutoencoderKLFlux2.from_pretrained(place_of(folder, "vae"), torch_dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise BadInput(f"the VAE in {folder} cannot be loaded: {str(error).splitlines()[0][:200]}") from error
    return EncoderReader(vae, layer).eval()
