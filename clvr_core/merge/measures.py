"""Measures of the deltas of a tensor, a block or a model: sums over elements, and the figures computed from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from math import sqrt
from typing import Any

import numpy as np

DELTAS = ("aligned", "lora", "distilled")
EXPECTED = {
    "relative_norm": "2 to 3 % of the base's norm for distilled and fine-tuned weights, 0.0075 % for the LoRA of the reinforcement stage",
    "cosine": "near 0 between the distilled delta and the aligned one",
    "source": "CLVR's note on delta-space weight merge, hypothesis 1 and proposition 4, FLUX.2 Klein 4B",
}
"""The figures that the paper reports for its own weights, shown beside the measured ones."""


@dataclass(slots=True)
class Delta:
    """Sums over the elements of one delta.

    squares: sum of delta^2, without the strength of a checkpoint, with that of a LoRA.
    scaled: sum of (strength * delta)^2.
    error: sum of rounding error times strength * delta.
    peak: the largest |delta|.
    place: atom and element of the peak.
    """

    squares: float = 0.0
    scaled: float = 0.0
    error: float = 0.0
    peak: float = 0.0
    place: tuple[str, int] = ("", 0)

    def add(self, other: Delta) -> None:
        self.squares += other.squares
        self.scaled += other.scaled
        self.error += other.error
        if other.peak > self.peak:
            self.peak, self.place = other.peak, other.place


@dataclass(slots=True)
class Pair:
    """Sums over the elements that two sides change.

    product: sum of one side times the other, with strengths.
    signed: elements that both change.
    conflicts: elements that they change in opposite directions.
    """

    product: float = 0.0
    signed: float = 0.0
    conflicts: float = 0.0

    def add(self, other: Pair) -> None:
        self.product += other.product
        self.signed += other.signed
        self.conflicts += other.conflicts


def side_of(role: str) -> str:
    """Return the side that a delta belongs to: LoRAs are added to the aligned one, every other delta is its own."""
    return "aligned" if role == "lora" else role


def sides_of(roles: Iterable[str]) -> list[str]:
    """Return the sides of the deltas of these roles, aligned and distilled first."""
    found = dict.fromkeys(map(side_of, roles))
    return [side for side in dict.fromkeys(("aligned", "distilled", *found)) if side in found]


@dataclass(slots=True)
class Measures:
    """Sums over the elements of a tensor, a block or a model. Sums over a sample are weighted to estimate those over
    all elements.

    count: elements.
    base: sum of base^2.
    deltas: sums by role: aligned, lora or distilled.
    sides: sum of the square of each side, with strengths.
    pairs: of each two sides.
    """

    count: float = 0.0
    base: float = 0.0
    deltas: dict[str, Delta] = field(default_factory=dict)
    sides: dict[str, float] = field(default_factory=dict)
    pairs: dict[tuple[str, str], Pair] = field(default_factory=dict)

    def add(self, other: Measures) -> None:
        self.count += other.count
        self.base += other.base
        for role, delta in other.deltas.items():
            if (mine := self.deltas.get(role)) is None:
                mine = self.deltas[role] = Delta()
            mine.add(delta)
        for side, squares in other.sides.items():
            self.sides[side] = self.sides.get(side, 0.0) + squares
        for sides, pair in other.pairs.items():
            if (mine := self.pairs.get(sides)) is None:
                mine = self.pairs[sides] = Pair()
            mine.add(pair)

    def relative_norm(self, role: str) -> float | None:
        """Return |delta| / |base|; the delta of a checkpoint is taken without its strength, that of LoRAs with
        theirs."""
        delta = self.deltas.get(role)
        return sqrt(delta.squares / self.base) if delta and self.base else None

    def survival(self, role: str) -> float | None:
        """Return the share of the delta left after rounding: the projection of the stored change on the exact
        change."""
        delta = self.deltas.get(role)
        return 1 + delta.error / delta.scaled if delta and delta.scaled else None

    @property
    def cosine(self) -> float | None:
        """Cosine between the aligned delta (LoRAs included) and the distilled one, with their strengths; None without
        both."""
        return self.cosine_of("aligned", "distilled")

    def cosine_of(self, one: str, two: str) -> float | None:
        """Cosine between two sides, with their strengths; None without both."""
        squares = self.sides.get(one, 0.0) * self.sides.get(two, 0.0)
        return self.pairs[one, two].product / sqrt(squares) if squares and (one, two) in self.pairs else None

    @property
    def sign_conflicts(self) -> float | None:
        """Of the weights that both sides change, the share that they change in opposite directions; 0.5 for independent
        deltas."""
        return self.conflicts_of("aligned", "distilled")

    def conflicts_of(self, one: str, two: str) -> float | None:
        """Of the weights that both sides change, the share that they change in opposite directions."""
        pair = self.pairs.get((one, two))
        return pair.conflicts / pair.signed if pair and pair.signed else None

    def conflict(self, one: str, two: str) -> dict[str, float | None]:
        """Return the figures of two sides: their cosine, and of the weights that both change the share that they change
        in the same direction."""
        conflicts = self.conflicts_of(one, two)
        agreement = None if conflicts is None else _short(1.0 - conflicts)
        return {"cosine": _short(self.cosine_of(one, two)), "sign_agreement": agreement}

    def figures(self) -> dict[str, Any]:
        """Return the figures for the report.

        They have four significant digits, because the order of the sums, and so their last bits, depends on the
        threads.
        """
        found: dict[str, Any] = {"parameters": round(self.count)}
        for role in roles_of(self):
            found[role] = {
                "relative_norm": _short(self.relative_norm(role)),
                "survival": _short(self.survival(role)),
            }
        return found | {"cosine": _short(self.cosine), "sign_conflicts": _short(self.sign_conflicts)}


def roles_of(measures: Measures) -> list[str]:
    """Return the roles of the deltas in their order."""
    return [role for role in dict.fromkeys((*DELTAS, *measures.deltas)) if role in measures.deltas]


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def measure(
    atom: str,
    start: int,
    weight: float,
    base: np.ndarray,
    deltas: Mapping[str, tuple[np.ndarray, float]],
    merged: np.ndarray,
    stored: np.ndarray,
) -> Measures:
    """Measure consecutive elements of one atom. All arrays are fp32 [n].

    atom, start: name of the atom, and the place of the first element in it.
    weight: how many elements of the atom each of these stands for, 1 unless sampled.
    base: values of the base.
    deltas: each delta and its strength, by role.
    merged: merged values before rounding.
    stored: merged values after rounding.
    """
    found = Measures(weight * len(base), weight * _dot(base, base))
    error = stored - merged
    sides: dict[str, np.ndarray] = {}
    for role, (delta, strength) in deltas.items():
        scaled = delta if strength == 1.0 else delta * np.float32(strength)
        squares = _dot(delta, delta)
        index = int(np.argmax(np.abs(delta)))
        found.deltas[role] = Delta(
            weight * squares,
            weight * strength * strength * squares,
            weight * _dot(error, scaled),
            float(abs(delta[index])),
            (atom, start + index),
        )
        side = side_of(role)
        sides[side] = sides[side] + scaled if side in sides else scaled
    found.sides = {side: weight * _dot(sides[side], sides[side]) for side in sides_of(sides)}
    for one, two in combinations(found.sides, 2):
        left, right = sides[one], sides[two]
        # Signs by comparison: the product of two small deltas would underflow.
        both = int(np.count_nonzero((left != 0) & (right != 0)))
        alike = int(np.count_nonzero((left > 0) & (right > 0)) + np.count_nonzero((left < 0) & (right < 0)))
        found.pairs[one, two] = Pair(weight * _dot(left, right), weight * both, weight * (both - alike))
    return found


def _dot(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.dot(left, right))


@dataclass(frozen=True)
class Findings:
    """The measures of a merge, and sentences of warning for the user.

    tensors, blocks: by name.
    sampled: estimated from a sample, not computed from every weight.
    noise: by role, the norm that the rounding of quantised weights alone gives its delta, relative to the base's norm;
        from a sample.
    """

    tensors: dict[str, Measures]
    blocks: dict[str, Measures]
    sampled: bool
    warnings: tuple[str, ...]
    noise: Mapping[str, float] = field(default_factory=dict)


def summed(parts: Iterable[Measures]) -> Measures:
    """Return the measures of all parts together."""
    found = Measures()
    for part in parts:
        found.add(part)
    return found


def outliers(tensors: Mapping[str, Measures], count: int = 10) -> list[dict[str, Any]]:
    """Return the `count` most extreme elements of the deltas for the report.

    An element is as extreme as its ratio to the root mean square of the delta of its tensor.
    """
    found = []
    for name, measures in tensors.items():
        for role, delta in measures.deltas.items():
            if delta.squares:
                times = delta.peak / sqrt(delta.squares / measures.count)
                found.append(
                    {
                        "tensor": name,
                        "delta": role,
                        "element": delta.place[1],
                        "value": _short(delta.peak),
                        "times_rms": _short(times),
                    }
                )
                if delta.place[0] != name:
                    found[-1]["part"] = delta.place[0]
    return sorted(found, key=lambda each: -each["times_rms"])[:count]
