"""The arithmetic of a merge, spelled out in numpy. Every faster path gives the same bits and is tested against this one.

    t = base;  u = (aligned - t) * alpha;  v = (distilled - t) * beta;  e = l1 + l2 + ...;  out = t + ((u + v) + e)

each operation one fp32 rounding, none fused, in this order (`clvr-f32-1`), then one rounding to nearest even into the dtype of the
output. Terms that are absent are left out. A low-rank delta l = s * (B A) is summed without any rounding, so that no BLAS can
change its bits, and then rounded once to fp32.
"""

from __future__ import annotations

import numpy as np

CONTRACT = "clvr-f32-1"


def combine(
    base: np.ndarray,
    aligned: np.ndarray | None = None,
    distilled: np.ndarray | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    low_rank: np.ndarray | None = None,
) -> np.ndarray:
    """fp32 arrays of one shape to their merge in fp32. `low_rank` is the sum of the low-rank deltas, strengths included."""
    terms = []
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found in the result and refused there
        if aligned is not None:
            terms.append((aligned - base) * np.float32(alpha))
        if distilled is not None:
            terms.append((distilled - base) * np.float32(beta))
        if low_rank is not None:
            terms.append(low_rank)
        if not terms:
            return base
        delta = terms[0]
        for term in terms[1:]:
            delta = delta + term
        return base + delta


def on_grid(down: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """fp64 factors A [r, columns] and B [rows, r], rounded so that B A is exact in fp64 whatever the order of the sum.

    The size of each of the r components moves from A into B, by powers of two; then A and B keep k bits after the point of their
    largest value, 2 k + log2 r <= 53: for r = 32 that is 24 bits, as many as fp32 has.
    """
    bits = (53 - max(down.shape[0] - 1, 1).bit_length()) // 2
    exponent = np.frexp(np.abs(down).max(axis=1, initial=0.0))[1]
    down, up = np.ldexp(down, -exponent[:, None]), np.ldexp(up, exponent[None, :])
    point = bits - np.frexp(np.abs(up).max(initial=0.0))[1]
    return np.ldexp(np.rint(np.ldexp(down, bits)), -bits), np.ldexp(np.rint(np.ldexp(up, point)), -point)
