"""The pass rate by tier, the area under it, and paired bootstrap intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 4000


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    high: float


def area(passed: np.ndarray, medians: np.ndarray) -> np.ndarray:
    """Return the area by the trapezoid rule under pass rates (..., tiers) over the tiers' medians (tiers,)."""
    return ((passed[..., 1:] + passed[..., :-1]) / 2 * np.diff(medians)).sum(-1)


def auc(passed: np.ndarray, medians: np.ndarray) -> np.ndarray:
    """Return the area by the trapezoid rule of the pass rate over the tiers' median complexity.

    passed: (..., tiers, briefs) of 0 or 1.
    medians: (tiers,), ascending.

    Returns (...,).
    """
    return area(passed.mean(-1), medians)


def resample(passed: dict[str, np.ndarray], medians: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """Return the AUC of every arm, (RESAMPLES,) each, under the same resamples of briefs within their tiers, so that
    arms can be compared in pairs."""
    shape = next(iter(passed.values())).shape
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, shape[1], (RESAMPLES, *shape))
    return {
        arm: auc(np.take_along_axis(np.broadcast_to(values, picks.shape), picks, -1), medians)
        for arm, values in passed.items()
    }


def interval(samples: np.ndarray, level: float = 0.95) -> Interval:
    # A sample itself, not a mean of two: between two infinite ratios there is none.
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return Interval(float(low), float(high))


def wilson(found: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's score interval of the share `found` / `of`, that of 95 % for the usual z."""
    share, weight = found / of, z * z / of
    middle = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / of + weight / (4 * of)) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)


def share(found: int, of: int) -> dict[str, Any]:
    """Return a share with its counts and Wilson's 95 % interval; of nothing, no share."""
    if not of:
        return {"share": None, "found": 0, "of": 0, "ci95": None}
    return {
        "share": round(found / of, 5),
        "found": found,
        "of": of,
        "ci95": [round(end, 5) for end in wilson(found, of)],
    }


def ratio(samples: dict[str, np.ndarray], arm: str, against: str) -> Interval:
    """Return the interval of auc(arm) / auc(against) over paired resamples. Infinite if only the other arm's area is 0,
    1 if both are."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return interval(np.nan_to_num(samples[arm] / samples[against], nan=1.0, posinf=np.inf))
