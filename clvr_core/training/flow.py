"""Flow matching of small pipelines of FLUX.2 Klein's classes: their tokens, and the loss of transformer and text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..executor.small_klein import TEXT_LAYERS

Vae = Any
"""An AutoencoderKLFlux2. diffusers' hints lack its config, and allow None where this class has a module."""


def to_tensor(pictures: Sequence[np.ndarray]) -> torch.Tensor:
    """uint8 H x W x 3 pictures -> float32 N x 3 x H x W in -1..1."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def normalise(latents: torch.Tensor, vae: Vae) -> torch.Tensor:
    """N x C x h x w patchified latents -> N x (h w) x C tokens, by the VAE's batch-norm statistics as the pipeline
    does."""
    mean = vae.bn.running_mean.view(1, -1, 1, 1)
    std = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps)
    return ((latents - mean) / std).flatten(2).transpose(1, 2)


class FlowMatching(torch.nn.Module):
    """Velocity regression of FLUX.2 Klein: x_sigma = (1 - sigma) x0 + sigma eps, v = eps - x0, references as further
    tokens."""

    def __init__(self, transformer: torch.nn.Module, text_encoder: Any, sigma_mean: float, sigma_std: float) -> None:
        super().__init__()
        # Without the head, whose weight is the embedding's own: freezing it would freeze the words.
        self.transformer, self.words = transformer, text_encoder.model
        self.sigma_mean, self.sigma_std = sigma_mean, sigma_std

    def forward(self, ids, mask, target, references, weight) -> torch.Tensor:
        hidden = self.words(
            input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False
        ).hidden_states
        text = torch.cat([hidden[layer] for layer in TEXT_LAYERS], dim=-1)
        batch, tokens, _ = target.shape
        noise = torch.randn_like(target)
        sigma = torch.sigmoid(self.sigma_mean + self.sigma_std * torch.randn(batch, device=target.device))
        mixed = torch.lerp(target, noise, sigma.view(-1, 1, 1))
        velocity = self.transformer(
            hidden_states=torch.cat([mixed, *references], dim=1),
            encoder_hidden_states=text,
            timestep=sigma,
            img_ids=image_ids(tokens, len(references), target.device),
            txt_ids=text_ids(text.shape[1], target.device),
            return_dict=False,
        )[0][:, :tokens]
        error = (velocity - (noise - target)).square().mean(-1)
        return (error * weight).sum() / weight.sum()


def image_ids(tokens: int, references: int, device) -> torch.Tensor:
    """(t, h, w, l) of each image token as the pipeline numbers them: the canvas at t = 0, reference k at t = 10 + 10
    k."""
    side = torch.arange(int(tokens**0.5), device=device)
    one = torch.zeros(1, dtype=torch.long, device=device)
    return torch.cat(
        [torch.cartesian_prod(one + t, side, side, one) for t in (0, *range(10, 10 + 10 * references, 10))]
    )


def text_ids(length: int, device) -> torch.Tensor:
    ids = torch.zeros(length, 4, dtype=torch.long, device=device)
    ids[:, 3] = torch.arange(length, device=device)
    return ids


def spoil(reference: torch.Tensor, edited: torch.Tensor, share: float) -> torch.Tensor:
    """Replace, in a share of the batch, the tokens to be edited by a blend of two others: half-formed things that an
    edit must remove."""
    chosen = (torch.rand(len(reference), 1, device=reference.device) < share) & (edited > 0)
    pick = torch.randint(reference.shape[1], (2, *reference.shape[:2]), device=reference.device)
    shuffled = reference[torch.randperm(len(reference), device=reference.device)]
    blend = sum(
        0.5 * torch.gather(source, 1, index[..., None].expand_as(source))
        for source, index in zip((reference, shuffled), pick)
    )
    return torch.where(chosen[..., None], blend, reference)
