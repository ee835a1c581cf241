"""WISE (arXiv 2503.07265, no licence file): 1000 prompts whose picture takes knowledge of the world.

Two protocols: the legacy one grades three things from 0 to 2; WISE_Verified, the default since April 2026, is a yes or
no.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ...errors import BadInput
from .base import Answers, Atom, Benchmark, Item, Measure, Scale, graded, mean_of, need, records, unlike

TAGS = ("culture", "time", "space", "biology", "physics", "chemistry")
# First prompt_id of each part, as the official scripts have them.
LEGACY_STARTS: dict[str, int] = dict(zip(TAGS, (1, 401, 568, 701, 801, 901)))
VERIFIED_STARTS: dict[str, int] = dict(zip(TAGS, (1, 401, 521, 641, 761, 881)))
LEGACY: dict[str, float] = dict(zip(TAGS, (0.4, 0.167, 0.133, 0.1, 0.1, 0.1)))
VERIFIED: dict[str, float] = dict(zip(TAGS, (0.4, *[0.12] * 5)))
GRADES = {
    "consistency": (
        "how fully the picture shows what the prompt means, the explanation of it in mind",
        "part of what the prompt means is there, though not all, or not all of it right",
        "every element of what the prompt means is there and right, with nothing left out",
    ),
    "realism": (
        "how real the picture looks: physics, materials, light",
        "it is believable on the whole, with flaws that can be seen",
        "it cannot be told from a photograph",
    ),
    "aesthetic_quality": (
        "how good the picture is as a picture: composition, colour, finish",
        "it is pleasing and in order",
        "it is a masterly picture",
    ),
}


def tag_of(number: int, starts: Mapping[str, int]) -> str:
    return [tag for tag, start in starts.items() if number >= start][-1]


def scales_for(prompt: str, explanation: str) -> tuple[Scale, ...]:
    meant = f'The picture was made for the prompt "{prompt}". What is meant: {explanation}\nGrade {{}}, strictly.'
    return tuple(
        Scale(name, meant.format(what), 0.0, ((1.0, some), (2.0, full))) for name, (what, some, full) in GRADES.items()
    )


def wiscore(grades) -> float:
    return (0.7 * grades["consistency"] + 0.2 * grades["realism"] + 0.1 * grades["aesthetic_quality"]) / 2


def verified(item: Item, answers: Answers) -> float | None:
    value = mean_of(answers.get(atom.id) for atom in item.atoms)
    return None if value is None else float(value >= 0.5)


class Wise(Benchmark):
    name = "wise"
    title = "WISE-legacy-compatible"
    expected = 1000
    licence = "none given: the data may not be passed on"
    files = ("cultural_common_sense.json", "spatio-temporal_reasoning.json", "natural_science.json")
    folders = ("", "data", "WISE_legacy/data")
    starts = LEGACY_STARTS
    measures = (
        Measure("WiScore", graded(wiscore), weights=LEGACY),
        Measure("consistency of 2", graded(lambda grades: grades["consistency"] / 2), weights=LEGACY),
        Measure("WiScore, all prompts alike", graded(wiscore), over="items"),
    )
    notes = (
        "the legacy judge is GPT-4o-2024-05-13; numbers of WISE_Verified, with another judge, scale, weights and some 200 other prompts, "
        "are not comparable: FLUX.2 klein 9B has 0.44 there and 0.52 here",
        "the official scripts write a grade of 999 where the judge failed and then skip the whole part",
    )

    def find(self, folder: Path) -> tuple[Path, ...]:
        for inner in self.folders:
            found = tuple(path for name in self.files if (path := folder / inner / name).is_file())
            if found:
                return found
        return ()

    def read(self, folder: Path) -> list[Item]:
        items = []
        for path in self.find(folder):
            for where, record in records(path):
                number = record.get("prompt_id")
                if not isinstance(number, int) or not 1 <= number <= 1000:
                    raise BadInput(f"{where}: prompt_id is {number!r:.40}; a number from 1 to 1000 is expected")
                prompt, meant = need(record, "Prompt", str, where), need(record, "Explanation", str, where)
                items.append(
                    replace(self.item(prompt, meant), id=f"{number}", tag=tag_of(number, self.starts), record=record)
                )
        return sorted(unlike(items, self.path), key=lambda item: int(item.id))

    def item(self, prompt: str, meant: str) -> Item:
        return Item("", prompt, "", scales=scales_for(prompt, meant))

    def path(self, item: Item, k: int) -> str:
        return f"{item.id}.png" if k == 0 else f"more/{item.id}-{k}.png"

    def passed(self, item: Item, answers: Answers) -> float | None:
        grade = answers.get("consistency")
        return None if grade is None else float(grade >= 1.5)


class WiseVerified(Wise):
    name = "wise-verified"
    title = "WISE_Verified-compatible"
    files = (
        "cultural_common_sense_verified.json",
        "spatio-temporal_reasoning_verified.json",
        "natural_science_verified.json",
    )
    folders = ("", "data_verified")
    starts = VERIFIED_STARTS
    measures = (
        Measure("overall", verified, weights=VERIFIED),
        Measure("all prompts alike", verified, over="items"),
    )
    notes = ("the official judge is Qwen3.5-35B-A3B at temperature 0; legacy WiScores are not comparable",)

    def item(self, prompt: str, meant: str) -> Item:
        asked = (
            f'The picture was made for the prompt "{prompt}". What is meant: {meant}\n'
            "Does the picture show what is meant, completely and without contradicting it?"
        )
        return Item("", prompt, "", (Atom("meant", prompt, asked, "knowledge"),))

    def passed(self, item: Item, answers: Answers) -> float | None:
        return verified(item, answers)
