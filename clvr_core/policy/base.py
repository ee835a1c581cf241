"""What every strategy answers, with the closed loop's common answers as defaults."""

from __future__ import annotations

from dataclasses import dataclass

from ..brief import Brief, Goal
from ..trajectory import Action, ActionKind, Step, Trajectory
from . import rules

OVER_EDIT_LIMIT = 0.5
END_REFUSED = "END refused"


@dataclass(frozen=True, slots=True)
class StrategyPlan:
    """Made once: the gate's word, and the batches of goal ids that are served in turn. An empty plan serves all open goals at once."""

    gate: str
    batches: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Directive:
    """What the next round is to do: either a fixed action, or a question to the controller."""

    focus: tuple[str, ...] = ()
    allowed: tuple[ActionKind, ...] = ("EDIT",)
    fixed: Action | None = None


@dataclass(frozen=True)
class Policy:
    """Common ground of the strategies; each overrides what its paper does differently."""

    name: str = ""
    grid: int = 1
    inspects_text: bool = False
    final_ab: bool = False

    def plan(self, brief: Brief, goals: tuple[Goal, ...]) -> StrategyPlan:
        return StrategyPlan("staged")

    def candidates(self, trajectory: Trajectory) -> int:
        return trajectory.brief.candidates or self.grid

    def directive(self, trajectory: Trajectory) -> Directive:
        raise NotImplementedError

    def pending(self, trajectory: Trajectory, step: Step) -> frozenset[str]:
        """Goals that the step was not meant to serve yet, so that not holding is not a fault."""
        return frozenset()

    def accept(self, trajectory: Trajectory, step: Step) -> tuple[bool, str]:
        """Whether the step's canvas replaces the one it started from, and why."""
        holder = trajectory.current_step
        if holder is None:
            return True, "the first canvas"
        if step.score is None:
            return False, "rolled back: the judge gave no answer, so the earlier canvas stays"
        if step.edit.over_edit is not None and step.edit.over_edit > OVER_EDIT_LIMIT and step.edit.success is not True:
            return False, f"rolled back: changed what was to stay (over-edit {step.edit.over_edit:.2f})"
        won, gone = rules.met(step.verdicts) - rules.met(holder.verdicts), rules.lost(holder.verdicts, step.verdicts)
        if rules.better(step, holder):
            return True, f"kept: now met {_listed(won)}" + (f", lost {_listed(gone)}" if gone else "")
        if gone:
            return False, f"rolled back: lost {_listed(gone)}" + (f", now met {_listed(won)}" if won else "")
        return False, "rolled back: no goal gained, so the earlier canvas stays"

    def final_gate(self, trajectory: Trajectory) -> tuple[bool, str]:
        """Whether an END of the controller may stand."""
        left = rules.musts(trajectory, rules.open_goals(trajectory, trajectory.current_step))
        if left:
            return False, f"{END_REFUSED}: not met {_listed(left)}"
        return True, "END: every goal holds" if rules.all_met(
            trajectory, trajectory.current_step
        ) else "END: every goal that must holds"

    def stop(self, trajectory: Trajectory) -> str | None:
        """Why to stop before the next round, or None. Limits on images and evaluations are checked with the round's own cost."""
        if rules.all_met(trajectory, trajectory.current_step):
            return "every goal is met"
        if rules.rounds_without_gain(trajectory) >= trajectory.brief.budget.patience:
            return f"no improvement in {trajectory.brief.budget.patience} rounds"
        return rules.spent(trajectory)


def _listed(goals) -> str:
    return ", ".join(sorted(goals)) or "none"
