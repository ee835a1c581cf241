"""Muon (Jordan et al. 2024): steps of momentum made orthogonal, for many matrices of one shape at once."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

COEFFICIENTS = 3.4445, -4.7750, 2.0315
ROUNDS = 5
SPREAD = 0.2
"""Root mean square of a step's elements at a rate of 1, about that of AdamW's (Moonlight, arXiv 2502.16982)."""


def orthogonal(matrices: Tensor) -> Tensor:
    """Return the nearest matrices with singular values near 1, of B x R x C, by Newton-Schulz rounds. On a GPU they are
    made in bfloat16."""
    a, b, c = COEFFICIENTS
    made = matrices.bfloat16() if matrices.is_cuda else matrices.float()
    flip = made.shape[-2] > made.shape[-1]
    made = made.mT if flip else made
    made = made / (made.float().norm(dim=(-2, -1), keepdim=True).to(made.dtype) + 1e-7)
    for _ in range(ROUNDS):
        square = made @ made.mT
        made = a * made + (b * square + c * square @ square) @ made
    return (made.mT if flip else made).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """parameters: matrices. lr: rate, as of AdamW. decay: of the weights, times the rate."""

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.95, decay: float = 0.0) -> None:
        super().__init__(list(parameters), {"lr": lr, "momentum": momentum, "decay": decay})
        for group in self.param_groups:
            if wrong := [tuple(each.shape) for each in group["params"] if each.ndim != 2]:
                raise ValueError(f"Muon steps matrices only; these shapes are none: {wrong[:3]}")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
            for each in group["params"]:
                if each.grad is not None:
                    by_shape.setdefault(each.shape, []).append((each, each.grad))
            for shape, pairs in by_shape.items():
                several, gradients = [each for each, _ in pairs], [gradient for _, gradient in pairs]
                kept = [self._momentum(each) for each in several]
                torch._foreach_lerp_(kept, gradients, 1 - group["momentum"])
                ahead = torch._foreach_lerp(gradients, kept, group["momentum"])
                steps = orthogonal(torch.stack(list(ahead)))
                scale = group["lr"] * SPREAD * max(shape) ** 0.5
                torch._foreach_mul_(several, 1 - group["lr"] * group["decay"])
                torch._foreach_add_(several, list(steps.unbind(0)), alpha=-scale)

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        return state["momentum"]
