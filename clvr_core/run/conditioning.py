"""The prompt that the executor gets for an action, shortened to what its text encoder reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from ..protocols import PromptWindow
from ..trajectory import Action, ActionKind, Step, Trajectory


def shorten_to_window(trajectory: Trajectory, action: Action, executor: PromptWindow | None) -> tuple[str, str]:
    """Return the prompt by `Brief.conditioning`, shortened to the executor's window (None: unlimited), and a sentence
    on what was left out ("" if nothing was).

    proxy: the scene prompt of a GENERATE or the instruction of an EDIT, alone.
    instruction: the brief, then the instruction.
    summary: the brief, one summary for each kept step, then the instruction.
    trace: the brief, all texts of every kept step, then the instruction: how CLVR conditions its trained executor (c_t
        of arXiv 2605.14876, eq. 1, whose images are the references here).

    One shot of the brief's own words is the brief alone in every mode. Left out are first the kept steps, oldest first,
    then the summary of this one, then the brief. The words of the action are cut, from their end, only if they alone
    are too long.
    """
    versions = _shorter(trajectory, action)
    text, dropped = next(versions)
    if executor is None or (window := executor.window) is None or (whole := executor.tokens(text)) <= window:
        return text, ""
    for text, dropped in versions:
        if executor.tokens(text) <= window:
            return text, _warning(whole, window, dropped)
    cut, left = _cut(text, executor.tokens, window)
    return cut, _warning(whole, window, [*dropped, f"its last {left} words"])


def anew_if_too_long(
    action: Action, allowed: Collection[ActionKind], executor: PromptWindow | None
) -> tuple[Action, tuple[str, ...]]:
    """Return the action, and turn an edit whose merged instruction is longer than the executor's window (None:
    unlimited) into a GENERATE of its scene prompt, with a sentence that says so.

    It stays an edit where GENERATE is not allowed, or the scene prompt is empty or too long as well.
    """
    if executor is None or (window := executor.window) is None or action.kind != "EDIT" or "GENERATE" not in allowed:
        return action, ()
    tokens = executor.tokens(action.edit_prompt)
    if tokens <= window or not action.scene_prompt or executor.tokens(action.scene_prompt) > window:
        return action, ()
    said = f"the merged instruction has {tokens} tokens and the text encoder reads {window}; the scene is drawn anew"
    return replace(action, kind="GENERATE", references=()), (said,)


def _warning(tokens: int, window: int, dropped: list[str]) -> str:
    left_out = ", ".join(dropped)
    return f"the prompt for the executor has {tokens} tokens and its text encoder reads {window}; left out: {left_out}"


def _shorter(trajectory: Trajectory, action: Action) -> Iterator[tuple[str, list[str]]]:
    """Yield ever shorter prompts, from the whole to the words of the action alone, each with the parts that it
    lacks."""
    last = words_of(action)
    mode = trajectory.brief.conditioning
    if mode == "proxy" or last == trajectory.brief.prompt:
        yield last, []
        return
    kept = [step for step in _painted(trajectory, action) if step.accepted] if mode != "instruction" else []
    lines = [f"Step {number}: {_step(step, mode)}" for number, step in enumerate(kept, 1)]
    summary = f"{action.summary} " if mode == "trace" and action.summary else ""
    start = f"Step {len(kept) + 1}: "
    for gone in range(len(lines) + 1):
        dropped = [f"step {number}" for number in range(1, gone + 1)]
        yield "\n".join([trajectory.brief.prompt, *lines[gone:], f"{start}{summary}{last}"]), dropped
    if summary:
        dropped = [*dropped, "the summary of this step"]
        yield f"{trajectory.brief.prompt}\n{start}{last}", dropped
    yield last, [*dropped, "the brief"]


def _painted(trajectory: Trajectory, action: Action) -> list[Step]:
    """The steps that drew; of those that an edit of a clean ancestor leaves behind, none."""
    steps = [step for step in trajectory.steps if step.action.draws]
    if trajectory.brief.budget.depth is None or not action.references or trajectory.current in action.references[:1]:
        return steps
    begun = trajectory.step_of(action.references[0])
    return steps if begun is None else [step for step in steps if step.index <= begun.index]


def words_of(action: Action) -> str:
    """The action's own text: the instruction of an EDIT, else the scene prompt."""
    return action.edit_prompt if action.kind == "EDIT" else action.scene_prompt


def _step(step: Step, mode: str) -> str:
    action = step.action
    return (
        " ".join(filter(None, (action.summary, words_of(action))))
        if mode == "trace"
        else action.summary or words_of(action)
    )


def _cut(text: str, tokens: Callable[[str], int], window: int) -> tuple[str, int]:
    """Cut the text after as many words as fit, at least one. Returns the beginning and how many words were cut."""
    ends = [found.end() for found in re.finditer(r"\S+", text)]
    few, many = 1, len(ends)
    while few < many:
        middle = (few + many + 1) // 2
        few, many = (middle, many) if tokens(text[: ends[middle - 1]]) <= window else (few, middle - 1)
    return text[: ends[few - 1]], len(ends) - few
