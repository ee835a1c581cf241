"""CLVR (arXiv 2605.14876): the controller itself chooses GENERATE, EDIT, VALIDATE or END; each canvas passes a gate, so does the end."""

from __future__ import annotations

from dataclasses import dataclass

from ..trajectory import Trajectory
from . import rules
from .base import Directive, Policy


@dataclass(frozen=True)
class Clvr(Policy):
    name: str = "clvr"
    final_ab: bool = True

    def directive(self, trajectory: Trajectory) -> Directive:
        step = trajectory.current_step
        if step is None:
            return Directive(tuple(goal.id for goal in rules.wanted(trajectory.goals)), ("GENERATE",))
        unclear = rules.unclear(trajectory.goals, step.verdicts)
        last = trajectory.steps[-1].action.kind
        validate = ("VALIDATE",) if unclear and last != "VALIDATE" else ()
        return Directive(
            rules.open_goals(trajectory, step), rules.kinds(trajectory, "GENERATE", "EDIT", *validate, "END")
        )
