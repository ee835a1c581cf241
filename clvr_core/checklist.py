"""A list of goals as text, a line each, as a person writes it: `[nice] [text] the sign says "OPEN"`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .brief import GOAL_KINDS, Goal
from .errors import BadInput

MOST = 40
LONGEST = 400
MARK = re.compile(r"\[([a-z]+)\]\s*")
NEEDS = ("must", "nice")


def goals_from(text: str) -> tuple[Goal, ...]:
    """A goal for each line with something on it; marks in front say its kind and its need: local and must where they are left out.

    Raises BadInput for a mark that is not known, a line of marks alone, over-long lines and more than 40 goals.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > MOST:
        raise BadInput(f"goals has {len(lines)} lines; at most {MOST} goals are judged")
    return tuple(_goal(number, line) for number, line in enumerate(lines, 1))


def _goal(number: int, line: str) -> Goal:
    kind, need, words = "local", "must", line
    while mark := MARK.match(words):
        said, words = mark[1], words[mark.end() :]
        if said in GOAL_KINDS:
            kind = said
        elif said in NEEDS:
            need = said
        else:
            known = ", ".join(f"[{each}]" for each in (*GOAL_KINDS, *NEEDS))
            raise BadInput(f"goals line {number} is marked [{said}]; the marks are {known}")
    if not words:
        raise BadInput(f"goals line {number} has a mark and no words; say what the picture should show")
    if len(words) > LONGEST:
        raise BadInput(f"goals line {number} has {len(words)} characters; at most {LONGEST} are judged")
    return Goal(f"g{number}", words, kind, f"Does the picture show this: {words}?", need=need)


def lines_of(goals: Iterable[Goal]) -> str:
    """The inverse of `goals_from`, as far as it goes: a drafted goal has also an area, a feasibility and conflicts."""
    return "\n".join(
        f"{'[nice] ' if goal.need == 'nice' else ''}{f'[{goal.kind}] ' if goal.kind != 'local' else ''}{' '.join(goal.text.split())}"
        for goal in goals
    )
