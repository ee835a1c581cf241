"""The frozen parts around a transformer in training: pictures to tokens and back, prompts to embeddings, and the
sampler.

For the embedded pipeline and for FLUX.2 Klein alike: numbers of tokens, positions of references and noise levels are
the pipeline's own, so that training matches drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

from ..executor.klein import KleinExecutor, Sampling
from ..executor.small_klein import patchify
from .flow import normalise, text_ids, to_tensor


@dataclass(frozen=True)
class Condition:
    """The condition of a batch.

    text: N x L x D.
    references: N x tokens x C each, the one to edit first.
    grid: rows and columns of tokens, the same for canvas and references.
    """

    text: torch.Tensor
    references: tuple[torch.Tensor, ...] = ()
    grid: tuple[int, int] = (3, 3)

    def __getitem__(self, index) -> Condition:
        return replace(self, text=self.text[index], references=tuple(reference[index] for reference in self.references))

    @property
    def tokens(self) -> int:
        return self.grid[0] * self.grid[1]


def places(grid: tuple[int, int], references: int, device) -> torch.Tensor:
    """(t, h, w, l) of each image token: the canvas at t = 0, reference k at t = 10 + 10 k."""
    one, rows, columns = (
        torch.zeros(1, dtype=torch.long, device=device),
        *(torch.arange(side, device=device) for side in grid),
    )
    return torch.cat(
        [torch.cartesian_prod(one + t, rows, columns, one) for t in (0, *range(10, 10 + 10 * references, 10))]
    )


def predict(
    transformer: torch.nn.Module, mixed: torch.Tensor, sigma: torch.Tensor, condition: Condition
) -> torch.Tensor:
    """The velocity noise - x0 of each canvas token. mixed: N x tokens x C. sigma: N noise levels, 0..1."""
    return transformer(
        hidden_states=torch.cat([mixed, *condition.references], dim=1),
        encoder_hidden_states=condition.text,
        timestep=sigma,
        img_ids=places(condition.grid, len(condition.references), mixed.device),
        txt_ids=text_ids(condition.text.shape[1], mixed.device),
        return_dict=False,
    )[0][:, : mixed.shape[1]]


def guided(
    transformer: torch.nn.Module,
    mixed: torch.Tensor,
    sigma: torch.Tensor,
    condition: Condition,
    blank: torch.Tensor,
    guidance: float,
) -> torch.Tensor:
    """As `predict`, with classifier-free guidance where it is above 1. blank: 1 x L x D, the embedding of no words."""
    velocity = predict(transformer, mixed, sigma, condition)
    if guidance <= 1:
        return velocity
    without = predict(transformer, mixed, sigma, replace(condition, text=blank.expand_as(condition.text)))
    return without + guidance * (velocity - without)


class TrainingSampler:
    """The frozen parts of a pipeline, on one device."""

    def __init__(self, executor: KleinExecutor, device: torch.device | str = "cpu") -> None:
        self.executor, self.recipe, self.device = executor, executor.recipe, torch.device(device)
        self.pipe = executor.pipe
        for part in (self.pipe.vae, self.pipe.text_encoder):
            part.to(self.device).eval().requires_grad_(False)
        self._blanks: dict[int, torch.Tensor] = {}

    @cached_property
    def dtype(self) -> torch.dtype:
        return self.pipe.transformer.dtype

    @torch.no_grad()
    def text(self, prompts: Sequence[str]) -> torch.Tensor:
        """N x L x D, all padded to the length of the longest.

        Raises BadInput for one longer than the weights can read.
        """
        length = max(map(self.executor.text_length, prompts))
        embeddings, _ = self.pipe.encode_prompt(
            list(prompts),
            device=self.device,
            max_sequence_length=length,
            text_encoder_out_layers=self.recipe.text_layers,
        )
        return embeddings

    def blank(self, length: int) -> torch.Tensor:
        """1 x length x D, the embedding of no words, as the pipeline's guidance takes it."""
        if length not in self._blanks:
            with torch.no_grad():
                self._blanks[length], _ = self.pipe.encode_prompt(
                    [""],
                    device=self.device,
                    max_sequence_length=length,
                    text_encoder_out_layers=self.recipe.text_layers,
                )
        return self._blanks[length]

    @torch.no_grad()
    def tokens(self, pictures: Sequence[np.ndarray], batch: int = 64) -> torch.Tensor:
        """uint8 H x W x 3 pictures of one size -> N x tokens x C. Their sides must be multiples of the pipeline's 16 or
        32 px a token."""
        vae, parts = self.pipe.vae, []
        for start in range(0, len(pictures), batch):
            shown = to_tensor(list(pictures[start : start + batch])).to(self.device, vae.dtype)
            parts.append(normalise(patchify(vae.encode(shown).latent_dist.mode()), vae))
        return torch.cat(parts)

    def references(self, rows: Sequence[Sequence[np.ndarray]]) -> tuple[torch.Tensor, ...]:
        """Tokens of the references of a batch, equally many each, N x tokens x C for every place among them. rows:
        pictures of a sample."""
        return tuple(map(self.tokens, zip(*rows, strict=True)))

    def grid(self, picture: np.ndarray) -> tuple[int, int]:
        scale = 2 * self.pipe.vae_scale_factor
        return picture.shape[0] // scale, picture.shape[1] // scale

    def latents(self, tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """N x tokens x C -> the latents that the VAE decodes, before normalisation."""
        vae = self.pipe.vae
        latents = tokens.to(vae.dtype).transpose(1, 2).unflatten(2, grid)
        std = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps)
        return self.pipe._unpatchify_latents(latents * std + vae.bn.running_mean.view(1, -1, 1, 1))

    @torch.no_grad()
    def pictures(self, tokens: torch.Tensor, grid: tuple[int, int]) -> list[np.ndarray]:
        """N x tokens x C -> uint8 H x W x 3, as the pipeline decodes them."""
        shown = self.pipe.vae.decode(self.latents(tokens, grid), return_dict=False)[0].float().clamp(-1, 1)
        return list(((shown / 2 + 0.5).permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy())

    def sigmas(self, steps: int, tokens: int) -> torch.Tensor:
        """steps + 1 noise levels from 1 down to 0, as the pipeline's scheduler sets them."""
        scheduler = self.pipe.scheduler
        scheduler.set_timesteps(
            sigmas=np.linspace(1.0, 1 / steps, steps), mu=compute_empirical_mu(tokens, steps), device=self.device
        )
        return scheduler.sigmas.float().clone()

    def noise(self, condition: Condition, generator: torch.Generator | None = None) -> torch.Tensor:
        channels = self.pipe.transformer.config.in_channels
        return torch.randn(len(condition.text), condition.tokens, channels, generator=generator).to(
            self.device, self.dtype
        )

    @torch.no_grad()
    def sample(
        self, transformer: torch.nn.Module, condition: Condition, noise: torch.Tensor, sampling: Sampling
    ) -> torch.Tensor:
        """Clean tokens by Euler steps from the noise."""
        sigmas, blank = self.sigmas(sampling.steps, condition.tokens), self.blank(condition.text.shape[1])
        mixed = noise
        for high, low in pairwise(sigmas):
            velocity = guided(
                transformer, mixed, high.expand(len(mixed)).to(mixed.dtype), condition, blank, sampling.guidance
            )
            mixed = mixed + (low - high).to(mixed.dtype) * velocity
        return mixed
