"""The arithmetic of a merge: the contract `clvr-f32-1`, and its reference implementation in numpy.

    t = base;  u = (aligned - t) * alpha;  v = (distilled - t) * beta;  e = l1 + l2 + ...;  out = t + ((u + v) + e)

All values are fp32. Each operation is rounded to fp32 by itself, in this order, and no two are fused (no FMA). A term
whose input is absent is left out of the sum. Further checkpoints follow v, each as (checkpoint - t) * strength. `out`
is then rounded once, to nearest even, to the dtype of the output. A low-rank delta l = s * (B A) is summed without
rounding (see `on_grid`), so that no BLAS can change its bits, and then rounded once to fp32.

Two options change the sum of the terms (`combine` of `MergeRecipe`). `ties` adds only those terms that have the sign of the
sum of all, element by element: the election of TIES, arXiv:2306.01708, without its trimming, and with the strengths in
place of its mean. `orthogonal` takes (1 - p) * v for v, where p = <u + e + ..., v> / <v, v> over each atom, so that the
other terms together leave no share along v: orthogonal.py computes p, the arithmetic stays the same.

The same arithmetic is written in four places. Whoever changes one changes all four, and the name of the contract:

- `clvr_core/merge/formula.py`, `combine`: numpy, the reference. tests/merge/test_formula.py compares it with torch
  operations done one at a time, bit for bit, and with fp64.
- `clvr_core/merge/engine.py`, `TorchEngine`: torch, for every dtype, where there is no kernel. tests/merge/test_kernel.py
  compares its bits with the reference.
- `clvr_core/merge/_kernel.c`, called by `KernelEngine` of engine.py: C, for every dtype. tests/merge/test_kernel.py
  compares its bits with the reference, and `native.load` does so again before a library is used.
- `nodes/merge/live_patch.py`: patches that ComfyUI evaluates when it loads a model. tests/comfy/test_merge.py compares
  them with the contract in a running ComfyUI: the same fp32 bits for checkpoints, within 1e-7 for a LoRA, whose
  factors ComfyUI multiplies itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CONTRACT = "clvr-f32-1"
"""Written into each merged file. A change of one bit of the arithmetic needs a new name."""
TILE_ROWS = 16
TILE = 1 << 18
"""Multiplications of a tile of `product`: up to 4 * 65536 OpenBLAS uses one thread (GEMM_MULTITHREAD_THRESHOLD in its
interface/gemm.c)."""


def combine(
    base: np.ndarray,
    aligned: np.ndarray | None = None,
    distilled: np.ndarray | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    low_rank: np.ndarray | None = None,
    more: Sequence[tuple[np.ndarray, float]] = (),
    ties: bool = False,
) -> np.ndarray:
    """Merge fp32 arrays of one shape into an fp32 array of that shape.

    base: the common origin.
    aligned, distilled: the checkpoints whose difference from the base is added; None leaves the term out.
    alpha, beta: the strengths of these two differences, any finite number.
    low_rank: the sum of the low-rank deltas, with their strengths already applied.
    more: further checkpoints with their strengths.
    ties: add only the terms that have the sign of the sum of all.

    Overflow is not an error here: the caller finds values that are not finite in the result.
    """
    terms = []
    with np.errstate(over="ignore", invalid="ignore"):  # the caller checks the result
        if aligned is not None:
            terms.append((aligned - base) * np.float32(alpha))
        if distilled is not None:
            terms.append((distilled - base) * np.float32(beta))
        terms += [(other - base) * np.float32(strength) for other, strength in more]
        if low_rank is not None:
            terms.append(low_rank)
        if not terms:
            return base
        delta = terms[0]
        for term in terms[1:]:
            delta = delta + term
        if ties:
            whole, delta = delta, np.zeros_like(delta)
            for term in terms:
                delta = delta + np.where(((term > 0) & (whole > 0)) | ((term < 0) & (whole < 0)), term, np.float32(0))
        return base + delta


def on_grid(down: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round fp64 factors A [r, columns] and B [rows, r] so that their product B A is exact in fp64 in any order of
    summation.

    First each of the r components is scaled by a power of two, so that its row of A has its largest value in [0.5, 1);
    the inverse goes into its column of B. Then A and B are rounded to a grid of k bits below their largest value, with
    2 k + log2 r <= 53, the significand of fp64. For r = 32, k is 24, as many bits as fp32 has.
    """
    bits = (53 - max(down.shape[0] - 1, 1).bit_length()) // 2
    exponent = np.frexp(np.abs(down).max(axis=1, initial=0.0))[1]
    down, up = np.ldexp(down, -exponent[:, None]), np.ldexp(up, exponent[None, :])
    point = bits - np.frexp(np.abs(up).max(initial=0.0))[1]
    return np.ldexp(np.rint(np.ldexp(down, bits)), -bits), np.ldexp(np.rint(np.ldexp(up, point)), -point)


def product(up: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Return B A of factors from `on_grid`, fp64 [rows, columns].

    It is computed in small tiles. For a larger product BLAS starts threads of its own, which under the worker threads
    of a merge wait for each other with the cores busy: four times the work and more. The bits are the same, because the
    sums are exact.
    """
    (rows, rank), columns = up.shape, down.shape[1]
    width = max(TILE // (TILE_ROWS * rank), 1)
    out = np.empty((rows, columns))
    for top, bottom, high in _cuts(rows, TILE_ROWS):
        for left, right, wide in _cuts(columns, width):
            shape = (bottom - top) // high, (right - left) // wide
            np.matmul(
                up[top:bottom].reshape(shape[0], 1, high, rank),
                down[:, left:right].reshape(rank, shape[1], wide).transpose(1, 0, 2),
                out=out[top:bottom, left:right].reshape(shape[0], high, shape[1], wide).transpose(0, 2, 1, 3),
            )
    return out


def _cuts(length: int, size: int) -> list[tuple[int, int, int]]:
    """Cut a length into whole tiles of a size and one smaller rest: start, end and size of the tiles of each."""
    whole = length - length % size
    return [cut for cut in ((0, whole, size), (whole, length, length - whole)) if cut[0] < cut[1]]
