"""VisionDirector (arXiv 2512.19243): one shot or stages, one or two goals a batch, global before local, a grid of candidates, rollback."""

from __future__ import annotations

from dataclasses import dataclass

from ..brief import Brief, Goal
from ..trajectory import Action, Trajectory
from . import rules
from .base import Directive, Policy, StrategyPlan
from .complexity import of_goals, one_shot_chance

# The paper gives no number for its gate; its observed rate of one shot falls below one half at about 22 goals of its own making.
ONE_SHOT_CHANCE = 0.25
BATCH = 2
ORDER = {"global": 0, "layout": 1, "local": 2, "text": 3}
TRIES = 2


def batches(goals: tuple[Goal, ...], size: int) -> tuple[tuple[str, ...], ...]:
    """Goals in batches of at most `size`, global before layout before local before text, else in the brief's order."""
    ordered = sorted(rules.wanted(goals), key=lambda goal: ORDER[goal.kind])
    return tuple(tuple(goal.id for goal in ordered[start : start + size]) for start in range(0, len(ordered), size))


def next_batch(trajectory: Trajectory, tries: int = TRIES) -> tuple[str, ...]:
    """The open goals of the first batch that has been tried less than `tries` times since its last gain, or all open goals."""
    left = rules.open_goals(trajectory, trajectory.current_step)
    for batch in trajectory.plan:
        focus = tuple(goal for goal in batch if goal in left)
        failures = sum(
            1 for step in trajectory.failed if step.parent == trajectory.current and set(step.action.goals) & set(focus)
        )
        if focus and failures < tries:
            return focus
    return left


@dataclass(frozen=True)
class Director(Policy):
    name: str = "director"
    grid: int = 4

    def plan(self, brief: Brief, goals: tuple[Goal, ...]) -> StrategyPlan:
        if brief.picture:
            return StrategyPlan("staged: edits of the picture that was given", batches(goals, BATCH))
        chance = 1.0
        for goal in rules.wanted(goals):
            chance *= goal.feasibility
        if brief.estimate:
            chance = min(chance, one_shot_chance(of_goals(brief, goals)))
        gate = "one shot" if chance >= ONE_SHOT_CHANCE else "staged"
        return StrategyPlan(
            f"{gate}: one generation is given {chance:.0%} to meet all {len(goals)} goals", batches(goals, BATCH)
        )

    def directive(self, trajectory: Trajectory) -> Directive:
        if trajectory.current_step is None:
            everything = tuple(goal.id for goal in rules.wanted(trajectory.goals))
            if trajectory.gate.startswith("one shot"):
                prompt = trajectory.brief.prompt
                return Directive(
                    everything,
                    ("GENERATE",),
                    Action("GENERATE", "One shot of the whole brief.", prompt, goals=everything),
                )
            return Directive(everything, ("GENERATE",))
        focus = next_batch(trajectory)
        stuck = rules.rounds_without_gain(trajectory) >= 2
        return Directive(focus, rules.kinds(trajectory, "EDIT", "GENERATE") if stuck else ("EDIT",))
