"""Statements and complexity of free prompts, drawn up once by a model and then kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..brief import Brief
from ..controller import draft_goals
from ..errors import BadInput
from ..protocols import Vlm
from ..records import from_json, to_json
from .benchmarks.base import Atom, Item
from .prompt_parse import Parse, of_words, of_world
from .store import KEPT, Lines

SILENT = 3
Progress = Callable[[int, int, str], None]


def kept(images: Path) -> Path:
    return images / KEPT / "atoms.jsonl"


def with_atoms(items: Sequence[Item], images: Path) -> list[Item]:
    """Return the items with the statements and complexity on record for exactly their prompts."""
    path = kept(images)
    if not path.exists():
        return list(items)
    known = {(line.get("item"), line.get("prompt")): line for line in Lines(path).lines}
    return [_filled(item, known.get((item.id, item.prompt))) for item in items]


def _filled(item: Item, line: dict[str, Any] | None) -> Item:
    if line is None:
        return item
    try:
        atoms = tuple(from_json(Atom, atom) for atom in line.get("atoms", ()))
        parse = None if line.get("parse") is None else from_json(Parse, line["parse"])
    except ValueError as error:
        raise BadInput(
            f"what was drawn up for item {item.id} cannot be read ({error}); delete {KEPT}/atoms.jsonl"
        ) from error
    return replace(item, atoms=item.atoms or atoms, parse=item.parse or parse)


def draw_up(
    vlm: Vlm, items: Sequence[Item], images: Path, statements: bool, progress: Progress = lambda *_: None
) -> list[tuple[str, str]]:
    """Ask the model for what is missing: a parse for items without a complexity and, with `statements`, a checklist for
    items without questions.

    Returns (item, why) for those without an answer; another call asks for them again. Raises BadInput if the model is
    down.
    """
    journal, failed, silent = Lines(kept(images)), [], 0
    there = with_atoms(items, images)
    left = [item for item in there if _open(item, statements)]
    for done, item in enumerate(left):
        progress(len(there) - len(left) + done, len(there), "")
        line, why = _asked(vlm, item, statements)
        if line.get("atoms") or line.get("parse"):
            journal.append(line)
        silent = 0 if not why else silent + 1
        if why:
            failed.append((item.id, why))
        if silent >= SILENT:
            raise BadInput(
                f"{vlm.name} is down: {why}; {done + 1 - silent} of {len(left)} prompts are taken apart; run the same command again"
            )
    progress(len(there), len(there), "")
    return failed


def _open(item: Item, statements: bool) -> bool:
    return (statements and not item.atoms and not item.scales) or (item.parse is None and item.complexity is None)


def _asked(vlm: Vlm, item: Item, statements: bool) -> tuple[dict[str, Any], str]:
    line: dict[str, Any] = {"item": item.id, "prompt": item.prompt, "by": vlm.name}
    if item.atoms:
        line["atoms"] = to_json(item.atoms)
    elif statements and not item.scales:
        answer = draft_goals(vlm, Brief(item.prompt))
        if answer.value is None:
            return line, answer.failure
        named = ((goal, goal.check or f"Does the picture show this: {goal.text}?") for goal in answer.value)
        line["atoms"] = to_json(tuple(Atom(goal.id, goal.text, check, goal.kind) for goal, check in named))
    parse = item.parse or of_world(item.prompt)
    if parse is None and item.complexity is None:
        answer = of_words(vlm, item.prompt)
        if answer.value is None:
            return line, answer.failure
        parse = answer.value
    line["parse"] = None if parse is None else to_json(parse)
    return line, ""
