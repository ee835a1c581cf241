"""The embedded controller: an exact program, not a neural model, that chooses the next action from the verdicts and the
perceived canvases."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from ..brief import Goal
from ..policy import rules
from ..policy.remarks import is_wish
from ..records import from_json
from ..trajectory import seed_for
from .grammar import NotInGrammar, parse, read
from .perceive import Perception
from .phrases import (
    backdrop_words,
    describe,
    goal_words,
    instruct,
    item_words,
    relation_words,
    restore,
    whole,
    write,
)
from .planner import Change, changes, closest
from .scene import SIGN, Edit, Scene, Thing, apply, cell_name
from .spec import Backdrop, Item, Only, Spec, waymarks
from .words import SIZE_FORMS

CORE = 4
"""Things of a first sketch in which the strategy names none, as that of `strokes`, which begins with the backdrop."""
CHANGES = 2
"""Changes in one instruction, as many as the base was trained on."""
WORDINGS = 12
"""Other words that are tried for an instruction that failed, at most."""
MERGED = 4
"""Changes in an instruction that merges earlier ones, at most, where the scene may be drawn anew instead."""


def act(
    data: Mapping[str, Any], seen: Sequence[Perception], understand: Callable[[Spec], Spec] = lambda spec: spec
) -> dict[str, Any]:
    """Return the reply to an action request.

    data: as the controller's message carries it.
    seen: the perception of each canvas offered, the current one first.
    understand: what the brief and the wishes say -> what the controller takes them for.
    """
    data = {**data, "goals": [from_json(Goal, goal) for goal in data["goals"]]}
    spec = understand(spec_for(asked_for(data), data))
    rng = random.Random(seed_for(data["seed"], 0, len(spec.items)))
    if not seen:
        return _sketch(spec, data, rng)
    source = data.get("source")
    current = seen[0 if source is None else data["canvases"].index(source)]
    target = closest(spec, current.scene(), rng)
    if target is None:
        return _end(spec, data, "No arrangement on this canvas meets the brief.")
    if source is not None and (merged := _merged(spec, data, current.scene(), changes(target, current), target)):
        return merged
    found = _served(spec, data, changes(target, current), target)
    if not found:
        return _end(spec, data, "Everything that was asked for stands where it should.")
    failures = [failed for failed in data["failed"] if failed["parent"] == data["current"]]
    if "EDIT" not in data["allowed"]:
        return _anew(spec, data, seen)
    if "GENERATE" in data["allowed"] and len(failures) >= 2 and len(found) > max(2, len(spec.items)):
        return _sketch(spec, data, rng)
    return _edit(spec, data, current.scene(), _pick(found, spec, current, data, len(failures)), seen)


def _anew(spec: Spec, data: Mapping[str, Any], seen: Sequence[Perception]) -> dict[str, Any]:
    """Return a GENERATE of the whole brief at once, in an arrangement that was not tried yet where there is one."""
    tried = {failed["scene_prompt"] for failed in data["failed"]}
    for attempt in range(8):
        rng = random.Random(seed_for(data["seed"], data["step"], attempt))
        scene = closest(spec, seen[0].scene() if attempt == 0 else Scene(), rng)
        assert scene is not None, "a brief that no arrangement meets ends before anything is drawn"
        reply = _reply("GENERATE", "I draw the whole scene anew.", _all(spec), data, scene=in_words(scene, spec))
        if reply["scene_prompt"] not in tried:
            break
    return reply


def laid_out(spec: Spec, prompt: str, seed: int) -> str:
    """Return the prompt of a spec with a place and a size for every thing, such that all of it holds: the best prompt
    before anything is seen. If no arrangement meets the spec, the prompt itself."""
    scene = closest(spec, Scene(), random.Random(seed_for(seed, 0, len(spec.items))))
    return prompt if scene is None else in_words(scene, spec)


def in_words(scene: Scene, spec: Spec) -> str:
    """Return the fullest prompt of a scene, its things in the order of the spec, those that it does not name last."""
    said = whole(scene)
    order = {item.key: place for place, item in enumerate(spec.items)}
    items = sorted(said.items, key=lambda item: order.get(item.key, len(order)))
    return write(replace(said, items=tuple(items)), "terse")


def spec_for(spec: Spec, data: Mapping[str, Any]) -> Spec:
    """Return the spec without the relations whose goals conflict with an earlier one."""
    texts = {goal.text for goal in rules.wanted(data["goals"])}
    relations = tuple(relation for relation in spec.relations if relation_words(relation) in texts or not texts)
    return Spec(spec.items, relations, spec.backdrop)


def asked_for(data: Mapping[str, Any]) -> Spec:
    """Return the spec of the brief and of the artist's wishes since: a wished item replaces the brief's item of that
    colour and noun, a wished backdrop that of the brief."""
    spec = parse(data["prompt"])
    for goal in data["goals"]:
        if is_wish(goal.id):
            wished = _said(goal.text)
            keys = {item.key for item in wished.items}
            items = (*(item for item in spec.items if item.key not in keys), *wished.items)
            spec = Spec(items, spec.relations, wished.backdrop or spec.backdrop)
    return spec


def _said(text: str) -> Spec:
    """Return what a text says, nothing if it is beyond the grammar."""
    try:
        return read(text)
    except NotInGrammar:
        return Spec(())


Served = Item | Backdrop


def _all(spec: Spec) -> list[Served]:
    return [*spec.items, *_backdrop(spec)]


def _backdrop(spec: Spec) -> list[Served]:
    return [Backdrop(spec.backdrop)] if spec.backdrop else []


def _goals_of(data: Mapping[str, Any], served: Served) -> list[str]:
    """Return the ids of the goal of an item or of the backdrop, of the goals of its waymarks, and of wishes for it."""
    goals = data["goals"]
    ids = {goal.text: goal.id for goal in goals}
    if isinstance(served, Backdrop):
        wishes = [goal.id for goal in goals if is_wish(goal.id) and _said(goal.text).backdrop == served.name]
        return [ids[text] for text in (goal_words(served),) if text in ids] + wishes
    wishes = [goal.id for goal in goals if is_wish(goal.id) and served in _said(goal.text).items]
    return [ids[text] for text in map(goal_words, (served, *waymarks(served))) if text in ids] + wishes


def _sketch(spec: Spec, data: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
    """Return a GENERATE of the items in focus, or of a core where only the backdrop is, placed so that the whole brief fits
    around them later."""
    layout = closest(spec, Scene(), rng)
    assert layout is not None, "a brief that no arrangement meets ends before anything is drawn"
    drawn = {item.key for item in spec.items if set(_goals_of(data, item)) & set(data["focus"])} or _core(spec, layout)
    things = tuple(thing for thing in layout.things if thing.key in drawn)
    later = [item_words(item) for item in spec.items if item.key not in drawn]
    summary = f"I leave for later: {', '.join(later)}." if later else "I draw the scene."
    served = [item for item in spec.items if item.key in drawn] + _backdrop(spec)
    return _reply("GENERATE", summary, served, data, scene=in_words(Scene(things, layout.backdrop), spec))


def _core(spec: Spec, layout: Scene) -> set[tuple[str, str]]:
    """Return the kinds of a first sketch that no item was named for: the first ones, of CORE things together at most."""
    core: set[tuple[str, str]] = set()
    count = 0
    for item in spec.items:
        more = sum(thing.key == item.key for thing in layout.things)
        if not core or count + more <= CORE:
            core.add(item.key)
            count += more
    return core


def _served(spec: Spec, data: Mapping[str, Any], found: list[Change], target: Scene) -> list[Change]:
    """Return the changes that serve open goals. What the judge says holds is left alone, even if it was misread."""
    states, goals = data["verdicts"], {item.key: _goals_of(data, item) for item in spec.items}
    layout_open, global_open = (
        any(goal.kind == kind and states.get(goal.id) != "met" for goal in data["goals"])
        for kind in ("layout", "global")
    )

    def is_open(change: Change) -> bool:
        if not change.keys:
            return global_open
        return layout_open or any(not goals[key] or states.get(goals[key][0]) != "met" for key in change.keys)

    return [change for change in found if is_open(change)] or _insist(data, goals, target)


def _insist(data: Mapping[str, Any], goals: Mapping[tuple[str, str], list[str]], target: Scene) -> list[Change]:
    """Return changes for goals that are open although nothing seems wrong: their things again, at their places."""
    wanted = {
        key
        for key, ids in goals.items()
        if any(goal in data["focus"] and data["verdicts"].get(goal) != "met" for goal in ids)
    }
    things = [thing for thing in target.things if thing.key in wanted]
    return [Change((Edit("put", thing.cell, thing=thing),), frozenset({thing.key})) for thing in things]


def _pick(
    found: list[Change], spec: Spec, seen: Perception, data: Mapping[str, Any], failures: int
) -> Sequence[Change]:
    """Pick one change, or two that fit in one instruction: those that meet most, and those in focus, first.

    After a failure the smaller ones come first, a different one each time.
    """
    focus = {item.key for item in spec.items if set(_goals_of(data, item)) & set(data["focus"])}
    setting = any(set(_goals_of(data, each)) & set(data["focus"]) for each in _backdrop(spec))
    pairs = [
        pair
        for pair in combinations(found, 2)
        if sum(len(change.edits) for change in pair) <= CHANGES and not pair[0].cells & pair[1].cells
    ]
    now = _met(spec, seen, ())
    gains = {option: _met(spec, seen, option) - now for option in [*((change,) for change in found), *pairs]}
    best = (
        [option for option, gain in gains.items() if gain > 0]
        or [option for option, gain in gains.items() if gain == 0]
        or list(gains)
    )

    def rank(option: Sequence[Change]) -> tuple:
        aside = not any(change.keys & focus or (setting and change.of_backdrop) for change in option)
        edits = sum(len(change.edits) for change in option)
        return (edits, aside, -gains[option]) if failures else (aside, -gains[option], -edits)

    return sorted(best, key=rank)[max(0, failures - 1) % len(best)]


def _met(spec: Spec, seen: Perception, made: Sequence[Change]) -> int:
    """Return how many statements of the brief would hold after the changes."""
    scene, edits = seen.scene(), [edit for change in made for edit in change.edits]
    for edit in edits:
        scene = apply(edit, scene)
    dirty: set[int] = set(seen.unclear).difference(*(edit.cells for edit in edits))
    unclear = bool(dirty) or (seen.backdrop is None and all(edit.kind != "backdrop" for edit in edits))
    return sum(
        statement.holds(scene) and not (unclear and isinstance(statement, Only)) for statement in spec.statements
    )


def _edit(
    spec: Spec, data: Mapping[str, Any], scene: Scene, picked: Sequence[Change], seen: Sequence[Perception]
) -> dict[str, Any]:
    order = {item.key: number for number, item in enumerate(spec.items)}

    def place(change: Change) -> int:
        return min((order.get(key, 0) for key in change.keys), default=len(order) + (not change.of_backdrop))

    # In the order of the brief, in which the summary names what they serve.
    edits = [edit for change in sorted(picked, key=place) for edit in change.edits]
    tried = {failed["edit_prompt"] for failed in data["failed"] if failed["parent"] == data["current"]}
    references, words = [data["canvases"][0]], [instruct(edit, scene) for edit in edits]
    cell = edits[0].cell if len(edits) == 1 else None
    earlier = None if cell is None else _earlier(edits[0], seen)
    if cell is not None and earlier is not None and not (data.get("guided") and restore(cell) in tried):
        references, words = [*references, data["canvases"][earlier]], [restore(cell)]
    elif data.get("guided"):
        words = next((each for each in _wordings(edits, scene) if " and ".join(each) not in tried), words)
    keys = frozenset().union(*(change.keys for change in picked))
    served = [item for item in spec.items if item.key in keys]
    setting = any(change.of_backdrop for change in picked)
    served += _backdrop(spec) if setting else []
    shown = [describe(thing, "terse") for thing in scene.things] + [backdrop_words(scene.backdrop)]
    wrong = [goal_words(each) for each in served]
    wrong += ["what was not asked for"] * any(not change.keys and not change.of_backdrop for change in picked)
    said = f"I see {', '.join(shown)}. What is missing or wrong: {', '.join(wrong)}"
    summary = f"{said}, so I {' and '.join(words)}. All else must stay."
    return _reply("EDIT", summary, served, data, edit=" and ".join(words), references=references)


def _wordings(edits: Sequence[Edit], scene: Scene) -> Iterator[list[str]]:
    """Yield the usual words of the edits, then others."""
    yield [instruct(edit, scene) for edit in edits]
    for attempt in range(WORDINGS):
        words = [instruct(edit, scene, random.Random(attempt)) for edit in edits]
        if all(edit.thing is None or _sized(edit.thing, said) for edit, said in zip(edits, words)):
            yield words


def _sized(thing: Thing, said: str) -> bool:
    return thing.noun == SIGN or any(word in said.split() for word in SIZE_FORMS[thing.size])


def _merged(
    spec: Spec, data: Mapping[str, Any], scene: Scene, found: list[Change], target: Scene
) -> dict[str, Any] | None:
    """Return an EDIT of the clean source by all changes at once; if they are too many, a GENERATE of the target if it is
    allowed. None if nothing is to be changed."""
    edits = [edit for change in found for edit in change.edits]
    if not edits:
        return None
    if len(edits) > MERGED and "GENERATE" in data["allowed"]:
        return _reply(
            "GENERATE", "I draw the whole scene anew, which is clean.", _all(spec), data, scene=in_words(target, spec)
        )
    keys = frozenset().union(*(change.keys for change in found))
    words = " and ".join(instruct(edit, scene) for edit in edits)
    served = [item for item in spec.items if item.key in keys]
    served += _backdrop(spec) if any(change.of_backdrop for change in found) else []
    summary = f"I go back to the clean canvas {data['source']} and {words}."
    return _reply("EDIT", summary, served, data, edit=words, references=[data["source"]])


def _earlier(edit: Edit, seen: Sequence[Perception]) -> int | None:
    """Return the place of the next earlier canvas offered, if it shows the wanted thing in the wanted cell; None
    otherwise."""
    if edit.kind != "put" or edit.thing is None or len(seen) < 2:
        return None
    there = seen[1].at(edit.thing.cell)
    return 1 if there is not None and there.kind == edit.thing.kind else None


def _end(spec: Spec, data: Mapping[str, Any], summary: str) -> dict[str, Any]:
    """Return END, or VALIDATE, if allowed; otherwise draw the scene again."""
    for kind in ("VALIDATE", "END"):
        if kind in data["allowed"]:
            return _reply(kind, summary, [], data)
    rng = random.Random(seed_for(data["seed"], data["step"], len(spec.items)))
    if "GENERATE" in data["allowed"]:
        return _sketch(spec, data, rng)
    layout = closest(spec, Scene(), rng)
    assert layout is not None, "a brief that no arrangement meets ends before anything is drawn"
    return _reply(
        "EDIT",
        summary,
        [],
        data,
        edit=f"remove the object at the {cell_name(layout.things[0].cell)}",
        references=[data["canvases"][0]],
    )


def _reply(
    kind: str,
    summary: str,
    served: Sequence[Served],
    data: Mapping[str, Any],
    scene: str = "",
    edit: str = "",
    references=(),
) -> dict[str, Any]:
    goals = [goal for each in served for goal in _goals_of(data, each)]
    return {
        "kind": kind,
        "summary": summary,
        "scene_prompt": scene,
        "edit_prompt": edit,
        "references": list(references),
        "goals": goals or list(data["focus"])[:1],
    }
