"""Your own prompts: one a line in prompts.txt, or prompts.jsonl with id, prompt and optionally a list of statements."""

from __future__ import annotations

import re
from pathlib import Path

from ...errors import BadInput
from ...storage.names import is_portable
from ..prompt_parse import of_world
from .base import Atom, Benchmark, Item, Measure, all_hold, mean_of, need, records, settled, text_of, unlike

NAME = re.compile(r"[\w-][\w.-]{0,79}")


def atoms_for(statements: list[str]) -> tuple[Atom, ...]:
    return tuple(
        Atom(f"{place}", text, f"Does the picture show this: {text}?") for place, text in enumerate(statements, 1)
    )


class Prompts(Benchmark):
    """Your own prompts. Those without statements get them once from a model, by `clvr eval prepare`: see
    evaluation.atoms."""

    name = "prompts"
    title = "complexity probe"
    files = ("prompts.jsonl", "prompts.txt")
    measures = (
        Measure("pass", all_hold, over="items"),
        Measure("statements that hold", lambda item, answers: mean_of(settled(item, answers).values()), over="items"),
    )
    notes = (
        "the complexity is this project's own score, C_v1, and not the CLVR paper's, whose coefficients are unpublished",
    )

    def read(self, folder: Path) -> list[Item]:
        path, items = self.find(folder)[0], []
        if path.suffix == ".txt":
            lines = [
                (f"{path} line {number}", {"prompt": line.strip()})
                for number, line in enumerate(text_of(path).split("\n"), 1)
            ]
            lines = [(where, record) for where, record in lines if record["prompt"]]
            if not lines:
                raise BadInput(f"{path} is empty; a prompt a line is expected")
        else:
            lines = records(path)
        for number, (where, record) in enumerate(lines, 1):
            prompt, name = need(record, "prompt", str, where), str(record.get("id", f"{number:05d}"))
            if not NAME.fullmatch(name) or not is_portable(f"{name}.png"):
                raise BadInput(
                    f"{where}: id is {name!r:.40}; letters, digits, dots and dashes are expected, and no name of a device"
                )
            statements = record.get("statements", [])
            if not isinstance(statements, list) or not all(
                isinstance(text, str) and text.strip() for text in statements
            ):
                raise BadInput(f"{where}: statements is {statements!r:.60}; a list of sentences is expected")
            tag = str(record.get("tag", "all"))
            items.append(Item(name, prompt, tag, atoms_for(statements), parse=of_world(prompt), record=record))
        return list(unlike(items, self.path))

    def path(self, item: Item, k: int) -> str:
        return f"{item.id}.png" if k == 0 else f"more/{item.id}-{k}.png"
