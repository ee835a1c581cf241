"""Think in Strokes (arXiv 2604.04746): plan, sketch, inspect, refine in growing sub-scenes; what is not painted yet is pending."""

from __future__ import annotations

from dataclasses import dataclass

from ..brief import Brief, Goal
from ..trajectory import Step, Trajectory
from . import rules
from .base import Directive, Policy, StrategyPlan
from .director import batches, next_batch

SUBSCENE = 2


@dataclass(frozen=True)
class Strokes(Policy):
    name: str = "strokes"
    inspects_text: bool = True

    def plan(self, brief: Brief, goals: tuple[Goal, ...]) -> StrategyPlan:
        """Background and whole-picture goals first, then growing sub-scenes; arrangement comes with the last, when all of it stands."""
        things = tuple(goal for goal in rules.wanted(goals) if goal.kind in ("global", "local", "text"))
        layout = tuple(goal.id for goal in rules.wanted(goals) if goal.kind == "layout")
        return StrategyPlan(
            "staged: painted in sub-scenes", (*batches(things, SUBSCENE), *((layout,) if layout else ()))
        )

    def directive(self, trajectory: Trajectory) -> Directive:
        if trajectory.current_step is None:
            return Directive(trajectory.plan[0] if trajectory.plan else (), ("GENERATE",))
        return Directive(next_batch(trajectory), ("EDIT",))

    def pending(self, trajectory: Trajectory, step: Step) -> frozenset[str]:
        served = {goal for done in (*trajectory.steps, step) for goal in done.action.goals}
        reached = max((index for index, batch in enumerate(trajectory.plan) if served & set(batch)), default=-1)
        return frozenset(goal for batch in trajectory.plan[reached + 1 :] for goal in batch)
