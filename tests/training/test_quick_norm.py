"""The quick backward pass of group normalisation gives PyTorch's gradients."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from clvr_core.training.quick_norm import QuickGroupNorm, quicken


def pair(groups: int, channels: int) -> tuple[torch.nn.GroupNorm, torch.nn.Module]:
    """PyTorch's and the quick one with the same weights."""
    generator = torch.Generator().manual_seed(0)
    norm = torch.nn.GroupNorm(groups, channels)
    for parameter in norm.parameters():
        parameter.data = torch.randn(channels, generator=generator)
    quick = torch.nn.Sequential(deepcopy(norm))
    quicken(quick)
    return norm, quick


@pytest.mark.parametrize("groups, channels, side", [(8, 16, 24), (8, 160, 6), (4, 48, 7)])
def test_gradients_are_those_of_float32_within_the_rounding_of_bfloat16(groups, channels, side):
    norm, quick = pair(groups, channels)
    generator = torch.Generator().manual_seed(1)
    x = (3 * torch.randn(4, channels, side, side, generator=generator) + 1).bfloat16()
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    grown = torch.randn(4, channels, side, side, generator=generator).bfloat16()

    made = quick(x)
    found = torch.autograd.grad(made, (x, *quick.parameters()), grown)
    exact = x.detach().float().requires_grad_()
    wanted = torch.autograd.grad(norm(exact), (exact, *norm.parameters()), grown.float())

    assert made.dtype == torch.bfloat16
    for one, other in zip(found, wanted):
        assert (one.float() - other).abs().max() < 0.02 * other.abs().max()


def test_in_float32_it_is_pytorchs_own():
    norm, quick = pair(4, 16)
    x = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(2))
    assert torch.equal(norm(x), quick(x))


def test_weights_keep_their_names():
    norm, quick = pair(4, 16)
    assert isinstance(quick[0], QuickGroupNorm)
    assert list(quick.state_dict()) == [f"0.{name}" for name in norm.state_dict()]
