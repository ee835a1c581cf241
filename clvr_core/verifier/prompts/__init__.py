"""The questions of the verifier. Each docstring says what the answer yes means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...brief import Brief, Goal
from ...protocols import Message, Picture, Question
from ...records import to_json
from ...templates import Templates
from ...text import clip, one_line
from ...trajectory import Action

QUOTED = 2_000
"""Characters of a goal or an instruction that are quoted in a question."""
MAX_SEEN = 240
"""Characters of a sentence of evidence."""
TEMPLATES = Templates(Path(__file__).parent)


def goal_question(goal: Goal) -> Question:
    """Yes means that the goal holds."""
    asked = one_line(goal.check, QUOTED) or f'Does the picture show this: "{one_line(goal.text, QUOTED)}"?'
    return Question(TEMPLATES.text("goal", question=asked), data={"task": "goal", "goal": to_json(goal)})


def done_question(action: Action) -> Question:
    """Yes means that the instruction was carried out. The first image is before, the second after."""
    return _about_an_edit("edit_done", action)


def kept_question(action: Action) -> Question:
    """Yes means that nothing else changed."""
    return _about_an_edit("edit_kept", action)


def compare_question(brief: Brief, goals: Sequence[Goal]) -> Question:
    """Yes means that the first image fits better than the second."""
    text = TEMPLATES.text("compare", brief=brief.prompt, goals=_listed(goals))
    return Question(text, data={"task": "compare", "prompt": brief.prompt, "goals": to_json(tuple(goals))})


def best_question(brief: Brief, goals: Sequence[Goal], place: int, count: int) -> Question:
    """Yes means that the image at this place, from 1, fits best of all."""
    text = TEMPLATES.text("choose", brief=brief.prompt, goals=_listed(goals), count=str(count), place=str(place))
    return Question(
        text, data={"task": "choose", "place": place, "prompt": brief.prompt, "goals": to_json(tuple(goals))}
    )


def evidence_request(picture: Picture, goals: Sequence[Goal]) -> tuple[tuple[Message, ...], Mapping[str, Any]]:
    """Return the messages and the schema of the reply, which says for each goal what is seen in its place."""
    listed = "\n".join(f"- {goal.id}: {one_line(goal.text, QUOTED)}" for goal in goals)
    data = {"task": "evidence", "goals": [goal.id for goal in goals]}
    messages = (
        Message("system", TEMPLATES.text("evidence_system")),
        Message("user", TEMPLATES.text("evidence", goals=listed), (picture,), data),
    )
    each = {
        "goal": {"type": "string", "enum": [goal.id for goal in goals]},
        "seen": {"type": "string", "maxLength": MAX_SEEN},
    }
    item = {"type": "object", "properties": each, "required": list(each), "additionalProperties": False}
    seen = {"type": "array", "items": item, "minItems": len(goals), "maxItems": len(goals)}
    return messages, {
        "type": "object",
        "properties": {"seen": seen},
        "required": ["seen"],
        "additionalProperties": False,
    }


def _about_an_edit(template: str, action: Action) -> Question:
    text = TEMPLATES.text(template, instruction=clip(action.edit_prompt, QUOTED))
    return Question(text, data={"task": template.replace("_", "-"), "instruction": action.edit_prompt})


def _listed(goals: Sequence[Goal]) -> str:
    return "\n".join(f"- {one_line(goal.text, QUOTED)}" for goal in goals)
