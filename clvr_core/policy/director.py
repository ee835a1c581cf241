"""VisionDirector (arXiv 2512.19243): one shot or stages, one or two goals a batch, global before local, a grid of
candidates, rollback."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from ..brief import Brief, Goal, Strategy
from ..trajectory import Action, Route, Trajectory
from . import rules
from .base import Directive, Policy, StrategyPlan
from .complexity import of_goals, one_shot_chance

ONE_SHOT_CHANCE = 0.25
"""Chance that one generation meets all goals from which on it is tried. The paper gives no number for its gate; its
observed rate of one shot falls below one half at about 22 goals, which were written by its authors."""
SURE = 0.9
"""Feasibility below which a goal may fail."""
SMALL = 0.5
"""Share of the picture that goals which may fail can claim together for one shot to be tried, in a guided run. The paper
asks for high feasibility and a small area and prints neither number."""
BATCH = 2
"""Goals of a batch, at most."""
ORDER = {"global": 0, "layout": 1, "local": 2, "likeness": 2, "text": 3}
TRIES = 2
"""Failures from the same canvas after which a batch has to wait."""


def batches(goals: tuple[Goal, ...], size: int) -> tuple[tuple[str, ...], ...]:
    """Ids of the wanted goals in batches of at most `size`: by kind in ORDER, within a kind in the brief's order."""
    ordered = sorted(rules.wanted(goals), key=lambda goal: ORDER[goal.kind])
    return tuple(tuple(goal.id for goal in ordered[start : start + size]) for start in range(0, len(ordered), size))


def next_batch(trajectory: Trajectory, tries: int = TRIES) -> tuple[str, ...]:
    """The open goals of the first batch that failed less than `tries` times from the current canvas; all open goals if
    there is none."""
    left = rules.open_goals(trajectory, trajectory.current_step)
    for batch in trajectory.plan:
        focus = tuple(goal for goal in batch if goal in left)
        failures = sum(
            1 for step in trajectory.failed if step.parent == trajectory.current and set(step.action.goals) & set(focus)
        )
        if focus and failures < tries:
            return focus
    return left


def area_at_risk(goals: tuple[Goal, ...]) -> float:
    """Share of the picture, 0..1, that the wanted goals below SURE claim, each place counted once. One of the whole
    picture claims all of it; the share of another without an area is not known and counts nothing."""
    doubtful = [goal for goal in rules.wanted(goals) if goal.feasibility < SURE]
    if any(goal.kind == "global" and goal.area is None for goal in doubtful):
        return 1.0
    boxes = [goal.area for goal in doubtful if goal.area is not None]
    across = sorted({edge for box in boxes for edge in (box[0], box[2])})
    down = sorted({edge for box in boxes for edge in (box[1], box[3])})
    return sum(
        (right - left) * (bottom - top)
        for left, right in pairwise(across)
        for top, bottom in pairwise(down)
        if any(box[0] <= left and right <= box[2] and box[1] <= top and bottom <= box[3] for box in boxes)
    )


@dataclass(frozen=True)
class Director(Policy):
    name: ClassVar[Strategy] = "director"
    label: ClassVar[str] = "director"
    colour: ClassVar[str] = "#1d8f5a"
    hint: ClassVar[str] = "one goal after another over a small grid"
    paper: ClassVar[str] = "2512.19243"
    calls: ClassVar[int] = 2  # decide, judge the goals
    grid: int = 4

    def plan(self, brief: Brief, goals: tuple[Goal, ...]) -> StrategyPlan:
        if brief.picture:
            return StrategyPlan("staged", "staged: edits of the picture that was given", batches(goals, BATCH))
        chance = 1.0
        for goal in rules.wanted(goals):
            chance *= goal.feasibility
        if brief.estimate:
            chance = min(chance, one_shot_chance(of_goals(brief, goals)))
        route: Route = "one shot" if chance >= ONE_SHOT_CHANCE else "staged"
        gate = f"{route}: one generation is given {chance:.0%} to meet all {len(goals)} goals"
        if brief.guided and route == "one shot" and (at_risk := area_at_risk(goals)) > SMALL:
            route, gate = "staged", f"staged: goals that may fail claim {at_risk:.0%} of the picture"
        return StrategyPlan(route, gate, batches(goals, BATCH))

    def directive(self, trajectory: Trajectory) -> Directive:
        if trajectory.current_step is None:
            everything = tuple(goal.id for goal in rules.wanted(trajectory.goals))
            if trajectory.route == "one shot":
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
