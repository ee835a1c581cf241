"""The yes/no questions put to the verifier."""

from __future__ import annotations

from collections.abc import Sequence

from ..brief import Brief, Goal
from ..protocols import Question
from ..records import to_json
from ..trajectory import Action
from ..vlm.text import clip, one_line

QUOTED = 2_000
"""Characters of a goal or an instruction that are quoted in a question."""


def goal_question(goal: Goal) -> Question:
    """Yes means that the goal holds."""
    asked = one_line(goal.check, QUOTED) or f'Does the picture show this: "{one_line(goal.text, QUOTED)}"?'
    text = f"{asked} Judge only what can be seen in the picture, and count things one by one. Answer yes or no."
    return Question(text, data={"task": "goal", "goal": to_json(goal)})


def done_question(action: Action) -> Question:
    """Yes means that the instruction was carried out. The first image is before, the second after."""
    text = (
        f"The second image is the first after an edit. The instruction was:\n{_instruction(action)}\n"
        "Is everything that the instruction asks for to be seen in the second image? Answer yes or no."
    )
    return Question(text, data={"task": "edit-done", "instruction": action.edit_prompt})


def kept_question(action: Action) -> Question:
    """Yes means that nothing else changed."""
    text = (
        f"The second image is the first after an edit. The instruction was:\n{_instruction(action)}\n"
        "Leave aside what the instruction asks for. Is everything else in the second image as it was in the first: the same things, "
        "colours, places and background? Answer yes or no."
    )
    return Question(text, data={"task": "edit-kept", "instruction": action.edit_prompt})


def compare_question(brief: Brief, goals: Sequence[Goal]) -> Question:
    """Yes means that the first image fits better than the second."""
    listed = "\n".join(f"- {one_line(goal.text, QUOTED)}" for goal in goals)
    text = (
        f"<brief>\n{brief.prompt}\n</brief>\n"
        + (f"What it asks for, one by one:\n{listed}\n" if listed else "")
        + "The first image fits the brief better than the second: more of what it asks for holds, and the picture is cleaner. Is that "
        "so? Answer yes or no."
    )
    return Question(text, data={"task": "compare", "prompt": brief.prompt, "goals": to_json(tuple(goals))})


def _instruction(action: Action) -> str:
    return f"<instruction>\n{clip(action.edit_prompt, QUOTED)}\n</instruction>"
