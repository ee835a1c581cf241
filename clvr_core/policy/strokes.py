"""Think in Strokes (arXiv 2604.04746): plan, sketch, inspect, refine in growing sub-scenes; what is not painted yet is
pending."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..brief import Brief, Goal, Strategy
from ..trajectory import Step, Trajectory
from . import rules
from .base import Directive, Policy, StrategyPlan
from .director import batches, next_batch

SUBSCENE = 2
"""Goals by which each sub-scene grows, at most."""


ADD, REFINE = "stroke_plan", "stroke_refine"
"""Prompt templates of a stroke that adds something new, and of one that corrects an earlier stroke."""


@dataclass(frozen=True)
class Strokes(Policy):
    name: ClassVar[Strategy] = "strokes"
    label: ClassVar[str] = "strokes"
    colour: ClassVar[str] = "#b1417c"
    hint: ClassVar[str] = "plan, sketch, inspect, refine"
    paper: ClassVar[str] = "2604.04746"
    calls: ClassVar[int] = 4  # decide, inspect the text, judge the goals, check the edit
    inspects_text: ClassVar[bool] = True
    redraws: ClassVar[bool] = False

    def plan(self, brief: Brief, goals: tuple[Goal, ...]) -> StrategyPlan:
        """Whole-picture goals first, then growing sub-scenes; layout comes last, when everything it arranges is
        there."""
        things = tuple(goal for goal in rules.wanted(goals) if goal.kind in ("global", "local", "text"))
        layout = tuple(goal.id for goal in rules.wanted(goals) if goal.kind == "layout")
        plan = (*batches(things, SUBSCENE), *((layout,) if layout else ()))
        return StrategyPlan("staged", "staged: painted in sub-scenes", plan)

    def directive(self, trajectory: Trajectory) -> Directive:
        if trajectory.current_step is None:
            return Directive(trajectory.plan[0] if trajectory.plan else (), ("GENERATE",), stage=ADD)
        focus = next_batch(trajectory)
        wrong = _missed(trajectory, focus)
        return Directive(focus, ("EDIT",), stage=REFINE if wrong else ADD, wrong=wrong)

    def pending(self, trajectory: Trajectory, step: Step) -> frozenset[str]:
        served = {goal for done in (*trajectory.steps, step) for goal in done.action.goals}
        reached = max((index for index, batch in enumerate(trajectory.plan) if served & set(batch)), default=-1)
        return frozenset(goal for batch in trajectory.plan[reached + 1 :] for goal in batch)


def _missed(trajectory: Trajectory, focus: tuple[str, ...]) -> tuple[str, ...]:
    """The goals of the focus that a kept step served and the current canvas does not meet: they are corrected before
    anything is added."""
    step = trajectory.current_step
    verdicts = step.verdicts if step else ()
    due = {goal for done in trajectory.steps if done.accepted for goal in done.action.goals} & set(focus)
    return tuple(verdict.goal for verdict in verdicts if verdict.goal in due and verdict.state in ("unmet", "unsure"))
