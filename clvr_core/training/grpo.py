"""GRPO for a controller that writes (DeepSeekMath, arXiv 2402.03300), as VisionDirector trains its planner (arXiv
2512.19243): advantages, mask and loss, as functions of tensors.

A rollout is one conversation: what the controller wrote, and between it the requests, verdicts and pictures that the loop
answered with. Only what the controller wrote is learnt from.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

LEAST_SPREAD = 1e-4
"""Added to the standard deviation of a group."""


def rewards(aligned: Sequence[float], edits: Sequence[int], *, most: float = 5.0, cost: float = 0.1) -> torch.Tensor:
    """Return `most` x aligned - cost x edits. aligned: 0..1, how far the judge finds the brief met at the end of each
    rollout; VisionDirector's judge gives 0 to 5. edits: that it took."""
    return torch.tensor([most * share - cost * count for share, count in zip(aligned, edits, strict=True)])


def advantages(rewards: torch.Tensor) -> torch.Tensor:
    """Rewards of groups, groups x size, less the group's mean and divided by its standard deviation, as TRL does it. A
    group whose rewards are equal has none."""
    centred = rewards - rewards.mean(1, keepdim=True)
    return centred / (rewards.std(1, keepdim=True) + LEAST_SPREAD)


def written(ids: torch.Tensor, header: Sequence[int], end: int) -> torch.Tensor:
    """Return bool N x T: the tokens that the controller wrote, each reply with the mark that ends it.

    ids: N x T. header: the tokens that begin a reply, `<|im_start|>assistant` and a line break. end: `<|im_end|>`.

    What the loop wrote is left out: requests, verdicts, pictures. A reply that is cut counts to the end of its row.
    """
    found = torch.zeros_like(ids, dtype=torch.bool)
    begin, length = list(header), len(header)
    for row, mask in zip(ids.tolist(), found):
        place = 0
        while place + length <= len(row):
            if row[place : place + length] != begin:
                place += 1
                continue
            first = place + length
            last = row.index(end, first) + 1 if end in row[first:] else len(row)
            mask[first:last] = True
            place = last
    return found


def log_probabilities(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return N x (T - 1): of each token but the first, given those before. logits: N x T x vocabulary. ids: N x T.

    The mask that belongs to them is `written(...)[:, 1:]`.
    """
    told = logits[:, :-1].float().log_softmax(-1)
    return told.gather(-1, ids[:, 1:, None]).squeeze(-1)


def grpo_loss(
    now: torch.Tensor,
    old: torch.Tensor,
    mask: torch.Tensor,
    advantage: torch.Tensor,
    *,
    clip: float = 0.2,
    reference: torch.Tensor | None = None,
    kl: float = 0.0,
) -> torch.Tensor:
    """The scalar loss of N rollouts.

    now, old, reference: N x T, log probabilities of the tokens under the policy that is trained, the one that wrote them,
    and the one that it should stay near. mask: N x T, true for what the controller wrote. advantage: N.

    Each rollout's mean over its own tokens of -min(ratio A, clipped ratio A) + kl k, with ratio = exp(now - old) and k =
    exp(reference - now) - (reference - now) - 1 >= 0 (Schulman's third estimator); then the mean over rollouts. What is
    masked out has a gradient of exactly 0.
    """
    weight = mask.to(now.dtype)
    # Masked before the exponential: whatever stands there, no infinity reaches the sum.
    shift = torch.where(mask, now - old.detach(), 0.0)
    ratio, gain = shift.exp(), advantage[:, None].to(now.dtype)
    loss = -torch.min(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain)
    if kl and reference is not None:
        apart = torch.where(mask, reference.detach() - now, 0.0)
        loss = loss + kl * (apart.exp() - apart - 1)
    return ((loss * weight).sum(1) / weight.sum(1).clamp_min(1)).mean()
