"""The states of a guided run (`Brief.guided`), and how often each may be tried on one canvas. Pure functions.

The CLVR paper (arXiv 2605.14876) has a state machine with a retry budget for each state and prints neither the budgets
nor the names of all states. These are ours:

    generate -> refine <-> validate -> finalize
                  |  ^
                  v  |
               regenerate
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from ..brief import Box, Goal, common_area
from ..trajectory import ActionKind, Step, Trajectory
from . import rules

if TYPE_CHECKING:
    from .base import Directive

State = Literal["generate", "refine", "regenerate", "validate", "finalize"]
"""generate: there is no canvas. refine: the current canvas is edited. regenerate: edits of it have failed, so the whole
scene is drawn anew. validate: it is looked at as a whole once more. finalize: the run may end with it."""

RETRIES: Mapping[State, int] = {"refine": 2, "regenerate": 2, "validate": 1, "finalize": 1}
"""State -> tries on one canvas. `generate` ends with the first canvas, and `Budget.patience` limits all of them."""
POSITION_RETRIES = 1
"""Of `refine`, where only positions are wrong: edits mend them seldom (4 of 20 in a public run, docs/steering.md)."""
OVERLAP = 0.5
"""Share of the smaller of two areas that the other covers, from which two goals stand in each other's way."""


def state_of(trajectory: Trajectory, redraws: bool = True) -> State:
    """The state in which the next action is chosen; `validate` and `finalize` are chosen by the controller where
    `refine` allows them.

    redraws: whether the strategy draws a scene anew.
    """
    step = trajectory.current_step
    if step is None:
        return "generate"
    left = rules.open_goals(trajectory, step)
    if not rules.musts(trajectory, left):
        return "finalize"
    failed = since_current(trajectory)
    anew = sum(each.action.kind == "GENERATE" for each in failed)
    edits = sum(each.action.kind == "EDIT" for each in failed)
    tries = POSITION_RETRIES if _only_positions(trajectory, left) else RETRIES["refine"]
    may = redraws and not trajectory.brief.picture and anew < RETRIES["regenerate"]
    return "regenerate" if may and edits >= tries * (anew + 1) else "refine"


def since_current(trajectory: Trajectory) -> tuple[Step, ...]:
    """The steps that started from the current canvas and did not replace it, since the artist last changed the
    course."""
    steered = max((remark.after for remark in trajectory.remarks if remark.steers), default=-1)
    found = (step for step in trajectory.steps if step.index > steered and step.parent == trajectory.current)
    return tuple(step for step in found if not (step.action.draws and step.accepted))


def guide(trajectory: Trajectory, directive: Directive, redraws: bool = True) -> Directive:
    """Return the directive with the kinds of action that the state allows, and with the goals that one action can serve
    together. A fixed action stays."""
    if not trajectory.brief.guided or directive.fixed or trajectory.current is None:
        return directive
    tried = since_current(trajectory)
    if state_of(trajectory, redraws) == "regenerate":
        every = tuple(goal.id for goal in rules.wanted(trajectory.goals))
        return replace(directive, focus=every, allowed=("GENERATE",), stage="", wrong=())
    kinds: list[ActionKind] = [kind for kind in directive.allowed if kind not in ("VALIDATE", "END")]
    if _tries(tried, "VALIDATE") < RETRIES["validate"]:
        kinds.append("VALIDATE")
    if "END" in directive.allowed and _tries(tried, "END") < RETRIES["finalize"]:
        kinds.append("END")
    return replace(directive, focus=together(trajectory, directive.focus), allowed=tuple(kinds))


def together(trajectory: Trajectory, focus: tuple[str, ...]) -> tuple[str, ...]:
    """The goals of the focus that one edit can serve: of two that conflict, or that claim the same place, the first
    one. Each edit wears the picture out, so one for many goals is better than many."""
    chosen: list[Goal] = []
    for goal in (goal for goal in trajectory.goals if goal.id in focus):
        if not any(_in_the_way(goal, other) for other in chosen):
            chosen.append(goal)
    return tuple(goal.id for goal in chosen)


def smaller_share(one: Box, other: Box) -> float:
    """The common part of two boxes, as a share of the smaller one."""
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return common_area(one, other) / smaller if smaller > 0 else 0.0


def _tries(steps: tuple[Step, ...], kind: ActionKind) -> int:
    return sum(step.action.kind == kind for step in steps)


def _in_the_way(one: Goal, other: Goal) -> bool:
    if one.id in other.conflicts_with or other.id in one.conflicts_with:
        return True
    if one.area is None or other.area is None or "global" in (one.kind, other.kind):
        return False
    return smaller_share(one.area, other.area) > OVERLAP


def _only_positions(trajectory: Trajectory, left: tuple[str, ...]) -> bool:
    return bool(left) and all(trajectory.goal(goal).kind == "layout" for goal in left)
