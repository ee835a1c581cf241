"""What a strategy declares and decides. The defaults are those of a closed loop; each strategy overrides what its paper
does differently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..brief import Brief, Goal, Strategy
from ..trajectory import Action, ActionKind, EditCheck, Route, Ruling, Step, Trajectory
from . import rules
from .damage import damage
from .depth import less_edited
from .rules import Stop

OVER_EDIT_LIMIT = 0.5
"""Share of change that an edit should not have made (0..1) above which it is rolled back, unless the judge says that it
was carried out."""
END_REFUSED = "END refused"


@dataclass(frozen=True, slots=True)
class StrategyPlan:
    """Made once, before anything is drawn.

    route: whether the run begins with one generation of the brief's own words or in stages.
    gate: why, in a sentence.
    batches: goal ids that are served in turn; empty to serve all open goals at once.
    """

    route: Route
    gate: str
    batches: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Directive:
    """What the next round has to do: carry out a fixed action, or ask the controller for one.

    focus: ids of the goals that the round should serve.
    allowed: kinds of action that the controller may choose.
    fixed: the action, if the controller is not asked.
    stage: name of the prompt template that tells the controller about this step; "" for none.
    wrong: ids of goals that an earlier step should have met and did not; a value in that template.
    source: canvas that an EDIT has to start from, a clean ancestor of the current one; None for any that is offered.
    avoid: index of a failed step, an equivalent of which the controller has just chosen; None if it has not.
    """

    focus: tuple[str, ...] = ()
    allowed: tuple[ActionKind, ...] = ("EDIT",)
    fixed: Action | None = None
    stage: str = ""
    wrong: tuple[str, ...] = ()
    source: int | None = None
    avoid: int | None = None


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Whether a step is kept, and why: as a code and in a sentence."""

    accepted: bool
    ruling: Ruling
    reason: str


@dataclass(frozen=True)
class Policy:
    """A strategy. The class says all of it that other rooms need; docs/how-to/add-a-strategy.md lists the steps to add
    one.

    grid: candidates of a round where the brief does not say how many.
    """

    name: ClassVar[Strategy]
    """As a brief names it, and in the name of its prompt template, strategy_<name>.txt."""
    label: ClassVar[str]
    """Its name in the legend of a plot."""
    colour: ClassVar[str]
    """Of its curve in a plot, #rrggbb."""
    hint: ClassVar[str]
    """Half a sentence for the widget's tooltip: what it does."""
    paper: ClassVar[str]
    """arXiv id of its source; "" for none."""
    loops: ClassVar[bool] = True
    """Whether it asks for actions round after round; False for a baseline, which draws one round of the brief's own
    words."""
    calls: ClassVar[int]
    """Calls of the vision-language model in a round of one picture, for a forecast without earlier runs."""
    fuses: ClassVar[bool] = False
    """Whether the verdicts on a canvas and the next action may come in one reply (`Brief.fused`)."""
    redraws: ClassVar[bool] = True
    """Whether a guided run draws the scene anew where edits have failed."""
    final_ab: ClassVar[bool] = False
    """Whether the result is compared with the one-shot picture where the brief does not say so."""

    grid: int = 1

    @property
    def inspects_text(self) -> bool:
        """Whether each instruction is compared with the brief before anything is drawn."""
        return False

    def plan(self, brief: Brief, goals: tuple[Goal, ...]) -> StrategyPlan:
        return StrategyPlan("staged", "staged")

    def candidates(self, trajectory: Trajectory) -> int:
        """Pictures drawn in each round."""
        return trajectory.brief.candidates or self.grid

    def directive(self, trajectory: Trajectory) -> Directive:
        raise NotImplementedError

    def pending(self, trajectory: Trajectory, step: Step) -> frozenset[str]:
        """Ids of goals that a later step will serve, so that missing them is no fault of this step."""
        return frozenset()

    def damages(self, trajectory: Trajectory, edits: Sequence[EditCheck]) -> tuple[float, ...]:
        """What each edit did to the rest of the picture beyond the brief's tolerance, 0 for nothing; a baseline does
        not ask."""
        tolerance = trajectory.brief.budget.tolerance if self.loops else None
        if tolerance is None:
            return (0.0,) * len(edits)
        return tuple(max(0.0, damage(edit.change) - tolerance, damage(edit.drift) - tolerance) for edit in edits)

    def repairs(self, trajectory: Trajectory, step: Step) -> bool:
        """Whether what the step's edit did to the rest is put back and judged again, before the step is decided on."""
        change = step.edit.change
        if step.action.kind != "EDIT" or change is None or not any(self.damages(trajectory, (step.edit,))):
            return False
        return any(each.meant or (each.offset and any(each.offset)) for each in (change, step.edit.drift) if each)

    def accept(self, trajectory: Trajectory, step: Step) -> Acceptance:
        """Decide whether the canvas that the step proposes replaces the one it started from."""
        holder = trajectory.current_step
        if holder is None:
            return Acceptance(True, "first canvas", "the first canvas")
        if not trajectory.brief.rollback:
            return Acceptance(True, "no rollback", "kept: roll-back is off")
        if step.score is None:
            reason = "rolled back: the judge gave no answer, so the earlier canvas stays"
            return Acceptance(False, "not judged", reason)
        if _over_edited(step.edit):
            reason = f"rolled back: changed what was to stay (over-edit {step.edit.over_edit:.2f})"
            return Acceptance(False, "over-edited", reason)
        won, gone = rules.met(step.verdicts) - rules.met(holder.verdicts), rules.lost(holder.verdicts, step.verdicts)
        if rules.better(step, holder):
            reason = f"kept: now met {_listed(won)}" + (f", lost {_listed(gone)}" if gone else "")
            return Acceptance(True, "goals gained", reason)
        if self._carried_out(trajectory, step):
            return Acceptance(True, "goals gained", f"kept: now met {_listed(won)}, lost {_listed(gone)}")
        if less := less_edited(trajectory, step):
            now, before = less
            reason = f"kept: no goal lost, and edited {now} times since it was clean in place of {before}"
            return Acceptance(True, "less edited", reason)
        if gone:
            reason = f"rolled back: lost {_listed(gone)}" + (f", now met {_listed(won)}" if won else "")
            return Acceptance(False, "goals lost", reason)
        return Acceptance(False, "no gain", "rolled back: no goal gained, so the earlier canvas stays")

    def _carried_out(self, trajectory: Trajectory, step: Step) -> bool:
        """Whether, in a guided run, an edit won a goal that it serves and lost one that it has nothing to do with, though
        by what was measured nothing else changed: then the loss is the judge's more likely than the edit's."""
        holder, change = trajectory.current_step, step.edit.change
        if not trajectory.brief.guided or step.action.kind != "EDIT" or holder is None or change is None:
            return False
        if holder.chosen != step.parent or any(self.damages(trajectory, (step.edit,))):
            return False
        served, gone = frozenset(step.action.goals), rules.lost(holder.verdicts, step.verdicts)
        won = rules.met(step.verdicts) - rules.met(holder.verdicts)
        return (
            bool(won & served)
            and len(gone) == 1
            and not gone & served
            and rules.gain(holder.verdicts, step.verdicts) == 0
        )

    def final_gate(self, trajectory: Trajectory) -> Acceptance:
        """Decide whether an END of the controller ends the run."""
        left = rules.musts(trajectory, rules.open_goals(trajectory, trajectory.current_step))
        if left:
            return Acceptance(False, "end refused", f"{END_REFUSED}: not met {_listed(left)}")
        every = rules.all_met(trajectory, trajectory.current_step)
        return Acceptance(True, "end accepted", f"END: every goal {'holds' if every else 'that must holds'}")

    def stop(self, trajectory: Trajectory) -> Stop | None:
        """Why to stop before the next round, or None. Limits on images and evaluations are checked with the round's own
        cost."""
        patience = trajectory.brief.budget.patience
        if rules.all_met(trajectory, trajectory.current_step):
            return Stop("goals met", "every goal is met")
        if rules.rounds_without_gain(trajectory) >= patience:
            return Stop("no improvement", f"no improvement in {patience} rounds")
        return rules.spent(trajectory)


def _over_edited(edit: EditCheck) -> bool:
    """Whether the judge says that the edit changed what was to stay, and not that it was carried out; no witness
    disagrees."""
    says = edit.over_edit is not None and edit.over_edit > OVER_EDIT_LIMIT and edit.success is not True
    return says and not any(finding.says == "yes" for finding in edit.witnesses)


def _listed(goals) -> str:
    return ", ".join(sorted(goals)) or "none"
