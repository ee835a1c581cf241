"""Which words the executor is given for an action, and what of them its text encoder can read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from ..protocols import PromptWindow
from ..trajectory import Action, Step, Trajectory


def prompt_for(trajectory: Trajectory, action: Action) -> str:
    """The text by the brief's conditioning mode.

    proxy: the scene prompt of a GENERATE or the instruction of an EDIT, alone. instruction: the brief, then the instruction.
    summary: the brief, one summary for each kept step, the instruction. trace: the same with every prompt of every kept step,
    as CLVR conditions its trained executor (c_t of arXiv 2605.14876, eq. 1, images entering as references). One shot of the brief's
    own words is the brief alone in every mode.
    """
    return next(_shorter(trajectory, action))[0]


def shorten_to_window(trajectory: Trajectory, action: Action, executor: PromptWindow | None) -> tuple[str, str]:
    """The text of `prompt_for`, shortened to what the executor reads, and a sentence that says what was left out, "" if nothing was.

    Left out are first the kept steps, from the oldest on, then the summary of this one, then the brief; the words of the action itself
    are cut only where they alone are too long, from their end.
    """
    told = _shorter(trajectory, action)
    text, dropped = next(told)
    if executor is None or (window := executor.window) is None or (whole := executor.tokens(text)) <= window:
        return text, ""
    for text, dropped in told:
        if executor.tokens(text) <= window:
            return text, _told(whole, window, dropped)
    cut, left = _cut(text, executor.tokens, window)
    return cut, _told(whole, window, [*dropped, f"its last {left} words"])


def _told(tokens: int, window: int, dropped: list[str]) -> str:
    return f"the prompt for the executor has {tokens} tokens and its text encoder reads {window}; left out: {', '.join(dropped)}"


def _shorter(trajectory: Trajectory, action: Action) -> Iterator[tuple[str, list[str]]]:
    """The text and what it lacks, from the whole of it to the words of the action alone."""
    last = words_of(action)
    mode = trajectory.brief.conditioning
    if mode == "proxy" or last == trajectory.brief.prompt:
        yield last, []
        return
    kept = [step for step in trajectory.steps if step.accepted and step.action.draws] if mode != "instruction" else []
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


def words_of(action: Action) -> str:
    """What an action asks for: the instruction of an EDIT, else the scene."""
    return action.edit_prompt if action.kind == "EDIT" else action.scene_prompt


def _step(step: Step, mode: str) -> str:
    action = step.action
    return (
        " ".join(filter(None, (action.summary, words_of(action))))
        if mode == "trace"
        else action.summary or words_of(action)
    )


def _cut(text: str, tokens: Callable[[str], int], window: int) -> tuple[str, int]:
    """As many whole words from the beginning as fit, and how many do not; at least one."""
    ends = [found.end() for found in re.finditer(r"\S+", text)]
    few, many = 1, len(ends)
    while few < many:
        middle = (few + many + 1) // 2
        few, many = (middle, many) if tokens(text[: ends[middle - 1]]) <= window else (few, middle - 1)
    return text[: ends[few - 1]], len(ends) - few
