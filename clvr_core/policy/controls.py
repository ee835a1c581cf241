"""The baselines that the loop is measured against: one picture of the brief's own words, and the best of several by the
same judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..brief import Strategy
from ..trajectory import Action, Step, Trajectory
from . import rules
from .base import Directive, Policy
from .rules import Stop


def _own_words(trajectory: Trajectory) -> Directive:
    """Draw the brief's own words, or edit the given picture by them."""
    goals, words = tuple(goal.id for goal in rules.wanted(trajectory.goals)), trajectory.brief.prompt
    fixed = Action("GENERATE", "The brief's own words.", words, goals=goals)
    if trajectory.brief.picture and trajectory.current is not None:
        fixed = Action(
            "EDIT", "The brief's own words.", edit_prompt=words, references=(trajectory.current,), goals=goals
        )
    return Directive(goals, (fixed.kind,), fixed)


def _drawn(trajectory: Trajectory) -> Step | None:
    return next((step for step in trajectory.steps if step.action.draws), None)


@dataclass(frozen=True)
class OneShot(Policy):
    name: ClassVar[Strategy] = "oneshot"
    label: ClassVar[str] = "one shot"
    colour: ClassVar[str] = "#8a8f98"
    hint: ClassVar[str] = "without a loop, for comparison"
    paper: ClassVar[str] = ""
    loops: ClassVar[bool] = False
    calls: ClassVar[int] = 1  # judge the goals

    def candidates(self, trajectory: Trajectory) -> int:
        return 1

    def directive(self, trajectory: Trajectory) -> Directive:
        return _own_words(trajectory)

    def stop(self, trajectory: Trajectory) -> Stop | None:
        return Stop("all drawn", "one shot") if _drawn(trajectory) else None


@dataclass(frozen=True)
class BestOfN(Policy):
    """One round of N candidates. N is `Brief.candidates`, else the budget of images, else 4."""

    name: ClassVar[Strategy] = "best-of-n"
    label: ClassVar[str] = "best of N"
    colour: ClassVar[str] = "#c98a1b"
    hint: ClassVar[str] = "without a loop, for comparison"
    paper: ClassVar[str] = ""
    loops: ClassVar[bool] = False
    calls: ClassVar[int] = 1  # judge the goals
    grid: int = 4

    def candidates(self, trajectory: Trajectory) -> int:
        return trajectory.brief.candidates or trajectory.brief.budget.images or self.grid

    def directive(self, trajectory: Trajectory) -> Directive:
        return _own_words(trajectory)

    def stop(self, trajectory: Trajectory) -> Stop | None:
        drawn = _drawn(trajectory)
        return Stop("all drawn", f"best of {len(drawn.candidates)}") if drawn else None
