"""What in a recorded result cannot be the result of its call: damage to a journal that no type shows."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ..brief import Box, Goal
from ..controller import FALLBACK_KINDS
from ..trajectory import Action, ActionKind, Remark, Trajectory
from .judging import FUSED_KINDS
from .loop import (
    Call,
    ChooseAction,
    Chosen,
    Compare,
    Compared,
    Draw,
    Drawn,
    Goals,
    Judge,
    Judgement,
    Repair,
    Result,
    Review,
)


def flaw_of(call: Call, result: Result) -> str:
    """Return what is wrong with a result that was read from the journal, "" if nothing is."""
    return next(_flaws(call, result), "")


def _flaws(call: Call, result: Result) -> Iterator[str]:
    if not isinstance(result, Remark):
        cost = result.cost
        counts = (cost.vlm_tokens, cost.vlm_calls, cost.evaluations, cost.images, *cost.seconds.values())
        yield from (f"the cost has {count}" for count in counts if count < 0)
    if isinstance(result, Goals):
        yield from _of_goals(result.goals)
    elif isinstance(call, ChooseAction) and isinstance(result, Chosen):
        # A controller that failed is stood in for by a drawing, whatever it was asked for.
        allowed: set[ActionKind] = {*call.directive.allowed, *(FALLBACK_KINDS if result.failure else ())}
        source = () if call.directive.source is None else (call.directive.source,)
        yield from _of_action(result.action, call.trajectory, allowed, (*call.trajectory.offered, *source))
        shown = {canvas for exchange in result.exchanges for canvas in exchange.canvases}
        if unknown := sorted(shown - {*range(call.trajectory.canvases)}):
            yield f"the controller was shown the canvases {unknown!r:.80}, which are not drawn yet"
    elif isinstance(call, Draw) and isinstance(result, Drawn):
        first = call.trajectory.canvases
        found = [candidate.canvas for candidate in result.candidates]
        if found != [*range(first, first + len(found))]:
            yield f"it draws the canvases {found}, and the next one is {first}"
        yield from (f"a picture of {each.nfe} evaluations" for each in result.candidates if each.nfe < 0)
    elif isinstance(call, Repair) and isinstance(result, Drawn):
        found, due = [candidate.canvas for candidate in result.candidates], call.trajectory.canvases
        if found not in ([], [due]):
            yield f"it repairs into the canvases {found}, and {due} is due"
    elif isinstance(call, Judge) and isinstance(result, Judgement):
        yield from _of_judgement(call, result)
    elif isinstance(call, Compare) and isinstance(result, Compared):
        if result.winner not in (None, -1, 0, 1):
            yield f"the winner is {result.winner}; it must be 0, 1 or -1"
    elif isinstance(call, Review) and isinstance(result, Remark):
        last = len(call.trajectory.steps) - 1
        yield from (f"the remark follows step {after}, and the last is {last}" for after in {result.after} - {last})


def _of_goals(goals: tuple[Goal, ...]) -> Iterator[str]:
    ids = [goal.id for goal in goals]
    if len(set(ids)) < len(ids):
        yield f"two goals have one id: {', '.join(ids)[:80]}"
    for goal in goals:
        if not set(goal.conflicts_with) <= {*ids} - {goal.id}:
            yield f"goal {goal.id!r:.40} conflicts with {list(goal.conflicts_with)!r:.80}"
        if not 0 <= goal.feasibility <= 1:
            yield f"the feasibility of goal {goal.id!r:.40} is {goal.feasibility}"
        yield from _of_box(f"the area of goal {goal.id!r:.40}", goal.area)


def _of_box(name: str, box: Box | None) -> Iterator[str]:
    if box is not None and not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
        yield f"{name} is {list(box)}"


def _of_action(
    action: Action, trajectory: Trajectory, allowed: Collection[ActionKind], offered: Collection[int]
) -> Iterator[str]:
    if action.kind not in allowed:
        yield f"the action is {action.kind}, and {', '.join(sorted(allowed))} can be chosen"
    if not {*action.references} <= {*offered}:
        yield f"the action refers to {list(action.references)!r:.80}, and {list(offered)} are offered"
    if action.kind == "EDIT" and not action.references:
        yield "the edit names no canvas"
    if unknown := {*action.goals} - {goal.id for goal in trajectory.goals}:
        yield f"the action serves {sorted(unknown)!r:.80}, which are no goals of the run"
    if action.strength is not None and not 0 <= action.strength <= 1:
        yield f"the strength is {action.strength}"
    yield from _of_box("the region", action.region)


def _of_judgement(call: Judge, result: Judgement) -> Iterator[str]:
    count, asked = len(call.canvases), sorted(goal.id for goal in call.goals)
    if len(result.verdicts) != count:
        yield f"{len(result.verdicts)} pictures are judged, and {count} are due"
    if len(result.edits) not in (0, count):
        yield f"{len(result.edits)} edits are judged, and {count} are due"
    if result.pick is not None and not 0 <= result.pick < count:
        yield f"it picks picture {result.pick} of {count}"
    for place, verdicts in enumerate(result.verdicts):
        loses = result.pick not in (None, place)
        found = sorted(verdict.goal for verdict in verdicts)
        if found != asked and not (loses and not found):
            yield f"the verdicts are on {found!r:.80}, and the goals are {asked!r:.80}"
    yield from _of_goals((*call.trajectory.goals, *result.gaps)) if result.gaps else ()
    if result.back_to is not None and result.back_to not in call.trajectory.offered:
        yield f"it goes back to canvas {result.back_to}, and {list(call.trajectory.offered)} are offered"
    if result.next is not None:
        offered = {*call.trajectory.offered, *call.canvases}
        yield from _of_action(result.next, call.trajectory, FUSED_KINDS, offered)
