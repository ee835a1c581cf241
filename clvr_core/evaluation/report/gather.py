"""Gathering the results in a folder of pictures into groups that can be compared: same benchmark, data, judge and
texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import BadInput
from ..arms import CONTROLS
from ..atoms import with_atoms
from ..benchmarks import BENCHMARKS, Benchmark, data_hash, recognise
from ..benchmarks.base import Answers, Item
from ..scoring import Key, difference
from ..statistics import Interval, interval
from ..store import Arm, arms_in, read_json

SAME = ("bench", "data_sha256", "protocol", "judge", "words_sha256")
RESAMPLES = 2000


@dataclass(frozen=True)
class Entry:
    """One name under one judge.

    gap: of the headline measure to the baseline's, over the same items.
    """

    arm: Arm
    result: Mapping[str, Any]
    gap: tuple[float, Interval] | None = None
    pass_gap: tuple[float, Interval] | None = None

    @property
    def name(self) -> str:
        return self.result["name"]

    @property
    def way(self) -> str:
        return (self.result.get("made_by") or {}).get("arm") or "made elsewhere"

    @property
    def control(self) -> str:
        """What the pictures are the control of: the name whose evaluations they were given, "loops" if none was named, or
        "" if their arm is no control."""
        return (self.result["made_by"].get("match") or "loops") if self.way in CONTROLS else ""

    @property
    def headline(self) -> Mapping[str, Any]:
        return next(iter(self.result["measures"].values()))

    @property
    def evaluations(self) -> float | None:
        return (self.result.get("spent") or {}).get("evaluations")


@dataclass(frozen=True)
class Group:
    """Entries that can be compared, the baseline first.

    data, items: if the benchmark's folder was given and is the one that was scored.
    """

    bench: Benchmark
    entries: tuple[Entry, ...]
    data: Path | None = None
    items: tuple[Item, ...] = ()
    answers: Mapping[str, Mapping[Key, Answers]] = field(default_factory=dict)

    @property
    def baseline(self) -> Entry:
        return self.entries[0]

    @property
    def title(self) -> str:
        first = self.baseline.result
        return f"{first['title']}, {first['protocol']}, {first['judge']}"


def gather(images: Path, data: Path | None, baseline: str | None) -> list[Group]:
    """Gather the results. Raises BadInput if there are none, or none of the baseline's name."""
    grouped: dict[tuple, list[Entry]] = {}
    for arm in arms_in(images):
        for result in arm.results():
            if result.get("bench") not in BENCHMARKS or not result.get("measures"):
                raise BadInput(f"a result of {arm.name!r} in {images} cannot be read; score it again")
            grouped.setdefault(tuple(result.get(key) for key in SAME), []).append(Entry(arm, result))
    if not grouped:
        raise BadInput(f"{images} has no result yet: score its pictures with clvr eval score")
    if baseline is not None and not any(entry.name == baseline for entries in grouped.values() for entry in entries):
        names = sorted({entry.name for entries in grouped.values() for entry in entries})
        raise BadInput(f"there is no result of the baseline {baseline!r}; there are those of {', '.join(names)}")
    return [_group(entries, data, baseline) for entries in grouped.values()]


def _group(entries: Sequence[Entry], data: Path | None, baseline: str | None) -> Group:
    ordered = sorted(entries, key=lambda entry: (entry.name != baseline, entry.way != "oneshot", entry.name))
    first = ordered[0]
    bench, items = BENCHMARKS[first.result["bench"]], ()
    answers: dict[str, dict[Key, Answers]] = {}
    if data is not None and recognise_same(bench, data, first.result["data_sha256"]):
        items = tuple(with_atoms(bench.read(data), first.arm.images))
        answers = {entry.name: answers_of(entry) for entry in ordered}
    else:
        data = None
    compared = [first]
    for entry in ordered[1:]:
        gap = None
        if items:
            pictures = max(item.pictures for item in items)
            headline = next(
                (measure for measure in bench.measures if measure.name in entry.result["measures"]), bench.measures[0]
            )
            gap = difference(headline, items, answers[entry.name], answers[first.name], pictures)
        compared.append(Entry(entry.arm, entry.result, gap, pass_gap(entry.result, first.result)))
    return Group(bench, tuple(compared), data, items, answers)


def recognise_same(bench: Benchmark, data: Path, digest: str) -> bool:
    """Say whether the folder holds the data that were scored. Raises BadInput if it holds no benchmark."""
    recognise(data)
    return bool(bench.find(data)) and data_hash(bench, data) == digest


def answers_of(entry: Entry) -> dict[Key, Answers]:
    """Return the answers that the result was computed from."""
    for path in entry.arm.kept.glob("answers-*.jsonl"):
        key = path.stem.removeprefix("answers-")
        held = read_json(entry.arm.kept / f"result-{key}.json")
        if held is not None and all(held.get(name) == entry.result.get(name) for name in (*SAME, "file_sha256")):
            return {(line["item"], line["k"]): line["answers"] for line in entry.arm.answers(key).lines}
    return {}


def pass_gap(mine: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[float, Interval] | None:
    """Return the paired difference in the share of items that show everything asked for; None with fewer than two
    common items."""
    theirs = {item["id"]: item["passed"] for item in other["by_item"]}
    pairs = [(item["passed"], theirs.get(item["id"])) for item in mine["by_item"]]
    gaps = np.array([a - b for a, b in pairs if a is not None and b is not None])
    if gaps.size < 2:
        return None
    picks = np.random.default_rng(0).integers(0, gaps.size, (RESAMPLES, gaps.size))
    return float(gaps.mean()), interval(gaps[picks].mean(-1))
