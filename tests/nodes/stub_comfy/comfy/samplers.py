"""A sampler that denoises nothing: it calls back once a step, and its picture is latent + noise + guidance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from _missing import missing

__getattr__ = missing(__name__)


class CFGGuider:
    """`made`: all guiders of a test, with what they were given."""

    made: list[CFGGuider] = []  # noqa: RUF012 - shared by all guiders on purpose

    def __init__(self, model: Any) -> None:
        self.model = model
        self.made.append(self)

    def inner_set_conds(self, conditioning: dict[str, list]) -> None:
        self.conditioning = conditioning

    def set_cfg(self, guidance: float) -> None:
        self.guidance = guidance

    def sample(
        self,
        noise: torch.Tensor,
        latent: torch.Tensor,
        sampler: str,
        sigmas: torch.Tensor,
        denoise_mask: torch.Tensor | None,
        callback: Callable,
        disable_pbar: bool,
        seed: int,
    ) -> torch.Tensor:
        self.sampler, self.sigmas, self.mask, self.seed, self.start = sampler, sigmas, denoise_mask, seed, latent
        for step in range(len(sigmas) - 1):
            callback(step, latent, latent, len(sigmas) - 1)
        return latent + noise + self.guidance


def sampler_object(name: str) -> str:
    return name


def calculate_sigmas(model_sampling: Any, scheduler: str, steps: int) -> torch.Tensor:
    """Of every scheduler: evenly from 1 to 0."""
    return torch.linspace(1, 0, steps + 1)
