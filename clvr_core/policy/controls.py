"""What the loop is measured against: one picture of the brief's own words, and the best of several by the same judge."""

from __future__ import annotations

from dataclasses import dataclass

from ..trajectory import Action, Step, Trajectory
from . import rules
from .base import Directive, Policy


def _own_words(trajectory: Trajectory) -> Directive:
    """One picture of them, or one edit by them of the picture that was given."""
    goals, words = tuple(goal.id for goal in rules.wanted(trajectory.goals)), trajectory.brief.prompt
    fixed = Action("GENERATE", "The brief's own words.", words, goals=goals)
    if trajectory.brief.picture:
        fixed = Action(
            "EDIT", "The brief's own words.", edit_prompt=words, references=(trajectory.current,), goals=goals
        )
    return Directive(goals, (fixed.kind,), fixed)


def _drawn(trajectory: Trajectory) -> Step | None:
    return next((step for step in trajectory.steps if step.action.draws), None)


@dataclass(frozen=True)
class OneShot(Policy):
    name: str = "oneshot"

    def candidates(self, trajectory: Trajectory) -> int:
        return 1

    def directive(self, trajectory: Trajectory) -> Directive:
        return _own_words(trajectory)

    def stop(self, trajectory: Trajectory) -> str | None:
        return "one shot" if _drawn(trajectory) else None


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
        drawn = _drawn(trajectory)
        return f"best of {len(drawn.candidates)}" if drawn else None
