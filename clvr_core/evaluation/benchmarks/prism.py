"""PRISM-Bench (FLUX-Reason-6M, arXiv 2509.09680): seven tracks of 100 prompts, graded for alignment and for looks."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from ...errors import BadInput
from .base import Answers, Benchmark, Item, Measure, Scale, graded, need, records, text_of, unlike

TRACKS = ("imagination", "entity", "text_rendering", "style", "affection", "composition", "long_text")
GRADES = {
    "alignment": (
        "how far the picture shows what the prompt asks for",
        "little of it is there",
        "some of it is there",
        "most of it is there",
        "nearly all of it is there and right",
        "all of it is there and right",
    ),
    "aesthetics": (
        "how good the picture is as a picture, whatever was asked for",
        "it is poor",
        "it is middling",
        "it is good",
        "it is very good",
        "it is outstanding",
    ),
}
PROMPTS = ("prompt", "Prompt", "caption", "text")


def fifths(asked: str, levels: tuple[str, ...], high: float) -> tuple[tuple[float, str], ...]:
    return tuple((high * place / len(levels), level) for place, level in enumerate(levels, 1))


def scales_for(prompt: str) -> tuple[Scale, ...]:
    return tuple(
        Scale(
            name,
            f'The picture was made for the prompt "{prompt}".\nGrade {what}.',
            0.0,
            fifths(what, tuple(levels), 100.0),
        )
        for name, (what, *levels) in GRADES.items()
    )


def track_of(name: str) -> str | None:
    """Return the track named in the name of a file or category."""
    plain = name.casefold().replace("-", "_").replace(" ", "_")
    return next((track for track in (*TRACKS[::-1], "text") if track in plain), None)


class Prism(Benchmark):
    name = "prism"
    title = "PRISM-Bench-compatible"
    expected = 700
    licence = "unclear: its data may not be passed on"
    files = ("*.jsonl", "*.tsv", "prompts/*.jsonl")
    measures = (
        Measure("overall", graded(lambda grades: (grades["alignment"] + grades["aesthetics"]) / 2), top=100.0),
        Measure("alignment", graded(lambda grades: grades["alignment"]), top=100.0),
        Measure("aesthetics", graded(lambda grades: grades["aesthetics"]), top=100.0),
    )
    notes = (
        "the official judges are GPT-4.1 and Qwen2.5-VL-72B; their prompts and their averaging were not seen, so the mean of the two "
        "grades is taken as the paper describes it",
    )

    def find(self, folder: Path) -> tuple[Path, ...]:
        found = super().find(folder)
        tracks = tuple(path for path in found if path.suffix == ".jsonl" and track_of(path.stem))
        if tracks:
            return tuple(sorted(tracks, key=lambda path: TRACKS.index(self.track(path.stem))))
        return tuple(path for path in found if path.suffix == ".tsv" and text_of(path)[:200].startswith("Prompt"))

    @staticmethod
    def track(name: str) -> str:
        track = track_of(name) or ""
        return "text_rendering" if track == "text" else track

    def read(self, folder: Path) -> list[Item]:
        items: list[Item] = []
        places: dict[str, int] = {}
        for path in self.find(folder):
            for where, track, record in self._lines(path):
                name = next((name for name in PROMPTS if record.get(name)), PROMPTS[0])
                prompt = need(record, name, str, where)
                place = places[track] = places.get(track, -1) + 1
                items.append(Item(f"{track}/{place}", prompt, track, scales=scales_for(prompt), record=record))
        return list(unlike(items, self.path))

    def _lines(self, path: Path) -> list[tuple[str, str, dict[str, Any]]]:
        if path.suffix == ".jsonl":
            return [(where, self.track(path.stem), record) for where, record in records(path)]
        lines = []
        for number, row in enumerate(csv.DictReader(io.StringIO(text_of(path)), delimiter="\t"), 2):
            track = track_of(row.get("Category") or "")
            if track is None:
                raise BadInput(
                    f"{path} line {number}: Category is {row.get('Category')!r:.40}; one of {', '.join(TRACKS)} is expected"
                )
            lines.append(
                (f"{path} line {number}", self.track(track), {key: value for key, value in row.items() if key})
            )
        return lines

    def path(self, item: Item, k: int) -> str:
        return f"{item.id}.png" if k == 0 else f"more/{item.id}-{k}.png"

    def passed(self, item: Item, answers: Answers) -> float | None:
        grade = answers.get("alignment")
        return None if grade is None else float(grade >= 80)
