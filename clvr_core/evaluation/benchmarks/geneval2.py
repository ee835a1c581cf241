"""GenEval 2 (arXiv 2512.16853, data CC BY-NC 4.0): 800 prompts of 3 to 10 atoms, each atom a question with its
answer."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...errors import BadInput
from ..prompt_parse import Parse, words_of
from .base import Answers, Atom, Benchmark, Item, Measure, mean_of, need, records, unlike


def question_for(question: str, answer: str) -> str:
    """Return a question whose yes means that the answer is right."""
    if answer.strip().casefold() == "yes":
        return question
    if answer.strip().casefold() == "no":
        return f"{question} Is the answer no?"
    return f'{question} Is the answer "{answer}", exactly?'


def arithmetic(item: Item, answers: Answers) -> float | None:
    return mean_of(answers.get(atom.id) for atom in item.atoms)


def geometric(item: Item, answers: Answers) -> float | None:
    values = [value for atom in item.atoms if (value := answers.get(atom.id)) is not None]
    if not values or len(values) < len(item.atoms):
        return None
    return math.exp(sum(map(math.log, values)) / len(values)) if min(values) > 0 else 0.0


class GenEval2(Benchmark):
    name = "geneval2"
    title = "GenEval-2-compatible"
    expected = 800
    licence = "CC BY-NC 4.0: for non-commercial use only"
    files = ("geneval2_data.jsonl",)
    measures = (
        Measure("Soft-TIFA AM", arithmetic, over="items"),
        Measure("Soft-TIFA GM", geometric, over="items"),
    )
    notes = (
        "the official score is Qwen3-VL-8B's probability of the answer's own word at the first token; here a count is asked for as a yes "
        "to the right answer, so the two differ in wording and in scale",
        "the official script prints both numbers times 100",
    )

    def read(self, folder: Path) -> list[Item]:
        items = []
        for number, (where, record) in enumerate(records(self.find(folder)[0]), 1):
            prompt, count = need(record, "prompt", str, where), need(record, "atom_count", int, where)
            asked, skills = need(record, "vqa_list", list, where), record.get("skills") or []
            if len(skills) not in (0, len(asked)):
                raise BadInput(f"{where}: {len(skills)} skills for {len(asked)} questions; one for each is expected")
            atoms = []
            for place, pair in enumerate(asked):
                if (
                    not isinstance(pair, list)
                    or len(pair) != 2
                    or not all(isinstance(part, str) and part.strip() for part in pair)
                ):
                    raise BadInput(
                        f"{where}: question {place + 1} is {pair!r:.80}; a question and its answer are expected"
                    )
                skill = skills[place] if skills else ""
                atoms.append(Atom(f"{place}", f"{pair[0]} {pair[1]}", question_for(*pair), str(skill)))
            kinds = [atom.kind for atom in atoms]
            parse = Parse(
                max(1, kinds.count("object")),
                max(1, kinds.count("object")),
                kinds.count("attribute"),
                kinds.count("position") + kinds.count("verb"),
                words=words_of(prompt),
            )
            items.append(
                Item(
                    f"{number:05d}",
                    prompt,
                    f"{count} atoms",
                    tuple(atoms),
                    complexity=float(count),
                    parse=parse,
                    record=record,
                )
            )
        # The official file of pictures has the prompt for a key.
        unlike([replace(item, id=item.prompt) for item in items], lambda item, k: item.id)
        return items

    def path(self, item: Item, k: int) -> str:
        return f"{item.id}.png" if k == 0 else f"more/{item.id}-{k}.png"

    def sidecars(self, items: Sequence[Item], folder: str) -> dict[str, str]:
        """Return the map from prompt to picture, with paths relative to the parent of the map's folder."""
        return {
            "image_paths.json": json.dumps({item.prompt: f"{folder}/{self.path(item, 0)}" for item in items}, indent=1)
            + "\n"
        }
