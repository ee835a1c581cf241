"""When an edit starts from a clean ancestor of the canvas, and asks in one instruction for all that was won since.

Each edit wears a picture out a little, and models are trained on clean pictures: ten edits in a row are lost where two
or three are safe (docs/steering.md). Pure functions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..trajectory import Step, Trajectory
from . import rules

if TYPE_CHECKING:
    from .base import Directive

TRIES = 2
"""Failed rounds from the clean ancestor after which the current canvas is edited all the same."""


def source_of(trajectory: Trajectory, canvas: int) -> int:
    """The clean source of the canvas: it was drawn from words alone, or given. Of a source itself."""
    edits = trajectory.edits_since_source(canvas)
    return edits[0].action.references[0] if edits else canvas


def from_clean_source(trajectory: Trajectory, directive: Directive) -> Directive:
    """Return the directive, and have its edit start from the clean source if the current canvas is as deep as the
    budget allows.

    The goals won since then are served again, with those that the directive is about; instead the picture may be drawn
    anew, unless the run edits a given one. After TRIES failures the directive stays as it is.
    """
    limit, current = trajectory.brief.budget.depth, trajectory.current
    if limit is None or current is None or directive.fixed or "EDIT" not in directive.allowed or not directive.focus:
        return directive
    if trajectory.depth(current) < limit:
        return directive
    source = source_of(trajectory, current)
    if sum(_restarts(step, trajectory, source) for step in trajectory.failed) >= TRIES:
        return directive
    wanted = {*won_since(trajectory, source), *directive.focus}
    focus = tuple(goal.id for goal in trajectory.goals if goal.id in wanted)
    allowed = tuple(dict.fromkeys((*directive.allowed, *rules.kinds(trajectory, "GENERATE"))))
    return replace(directive, focus=focus, allowed=allowed, source=source)


def won_since(trajectory: Trajectory, source: int) -> frozenset[str]:
    """Ids of the goals that the current canvas meets and its source did not."""
    held, begun = trajectory.current_step, trajectory.step_of(source)
    return rules.met(held.verdicts if held else ()) - rules.met(begun.verdicts if begun else ())


def less_edited(trajectory: Trajectory, step: Step) -> tuple[int, int] | None:
    """The depth of the step's canvas and of the current one, if the former is nearer to a clean source and no worse by
    the verdicts; else None."""
    holder = trajectory.current_step
    if trajectory.brief.budget.depth is None or holder is None or holder.chosen is None or step.chosen is None:
        return None
    if rules.ahead(holder.verdicts, step.verdicts) or rules.lost(holder.verdicts, step.verdicts):
        return None
    now, before = trajectory.with_step(step).depth(step.chosen), trajectory.depth(holder.chosen)
    return (now, before) if now < before else None


def _restarts(step: Step, trajectory: Trajectory, source: int) -> bool:
    """Whether the step tried to replace the current canvas from its source, or from nothing."""
    references = step.action.references
    return step.parent == trajectory.current and (step.action.kind == "GENERATE" or references[:1] == (source,))
