"""Performs the calls of a run with its models: what each call gives, and what it costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..controller import Situation, contradiction_text, contradicts, draft_goals, fallback, next_action, repeat_text
from ..controller.conversation import next_in_conversation
from ..controller.prompts import reply_text
from ..errors import BadInput
from ..executor.pasting import put_back
from ..policy.remarks import apply_remark
from ..protocols import Drawing, Picture, SomeDrawn
from ..trajectory import Action, Cost, Remark, Trajectory
from ..verifier import compare, wording_of
from ..vlm.replies import Answer
from ..witness.judge import Witnessed, without_witnesses
from .canvases import Canvases
from .compose import Composition, compose, left_out
from .conditioning import anew_if_too_long
from .judging import judge_and_choose, judge_candidates, wants_fused
from .loop import (
    Call,
    ChooseAction,
    Chosen,
    Compare,
    Compared,
    DraftGoals,
    Draw,
    Drawn,
    Goals,
    Judge,
    Judgement,
    Repair,
    Result,
    Review,
)
from .measuring import with_changes
from .run_models import RunModels

Reviewer = Callable[[Trajectory], tuple[Remark, Picture | None]]
"""Asks the artist about the last step. The second part is a painted mask, uint8 H x W, 255 where the next edit may
change the picture."""


@dataclass(frozen=True, slots=True)
class ChosenAhead:
    """An action that was chosen in the same reply as the verdicts on a canvas, for the case that the canvas is kept."""

    canvas: int
    action: Action

    def fits(self, call: ChooseAction) -> bool:
        """Whether the canvas was kept, the kind of action is allowed, and the artist has said nothing meanwhile."""
        trajectory = call.trajectory
        return (
            self.canvas == trajectory.current
            and self.action.kind in call.directive.allowed
            and trajectory.remark is None
            and call.directive.avoid is None
            and (call.directive.source in (None, *self.action.references[:1]) or self.action.kind != "EDIT")
        )


def perform(
    call: Call,
    models: RunModels,
    canvases: Canvases,
    reviewer: Reviewer | None = None,
    ahead: ChosenAhead | None = None,
) -> Result:
    """Return the call's result with its cost. Pictures and masks are saved; nothing is written to the journal.

    Raises BadInput for a remark that cannot apply to the run, and whatever the executor raises.
    """
    started = time.perf_counter()
    if isinstance(call, DraftGoals):
        answer = draft_goals(models.vlm, call.brief)
        return Goals(
            answer.value or (), answer.failure, _cost("think", started, answer.tokens, answer.calls), answer.warnings
        )
    if isinstance(call, ChooseAction):
        if ahead is not None and ahead.fits(call):
            return Chosen(ahead.action)
        return _choose(call, models, canvases, started)
    if isinstance(call, Draw):
        composition = compose(call, models, canvases)
        failure = ""
        try:
            drawings: Sequence[Drawing | None] = models.executor.draw(composition.requests)
        except SomeDrawn as error:
            drawings, failure = error.drawings, str(error)
        return save_drawings(composition, drawings, time.perf_counter() - started, models, canvases, failure)
    if isinstance(call, Judge):
        return _judge(call, models, canvases, started)
    if isinstance(call, Repair):
        return _repair(call, canvases, started)
    if isinstance(call, Review):
        return _review(call, reviewer, canvases)
    return _compare(call, models, canvases, started)


def save_drawings(
    composition: Composition,
    drawings: Sequence[Drawing | None],
    seconds: float,
    models: RunModels,
    canvases: Canvases,
    failure: str = "",
) -> Drawn:
    """Save the pictures that were drawn for these requests, in their order; None stands for one that was not.

    seconds: how long the drawing took.
    failure: why some were not drawn, which becomes a warning; at least one was.
    """
    call = composition.call
    first = call.trajectory.canvases
    kept = [(seed, drawing) for seed, drawing in zip(call.seeds, drawings, strict=True) if drawing is not None]
    told = dict.fromkeys(warning for _, drawing in kept for warning in drawing.warnings)
    if len(kept) < len(drawings):
        told[f"{len(drawings) - len(kept)} of {len(drawings)} pictures were not drawn: {failure}"] = None
    numbered = enumerate(kept, first)
    candidates = [canvases.add(canvas, seed, drawing, call.trajectory) for canvas, (seed, drawing) in numbered]
    evaluations = sum(candidate.nfe for candidate in candidates)
    cost = Cost({"draw": seconds}, evaluations=evaluations, images=len(candidates))
    warnings = (*composition.warnings, *left_out(composition, models), *told)
    return Drawn(tuple(candidates), cost, warnings)


def note_of(remark: Remark) -> str:
    """The artist's words to the controller, for the step that follows the remark; "" if there are none."""
    parts = [remark.words]
    if remark.back_to is not None:
        parts.append(f"I went back to canvas {remark.back_to}; go on from there.")
    for goal, state in remark.corrected.items():
        parts.append(f"Goal {goal} {'holds' if state == 'met' else 'does not hold'}, whatever the judge said.")
    if remark.mask:
        parts.append("I painted a mask: an edit changes only what lies under it.")
    words = "\n".join(part for part in parts if part)
    return f"The artist says: {words}" if words else ""


def _choose(call: ChooseAction, models: RunModels, canvases: Canvases, started: float) -> Chosen:
    trajectory, directive = call.trajectory, call.directive
    shown = (*trajectory.offered, *(() if directive.source is None else (directive.source,)))
    pictures = {canvas: canvases.picture(canvas) for canvas in dict.fromkeys(shown)}
    remark = trajectory.remark
    note = note_of(remark) if remark else ""
    if directive.avoid is not None:
        note = "\n".join(filter(None, (note, repeat_text(trajectory.steps[directive.avoid]))))
    situation = Situation(
        trajectory,
        directive.focus,
        directive.allowed,
        pictures,
        note,
        directive.stage,
        directive.wrong,
        directive.source,
        canvases.references,
    )
    exchanges = list(call.said)

    def ask(situation: Situation) -> Answer[Action]:
        if not trajectory.brief.conversation:
            return next_action(models.vlm, situation)
        answer, exchange = next_in_conversation(models.vlm, situation, exchanges, canvases.picture)
        exchanges.append(exchange)
        return answer

    answer = ask(situation)
    tokens, calls = answer.tokens, answer.calls
    if answer.value is not None and call.inspect:
        inspected = contradicts(models.vlm, trajectory.brief, answer.value)
        tokens, calls = tokens + inspected.tokens, calls + inspected.calls
        if inspected.value:
            note = "\n".join(filter(None, (situation.note, contradiction_text(answer.value))))
            again = ask(replace(situation, note=note))
            tokens, calls = tokens + again.tokens, calls + again.calls
            answer = again if again.value is not None else replace(answer, failure=again.failure)
    action = answer.value or fallback(trajectory, directive.focus, directive.source)
    if exchanges and not exchanges[-1].replied:
        exchanges[-1] = replace(exchanges[-1], replied=reply_text(action, trajectory.brief.guided))
    warnings = answer.warnings
    if directive.source is not None:
        action, beyond = anew_if_too_long(action, directive.allowed, models.window)
        warnings = (*warnings, *beyond)
    return Chosen(action, answer.failure, _cost("think", started, tokens, calls), warnings, tuple(exchanges))


def _judge(call: Judge, models: RunModels, canvases: Canvases, started: float) -> Judgement:
    judgement = None
    if without_witnesses(models.verifier) is without_witnesses(models.vlm) and wants_fused(call):
        judgement = judge_and_choose(models.verifier, call, canvases.picture)
    if judgement is None:
        judgement = judge_candidates(models.verifier, call, canvases.picture, canvases.references)
    by_pixels = isinstance(models.verifier, Witnessed) and models.verifier.witnesses.changes
    judgement = with_changes(judgement, call, canvases, by_pixels)
    return replace(judgement, cost=replace(judgement.cost, seconds={"judge": time.perf_counter() - started}))


def _repair(call: Repair, canvases: Canvases, started: float) -> Drawn:
    before, edited, change = canvases.picture(call.before), canvases.picture(call.canvas), call.change
    if call.further:
        pair = canvases.pair(call.before, call.canvas)
        others = [area for area in pair.areas if area not in change.meant] if pair else []
        if len(others) < call.further:
            return Drawn(())
        change = replace(change, meant=(*change.meant, *others[: call.further]))
    picture = put_back(before, edited, change)
    if np.array_equal(picture, edited):
        return Drawn(())
    trajectory = call.trajectory
    seed = trajectory.candidate(call.canvas).seed
    candidate = canvases.add(trajectory.canvases, seed, Drawing(picture, 0), trajectory)
    return Drawn((candidate,), Cost({"draw": time.perf_counter() - started}))


def _compare(call: Compare, models: RunModels, canvases: Canvases, started: float) -> Compared:
    trajectory = call.trajectory
    first, second = canvases.picture(call.first), canvases.picture(call.second)
    answer = compare(models.verifier, trajectory.brief, trajectory.goals, first, second, wording_of(trajectory))
    return Compared(answer.value, _cost("judge", started, answer.tokens, answer.calls), answer.failure)


def _review(call: Review, reviewer: Reviewer | None, canvases: Canvases) -> Remark:
    if reviewer is None:
        raise ValueError("a review needs a reviewer")
    trajectory = call.trajectory
    height, width = trajectory.brief.height, trajectory.brief.width
    remark, mask = reviewer(trajectory)
    remark = replace(remark, after=len(trajectory.steps) - 1)
    if mask is not None:
        if mask.shape != (height, width) or mask.dtype != np.uint8:
            raise BadInput(f"the mask is {mask.shape} of {mask.dtype}; it must be uint8 {height} x {width}")
        name = f"mask-{remark.after:03d}.png"
        remark = replace(remark, mask=name, sha256=canvases.add_mask(name, mask))
    apply_remark(trajectory, remark)  # raises BadInput before the remark is recorded
    return remark


def _cost(part: str, started: float, tokens: int, calls: int) -> Cost:
    return Cost({part: time.perf_counter() - started}, vlm_tokens=tokens, vlm_calls=calls)
