"""GenEval (arXiv 2310.11513, MIT): objects, counts, colours and positions, four pictures for each of 553 prompts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import BadInput
from ..prompt_parse import of_record
from .base import Answers, Atom, Benchmark, Item, Measure, all_hold, need, records, unlike

TAGS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
RELATIONS = ("left of", "right of", "above", "below")
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
SAME = {"sheep", "skis", "scissors", "broccoli"}


def plural(noun: str) -> str:
    if noun in SAME:
        return noun
    if noun.endswith(("s", "x", "ch", "sh", "z")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return {"person": "people", "knife": "knives", "mouse": "mice"}.get(noun, f"{noun}s")


def counted(count: int, noun: str, words: str = "") -> str:
    """Return a clause in words: three red apples; an apple."""
    whole = f"{words} {noun if count == 1 else plural(noun)}".strip()
    if count == 1:
        return f"{'an' if whole[0] in 'aeiou' else 'a'} {whole}"
    return f"{NUMBERS[count] if count < len(NUMBERS) else count} {whole}"


def clauses(record: Mapping[str, Any], where: str) -> list[Mapping[str, Any]]:
    """Return the include clauses. Raises BadInput for an empty clause or one that refers to no earlier one."""
    include = need(record, "include", list, where)
    for place, clause in enumerate(include):
        if not isinstance(clause, dict):
            raise BadInput(f"{where}: include {place} is {clause!r:.60}; an object is expected")
        need(clause, "class", str, f"{where}: include {place}")
        if need({"count": 1} | clause, "count", int, f"{where}: include {place}") < 1:
            raise BadInput(f"{where}: include {place}: count is {clause['count']}; at least 1 is expected")
        if "position" in clause:
            position = clause["position"]
            if (
                not isinstance(position, list)
                or len(position) != 2
                or position[0] not in RELATIONS
                or position[1] not in range(place)
            ):
                known = ", ".join(RELATIONS)
                raise BadInput(
                    f"{where}: include {place}: position is {position!r:.60}; one of {known}, and an earlier clause, are expected"
                )
    for place, clause in enumerate(record.get("exclude") or ()):
        if not isinstance(clause, dict):
            raise BadInput(f"{where}: exclude {place} is {clause!r:.60}; an object is expected")
        need(clause, "class", str, f"{where}: exclude {place}")
        need(clause, "count", int, f"{where}: exclude {place}")
    return include


def checklist(record: Mapping[str, Any], where: str) -> tuple[Atom, ...]:
    """Return the clauses as questions.

    As in the official rules a clause asks for at least its count, unless one more is excluded. Whether there is exactly
    its count is asked as well, for the stricter reading.
    """
    include, atoms = clauses(record, where), []
    limits = {clause["class"]: clause["count"] for clause in record.get("exclude") or ()}
    for place, clause in enumerate(include):
        noun, count = clause["class"], clause.get("count", 1)
        exact = limits.pop(noun, None) == count + 1
        there, things = f"{place}", counted(count, noun)
        if exact:
            atoms.append(Atom(there, things, f"Does the picture show exactly {things}, no more and no fewer?", "count"))
        else:
            atoms.append(
                Atom(there, things, f"Does the picture show {'at least ' if count > 1 else ''}{things}?", "object")
            )
            exactly = f"Does the picture show exactly {'one ' + noun if count == 1 else things}, no more and no fewer?"
            atoms.append(Atom(f"{place}-exactly", things, exactly, "count", (there,), extra=True))
        if color := clause.get("color"):
            text = counted(count, noun, str(color))
            atoms.append(
                Atom(
                    f"{place}-color",
                    text,
                    f"Does the picture show {text}, so that the {noun} itself is {color}?",
                    "color",
                    (there,),
                )
            )
        if position := clause.get("position"):
            text = f"the {_named(clause)} is {position[0]} the {_named(include[position[1]])}"
            atoms.append(
                Atom(f"{place}-position", text, f"Is it so that {text}?", "position", (there, f"{position[1]}"))
            )
    for noun, count in limits.items():
        text = f"fewer than {counted(count, noun)}" if count > 1 else f"no {noun}"
        atoms.append(Atom(f"not-{noun}", text, f"Is it so that the picture shows {text}?", "exclude"))
    return tuple(atoms)


def _named(clause: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (clause.get("color"), clause["class"])))


def strict(item: Item, answers: Answers) -> float | None:
    return all_hold(item, answers, extra=True)


class GenEval(Benchmark):
    name = "geneval"
    title = "GenEval-compatible"
    expected = 553
    licence = "MIT"
    files = ("evaluation_metadata.jsonl", "prompts/evaluation_metadata.jsonl")
    measures = (
        Measure("overall", all_hold),
        Measure("overall, no more than asked for", strict),
        Measure("all pictures alike", all_hold, over="items"),
        Measure("prompts met by any picture", all_hold, over="items", best=True),
    )
    notes = (
        "overall is the mean of the tasks; the share of prompts met by any of their pictures, which the official summary prints too, is "
        "not the headline",
        "by the official rules more things than asked for pass unless a clause excludes them; the second number counts them wrong",
        "the official detector and CLIP are not run here; GenEval has drifted from human judgment by up to 17.7 points (arXiv 2512.16853)",
    )

    def read(self, folder: Path) -> list[Item]:
        items = []
        for number, (where, record) in enumerate(records(self.find(folder)[0])):
            prompt, tag = need(record, "prompt", str, where), need(record, "tag", str, where)
            atoms = checklist(record, where)
            items.append(
                Item(f"{number:05d}", prompt, tag, atoms, pictures=4, parse=of_record(record, prompt), record=record)
            )
        return list(unlike(items, self.path))

    def path(self, item: Item, k: int) -> str:
        # The official generation script numbers with four digits, and its judge reads any number.
        return f"{item.id}/samples/{k:04d}.png"

    def sidecars(self, items: Sequence[Item], folder: str) -> dict[str, str]:
        return {f"{item.id}/metadata.jsonl": json.dumps(item.record) + "\n" for item in items}
