"""Examples: items where one arm's picture shows everything asked for and the baseline's does not, or the other way
round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..benchmarks.base import HOLDS, Answers, Item
from .gather import Entry, Group

SHOWN = 4
"""Examples of each kind, for each name."""


@dataclass(frozen=True)
class Example:
    """Two pictures of one item.

    k: number of the picture.
    won: the arm's picture is the better one.
    files: the baseline's picture and the arm's; None if it is gone.
    faults: what does not hold in each, in words.
    """

    item: Item
    k: int
    won: bool
    files: tuple[Path | None, Path | None]
    faults: tuple[str, str]


def examples(group: Group, entry: Entry) -> list[Example]:
    """Return the examples, wins first, each kind by the gap of the headline measure. The order of items breaks ties, so
    the choice is repeatable."""
    if not group.items:
        return []
    mine, theirs = group.answers.get(entry.name, {}), group.answers.get(group.baseline.name, {})
    found: list[tuple[float, int, Example]] = []
    for place, item in enumerate(group.items):
        for k in range(item.pictures):
            if (item.id, k) not in mine or (item.id, k) not in theirs:
                continue
            pair = theirs[item.id, k], mine[item.id, k]
            before, after = (group.bench.passed(item, answers) for answers in pair)
            if before is None or after is None or before == after:
                continue
            low, high = (group.bench.measures[0].value(item, answers) for answers in pair)
            gap = 0.0 if low is None or high is None else abs(high - low)
            files = group.baseline.arm.find(group.bench, item, k), entry.arm.find(group.bench, item, k)
            words = faults(item, pair[0]), faults(item, pair[1])
            found.append((-gap, place, Example(item, k, after > before, files, words)))
    found.sort(key=lambda one: one[:2])
    ordered = [example for _, _, example in found]
    wins, losses = ([example for example in ordered if example.won is won][:SHOWN] for won in (True, False))
    return [*wins, *losses]


def counts(group: Group, entry: Entry) -> tuple[int, int]:
    """Return how many items were won and lost against the baseline."""
    theirs = {item["id"]: item["passed"] for item in group.baseline.result["by_item"]}
    pairs = [(item["passed"], theirs.get(item["id"])) for item in entry.result["by_item"]]
    gaps = np.array([a - b for a, b in pairs if a is not None and b is not None])
    return int((gaps > 0).sum()), int((gaps < 0).sum())


def faults(item: Item, answers: Answers | Mapping[str, float | None]) -> str:
    """Return what does not hold, and each grade, in words."""
    missing = [atom.text for atom in item.atoms if not atom.extra and (answers.get(atom.id) or 0.0) < HOLDS]
    grades = [
        f"{scale.id} {answers[scale.id]:.1f} of {scale.high:g}"
        for scale in item.scales
        if answers.get(scale.id) is not None
    ]
    if item.atoms and not missing:
        return "all holds"
    return "; ".join([*(["not: " + ", ".join(missing[:6])] if missing else []), *grades])
