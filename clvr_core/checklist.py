"""A list of goals as text, one goal a line, as an artist writes it: `[nice] [text] the sign says "OPEN"`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from .brief import GOAL_KINDS, Goal, GoalKind, Need
from .errors import BadInput

MOST = 40
LONGEST = 400
MARK = re.compile(r"\[([a-z]+)\]\s*")
KINDS: dict[str, GoalKind] = {kind: kind for kind in GOAL_KINDS}
NEEDS: dict[str, Need] = {need: need for need in get_args(Need)}


def goals_from(text: str) -> tuple[Goal, ...]:
    """One goal for each line that is not empty. Marks in front give its kind and its need, by default local and must.

    Raises BadInput for an unknown mark, a line of marks alone, a line that is too long, and more than 40 goals.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > MOST:
        raise BadInput(f"goals has {len(lines)} lines; at most {MOST} goals are judged")
    return tuple(_goal(number, line) for number, line in enumerate(lines, 1))


def _goal(number: int, line: str) -> Goal:
    kind: GoalKind = "local"
    need: Need = "must"
    end = 0
    while mark := MARK.match(line, end):
        name, end = mark[1], mark.end()
        if name not in (*KINDS, *NEEDS):
            known = ", ".join(f"[{each}]" for each in (*KINDS, *NEEDS))
            raise BadInput(f"goals line {number} is marked [{name}]; the marks are {known}")
        kind, need = KINDS.get(name, kind), NEEDS.get(name, need)
    words = line[end:]
    if not words:
        raise BadInput(f"goals line {number} has a mark and no words; say what the picture should show")
    if len(words) > LONGEST:
        raise BadInput(f"goals line {number} has {len(words)} characters; at most {LONGEST} are judged")
    return Goal(f"g{number}", words, kind, f"Does the picture show this: {words}?", need=need)


def lines_of(goals: Iterable[Goal]) -> str:
    """The inverse of `goals_from`. Area, feasibility, conflicts and question of a goal have no place in the text and
    are lost. Goals of likeness are left out: they come with their references."""
    return "\n".join(_line(goal) for goal in goals if goal.kind != "likeness")


def _line(goal: Goal) -> str:
    need = "[nice] " if goal.need == "nice" else ""
    kind = f"[{goal.kind}] " if goal.kind != "local" else ""
    return f"{need}{kind}{' '.join(goal.text.split())}"


def met_words(states: Mapping[str, str], nice: Iterable[str] = ()) -> str:
    """Return "2 of 3 goals met", or with nice-to-have goals "2 of 2 must-have goals met, 0 of 1 nice to have", as the
    viewer does.

    states: goal -> the state of its verdict.
    nice: ids of the goals that need not hold.
    """
    optional = states.keys() & set(nice)
    must = [state == "met" for goal, state in states.items() if goal not in optional]
    rest = [states[goal] == "met" for goal in optional]
    if not rest:
        return f"{sum(must)} of {len(must)} goals met"
    words = f"{sum(rest)} of {len(rest)} nice to have"
    return f"{sum(must)} of {len(must)} must-have goals met, {words}" if must else f"{words} met"


class Tally:
    """Says by the lines of a journal, as they are written, how many goals each step met."""

    def __init__(self, lines: Iterable[Mapping[str, Any]] = ()) -> None:
        self._nice: set[str] = set()
        for line in lines:
            self.read(line)

    def read(self, line: Mapping[str, Any]) -> None:
        """Remember which goals are nice to have, if the line lists the goals."""
        if "goals" in line:
            self._nice = {goal["id"] for goal in line["goals"] if goal.get("need") == "nice"}

    def words(self, step: Mapping[str, Any]) -> str:
        """Return what a step of a line met and whether it was kept."""
        states = {verdict["goal"]: verdict["state"] for verdict in step.get("verdicts", ())}
        return f"{met_words(states, self._nice)}, {'kept' if step.get('accepted') else 'rolled back'}"
