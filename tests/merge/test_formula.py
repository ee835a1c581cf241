"""The contract, against torch and against sums in fp64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clvr_core.merge import formula
from clvr_core.weights import dtypes
from tests.merge import klein

TYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F8_E4M3": torch.float8_e4m3fn}


def hard_values(count: int = 200_000) -> np.ndarray:
    """Every exponent, both signs, ties, subnormals, zeros."""
    random = np.random.default_rng(0)
    wide = np.ldexp(random.standard_normal(count), random.integers(-140, 8, count)).astype(np.float32)
    ties = (np.arange(1 << 16, dtype=np.uint32) << 16 | np.uint32(0x8000)).view(np.float32)
    exact = (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32)
    values = np.concatenate(
        [
            wide,
            ties,
            exact,
            wide * 0,
            -wide * 0,
            np.float32([1e-45, -1e-45, 448, 464, 465, -500, 2.0**-10, 3 * 2.0**-10]),
        ]
    )
    return values[np.isfinite(values)]


@pytest.mark.parametrize("dtype", TYPES)
def test_rounding_is_torchs_bit_for_bit(dtype):
    values = hard_values()
    if dtype == "F16":
        values = values[np.abs(values) < 65520]
    expected = torch.from_numpy(values)
    if dtype == "F8_E4M3":
        expected = expected.clamp(-448, 448)
    assert dtypes.encode(values, dtype).tobytes() == expected.to(TYPES[dtype]).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("dtype", TYPES)
def test_reading_is_torchs_bit_for_bit(dtype):
    raw = np.arange(1 << 16, dtype=np.uint16).view(np.uint8)
    expected = torch.from_numpy(raw.copy()).view(TYPES[dtype]).float().numpy()
    found = dtypes.decode(raw, dtype)
    number = ~np.isnan(expected)
    assert (np.isnan(found) == ~number).all()
    assert (found.view(np.uint32)[number] == expected.view(np.uint32)[number]).all()


def test_the_contract_is_one_operation_at_a_time():
    base, aligned, distilled = (value["single_blocks.0.linear1.weight"].float() for value in klein.three())
    low = (aligned - base) * 0.1
    for alpha, beta in ((1.0, 1.0), (0.7, 0.85), (-0.3, 1.2)):
        found = formula.combine(base.numpy(), aligned.numpy(), distilled.numpy(), alpha, beta, low.numpy())
        assert klein.same_bits(
            torch.from_numpy(found), klein.contract(base, aligned, distilled, alpha, beta, low, torch.float32)
        )


def test_against_the_sum_in_fp64_rounded_once():
    random = np.random.default_rng(3)
    count = 1 << 20
    base = torch.from_numpy((random.standard_normal(count) * 0.02).astype(np.float32)).bfloat16()
    aligned, distilled = (
        (base.float() + 0.02 * size * torch.from_numpy(random.standard_normal(count).astype(np.float32))).bfloat16()
        for size in (3e-3, 2e-2)
    )
    alpha, beta = 0.7, 0.85
    b, a, d = (value.float().numpy() for value in (base, aligned, distilled))
    found = dtypes.encode(formula.combine(b, a, d, alpha, beta), "BF16").view(np.uint16)
    exact = b.astype(np.float64) + (
        np.float64(np.float32(alpha)) * (a.astype(np.float64) - b)
        + np.float64(np.float32(beta)) * (d.astype(np.float64) - b)
    )
    expected = torch.from_numpy(exact).to(torch.bfloat16).view(torch.uint16).numpy()
    wrong = found != expected
    assert 0 < wrong.mean() <= 2e-4
    assert np.abs(found[wrong].astype(int) - expected[wrong].astype(int)).max() == 1


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F8_E4M3"])
def test_stochastic_rounding_takes_a_neighbour_and_has_the_right_mean(dtype):
    values = np.float32([0.3, -1.7, 1e-3, 2.0**-12 * 1.3, 3e-6, 0.0])
    for value in values:
        rounded = dtypes.dither(np.full(40_000, value, np.float32), dtype, 7, 0)
        stored = dtypes.decode(dtypes.encode(rounded, dtype), dtype)
        assert (stored == rounded).all(), "what dither gives is a value of the dtype"
        steps = np.unique(stored)
        assert len(steps) <= 2
        spread = steps[-1] - steps[0]
        assert abs(stored.mean(dtype=np.float64) - value) <= 4 * spread / 2 / np.sqrt(40_000)
        assert steps[0] <= value <= steps[-1]


def test_stochastic_rounding_depends_on_place_and_key_alone():
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    whole = dtypes.dither(values, "BF16", 5, 100)
    parts = np.concatenate([dtypes.dither(values[:333], "BF16", 5, 100), dtypes.dither(values[333:], "BF16", 5, 433)])
    assert (whole == parts).all()
    assert (whole != dtypes.dither(values, "BF16", 6, 100)).any()


@pytest.mark.parametrize("rank", [1, 3, 32, 200])
def test_low_rank_sums_are_exact_in_any_order(rank):
    random = np.random.default_rng(rank)
    down = random.standard_normal((rank, 40)) * np.ldexp(1.0, random.integers(-8, 8, (rank, 1)))
    up = random.standard_normal((30, rank)) * np.ldexp(1.0, random.integers(-8, 8, (1, rank)))
    down, up = down.astype(np.float32).astype(np.float64), up.astype(np.float32).astype(np.float64)
    a, b = formula.on_grid(down.copy(), up.copy())
    order = random.permutation(rank)
    forward, other = b @ a, np.zeros((30, 40))
    for component in order:
        other += b[:, component : component + 1] * a[component : component + 1]
    assert (forward == other).all()
    exact = up @ down
    assert np.abs(forward - exact).max() <= 2.0**-18 * np.abs(exact).max()


def test_factors_of_bf16_lose_nothing_on_the_grid():
    random = np.random.default_rng(1)
    down, up = (
        torch.from_numpy(random.standard_normal(shape)).bfloat16().double().numpy() for shape in ((16, 50), (20, 16))
    )
    a, b = formula.on_grid(down.copy(), up.copy())
    exact = np.array([[sum(x * y for x, y in zip(row, column)) for column in down.T] for row in up])
    assert np.abs(b @ a - exact).max() <= 2.0**-24


@pytest.mark.parametrize(
    "rows, rank, columns", [(1, 1, 1), (40, 3, 50), (15, 32, 1000), (33, 200, 131), (2, 20_000, 3)]
)
def test_the_product_of_factors_is_made_in_tiles_that_blas_does_not_divide_among_threads(
    monkeypatch, rows, rank, columns
):
    random = np.random.default_rng(rank)
    down, up = formula.on_grid(random.standard_normal((rank, columns)), random.standard_normal((rows, rank)))
    right, tiles, matmul = up @ down, [], np.matmul
    monkeypatch.setattr(
        np, "matmul", lambda a, b, out: tiles.append(a.shape[2] * rank * b.shape[2]) or matmul(a, b, out)
    )
    assert formula.product(up, down).tobytes() == right.tobytes()
    assert max(tiles) <= max(formula.TILE, formula.TILE_ROWS * rank)
