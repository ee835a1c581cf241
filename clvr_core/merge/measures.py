"""Measures of the deltas of a tensor, a block or a model: sums over elements, and the figures computed from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
class Measures:
    """Sums over the elements of a tensor, a block or a model. Sums over a sample are weighted to estimate those over
    all elements.

    count: elements.
    base: sum of base^2.
    deltas: sums by role: aligned, lora or distilled.
    aligned: sum of the squared aligned side, LoRAs included, with strengths.
    cross: sum of aligned side times distilled side, with strengths.
    conflicts: elements that the two sides change in opposite directions.
    signed: elements that both sides change.
    """

    count: float = 0.0
    base: float = 0.0
    deltas: dict[str, Delta] = field(default_factory=dict)
    aligned: float = 0.0
    cross: float = 0.0
    conflicts: float = 0.0
    signed: float = 0.0

    def add(self, other: Measures) -> None:
        for name in ("count", "base", "aligned", "cross", "conflicts", "signed"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for role, delta in other.deltas.items():
            self.deltas.setdefault(role, Delta()).add(delta)

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
        distilled = self.deltas.get("distilled")
        return (
            self.cross / sqrt(self.aligned * distilled.scaled)
            if self.aligned and distilled and distilled.scaled
            else None
        )

    @property
    def sign_conflicts(self) -> float | None:
        """Of the weights that both sides change, the share that they change in opposite directions; 0.5 for independent
        deltas."""
        return self.conflicts / self.signed if self.signed else None

    def figures(self) -> dict[str, Any]:
        """Return the figures for the report.

        They have four significant digits, because the order of the sums, and so their last bits, depends on the
        threads.
        """
        found: dict[str, Any] = {"parameters": round(self.count)}
        for role in DELTAS:
            if role in self.deltas:
                found[role] = {
                    "relative_norm": _short(self.relative_norm(role)),
                    "survival": _short(self.survival(role)),
                }
        return found | {"cosine": _short(self.cosine), "sign_conflicts": _short(self.sign_conflicts)}


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
        side = "distilled" if role == "distilled" else "aligned"
        sides[side] = sides[side] + scaled if side in sides else scaled
    if len(sides) == 2:
        aligned, distilled = sides["aligned"], sides["distilled"]
        found.aligned, found.cross = weight * _dot(aligned, aligned), weight * _dot(aligned, distilled)
        # Signs by comparison: the product of two small deltas would underflow.
        both = int(np.count_nonzero((aligned != 0) & (distilled != 0)))
        agree = int(
            np.count_nonzero((aligned > 0) & (distilled > 0)) + np.count_nonzero((aligned < 0) & (distilled < 0))
        )
        found.signed, found.conflicts = weight * both, weight * (both - agree)
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
