"""From the answers about each picture to a benchmark's numbers, with their intervals and what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .benchmarks.base import Answers, Benchmark, Item, Measure
from .statistics import Interval, interval

RESAMPLES = 2000
Key = tuple[str, int]
"""Id of an item, and number of its picture."""


@dataclass(frozen=True, slots=True)
class Number:
    """One number of a benchmark.

    value: over the answered pictures; None without any.
    strict: with missing and unanswered pictures as 0.
    tags: the value of each tag.
    count: items that have a value.
    """

    value: float | None
    strict: float | None
    bounds: Interval | None
    tags: Mapping[str, float] = field(default_factory=dict)
    count: int = 0


def values_of(
    measure: Measure, items: Sequence[Item], answers: Mapping[Key, Answers], pictures: int, strict: bool
) -> np.ndarray:
    """Return one value for each item, NaN without one.

    pictures: how many of each item are counted, at most.
    """
    found = np.full(len(items), np.nan)
    for place, item in enumerate(items):
        values = []
        for k in range(min(pictures, item.pictures)):
            known = answers.get((item.id, k))
            value = None if known is None else measure.value(item, known)
            if value is not None or strict:
                values.append(0.0 if value is None else value)
        if values:
            found[place] = max(values) if measure.best else sum(values) / len(values)
    return found


class Sums:
    """How a measure joins the values of items: a weight for each item, and the groups whose means are joined."""

    def __init__(self, measure: Measure, items: Sequence[Item]) -> None:
        self.units = np.array([measure.unit(item) for item in items])
        if measure.over == "items":
            self.groups, self.weights = [np.arange(len(items))], np.ones(1)
            return
        tags = list(dict.fromkeys(item.tag for item in items))
        weights = dict.fromkeys(tags, 1.0) if measure.weights is None else measure.weights
        kept = [tag for tag in tags if weights.get(tag)]
        self.groups = [np.array([place for place, item in enumerate(items) if item.tag == tag]) for tag in kept]
        self.weights = np.array([weights[tag] for tag in kept])

    def joined(self, values: np.ndarray, picks: Sequence[np.ndarray] | None = None) -> np.ndarray:
        """Return the weighted mean of the groups' means, NaN if no group has a value.

        values: (items,).
        picks: for each group (resamples, size).
        """
        means = []
        for place, group in enumerate(self.groups):
            chosen = group if picks is None else group[picks[place]]
            mine, units = values[chosen], self.units[chosen]
            there = ~np.isnan(mine)
            total = np.where(there, units, 0.0).sum(-1)
            with np.errstate(invalid="ignore", divide="ignore"):
                means.append(np.where(there, mine * units, 0.0).sum(-1) / total)
        if not means:
            return np.array(np.nan)
        stacked = np.stack(means, -1)
        there = ~np.isnan(stacked)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(there, stacked * self.weights, 0.0).sum(-1) / np.where(there, self.weights, 0.0).sum(-1)

    def picks(self, seed: int = 0) -> list[np.ndarray]:
        """Return resamples of the items within their groups; they are the same for equal items."""
        rng = np.random.default_rng(seed)
        return [rng.integers(0, len(group), (RESAMPLES, len(group))) for group in self.groups]


def _or_none(value: float | np.ndarray) -> float | None:
    return None if np.isnan(value) else float(value)


def number(measure: Measure, items: Sequence[Item], answers: Mapping[Key, Answers], pictures: int) -> Number:
    values = values_of(measure, items, answers, pictures, strict=False)
    strict = values_of(measure, items, answers, pictures, strict=True)
    sums = Sums(measure, items)
    tags = {}
    for tag in dict.fromkeys(item.tag for item in items):
        mine = [place for place, item in enumerate(items) if item.tag == tag]
        value = Sums(
            Measure(measure.name, measure.value, "items", unit=measure.unit), [items[place] for place in mine]
        ).joined(values[mine])
        if not np.isnan(value):
            tags[tag] = float(value)
    count = int((~np.isnan(values)).sum())
    samples = sums.joined(values, sums.picks()) if count > 1 else np.array([np.nan])
    known = samples[~np.isnan(samples)]
    bounds = interval(known) if known.size else None
    return Number(_or_none(sums.joined(values)), _or_none(sums.joined(strict)), bounds, tags, count)


def difference(
    measure: Measure, items: Sequence[Item], mine: Mapping[Key, Answers], other: Mapping[Key, Answers], pictures: int
) -> tuple[float, Interval] | None:
    """Return the difference of two sets of answers over the items that both have a value for, and its interval over
    paired resamples.

    None with fewer than two such items.
    """
    ours, theirs = (values_of(measure, items, answers, pictures, strict=False) for answers in (mine, other))
    both = np.flatnonzero(~np.isnan(ours) & ~np.isnan(theirs))
    if both.size < 2:
        return None
    sums = Sums(measure, [items[place] for place in both.tolist()])
    picks = sums.picks()
    gap = sums.joined(ours[both]) - sums.joined(theirs[both])
    samples = sums.joined(ours[both], picks) - sums.joined(theirs[both], picks)
    return (float(gap), interval(samples[~np.isnan(samples)])) if not np.isnan(gap) else None


def passes(bench: Benchmark, items: Sequence[Item], answers: Mapping[Key, Answers], pictures: int) -> np.ndarray:
    """Return for each item the share of its pictures that show everything asked for, NaN if none was answered."""
    return values_of(Measure("pass", bench.passed), items, answers, pictures, strict=False)
