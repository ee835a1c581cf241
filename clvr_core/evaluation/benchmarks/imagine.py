"""ImagineBench (Echo-4o, arXiv 2508.09987, Apache-2.0): 270 things as they are not, graded for fantasy, identity and
looks."""

from __future__ import annotations

from pathlib import Path

from ...errors import BadInput
from .base import Answers, Benchmark, Item, Measure, Scale, graded, need, records, unlike
from .prism import fifths

PARTS = {
    "COLOR": "Attribute shift",
    "SHAPE": "Attribute shift",
    "SIZE": "Attribute shift",
    "MATERIAL": "Hybridization",
    "COMBINATION": "Hybridization",
    "TIME": "Spatiotemporal",
    "ENVIRONMENT": "Spatiotemporal",
    "Multi-Object": "Multi-Object",
}
PRINTED = {"Attribute shift": 3.0, "Hybridization": 2.0, "Spatiotemporal": 2.0}
MEANT = {**PRINTED, "Multi-Object": 2.0}
GRADES = {
    "fantasy": (
        "how fully the picture carries out the fantastic change",
        "there is a sign of the change, though misunderstood",
        "some of the change is there, with clear flaws",
        "most of the change is there and can be understood",
        "the change is there in full, with small faults",
        "the change is there in full and exact",
    ),
    "identity": (
        "how well the thing that was changed can still be known, in realistic detail",
        "it can barely be known",
        "some of its traits are there",
        "its main traits are there",
        "it is kept, with small faults",
        "it is kept faithfully in every main trait",
    ),
    "aesthetic": (
        "how clear, realistic and pleasing the picture is",
        "it is flawed",
        "it will do, with moderate flaws",
        "it is good",
        "it is very good",
        "it is excellent",
    ),
}


def scales_for(prompt: str, note: str) -> tuple[Scale, ...]:
    meant = f'The picture was made for the prompt "{prompt}". What is meant: {note}\nGrade {{}}, strictly.'
    return tuple(
        Scale(name, meant.format(what), 0.0, fifths(what, tuple(levels), 10.0))
        for name, (what, *levels) in GRADES.items()
    )


def weighted(grades) -> float:
    return 0.8 * min(grades["fantasy"], grades["identity"]) + 0.2 * grades["aesthetic"]


class Imagine(Benchmark):
    name = "imagine"
    title = "ImagineBench-compatible"
    expected = 270
    licence = "Apache-2.0"
    files = ("Imagine.jsonl", "test_scripts/Imagine.jsonl")
    measures = (
        Measure("overall, as the official script computes it", graded(weighted), weights=PRINTED, top=10.0),
        Measure("overall, with its multi-object part", graded(weighted), weights=MEANT, top=10.0),
        Measure("all prompts alike", graded(weighted), over="items", top=10.0),
    )
    notes = (
        "the official script gives weight to a type TWO_OBJECT that its data do not have, and so leaves the multi-object quarter out; the "
        "second number counts it with the weight of 2 that was meant",
        "the official judge is GPT-4.1-2025-04-14; it passes over missing pictures, and gives 0 where the judge failed",
    )

    def read(self, folder: Path) -> list[Item]:
        items = []
        for where, record in records(self.find(folder)[0]):
            number, kind = need(record, "id", (int, str), where), need(record, "type", str, where)
            if kind not in PARTS:
                raise BadInput(f"{where}: type is {kind!r:.40}; one of {', '.join(PARTS)} is expected")
            if not str(number).isalnum():
                raise BadInput(f"{where}: id is {number!r:.40}; letters and digits are expected")
            prompt, note = need(record, "instruction", str, where), need(record, "note", str, where)
            items.append(Item(f"{number}", prompt, PARTS[kind], scales=scales_for(prompt, note), record=record))
        return list(unlike(items, self.path))

    def path(self, item: Item, k: int) -> str:
        return f"{item.id}.png" if k == 0 else f"more/{item.id}-{k}.png"

    def passed(self, item: Item, answers: Answers) -> float | None:
        value = graded(weighted)(item, answers)
        return None if value is None else float(value >= 8)
