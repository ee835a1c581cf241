"""The identities of the DiffusionNFT loss."""

from __future__ import annotations

import pytest
import torch

from clvr_core.training.nft import advantages, nft_loss, optimality


def batch(count: int = 6):
    torch.manual_seed(4)
    clean, mixed, old, velocity = (torch.randn(count, 5, 3, dtype=torch.float64) for _ in range(4))
    return velocity, old, mixed, clean, torch.rand(count, dtype=torch.float64), torch.rand(count, dtype=torch.float64)


def gradient(good: float | torch.Tensor, **settings) -> torch.Tensor:
    _, old, mixed, clean, sigma, _ = batch()
    velocity = old.clone().requires_grad_()
    good = good if isinstance(good, torch.Tensor) else torch.full((6,), good, dtype=torch.float64)
    nft_loss(velocity, old, mixed, clean, sigma, good, **settings).backward()
    return velocity.grad


@pytest.mark.parametrize("beta", [0.1, 1.0, 2.0])
def test_at_the_old_policy_a_sample_neither_good_nor_bad_teaches_nothing(beta):
    assert gradient(0.5, beta=beta).abs().max() < 1e-15
    assert gradient(0.6, beta=beta).abs().max() > 1e-4


def test_at_the_old_policy_good_and_bad_pull_in_opposite_directions():
    assert torch.allclose(gradient(0.8), -gradient(0.2))


def test_a_good_sample_pulls_towards_what_was_drawn():
    _, old, mixed, clean, sigma, _ = batch()
    step = -gradient(1.0)
    before = (mixed - sigma.view(-1, 1, 1) * old - clean).square().mean((1, 2))
    after = (mixed - sigma.view(-1, 1, 1) * (old + 1e-3 * step) - clean).square().mean((1, 2))
    assert (after < before).all()


def test_the_loss_is_that_of_the_formula():
    velocity, old, mixed, clean, sigma, good = batch(1)
    beta, clip = 0.7, 5.0
    plus = mixed - sigma * (beta * velocity + (1 - beta) * old) - clean
    minus = mixed - sigma * ((1 + beta) * old - beta * velocity) - clean
    wanted = (
        clip
        / beta
        * (good * plus.square().mean() / plus.abs().mean() + (1 - good) * minus.square().mean() / minus.abs().mean())
    )
    assert nft_loss(velocity, old, mixed, clean, sigma, good, beta=beta, clip=clip).item() == pytest.approx(
        wanted.item()
    )
    reference = torch.randn_like(old)
    kl = (velocity - reference).square().mean().item()
    more = nft_loss(velocity, old, mixed, clean, sigma, good, beta=beta, clip=clip, reference=reference, kl=0.3)
    assert more.item() == pytest.approx(wanted.item() + 0.3 * kl)


def test_the_order_within_a_group_does_not_matter():
    rewards = torch.rand(3, 8)
    order = torch.randperm(8)
    assert torch.allclose(advantages(rewards, 5.0)[:, order], advantages(rewards[:, order], 5.0))
    inputs, shuffled = batch(), torch.randperm(6)
    assert nft_loss(*inputs).item() == pytest.approx(nft_loss(*(tensor[shuffled] for tensor in inputs)).item())


def test_advantages_know_only_their_own_group_and_not_its_scale():
    rewards = torch.tensor([[0.0, 1.0, 0.0, 1.0], [0.5, 0.6, 0.5, 0.6], [0.3, 0.3, 0.3, 0.3]])
    found = advantages(rewards, 5.0)
    assert torch.allclose(found[0], found[1], atol=1e-4) and found[0].tolist() == pytest.approx(
        [-1, 1, -1, 1], abs=1e-4
    )
    assert not found[2].any() and (optimality(found[2], 5.0) == 0.5).all()


def test_optimality_is_a_probability_clipped_at_the_advantages_bounds():
    assert optimality(torch.tensor([-9.0, -5.0, 0.0, 2.5, 9.0]), 5.0).tolist() == [0.0, 0.0, 0.5, 0.75, 1.0]
    assert advantages(torch.tensor([[0.0] * 30 + [1.0]]), 3.0).max() == 3.0
