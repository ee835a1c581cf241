"""Which words the executor is given for an action."""

from __future__ import annotations

from ..trajectory import Action, Step, Trajectory


def prompt_for(trajectory: Trajectory, action: Action) -> str:
    """The text by the brief's conditioning mode.

    proxy: the scene prompt of a GENERATE or the instruction of an EDIT, alone. instruction: the brief, then the instruction.
    summary: the brief, one summary for each kept step, the instruction. trace: the same with every prompt of every kept step,
    as CLVR conditions its trained executor (c_t of arXiv 2605.14876, eq. 1, images entering as references). One shot of the brief's
    own words is the brief alone in every mode.
    """
    last = action.edit_prompt if action.kind == "EDIT" else action.scene_prompt
    mode = trajectory.brief.conditioning
    if mode == "proxy" or last == trajectory.brief.prompt:
        return last
    kept = [step for step in trajectory.steps if step.accepted and step.action.draws] if mode != "instruction" else []
    lines = [trajectory.brief.prompt]
    for number, step in enumerate(kept, 1):
        lines.append(f"Step {number}: {_told(step, mode)}")
    lines.append(f"Step {len(kept) + 1}: {action.summary + ' ' if mode == 'trace' and action.summary else ''}{last}")
    return "\n".join(lines)


def _told(step: Step, mode: str) -> str:
    action = step.action
    words = action.edit_prompt if action.kind == "EDIT" else action.scene_prompt
    return " ".join(filter(None, (action.summary, words))) if mode == "trace" else action.summary or words
