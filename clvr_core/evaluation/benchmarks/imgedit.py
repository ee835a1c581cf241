"""ImgEdit-Bench, basic part (arXiv 2505.20275): 737 edits of nine types, three grades from 1 to 5."""

from __future__ import annotations

from pathlib import Path

from ...errors import BadInput
from .base import Answers, Benchmark, Item, Measure, Scale, graded, inside, mapping, need, unlike

GRADES = {
    "compliance": (
        "how far the second image carries out the instruction, and nothing but it",
        "it was tried, and is wrong or missing for the most part",
        "it is carried out in part",
        "it is carried out with small faults",
        "it is carried out exactly",
    ),
    "kept": (
        "how well all that the instruction does not touch is the same in the second image as in the first",
        "much of the rest has changed",
        "some of the rest has changed",
        "hardly anything of the rest has changed",
        "nothing of the rest has changed",
    ),
    "quality": (
        "how clean the edit looks: seams, light, proportion, artefacts",
        "it is clearly broken in places",
        "it will do, with flaws that can be seen",
        "it is clean with small flaws",
        "it cannot be told that there was an edit",
    ),
}


def scales_for(prompt: str) -> tuple[Scale, ...]:
    asked = f'The second image is the first after an edit. The instruction was "{prompt}".\nGrade {{}}.'
    return tuple(
        Scale(name, asked.format(what), 1.0, tuple((float(place), level) for place, level in enumerate(levels, 2)))
        for name, (what, *levels) in GRADES.items()
    )


class ImgEdit(Benchmark):
    name = "imgedit"
    title = "ImgEdit-Bench-compatible"
    expected = 737
    licence = "no licence for the code; the data's card says MIT"
    files = ("basic_edit.json", "Basic/basic_edit.json", "Benchmark/Basic/basic_edit.json")
    measures = (
        Measure("overall", graded(lambda grades: sum(grades.values()) / len(grades)), over="items", top=5.0),
        Measure("mean of the types", graded(lambda grades: sum(grades.values()) / len(grades)), top=5.0),
        Measure(
            "overall, no grade above compliance",
            graded(lambda grades: sum(min(g, grades["compliance"]) for g in grades.values()) / 3),
            top=5.0,
        ),
    )
    notes = ("the official judge is GPT-4o with a prompt for each type of edit; here one wording serves all types",)

    def read(self, folder: Path) -> list[Item]:
        path, items = self.find(folder)[0], []
        for key, record in mapping(path).items():
            where = f"{path} entry {key!r:.40}"
            if not isinstance(record, dict):
                raise BadInput(f"{where} is {record!r:.60}; an object is expected")
            inside(key, where)
            prompt, kind = need(record, "prompt", str, where), need(record, "edit_type", str, where)
            source = inside(need(record, "id", str, where), where)
            items.append(Item(key, prompt, kind, scales=scales_for(prompt), source=source, record=record))
        return list(unlike(items, self.path))

    def path(self, item: Item, k: int) -> str:
        return f"{item.id}.png" if k == 0 else f"more/{item.id}-{k}.png"

    def passed(self, item: Item, answers: Answers) -> float | None:
        value = graded(lambda grades: min(grades["compliance"], grades["kept"]))(item, answers)
        return None if value is None else float(value >= 4)
