"""The share of the other deltas along the distilled one, which `--combine orthogonal` takes away.

A merge has the same bits on every machine, so a sum over the elements of a tensor must not depend on the order in which
it is computed. Each block is put on a grid on which its sum is exact in fp64, and the blocks are added by `math.fsum`,
which rounds once.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import fsum, ldexp

import numpy as np

from .plan import Segment
from .survey import Cancelled, low_rank, values_of

BLOCK = 1 << 18
"""Elements of a sum that is exact: 2 * BITS + 18 bits are those of fp64."""
BITS = 17


def without_share(
    segments: tuple[Segment, ...], threads: int, cancel: Callable[[], bool] | None = None
) -> tuple[Segment, ...]:
    """Return the segments with the distilled strength times 1 - p, where p is the share of the other deltas along the
    distilled one. Reads the inputs once. Raises Cancelled."""

    def settled(segment: Segment) -> Segment:
        if cancel and cancel():
            raise Cancelled
        if not segment.merged or segment.copy or segment.distilled is None:
            return segment
        share = share_along(segment)
        return replace(segment, beta=segment.beta * (1.0 - share)) if share else segment

    with ThreadPoolExecutor(threads) as pool:
        return tuple(pool.map(settled, segments))


def share_along(segment: Segment) -> float:
    """Return <other deltas, distilled delta> / <distilled delta, distilled delta>, with strengths; 0 without one."""
    products, squares = [], []
    for start in range(0, segment.count, BLOCK):
        count = min(BLOCK, segment.count - start)
        base = values_of(segment.base, start, count)
        others, distilled = np.zeros(count, np.float32), np.zeros(count, np.float32)
        for role, part in segment.sources():
            if role != "base":
                delta = (values_of(part, start, count) - base) * np.float32(segment.strength(role))
                if role == "distilled":
                    distilled = delta
                else:
                    others += delta
        low = low_rank(segment, start, count)
        if low is not None:
            others += low
        (left, up), (right, along) = _on_grid(others), _on_grid(distilled)
        products.append(ldexp(float(np.dot(left, right)), up + along))
        squares.append(ldexp(float(np.dot(right, right)), 2 * along))
    whole = fsum(squares)
    return fsum(products) / whole if whole else 0.0


def _on_grid(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Round to whole numbers of at most BITS bits: fp64 [n], and the power of two that they are to be scaled by."""
    exponent = int(np.frexp(np.abs(values).max(initial=0.0))[1]) - BITS
    return np.rint(np.ldexp(values.astype(np.float64), -exponent)), exponent
