"""DiffusionNFT (arXiv 2509.16117): the loss and the advantages, as functions of tensors."""

from __future__ import annotations

import torch


def advantages(rewards: torch.Tensor, clip: float) -> torch.Tensor:
    """Rewards of groups, groups x size, normalised within each and clamped to +-clip.

    A group without variance has none.
    """
    centred = rewards - rewards.mean(1, keepdim=True)
    spread = rewards.std(1, keepdim=True, unbiased=False)
    return torch.where(spread > 1e-6, centred / spread.clamp_min(1e-6), torch.zeros_like(centred)).clamp(-clip, clip)


def optimality(advantage: torch.Tensor, clip: float) -> torch.Tensor:
    """r in 0..1: the probability that a sample is a good one; 1/2 for an advantage of 0."""
    return (advantage / (2 * clip) + 0.5).clamp(0, 1)


def nft_loss(
    velocity: torch.Tensor,
    old: torch.Tensor,
    mixed: torch.Tensor,
    clean: torch.Tensor,
    sigma: torch.Tensor,
    good: torch.Tensor,
    *,
    beta: float = 1.0,
    clip: float = 5.0,
    reference: torch.Tensor | None = None,
    kl: float = 0.0,
) -> torch.Tensor:
    """The scalar loss of a batch. velocity, old, mixed, clean: N x tokens x C; old is that of the policy that drew
    `clean`.
    sigma, good: N, noise levels and `optimality`.

    v+- = old +- beta (velocity - old), x0+- = mixed - sigma v+-; each branch's squared error is divided by its own mean
    absolute error, which is not differentiated. At velocity = old and good = 1/2 the gradient is zero.
    """
    old, sigma = old.detach(), sigma.view(-1, 1, 1)
    shift = beta * (velocity - old)
    positive, negative = (_branch(mixed - sigma * (old + sign * shift), clean) for sign in (1, -1))
    loss = clip / beta * (good * positive + (1 - good) * negative).mean()
    if kl and reference is not None:
        loss = loss + kl * (velocity - reference.detach()).square().mean()
    return loss


def _branch(guess: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
    error = guess - clean
    weight = error.detach().abs().mean((1, 2)).clamp_min(1e-5)
    return error.square().mean((1, 2)) / weight
