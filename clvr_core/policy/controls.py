"""What the loop is measured against: one picture of the brief's own words, and the best of several by the same judge."""

from __future__ import annotations

from dataclasses import dataclass

from ..trajectory import Action, Trajectory
from . import rules
from .base import Directive, Policy


def _own_words(trajectory: Trajectory) -> Directive:
    goals = tuple(goal.id for goal in rules.wanted(trajectory.goals))
    return Directive(goals, ("GENERATE",), Action("GENERATE", "The brief's own words.", trajectory.brief.prompt, goals=goals))


@dataclass(frozen=True)
class OneShot(Policy):
    name: str = "oneshot"

    def candidates(self, trajectory: Trajectory) -> int:
        return 1

    def directive(self, trajectory: Trajectory) -> Directive:
        return _own_words(trajectory)

    def stop(self, trajectory: Trajectory) -> str | None:
        return "one shot" if trajectory.steps else None


@dataclass(frozen=True)
class BestOfN(Policy):
    """One round of N candidates; N is the brief's, else as many as the budget of images allows, else 4."""

    name: str = "best-of-n"
    grid: int = 4

    def candidates(self, trajectory: Trajectory) -> int:
        return trajectory.brief.candidates or trajectory.brief.budget.images or self.grid

    def directive(self, trajectory: Trajectory) -> Directive:
        return _own_words(trajectory)

    def stop(self, trajectory: Trajectory) -> str | None:
        return f"best of {len(trajectory.steps[0].candidates)}" if trajectory.steps else None
