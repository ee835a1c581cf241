"""CLVR (arXiv 2605.14876): the controller chooses GENERATE, EDIT, VALIDATE or END; each canvas has to pass a gate, and
so has the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..brief import Strategy
from ..trajectory import Trajectory
from . import rules
from .base import Directive, Policy


@dataclass(frozen=True)
class Clvr(Policy):
    name: ClassVar[Strategy] = "clvr"
    label: ClassVar[str] = "clvr"
    colour: ClassVar[str] = "#1f6fd6"
    hint: ClassVar[str] = "step by step with roll-back"
    paper: ClassVar[str] = "2605.14876"
    calls: ClassVar[int] = 3  # decide, judge the goals, check the edit
    fuses: ClassVar[bool] = True
    final_ab: ClassVar[bool] = True

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
