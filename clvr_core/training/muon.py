"""Muon (Jordan et al. 2024): steps of momentum made orthogonal, for many matrices of one shape at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, MutableMapping
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = 3.4445, -4.7750, 2.0315
ROUNDS = 5
SPREAD = 0.2
"""Root mean square of a step's elements at a rate of 1, about that of AdamW's (Moonlight, arXiv 2502.16982)."""


def in_bfloat16(device: torch.device) -> bool:
    """Whether a training without accelerate computes in bfloat16: on a GPU, and where accelerate was told to
    (ACCELERATE_MIXED_PRECISION=bf16)."""
    return device.type == "cuda" or os.environ.get("ACCELERATE_MIXED_PRECISION") == "bf16"


def orthogonal(matrices: Tensor) -> Tensor:
    """Return the nearest matrices with singular values near 1, of B x R x C, by Newton-Schulz rounds. They are made in
    bfloat16 on a GPU, and on a CPU where accelerate was told to train in it."""
    a, b, c = COEFFICIENTS
    made = matrices.bfloat16() if in_bfloat16(matrices.device) else matrices.float()
    flip = made.shape[-2] > made.shape[-1]
    made = made.mT if flip else made
    made = made / (made.float().norm(dim=(-2, -1), keepdim=True).to(made.dtype) + 1e-7)
    for _ in range(ROUNDS):
        square = made @ made.mT
        made = a * made + (b * square + c * square @ square) @ made
    return (made.mT if flip else made).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """parameters: matrices, and filters of convolutions, each taken as a matrix of a row an output. lr: rate, as of
    AdamW. decay: of the weights, times the rate."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.95, decay: float = 0.0) -> None:
        super().__init__(list(parameters), {"lr": lr, "momentum": momentum, "decay": decay})
        for group in self.param_groups:
            if wrong := [tuple(each.shape) for each in group["params"] if each.ndim < 2]:
                raise ValueError(f"Muon steps matrices only; these shapes are none: {wrong[:3]}")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            _step(group, self.state)


class MuonAndAdamW(torch.optim.AdamW):
    """Muon for matrices and filters, AdamW for everything else, in one optimizer.

    parameters: of any shape. muon: rate of Muon as a multiple of AdamW's `lr`; it is the group's `lr` that a schedule
    sets for both. decay: of the weights, times the rate.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        *,
        muon: float,
        betas: tuple[float, float] = (0.9, 0.98),
        momentum: float = 0.95,
        decay: float = 0.0,
    ) -> None:
        kinds: dict[bool, list[Tensor]] = {True: [], False: []}
        for each in parameters:
            kinds[each.ndim >= 2].append(each)
        super().__init__(
            [
                {"params": kinds[True], "muon": muon, "momentum": momentum, "decay": decay},
                {"params": kinds[False], "muon": 0.0},
            ],
            lr,
            betas=betas,
            weight_decay=0.0,
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["muon"]]
        try:
            super().step()
        finally:
            self.param_groups = groups
        for group in groups:
            if group["muon"]:
                _step(group | {"lr": group["lr"] * group["muon"]}, self.state)


def _step(group: dict[str, Any], states: MutableMapping[Tensor, dict[str, Tensor]]) -> None:
    by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
    for each in group["params"]:
        if each.grad is not None:
            by_shape.setdefault(each.shape, []).append((each, each.grad))
    for shape, pairs in by_shape.items():
        several, gradients = [each for each, _ in pairs], [gradient for _, gradient in pairs]
        kept = [_momentum(states[each], each) for each in several]
        torch._foreach_lerp_(kept, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, kept, group["momentum"])
        flat = torch.stack(list(ahead)).flatten(2)
        steps = orthogonal(flat)
        scale = group["lr"] * SPREAD * max(flat.shape[1:]) ** 0.5
        torch._foreach_mul_(several, 1 - group["lr"] * group["decay"])
        torch._foreach_add_(several, [each.view(shape) for each in steps.unbind(0)], alpha=-scale)


def _momentum(state: dict[str, Tensor], parameter: Tensor) -> Tensor:
    if "momentum" not in state:
        state["momentum"] = torch.zeros_like(parameter)
    return state["momentum"]
