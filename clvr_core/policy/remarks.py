"""Applies a remark of the artist to a run. Pure, as the strategies are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ..brief import Goal
from ..errors import BadInput
from ..trajectory import EditCheck, Remark, Step, Trajectory, Verdict
from . import rules

BY_THE_ARTIST = "the artist's word"
"""Evidence of a verdict that the artist gave."""
MAX_WORDS = 2_000
"""Characters of a wish."""


def apply_remark(trajectory: Trajectory, remark: Remark) -> Trajectory:
    """Return the trajectory with the remark applied. A wish becomes a goal, so that it is judged like the others. A
    candidate that the artist picked becomes the one that its step chose, without verdicts: it is to be judged.

    Raises BadInput for a goal or a canvas that the run does not have, for words that are too long, and if no goal is
    left.
    """
    _check(trajectory, remark)
    trajectory = _with_pick(trajectory, remark.back_to)
    goals = tuple(goal for goal in trajectory.goals if goal.id not in remark.dropped)
    if remark.words:
        goals = (*goals, wish(remark.words, goals, sum(bool(earlier.words) for earlier in trajectory.remarks) + 1))
    if not goals:
        raise BadInput("every goal was dropped, and nothing was wished for; keep one, or stop the run")
    current = trajectory.current if remark.back_to is None else remark.back_to
    steps = tuple(
        _with_remark(step, remark, step.chosen is not None and step.chosen == current) for step in trajectory.steps
    )
    leader = rules.best(steps)
    return replace(
        trajectory,
        goals=goals,
        steps=steps,
        current=current,
        best=leader.chosen if leader else trajectory.best,
        remarks=(*trajectory.remarks, remark),
    )


def is_wish(goal: str) -> bool:
    """Whether the id is one of a wish: a1, a2, ... Ids of drafted goals begin with g."""
    return re.fullmatch(r"a[1-9]\d*", goal) is not None


def wish(words: str, goals: Sequence[Goal], number: int) -> Goal:
    """Return the goal that a wish becomes. Its id is a and the number, or the next one that no other goal has.

    number: how many wishes there are with this one.
    """
    taken = {goal.id for goal in goals}
    while f"a{number}" in taken:
        number += 1
    return Goal(f"a{number}", words, "global", check=f"Does the picture show what the artist asks for here: {words}?")


def _check(trajectory: Trajectory, remark: Remark) -> None:
    if len(remark.words) > MAX_WORDS:
        raise BadInput(f"the remark has {len(remark.words):,} characters; at most {MAX_WORDS:,} are read")
    ids = {goal.id for goal in trajectory.goals}
    for goal in (*remark.corrected, *remark.dropped):
        if goal not in ids:
            raise BadInput(f"the remark names a goal {goal!r:.40}, and the run has {', '.join(sorted(ids))}")
    if remark.back_to is not None and trajectory.step_with(remark.back_to) is None:
        raise BadInput(f"the remark goes back to canvas {remark.back_to}, which no step of the run proposed")


def _with_pick(trajectory: Trajectory, canvas: int | None) -> Trajectory:
    """The trajectory in which the step that drew this canvas chose it."""
    step = trajectory.step_with(canvas)
    if step is None or step.chosen == canvas:
        return trajectory
    picked = replace(
        step,
        chosen=canvas,
        verdicts=(),
        score=None,
        edit=EditCheck(),
        accepted=True,
        ruling="picked by the artist",
        reason="the artist picked this candidate",
    )
    steps = tuple(picked if each.index == step.index else each for each in trajectory.steps)
    best = None if trajectory.best == step.chosen else trajectory.best
    return replace(trajectory, steps=steps, best=best)


def _with_remark(step: Step, remark: Remark, current: bool) -> Step:
    """The step without the verdicts of dropped goals; if it proposed the current canvas, with the artist's verdicts on
    it."""
    corrected = remark.corrected if current else {}
    if not corrected and not remark.dropped:
        return step
    kept = [
        verdict for verdict in step.verdicts if verdict.goal not in remark.dropped and verdict.goal not in corrected
    ]
    verdicts = (*kept, *(Verdict(goal, state, BY_THE_ARTIST, 1.0) for goal, state in corrected.items()))
    return step if verdicts == step.verdicts else replace(step, verdicts=verdicts, score=rules.score(verdicts))
