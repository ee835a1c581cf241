"""Adds to the judgement of an edit what changed on the pixels, against the canvas edited and against its clean source."""

from __future__ import annotations

from dataclasses import replace

from ..brief import Box
from ..executor.masks import MARGIN
from ..policy.damage import kept_the_rest
from ..policy.remarks import is_wish
from ..protocols import Picture
from ..trajectory import Action, Change, EditCheck, Finding, Trajectory, any_overlap
from ..verifier.changes import WHOLE, Pair
from ..witness import MAX_BOXES
from .canvases import Canvases
from .loop import Judge, Judgement


def with_changes(judgement: Judgement, call: Judge, canvases: Canvases, witness: bool = False) -> Judgement:
    """Measure every canvas of a call that judges an edit. Raises BadInput if a picture or mask is missing in the run's
    store.

    witness: whether what was measured is also a witness of what was to be kept.
    """
    if call.before is None:
        return judgement
    mask = _painted(call, canvases)
    meant = meant_by(call.trajectory, call.action)
    earlier = call.trajectory.edits_since_source(call.before)
    source = earlier[0].action.references[0] if earlier else None
    won = _won(tuple(step.edit for step in earlier))
    again, edits = _made_again(call.trajectory, call.before), []
    for canvas, edit in zip(call.canvases, judgement.edits, strict=True):
        pair, change, drift = canvases.pair(call.before, canvas), None, None
        if pair is not None:
            places = meant if meant is not None or again is None else _with_open(again, pair, call)
            change = pair.measure(places, mask, max(1, len(call.action.goals)))
        if source is not None and won is not None and change is not None:
            since = canvases.pair(source, canvas)
            drift = None if since is None else since.measure((*won, *change.meant))
        said = _said(change, pair, call) if witness else None
        edits.append(replace(edit, change=change, drift=drift, witnesses=() if said is None else (said,)))
    return replace(judgement, edits=tuple(edits))


def _said(change: Change | None, pair: Pair | None, call: Judge) -> Finding | None:
    """The measure as the word of a witness, with the areas of large change that were not meant."""
    if change is None or pair is None:
        return None
    elsewhere = tuple(area for area in pair.areas if not any_overlap((area,), change.meant))
    return kept_the_rest(change, call.trajectory.brief.budget.tolerance, elsewhere[:MAX_BOXES])


def meant_by(trajectory: Trajectory, action: Action) -> tuple[Box, ...] | None:
    """Where the action was to change something: its region, wider by the margin of a mask, or the areas of its goals;
    everywhere for a goal about the whole picture. None if neither says where, as a wish of the artist does not."""
    if action.region:
        left, top, right, bottom = action.region
        return ((max(left - MARGIN, 0.0), max(top - MARGIN, 0.0), min(right + MARGIN, 1.0), min(bottom + MARGIN, 1.0)),)
    goals = [goal for goal in trajectory.goals if goal.id in action.goals]
    if any(goal.kind == "global" and not is_wish(goal.id) for goal in goals):
        return (WHOLE,)
    areas = tuple(goal.area for goal in goals if goal.area is not None)
    return areas if areas and len(areas) == len(goals) else None


def _made_again(trajectory: Trajectory, before: int) -> tuple[Box, ...] | None:
    """Where the edits were meant that lie between this canvas and the current one: an edit that starts from an ancestor
    makes them again. None if it is no ancestor, or one of them was not measured."""
    since = () if trajectory.current is None else trajectory.edits_since_source(trajectory.current)
    places = [place for place, step in enumerate(since) if step.action.references[0] == before]
    return _won(tuple(step.edit for step in since[places[0] :])) if places else None


def _with_open(again: tuple[Box, ...], pair: Pair, call: Judge) -> tuple[Box, ...]:
    """Those places, and for each goal of the action that is still open one more area of large change."""
    held = call.trajectory.current_step
    done = {verdict.goal for verdict in held.verdicts if verdict.state == "met"} if held else set()
    left = max(1, len({*call.action.goals} - done))
    others = [area for area in pair.areas if not any_overlap((area,), again)]
    return (*again, *others[:left])


def _painted(call: Judge, canvases: Canvases) -> Picture | None:
    """The mask that the artist painted for the step being judged."""
    before = call.trajectory.steps[-1].index - 1
    masks = (remark for remark in call.trajectory.remarks if remark.after == before and remark.mask)
    remark = next(masks, None)
    return None if remark is None else canvases.mask(remark)


def _won(edits: tuple[EditCheck, ...]) -> tuple[Box, ...] | None:
    """All boxes in which earlier edits were meant to change something; None if one of them was not measured."""
    if any(edit.change is None for edit in edits):
        return None
    return tuple(dict.fromkeys(box for edit in edits if edit.change for box in edit.change.meant))
