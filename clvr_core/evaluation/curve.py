"""The pass rate over complexity: tiers, area under the curve, complexity at half, tail, and whether length alone
explains it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .prompt_parse import tiers
from .statistics import area, interval

RESAMPLES = 2000
FEWEST = 20
"""With fewer prompts there is no curve."""
DISTINCT = 12
"""If the complexity has at most this many values, each value is a tier; atom counts need no deciles."""
TAIL = 3


def curve_of(scores: Sequence[float | None], words: Sequence[int], passed: np.ndarray) -> dict[str, Any] | None:
    """Return the curve. None with fewer than FEWEST prompts that have both a complexity and a verdict, or with one
    complexity for all.

    median_passed: the median complexity of the prompts that passed, None if none did; the CLVR paper's "median C_task" is
    taken to be this, which it does not say.
    """
    known = [place for place, score in enumerate(scores) if score is not None and not np.isnan(passed[place])]
    complexity = np.array([scores[place] for place in known], float)
    if len(known) < FEWEST or np.ptp(complexity) == 0:
        return None
    length, values = np.array([words[place] for place in known], float), passed[known]
    levels = np.unique(complexity)
    if len(levels) <= DISTINCT:
        members = [np.flatnonzero(complexity == level) for level in levels]
        dropped = 0
    else:
        cut = tiers(complexity.tolist(), length.astype(int).tolist(), min(10, len(known) // 10))
        members, dropped = [np.array(tier) for tier in cut.members], len(cut.dropped)
    medians = np.array([np.median(complexity[tier]) for tier in members])
    rates = np.array([values[tier].mean() for tier in members])
    rng = np.random.default_rng(0)
    draws = [tier[rng.integers(0, len(tier), (RESAMPLES, len(tier)))] for tier in members]
    sampled = np.stack([values[draw].mean(-1) for draw in draws], -1)
    areas, span = area(sampled, medians), medians[-1] - medians[0]
    every = np.concatenate(members)
    found: dict[str, Any] = {
        "medians": medians.tolist(),
        "pass": rates.tolist(),
        "counts": [len(tier) for tier in members],
        "words": [float(length[tier].mean()) for tier in members],
        "dropped_for_length": dropped,
        "median_passed": float(np.median(complexity[values >= 1])) if (values >= 1).any() else None,
        "auc": float(area(rates, medians)),
        "auc_ci95": _pair(areas),
        "auc_share": float(area(rates, medians) / span) if span else None,
        "tail": float(rates[-TAIL:].mean()),
        "tail_ci95": _pair(sampled[:, -TAIL:].mean(-1)),
        "length_given_complexity": partial(length[every], values[every], complexity[every]),
    }
    fit = logistic(complexity[every], values[every])
    # Beyond what was measured the fit is a guess.
    if fit is not None and complexity.min() <= fit[0] <= complexity.max():
        found |= {"c50": fit[0], "slope": fit[1]}
        halves = [
            logistic(complexity[draw], values[draw])
            for draw in (np.concatenate([draw[at] for draw in draws]) for at in range(200))
        ]
        ends = np.array([half[0] for half in halves if half is not None])
        found["c50_ci95"] = _pair(ends) if ends.size >= 100 else None
    return found


def _pair(samples: np.ndarray) -> list[float]:
    bounds = interval(samples)
    return [bounds.low, bounds.high]


def logistic(complexity: np.ndarray, passed: np.ndarray) -> tuple[float, float] | None:
    """Fit a logistic curve. Returns (complexity at half, slope of the log-odds); None if the pass rate does not fall.

    Newton's method with a ridge of 1e-3 on the standardised slope, so that separable data have a solution.
    """
    spread = complexity.std()
    if spread == 0 or passed.min() == passed.max():
        return None
    x = np.stack([np.ones_like(complexity), (complexity - complexity.mean()) / spread], 1)
    beta = np.zeros(2)
    for _ in range(50):
        chance = 1 / (1 + np.exp(-np.clip(x @ beta, -30, 30)))
        weight = np.maximum(chance * (1 - chance), 1e-9)
        hessian = x.T @ (x * weight[:, None]) + np.diag([0.0, 1e-3])
        step = np.linalg.solve(hessian, x.T @ (passed - chance) - np.array([0.0, 1e-3 * beta[1]]))
        beta += step
        if np.abs(step).max() < 1e-9:
            break
    slope = -beta[1] / spread
    return (float(complexity.mean() - beta[0] * spread / beta[1]), float(slope)) if slope > 1e-6 else None


def ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks from 0; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts + 1) / 2)[inverse.reshape(-1)]


def partial(a: np.ndarray, b: np.ndarray, given: np.ndarray) -> float | None:
    """Return Spearman's partial correlation of a and b given `given`; None if one of them does not vary."""
    ra, rb, rc = (ranks(values) for values in (a, b, given))
    if min(np.ptp(ra), np.ptp(rb), np.ptp(rc)) == 0:
        return None
    ab, ac, bc = (float(np.corrcoef(x, y)[0, 1]) for x, y in ((ra, rb), (ra, rc), (rb, rc)))
    left = (1 - ac**2) * (1 - bc**2)
    return float((ab - ac * bc) / left**0.5) if left > 1e-12 else None
