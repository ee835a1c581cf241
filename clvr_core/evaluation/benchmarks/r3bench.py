"""R3-Bench (arXiv 2605.19639): 670 drawn pictures with their prompts, 8 categories; those that miss their prompt are to be
mended, the others to be left as they are."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from ...errors import BadInput
from .base import HOLDS, Answers, Atom, Benchmark, Item, Measure, inside, mean_of, need, records, unlike

BEFORE, AFTER = "before", "after"
"""The first part of an atom's id: a question on the picture as it was, and on the mended one."""


def _right(item: Item, answers: Answers, part: str) -> float | None:
    """Return the share of the questions that are answered as the prompt wants; None if an answer is missing."""
    known = [answers.get(atom.id) for atom in item.atoms if atom.id.startswith(part)]
    return mean_of(None if value is None else float(value >= HOLDS) for value in known)


def rectified(item: Item, answers: Answers) -> float | None:
    """Return the share of what was wrong that is mended, below 0 if it got worse: (after - before) / (1 - before), and 0
    where the judge saw nothing wrong before."""
    before, after = _right(item, answers, BEFORE), _right(item, answers, AFTER)
    if before is None or after is None:
        return None
    return 0.0 if before == 1.0 else (after - before) / (1 - before)


class R3Bench(Benchmark):
    name = "r3bench"
    title = "R3-Bench-compatible"
    expected = 670
    licence = "the code is Apache-2.0; the data name no licence of their own"
    files = ("r3bench.jsonl",)
    measures = (
        Measure("rectified", rectified, over="items", unit=lambda item: float(not item.record["answer"])),
        Measure(
            "kept right",
            lambda item, answers: _right(item, answers, AFTER),
            over="items",
            unit=lambda item: float(item.record["answer"]),
        ),
    )
    notes = (
        "the official judge of S_rect is Qwen3-VL-235B, all questions of a picture in one reply; S_ref, which grades what a "
        "model says of the fault, is not measured here",
    )

    def read(self, folder: Path) -> list[Item]:
        path = self.find(folder)[0]
        return list(unlike([_item(where, record) for where, record in records(path)], self.path))

    def path(self, item: Item, k: int) -> str:
        picture = PurePosixPath(item.source)
        name = f"{picture.stem}_edited{picture.suffix}"
        return name if k == 0 else f"more/{k}-{name}"

    def passed(self, item: Item, answers: Answers) -> float | None:
        after = _right(item, answers, AFTER)
        return None if after is None else float(after == 1.0)


def _item(where: str, record: dict) -> Item:
    prompt, category = need(record, "original_prompt", str, where), need(record, "category", str, where)
    source = inside(need(record, "bad_image", str, where), where)
    if not isinstance(record.get("answer"), bool):
        raise BadInput(f"{where}: answer is {record.get('answer')!r:.40}; true or false is expected")
    asked = need(record, "generated_qa", dict, where)
    questions, wanted = (need(asked, name, list, where) for name in ("yn_question_list", "yn_answer_list"))
    if len(questions) != len(wanted) or not questions:
        raise BadInput(
            f"{where}: there are {len(questions)} questions and {len(wanted)} answers; each question needs one"
        )
    atoms = []
    for part, which in ((BEFORE, "first"), (AFTER, "second")):
        for number, (question, answer) in enumerate(zip(questions, wanted)):
            if not isinstance(question, str) or str(answer).lower() not in ("yes", "no"):
                raise BadInput(f"{where}: question {number + 1} is {question!r:.60} with the answer {answer!r:.20}")
            about = f"Look at the {which} image alone. {question}"
            text = about if str(answer).lower() == "yes" else f"{about} Say yes if the answer to this is no."
            atoms.append(Atom(f"{part}-{number + 1}", question, text, "question"))
    return Item(PurePosixPath(source).stem, prompt, category, tuple(atoms), source=source, record=record)
