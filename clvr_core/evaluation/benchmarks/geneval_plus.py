"""GenEval++ (Echo-4o, arXiv 2508.09987, Apache-2.0): up to three attributed kinds of thing, 280 prompts in seven
parts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import BadInput
from ..prompt_parse import of_record
from .base import Answers, Atom, Benchmark, Item, Measure, all_hold, need, records, unlike
from .geneval import clauses, counted, plural

REGIONS = {
    "left": "in the left part",
    "right": "in the right part",
    "above": "in the upper part",
    "below": "in the lower part",
}
PHOTO = Atom(
    "photo",
    "one natural photograph",
    "Is the picture one natural, coherent scene that looks like a photograph, and no drawing, cartoon, collage or row of panels?",
    "photo",
)


def checklist(record: Mapping[str, Any], where: str) -> tuple[Atom, ...]:
    """Counts are exact, all clauses must hold, and so must the look of a photograph."""
    include, atoms = clauses(record, where), []
    sizes = [clause for clause in include if clause.get("size")]
    for place, clause in enumerate(include):
        noun, count, there = clause["class"], clause.get("count", 1), f"{place}"
        things = counted(count, noun)
        exactly = f"one {noun}" if count == 1 else things
        atoms.append(Atom(there, things, f"Does the picture show exactly {exactly}, no more and no fewer?", "count"))
        if color := clause.get("color"):
            text = counted(count, noun, str(color))
            atoms.append(Atom(f"{place}-color", text, f"Is it so that the picture shows {text}?", "color", (there,)))
        if region := clause.get("region"):
            if region not in REGIONS:
                raise BadInput(
                    f"{where}: include {place}: region is {region!r:.40}; one of {', '.join(REGIONS)} is expected"
                )
            text = f"{things} {REGIONS[region]} of the picture"
            atoms.append(Atom(f"{place}-region", text, f"Does the picture show {text}?", "region", (there,)))
        if size := clause.get("size"):
            others = [other for other in sizes if other is not clause]
            than = f" than the {others[0]['class']}" if others else ""
            verb = "is" if count == 1 else "are"
            text = f"the {noun if count == 1 else plural(noun)} {verb} {size}{than}"
            atoms.append(Atom(f"{place}-size", text, f"Is it so that {text}?", "size", (there,)))
    named = {clause["class"]: clause.get("count", 1) for clause in include}
    for clause in record.get("exclude") or ():
        if clause["count"] - 1 != named.get(clause["class"]):
            text = f"no more than {clause['count'] - 1} {plural(clause['class'])}"
            atoms.append(Atom(f"not-{clause['class']}", text, f"Is it so that the picture shows {text}?", "exclude"))
    return (*atoms, PHOTO)


def any_style(item: Item, answers: Answers) -> float | None:
    return all_hold(item, {**answers, PHOTO.id: 1.0})


class GenEvalPlus(Benchmark):
    name = "geneval++"
    title = "GenEval++-compatible"
    expected = 280
    licence = "Apache-2.0"
    files = ("Geneval++.jsonl", "test_scripts/Geneval++.jsonl")
    measures = (
        Measure("overall", all_hold),
        Measure("overall, any style", any_style),
        Measure("all prompts alike", all_hold, over="items"),
    )
    notes = (
        "the official judge is GPT-4.1 over one checklist; it counts a missing picture and a judge's failure as wrong, as the strict "
        "column does here",
        "what does not look like a photograph is wrong; the second number leaves the style aside",
    )

    def read(self, folder: Path) -> list[Item]:
        items = []
        for number, (where, record) in enumerate(records(self.find(folder)[0]), 1):
            prompt, tag = need(record, "prompt", str, where), need(record, "tag", str, where)
            items.append(
                Item(f"{number}", prompt, tag, checklist(record, where), parse=of_record(record, prompt), record=record)
            )
        return list(unlike(items, self.path))

    def path(self, item: Item, k: int) -> str:
        # The official script opens nothing but .jpg, and so the picture is kept as one.
        return f"{item.id}.jpg" if k == 0 else f"more/{item.id}-{k}.jpg"
