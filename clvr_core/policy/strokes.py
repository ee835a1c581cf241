"""Think in Strokes (arXiv 2604.04746): plan, sketch, inspect, refine in growing sub-scenes; what is not painted yet is
pending."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..brief import Brief, Goal, Strategy
from ..trajectory import Action, Step, Trajectory
from . import rules
from .base import Directive, Policy, StrategyPlan
from .director import batches, next_batch
from .rules import Stop

SUBSCENE = 2
"""Goals by which each sub-scene grows, at most."""


ADD, REFINE = "stroke_plan", "stroke_refine"
"""Prompt templates of a stroke that adds something new, and of one that corrects an earlier stroke."""


@dataclass(frozen=True)
class Strokes(Policy):
    """With all inspections and sub-scenes it is the paper's; without one of them, an ablation.

    text: whether each instruction is held against the brief before it is drawn.
    picture: whether the next step depends on what is seen: what a step should have met is corrected before anything is
        added. If not, each sub-scene is painted once.
    subscenes: whether the picture grows by sub-scenes. If not, the brief is drawn in one shot and then corrected.
    """

    name: ClassVar[Strategy] = "strokes"
    label: ClassVar[str] = "strokes"
    colour: ClassVar[str] = "#b1417c"
    hint: ClassVar[str] = "plan, sketch, inspect, refine"
    paper: ClassVar[str] = "2604.04746"
    calls: ClassVar[int] = 4  # decide, inspect the text, judge the goals, check the edit
    redraws: ClassVar[bool] = False

    text: bool = True
    picture: bool = True
    subscenes: bool = True

    @property
    def inspects_text(self) -> bool:
        return self.text

    def plan(self, brief: Brief, goals: tuple[Goal, ...]) -> StrategyPlan:
        """Whole-picture goals first, then growing sub-scenes; layout comes last, when everything it arranges is
        there."""
        if not self.subscenes:
            whole = tuple(goal.id for goal in rules.wanted(goals))
            return StrategyPlan("one shot", "one shot: no sub-scenes, then what is wrong is corrected", (whole,))
        things = tuple(goal for goal in rules.wanted(goals) if goal.kind in ("global", "local", "text"))
        layout = tuple(goal.id for goal in rules.wanted(goals) if goal.kind == "layout")
        plan = (*batches(things, SUBSCENE), *((layout,) if layout else ()))
        return StrategyPlan("staged", "staged: painted in sub-scenes", plan)

    def directive(self, trajectory: Trajectory) -> Directive:
        if trajectory.current_step is None:
            first = trajectory.plan[0] if trajectory.plan else ()
            if not self.subscenes and not trajectory.brief.picture:
                words = trajectory.brief.prompt
                fixed = Action("GENERATE", "One shot of the whole brief.", words, goals=first)
                return Directive(first, ("GENERATE",), fixed)
            return Directive(first, ("GENERATE",), stage=ADD)
        if not self.picture:
            return Directive(_unpainted(trajectory), ("EDIT",), stage=ADD)
        focus = next_batch(trajectory)
        wrong = _missed(trajectory, focus)
        return Directive(focus, ("EDIT",), stage=REFINE if wrong else ADD, wrong=wrong)

    def stop(self, trajectory: Trajectory) -> Stop | None:
        """Without a look at the picture the run ends when each sub-scene was painted."""
        if self.picture or trajectory.current_step is None:
            return super().stop(trajectory)
        done = None if _unpainted(trajectory) else Stop("all drawn", "every sub-scene is painted")
        return done or rules.spent(trajectory)

    def pending(self, trajectory: Trajectory, step: Step) -> frozenset[str]:
        served = {goal for done in (*trajectory.steps, step) for goal in done.action.goals}
        reached = max((index for index, batch in enumerate(trajectory.plan) if served & set(batch)), default=-1)
        return frozenset(goal for batch in trajectory.plan[reached + 1 :] for goal in batch)


def _unpainted(trajectory: Trajectory) -> tuple[str, ...]:
    """The goals of the first sub-scene that no step was for, kept or not; none if there is none."""
    served = {goal for step in trajectory.steps if step.action.draws for goal in step.action.goals}
    return next((batch for batch in trajectory.plan if not served & set(batch)), ())


def _missed(trajectory: Trajectory, focus: tuple[str, ...]) -> tuple[str, ...]:
    """The goals of the focus that a kept step served and the current canvas does not meet: they are corrected before
    anything is added."""
    step = trajectory.current_step
    verdicts = step.verdicts if step else ()
    due = {goal for done in trajectory.steps if done.accepted for goal in done.action.goals} & set(focus)
    return tuple(verdict.goal for verdict in verdicts if verdict.goal in due and verdict.state in ("unmet", "unsure"))
