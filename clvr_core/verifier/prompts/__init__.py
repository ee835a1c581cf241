"""The questions of the verifier. Each docstring says what the answer yes means.

A question quotes what a controller wrote as a JSON string, so that no words of it end the quotation. `wording` is the
version of the words: a run is judged to its end in those that it began with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...brief import GOAL_KINDS, Brief, Goal
from ...protocols import Message, Picture, Question
from ...records import to_json
from ...templates import Templates
from ...text import clip, one_line
from ...trajectory import Action

QUOTED = 2_000
"""Characters of a goal or an instruction that are quoted in a question."""
QUOTED_GAP = 400
"""Characters of such a requirement."""
MAX_GAPS = 5
"""Requirements that one look at the whole picture may add to the checklist."""
MOST_COUNTED = 999
"""Of one thing; more is not counted one by one."""
MAX_SEEN = 240
"""Characters of a sentence of evidence."""
TEMPLATES = Templates(Path(__file__).parent)
UNQUOTED = "1"
"""The wording in which the question stands as it was written: of runs made with it, and of benchmarks, whose questions
no controller writes."""
NEWEST = TEMPLATES.version
WORDINGS = (UNQUOTED, NEWEST)


def goal_question(goal: Goal, wording: str = NEWEST) -> Question:
    """Yes means that the goal holds."""
    text, check = one_line(goal.text, QUOTED), one_line(goal.check, QUOTED)
    if wording == UNQUOTED:
        asked = TEMPLATES.text("goal_1", question=check or f'Does the picture show this: "{text}"?')
    else:
        asked = TEMPLATES.text("goal", goal=quoted(text), question=quoted(check) if check else "")
    return Question(asked, data={"task": "goal", "goal": to_json(goal)})


def likeness_question(goal: Goal) -> Question:
    """Yes means that the second image keeps what the goal says of the first, the reference."""
    text, check = one_line(goal.text, QUOTED), one_line(goal.check, QUOTED)
    asked = TEMPLATES.text("likeness", goal=quoted(text), question=quoted(check) if check else "")
    return Question(asked, data={"task": "likeness", "goal": to_json(goal)})


def done_question(action: Action, wording: str = NEWEST) -> Question:
    """Yes means that the instruction was carried out. The first image is before, the second after."""
    return _about_an_edit("edit_done", action, wording)


def kept_question(action: Action, wording: str = NEWEST) -> Question:
    """Yes means that nothing else changed."""
    return _about_an_edit("edit_kept", action, wording)


def compare_question(brief: Brief, goals: Sequence[Goal], wording: str = NEWEST) -> Question:
    """Yes means that the first image fits better than the second."""
    text = TEMPLATES.text(_named("compare", wording), brief=brief.prompt, goals=_listed(goals, wording))
    return Question(text, data={"task": "compare", "prompt": brief.prompt, "goals": to_json(tuple(goals))})


def best_question(brief: Brief, goals: Sequence[Goal], place: int, count: int, wording: str = NEWEST) -> Question:
    """Yes means that the image at this place, from 1, fits best of all."""
    numbers = {"count": str(count), "place": str(place)}
    text = TEMPLATES.text(_named("choose", wording), brief=brief.prompt, goals=_listed(goals, wording), **numbers)
    return Question(
        text, data={"task": "choose", "place": place, "prompt": brief.prompt, "goals": to_json(tuple(goals))}
    )


def check_question(question: str) -> Question:
    """Yes means that what a step's own checklist asks for is there, in the last image."""
    return Question(TEMPLATES.text("check", question=quoted(one_line(question, QUOTED))), data={"task": "check"})


def whole_request(
    brief: Brief, goals: Sequence[Goal], pictures: Mapping[int, Picture]
) -> tuple[tuple[Message, ...], Mapping[str, Any]]:
    """Return the messages and the schema of a look at the whole picture, the first of `pictures` (canvas -> picture)."""
    shown = "; ".join(f"image {place} is canvas {canvas}" for place, canvas in enumerate(pictures, 1))
    canvases = f"The images before you: {shown}. Image 1 is the current one."
    text = TEMPLATES.text("whole", brief=brief.prompt, goals=_listed(goals, NEWEST), canvases=canvases)
    data = {"task": "whole", "prompt": brief.prompt, "goals": to_json(tuple(goals)), "canvases": list(pictures)}
    messages = (
        Message("system", TEMPLATES.text("evidence_system")),
        Message("user", text, tuple(pictures.values()), data),
    )
    each = {
        "text": {"type": "string", "maxLength": QUOTED_GAP},
        "kind": {"type": "string", "enum": list(GOAL_KINDS)},
        "check": {"type": "string", "maxLength": QUOTED_GAP},
    }
    item = {"type": "object", "properties": each, "required": list(each), "additionalProperties": False}
    back = {"anyOf": [{"type": "integer", "enum": list(pictures)}, {"type": "null"}]}
    reply = {"gaps": {"type": "array", "items": item, "minItems": 0, "maxItems": MAX_GAPS}, "back_to": back}
    return messages, {"type": "object", "properties": reply, "required": list(reply), "additionalProperties": False}


def evidence_request(picture: Picture, goals: Sequence[Goal]) -> tuple[tuple[Message, ...], Mapping[str, Any]]:
    """Return the messages and the schema of the reply, which says for each goal what is seen in its place."""
    listed = "\n".join(f"- {goal.id}: {one_line(goal.text, QUOTED)}" for goal in goals)
    data = {"task": "evidence", "goals": [goal.id for goal in goals]}
    messages = (
        Message("system", TEMPLATES.text("evidence_system")),
        Message("user", TEMPLATES.text("evidence", goals=listed), (picture,), data),
    )
    return messages, _one_each("seen", [goal.id for goal in goals], "seen", {"type": "string", "maxLength": MAX_SEEN})


def count_request(picture: Picture, things: Mapping[str, str]) -> tuple[tuple[Message, ...], Mapping[str, Any]]:
    """Return the messages and the schema of the reply, which gives a number for each thing.

    things: goal -> what is counted, in words.
    """
    listed = "\n".join(f"- {goal}: {quoted(one_line(words, QUOTED))}" for goal, words in things.items())
    messages = (
        Message("system", TEMPLATES.text("evidence_system")),
        Message("user", TEMPLATES.text("count", things=listed), (picture,), {"task": "count", "things": dict(things)}),
    )
    number = {"type": "integer", "minimum": 0, "maximum": MOST_COUNTED}
    return messages, _one_each("counts", list(things), "number", number)


def _one_each(name: str, goals: list[str], field: str, what: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema of a reply with a list of this name, in which each goal has one entry with the field."""
    each = {"goal": {"type": "string", "enum": goals}, field: what}
    item = {"type": "object", "properties": each, "required": list(each), "additionalProperties": False}
    listed = {"type": "array", "items": item, "minItems": len(goals), "maxItems": len(goals)}
    return {"type": "object", "properties": {name: listed}, "required": [name], "additionalProperties": False}


def _named(template: str, wording: str) -> str:
    return f"{template}_1" if wording == UNQUOTED else template


def quoted(text: str) -> str:
    """Put words of others in quotation marks, with those in them escaped, so that they cannot end the quotation."""
    return json.dumps(text, ensure_ascii=False)


def _about_an_edit(template: str, action: Action, wording: str) -> Question:
    words = clip(action.edit_prompt, QUOTED)
    text = TEMPLATES.text(_named(template, wording), instruction=words if wording == UNQUOTED else quoted(words))
    return Question(text, data={"task": template.replace("_", "-"), "instruction": action.edit_prompt})


def _listed(goals: Sequence[Goal], wording: str) -> str:
    words = (one_line(goal.text, QUOTED) for goal in goals)
    return "\n".join(f"- {text if wording == UNQUOTED else quoted(text)}" for text in words)
