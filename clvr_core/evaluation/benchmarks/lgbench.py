"""LGBench (VisionDirector, arXiv 2512.19243): tasks of 10 to 23 goals, to draw or to edit. Its data are not public yet;
the records are read as the paper shows them."""

from __future__ import annotations

import re
from pathlib import Path

from ...errors import BadInput
from .base import HOLDS, Answers, Atom, Benchmark, Item, Measure, inside, need, records, unlike

GOAL = re.compile(r"Goal_(\d+)", re.IGNORECASE)
SOURCES = ("source", "source_image", "image", "Image")


def share(item: Item, answers: Answers) -> float | None:
    """Return the share of the answered goals that hold."""
    known = [value for atom in item.atoms if (value := answers.get(atom.id)) is not None]
    return sum(value >= HOLDS for value in known) / len(known) if known else None


def enough(item: Item, answers: Answers) -> float | None:
    """Return whether 80 % of all goals hold, None while missing answers could decide it."""
    held = sum((answers.get(atom.id) or 0.0) >= HOLDS for atom in item.atoms)
    silent = sum(answers.get(atom.id) is None for atom in item.atoms)
    count = len(item.atoms)
    # 4 of 5 is 80 %, whatever binary fractions say.
    if 5 * held >= 4 * count:
        return 1.0
    return 0.0 if 5 * (held + silent) < 4 * count else None


class LgBench(Benchmark):
    name = "lgbench"
    title = "LGBench-compatible"
    expected = 2000
    licence = "not published"
    files = ("*lgbench*.json", "*LGBench*.json", "*lgbench*.jsonl", "*LGBench*.jsonl")
    measures = (
        Measure("goal success", share, over="items", unit=lambda item: float(len(item.atoms))),
        Measure("tasks with 80 % of their goals", enough, over="items"),
    )
    notes = ("the official judge is Qwen3-VL-32B, goal by goal; goal success pools the goals of all tasks",)

    def read(self, folder: Path) -> list[Item]:
        items, number = [], 0
        for path in self.find(folder):
            for where, record in records(path):
                number += 1
                prompt = need(record, "Prompt" if "Prompt" in record else "prompt", str, where)
                goals = sorted((int(match[1]), name) for name in record if (match := GOAL.fullmatch(name)))
                if not goals:
                    raise BadInput(f"{where}: there is no Goal_1; each task has its goals as Goal_1, Goal_2, ...")
                texts = [need(record, name, str, where) for _, name in goals]
                source = next((inside(str(record[name]), where) for name in SOURCES if record.get(name)), "")
                seen = "as an edit of the first image should do: " if source else ""
                atoms = tuple(
                    Atom(
                        f"{place}",
                        text,
                        f'Does the {"second image" if source else "picture"} meet this goal, {seen}"{text}"?',
                        "goal",
                    )
                    for place, text in enumerate(texts, 1)
                )
                kind = "edit" if source else "draw"
                name = str(record.get("id", f"{kind}-{number:04d}"))
                if not re.fullmatch(r"[\w.-]{1,80}", name) or name.startswith("."):
                    raise BadInput(f"{where}: id is {name!r:.40}; letters, digits, dots and dashes are expected")
                items.append(
                    Item(name, prompt, kind, atoms, source=source, complexity=float(len(atoms)), record=record)
                )
        return list(unlike(items, self.path))

    def path(self, item: Item, k: int) -> str:
        return f"{item.id}.png" if k == 0 else f"more/{item.id}-{k}.png"

    def passed(self, item: Item, answers: Answers) -> float | None:
        return enough(item, answers)
