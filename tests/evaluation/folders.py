"""Small made-up folders in each benchmark's format; the prompts are our own, and in the words of the embedded world where that can be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from clvr_core.evaluation.benchmarks.base import Item
from clvr_core.protocols import Decision
from clvr_core.storage.png import write_png
from tests.fakes import FakeVlm, grey


def write_lines(path: Path, records) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def write_list(path: Path, records) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records))


GENEVAL = [
    {"tag": "single_object", "include": [{"class": "cat", "count": 1}], "prompt": "a photo of a cat"},
    {
        "tag": "counting",
        "include": [{"class": "car", "count": 2}],
        "exclude": [{"class": "car", "count": 3}],
        "prompt": "a photo of two cars",
    },
    {"tag": "colors", "include": [{"class": "cup", "count": 1, "color": "red"}], "prompt": "a photo of a red cup"},
    {
        "tag": "position",
        "include": [{"class": "cat", "count": 1}, {"class": "car", "count": 1, "position": ["left of", 0]}],
        "prompt": "a photo of a car left of a cat",
    },
]


def geneval(folder: Path) -> Path:
    write_lines(folder / "evaluation_metadata.jsonl", GENEVAL)
    return folder


def embedded_geneval(folder: Path) -> Path:
    write_lines(folder / "embedded_geneval.jsonl", GENEVAL)
    return folder


def geneval_plus(folder: Path) -> Path:
    records = [
        {
            "tag": "color_count_attr",
            "include": [{"class": "cat", "count": 3, "color": "red"}, {"class": "bus", "count": 1, "color": "blue"}],
            "prompt": "three red cats and one blue bus",
        },
        {
            "tag": "size_spatial_attr",
            "include": [
                {"class": "bench", "count": 1, "size": "larger", "region": "above"},
                {"class": "spoon", "count": 1, "size": "smaller", "region": "below"},
            ],
            "prompt": "a larger bench above and a smaller spoon below",
        },
        {
            "tag": "counting",
            "include": [{"class": "clock", "count": 6}],
            "exclude": [{"class": "clock", "count": 7}],
            "prompt": "six clocks",
        },
    ]
    write_lines(folder / "Geneval++.jsonl", records)
    return folder


def geneval2(folder: Path) -> Path:
    records = [
        {
            "prompt": "two red hats",
            "atom_count": 3,
            "vqa_list": [
                ["How many hats are there?", "two"],
                ["Are the hats red?", "Yes"],
                ["Are there any hats?", "Yes"],
            ],
            "skills": ["count", "attribute", "object"],
        },
        {
            "prompt": "a hat on a box",
            "atom_count": 4,
            "vqa_list": [["Is the hat on the box?", "Yes"]],
            "skills": ["position"],
        },
    ]
    write_lines(folder / "geneval2_data.jsonl", records)
    return folder


def _wise(number: int) -> dict:
    return {
        "Prompt": f"riddle {number}",
        "Explanation": f"the answer to riddle {number}",
        "Category": "made up",
        "Subcategory": "made up",
        "prompt_id": number,
    }


def wise(folder: Path) -> Path:
    write_list(folder / "cultural_common_sense.json", [_wise(1), _wise(400)])
    write_list(folder / "spatio-temporal_reasoning.json", [_wise(567), _wise(568)])
    write_list(folder / "natural_science.json", [_wise(701), _wise(900), _wise(1000)])
    return folder


def wise_verified(folder: Path) -> Path:
    write_list(folder / "data_verified" / "cultural_common_sense_verified.json", [_wise(1)])
    write_list(folder / "data_verified" / "spatio-temporal_reasoning_verified.json", [_wise(520), _wise(521)])
    write_list(folder / "data_verified" / "natural_science_verified.json", [_wise(641), _wise(761), _wise(881)])
    return folder


def prism(folder: Path) -> Path:
    for track in ("style", "text_rendering", "long_text"):
        write_lines(folder / f"{track}.jsonl", [{"prompt": f"{track} one"}, {"prompt": f"{track} two"}])
    return folder


def imagine(folder: Path) -> Path:
    kinds = ("COLOR", "COMBINATION", "TIME", "Multi-Object")
    records = [
        {"id": place, "instruction": f"a thing of {kind}", "note": "as it is not", "type": kind}
        for place, kind in enumerate(kinds, 1)
    ]
    write_lines(folder / "Imagine.jsonl", records)
    return folder


def lgbench(folder: Path) -> Path:
    goals = ["a red cat", "two blue cars", "a green cup", "a yellow cat", "a black cup"]
    records = [
        {
            "category": "made up",
            "Prompt": "many things",
            **{f"Goal_{number}": goal for number, goal in enumerate(goals, 1)},
        },
        {"category": "made up", "Prompt": "few things", "Goal_1": "a red cat", "Goal_2": "a green cup"},
    ]
    write_list(folder / "lgbench_t2i.json", records)
    return folder


def embedded_lgbench(folder: Path) -> Path:
    goals = {"Goal_1": "a red cat", "Goal_2": "the scene is at night"}
    briefs = ["a red cat at night", "a red cat and a blue car at night"]
    write_lines(
        folder / "embedded_lgbench.jsonl",
        [{"id": f"draw-{number:04d}", "Prompt": prompt, **goals} for number, prompt in enumerate(briefs, 1)],
    )
    return folder


def imgedit(folder: Path) -> Path:
    records = {
        "10": {"id": "animal/10.png", "prompt": "make the cat red", "edit_type": "adjust"},
        "11": {"id": "animal/11.png", "prompt": "remove the car", "edit_type": "remove"},
    }
    (folder / "animal").mkdir(parents=True)
    for number in (10, 11):
        write_png(folder / "animal" / f"{number}.png", grey(100 + number), {})
    write_list(folder / "basic_edit.json", records)
    return folder


def prompts(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prompts.txt").write_text("a red cat\n\ntwo blue cars and a green cup\n")
    return folder


def r3_records() -> list[dict]:
    """As R3-Bench writes them: one that is to be mended, one that is right, one question whose answer is to be no."""
    asked = {"yn_question_list": ["Is there a cat?", "Is there a dog?"], "yn_answer_list": ["yes", "No"]}
    return [
        {
            "idx": number,
            "original_prompt": "a cat and no dog",
            "bad_image": f"images/{category}/{'true' if answer else 'false'}/r3b_{number:06d}.png",
            "answer": answer,
            "explanation": "" if answer else "There is a dog.",
            "category": category,
            "generated_qa": asked,
        }
        for number, (category, answer) in enumerate([("color", False), ("numeracy", True)])
    ]


def r3bench(folder: Path) -> Path:
    for record in r3_records():
        (folder / record["bad_image"]).parent.mkdir(parents=True)
        write_png(folder / record["bad_image"], grey(100 + record["idx"]), {})
    write_lines(folder / "r3bench.jsonl", r3_records())
    return folder


MAKERS = {
    "geneval": geneval,
    "embedded-geneval": embedded_geneval,
    "geneval++": geneval_plus,
    "geneval2": geneval2,
    "wise": wise,
    "wise-verified": wise_verified,
    "prism": prism,
    "imagine": imagine,
    "embedded-lgbench": embedded_lgbench,
    "lgbench": lgbench,
    "imgedit": imgedit,
    "r3bench": r3bench,
    "prompts": prompts,
}


def always(yes: float | BaseException | None, name: str = "fake-vlm") -> FakeVlm:
    """A judge that says the same to everything."""
    answer = yes if isinstance(yes, BaseException) else None
    return FakeVlm(decisions=lambda images, questions: answer or [Decision(yes, tokens=1)] * len(questions), name=name)


def fill(arm, bench, items: list[Item], skip: Mapping | tuple = ()) -> None:
    """A picture for each item, each of another grey."""
    number = 0
    for item in items:
        for k in range(item.pictures):
            number += 1
            if (item.id, k) not in skip:
                arm.save(bench, item, k, np.full((8, 8, 3), number, np.uint8))
