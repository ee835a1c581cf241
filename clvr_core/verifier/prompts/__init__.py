"""The yes/no questions put to the verifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...brief import Brief, Goal
from ...protocols import Question
from ...records import to_json
from ...templates import Templates
from ...trajectory import Action
from ...vlm.text import clip, one_line

QUOTED = 2_000
"""Characters of a goal or an instruction that are quoted in a question."""
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


def _about_an_edit(template: str, action: Action) -> Question:
    text = TEMPLATES.text(template, instruction=clip(action.edit_prompt, QUOTED))
    return Question(text, data={"task": template.replace("_", "-"), "instruction": action.edit_prompt})


def _listed(goals: Sequence[Goal]) -> str:
    return "\n".join(f"- {one_line(goal.text, QUOTED)}" for goal in goals)
