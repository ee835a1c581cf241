"""Whether an instruction contradicts the brief, by the words of both: the exact text inspection of Think in Strokes (arXiv
2604.04746).

What the instruction leaves out may come later and contradicts nothing, and so do a look, a size or a word that it leaves
open. A removal contradicts nothing: whether what goes was wanted is seen on the canvas alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .grammar import Instruction, parse, parse_instruction
from .misreading import INVERSE
from .phrases import backdrop_words, item_words, noun_words, relation_words
from .scene import GRID, NATURAL, SIGN, cell_name, look
from .spec import Item, Relation, Spec

Test = Callable[[Item], bool]


def contradiction(brief: Spec, action: Mapping[str, Any]) -> str:
    """Return what of an action contradicts the brief, in words; "" for nothing.

    action: kind, edit_prompt and scene_prompt of an `Action`. Raises NotInGrammar for a scene that the grammar cannot
    read.
    """
    if action["kind"] == "EDIT":
        changes = parse_instruction(action.get("edit_prompt", ""))
        return next(filter(None, (_of_change(brief, each) for each in changes)), "") or _too_many_put(brief, changes)
    return _of_scene(brief, parse(action["scene_prompt"])) if action["kind"] == "GENERATE" else ""


def _of_change(brief: Spec, change: Instruction) -> str:
    if change.backdrop is not None:
        return _of_backdrop(brief, change.backdrop)
    cell = change.to if change.kind == "move" else change.cell
    if change.kind in ("remove", "restore") or cell is None:
        return ""
    place = f"the {cell_name(cell)}"
    at: tuple[Test, str] = (lambda item: cell in item.place.cells, f"the brief asks for nothing at {place}")
    if change.kind == "move":
        return _first_failing(brief, at)
    if change.kind == "word":
        return _first_failing(brief, *_lettered(change.word), at)
    if change.kind == "put" and change.noun:
        return _unfit(brief, change.noun, change.color, change.size, change.word, {cell}, place)
    if change.kind == "recolor" and change.color:
        color = change.color
        shown: Test = lambda item: item.color == look(item.noun, color)  # noqa: E731
        return _first_failing(brief, at, (shown, f"nothing at {place} is to be {color}"))
    size = change.size
    sized: Test = lambda item: item.size in (None, size)  # noqa: E731
    return _first_failing(brief, at, (sized, f"nothing at {place} is to be {size}"))


def _of_scene(brief: Spec, scene: Spec) -> str:
    if scene.backdrop is not None and (why := _of_backdrop(brief, scene.backdrop)):
        return why
    for item in scene.items:
        why = _unfit(brief, item.noun, item.color, item.size, item.word, set(item.place.cells), item_words(item))
        if why := why or _too_many(brief, item.key, item.count):
            return why
    stated = {item.key: item for item in scene.items if len(item.place.cells) == item.count == 1}
    for relation in brief.relations:
        one, other = stated.get(relation.a), stated.get(relation.b)
        if one and other and not _stands(relation, one, other):
            return f"the brief says that {relation_words(relation)}"
    for said in scene.relations:
        if any(opposed(said, relation) for relation in brief.relations):
            return f"the brief says otherwise than that {relation_words(said)}"
    return ""


def _unfit(
    brief: Spec, noun: str, color: str | None, size: str | None, word: str | None, cells: set[int], place: str
) -> str:
    named = noun_words(color or NATURAL, noun)
    tests: list[tuple[Test, str]] = [(lambda item: item.noun == noun, f"the brief asks for no {noun}")]
    if color not in (None, NATURAL):
        tests.append((lambda item: item.color == color, f"the brief asks for no {named}"))
    if noun == SIGN:
        tests += _lettered(word)
    if size is not None:
        tests.append((lambda item: item.size in (None, size), f"the brief asks for no {size} {named}"))
    tests.append((lambda item: bool(cells & set(item.place.cells)), f"the brief asks for no {named} at {place}"))
    return _first_failing(brief, *tests)


def _lettered(word: str | None) -> list[tuple[Test, str]]:
    said: Test = lambda item: item.noun == SIGN and (word is None or item.word in (None, word))  # noqa: E731
    return [(said, f'the brief asks for no sign that says "{word}"')]


def _first_failing(brief: Spec, *tests: tuple[Test, str]) -> str:
    """Return the words of the first test after which no item of the brief is left."""
    left = brief.items
    for test, why in tests:
        left = tuple(item for item in left if test(item))
        if not left:
            return why
    return ""


def _of_backdrop(brief: Spec, name: str) -> str:
    wrong = brief.backdrop is not None and brief.backdrop != name
    return f"the brief asks for the scene {backdrop_words(brief.backdrop or name)}" if wrong else ""


def _too_many_put(brief: Spec, changes: Sequence[Instruction]) -> str:
    put = Counter((each.color or NATURAL, each.noun) for each in changes if each.kind == "put" and each.noun)
    return next(filter(None, (_too_many(brief, (look, noun or ""), count) for (look, noun), count in put.items())), "")


def _too_many(brief: Spec, key: tuple[str, str], count: int) -> str:
    color, noun = key
    most = sum(item.count for item in brief.items if item.noun == noun and color in (NATURAL, item.color))
    return f"the brief asks for {most} {noun_words(color, noun, count=most)} at most" if count > most else ""


def _stands(relation: Relation, one: Item, other: Item) -> bool:
    (a,), (b,) = one.place.cells, other.place.cells
    across, down = a % GRID - b % GRID, a // GRID - b // GRID
    return {"left of": across < 0, "right of": across > 0, "above": down < 0, "below": down > 0}[relation.kind]


def opposed(one: Relation, other: Relation) -> bool:
    """Say whether two relations cannot both hold, since they say the opposite of the same two things."""
    same = (one.a, one.b) == (other.a, other.b) and INVERSE[one.kind] == other.kind
    return same or ((one.a, one.b) == (other.b, other.a) and one.kind == other.kind)
