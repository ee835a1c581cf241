"""The order of work in one run. Nothing else decides it.

`run` is a generator: it yields a Call for everything that costs time and receives the call's result, and it yields each
decision. It holds no model, file or clock, so a recorded run replays to the same state (resume), and many runs can
advance side by side with their drawing in one batch (the probe).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..brief import Brief, Goal, likeness_goals
from ..policy import Directive, Policy, rules
from ..policy.base import Acceptance
from ..policy.depth import from_clean_source
from ..policy.places import within_faults
from ..policy.remarks import apply_remark
from ..policy.repeats import another_way, repeated
from ..policy.rules import Stop
from ..policy.states import guide
from ..trajectory import (
    Action,
    Candidate,
    Change,
    Cost,
    EditCheck,
    Exchange,
    Outcome,
    Remark,
    Step,
    Trajectory,
    Verdict,
    seed_for,
)

FURTHER = (0, 1, 3)
"""Areas beyond those that were meant which a repair leaves as they are, one try after another."""
WHOLE = "g1"
"""Id of the one goal that stands for the whole brief where no goals were drafted."""
BY_THE_ARTIST = {
    "accept": Stop("accepted by the artist", "the artist accepted the picture"),
    "stop": Stop("stopped by the artist", "the artist stopped the run"),
}


@dataclass(frozen=True, slots=True)
class DraftGoals:
    """Draft the goals of the brief. Result: Goals."""

    brief: Brief


@dataclass(frozen=True, slots=True)
class ChooseAction:
    """Ask the controller for an action. Result: Chosen.

    inspect: also compare the action with the brief before anything is drawn.
    said: what was said in the conversation since the last step, where the controller is asked again for this one.
    """

    trajectory: Trajectory
    directive: Directive
    inspect: bool = False
    said: tuple[Exchange, ...] = ()


@dataclass(frozen=True, slots=True)
class Draw:
    """Carry out an action with the executor, one canvas for each seed. Result: Drawn."""

    trajectory: Trajectory
    action: Action
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Judge:
    """Judge canvases by goals. Result: Judgement.

    before: canvas that an edit started from, with which each canvas is compared; None if it was no edit.
    action: what was drawn.
    """

    trajectory: Trajectory
    goals: tuple[Goal, ...]
    canvases: tuple[int, ...]
    before: int | None
    action: Action


@dataclass(frozen=True, slots=True)
class Repair:
    """Put back what an edit changed where it was not meant to. Result: Drawn, with one candidate that cost no
    evaluation, or none if nothing could be put back.

    canvas: the edited one.
    before: canvas that the edit started from, or the clean source of that one.
    change: what was measured between the two.
    further: how many more areas of large change count as meant, those of most change first.
    """

    trajectory: Trajectory
    canvas: int
    before: int
    change: Change
    further: int = 0


@dataclass(frozen=True, slots=True)
class Compare:
    """Ask which of two canvases fits the brief better, in both orders. Result: Compared."""

    trajectory: Trajectory
    first: int
    second: int


@dataclass(frozen=True, slots=True)
class Review:
    """Ask the artist about the last step. Result: Remark, or None if nobody can be asked."""

    trajectory: Trajectory


Call = DraftGoals | ChooseAction | Draw | Judge | Repair | Compare | Review


@dataclass(frozen=True, slots=True)
class Goals:
    """
    failure: why there are none; "" otherwise.
    warnings: what of the reply was left out, a sentence each.
    """

    goals: tuple[Goal, ...]
    failure: str = ""
    cost: Cost = field(default_factory=Cost)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chosen:
    """
    failure: why the controller gave no usable action, so that `action` is a fallback; "" otherwise.
    warnings: what of the reply was left out, a sentence each.
    exchanges: what was said for this step, in a run with one conversation.
    """

    action: Action
    failure: str = ""
    cost: Cost = field(default_factory=Cost)
    warnings: tuple[str, ...] = ()
    exchanges: tuple[Exchange, ...] = ()


@dataclass(frozen=True, slots=True)
class Drawn:
    """`warnings`: what of the action the executor did not get, a sentence each."""

    candidates: tuple[Candidate, ...]
    cost: Cost = field(default_factory=Cost)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """
    verdicts: for each canvas its verdicts; a canvas that lost a comparison may have none.
    edits: for each canvas the judge's answer on the edit as such.
    pick: index of the canvas that won a comparison; None if the verdicts alone decide.
    next: action that was chosen in the same reply, for the case that the canvas is kept.
    gaps: what the brief asks for and the checklist lacks, as goals with ids v1, v2, ...; found by a guided VALIDATE only.
    back_to: canvas to go back to, by the same look; None to stay.
    warnings: what the judge was asked and did not answer, and what of a reply was left out, a sentence each.
    """

    verdicts: tuple[tuple[Verdict, ...], ...]
    edits: tuple[EditCheck, ...]
    cost: Cost = field(default_factory=Cost)
    pick: int | None = None
    next: Action | None = None
    gaps: tuple[Goal, ...] = ()
    back_to: int | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Compared:
    """
    winner: 0 for the first canvas or 1 for the second if both orders agree, -1 if they do not, None if the judge
        failed.
    failure: why it did; "" otherwise.
    """

    winner: int | None
    cost: Cost = field(default_factory=Cost)
    failure: str = ""


Result = Goals | Chosen | Drawn | Judgement | Compared | Remark

RESULTS: dict[type, type] = {
    DraftGoals: Goals,
    ChooseAction: Chosen,
    Draw: Drawn,
    Judge: Judgement,
    Repair: Drawn,
    Compare: Compared,
    Review: Remark,
}
"""Type of each call's result."""


@dataclass(frozen=True, slots=True)
class Decided:
    """The trajectory after a decision. `event`: planned, step, remarked, end, or stop when no further round begins."""

    event: str
    trajectory: Trajectory


def run(
    start: Trajectory, policy: Policy, nfe: Mapping[str, int], given: Candidate | None = None
) -> Generator[Call | Decided, Any, Trajectory]:
    """Run the loop: send each Call's result back, and None for a Decided. Returns the finished trajectory.

    start: the brief with the names of the models.
    nfe: kind of action (GENERATE, EDIT) -> transformer evaluations of one picture, for the budget of evaluations.
    given: the picture to begin from, canvas 0; None to begin from nothing.
    """
    trajectory = yield from _prepare(start, policy)
    if given is not None:
        trajectory = yield from _received(trajectory, given, policy)
    controller_failures = 0
    while True:
        trajectory, stop = yield from _reviewed(trajectory, policy)
        if stop:
            break
        directive = from_clean_source(trajectory, guide(trajectory, policy.directive(trajectory), policy.redraws))
        kinds = (directive.fixed.kind,) if directive.fixed else directive.allowed
        cheapest = min(nfe[kind] for kind in kinds if kind in nfe)
        stop = policy.stop(trajectory) or _too_dear(trajectory, policy, cheapest)
        if stop:
            break
        chosen = yield from _choose(trajectory, directive, policy)
        chosen = replace(chosen, action=within_faults(trajectory, chosen.action))
        stop = _too_dear(trajectory, policy, nfe[chosen.action.kind]) if chosen.action.draws else None
        controller_failures = controller_failures + 1 if chosen.failure else 0
        if controller_failures > trajectory.brief.budget.patience:
            reason = f"the controller gave no usable action {controller_failures} times running: {chosen.failure}"
            stop = Stop("controller failed", reason)
        trajectory = _warned(trajectory, chosen.failure, *chosen.warnings)
        if stop:
            trajectory = replace(trajectory, overhead=trajectory.overhead + chosen.cost)
            break
        trajectory, stop = yield from _round(trajectory, chosen, policy)
        if stop:
            break
    yield Decided("stop", trajectory)
    return (yield from _finish(trajectory, policy, stop, nfe["GENERATE"]))


def _too_dear(trajectory: Trajectory, policy: Policy, nfe: int) -> Stop | None:
    """Why the budget has no room for a round of this strategy, at `nfe` evaluations a picture; None if it has."""
    count = policy.candidates(trajectory)
    return rules.spent(trajectory, count, count * nfe)


def _prepare(trajectory: Trajectory, policy: Policy):
    brief = trajectory.brief
    if brief.goals:
        drafted = Goals(brief.goals)
    else:
        drafted = yield DraftGoals(brief)
    goals, warnings = drafted.goals, ()
    if not goals:
        goals = (Goal(WHOLE, brief.prompt, "global", check=f"Does the picture show this: {brief.prompt}?"),)
        warnings = (f"no goal list: {drafted.failure or 'none was found'}; the brief is judged as one goal",)
    goals = (*goals, *(goal for goal in likeness_goals(brief.references) if goal.id not in {each.id for each in goals}))
    plan = policy.plan(brief, goals)
    warnings = (*warnings, *drafted.warnings)
    trajectory = replace(
        trajectory,
        goals=goals,
        plan=plan.batches,
        gate=plan.gate,
        route=plan.route,
        overhead=drafted.cost,
        warnings=warnings,
    )
    yield Decided("planned", trajectory)
    return trajectory


def _received(trajectory: Trajectory, given: Candidate, policy: Policy):
    """Judge the given picture like any other canvas and make it the one that the first edit starts from."""
    step = Step(
        len(trajectory.steps), Action("GIVEN", "The picture that was given."), candidates=(given,), chosen=given.canvas
    )
    judgement = yield Judge(trajectory.with_step(step), trajectory.goals, (given.canvas,), None, step.action)
    pending = policy.pending(trajectory, step)
    verdicts = tuple(_postponed(verdict, pending) for verdict in judgement.verdicts[0])
    step = replace(
        step,
        verdicts=verdicts,
        score=rules.score(verdicts),
        accepted=True,
        ruling="given",
        reason="the picture to begin from",
        cost=judgement.cost,
    )
    trajectory = replace(trajectory.with_step(step), current=given.canvas, best=given.canvas)
    yield Decided("step", trajectory)
    return trajectory


def _choose(trajectory: Trajectory, directive: Directive, policy: Policy):
    if directive.fixed:
        return Chosen(directive.fixed)
    chosen = yield ChooseAction(trajectory, directive, policy.inspects_text)
    failed = repeated(trajectory, chosen.action) if trajectory.brief.guided else None
    if failed is None:
        return chosen
    again = yield ChooseAction(
        trajectory, replace(directive, avoid=failed.index), policy.inspects_text, chosen.exchanges
    )
    again = replace(again, cost=chosen.cost + again.cost)
    if repeated(trajectory, again.action) is None:
        return again
    return replace(again, action=another_way(trajectory, again.action, policy.redraws))


def _reviewed(trajectory: Trajectory, policy: Policy):
    """Ask the artist after a step, and judge the candidate that the artist picked. Returns the trajectory and, if the
    artist ends the run, why."""
    remark = (yield Review(trajectory)) if trajectory.steps else None
    if remark is None:
        return trajectory, None
    picks = remark.back_to is not None and trajectory.step_of(remark.back_to) is None
    trajectory = apply_remark(trajectory, remark)
    yield Decided("remarked", trajectory)
    if picks and (step := trajectory.current_step):
        trajectory = yield from _judged(trajectory, step, policy)
    return trajectory, BY_THE_ARTIST.get(remark.say)


def _judged(trajectory: Trajectory, step: Step, policy: Policy):
    """Judge the canvas that a step has chosen since the artist picked it, where the artist gave no verdict. Returns the
    trajectory."""
    assert step.chosen is not None
    before = step.action.references[0] if step.action.kind == "EDIT" and step.action.references else None
    judgement = yield Judge(trajectory, trajectory.goals, (step.chosen,), before, step.action)
    pending = policy.pending(trajectory, step)
    said = {verdict.goal: verdict for verdict in step.verdicts}
    verdicts = tuple(said.get(each.goal) or _postponed(each, pending) for each in judgement.verdicts[0])
    (edit,) = judgement.edits or (step.edit,)
    judged = replace(step, verdicts=verdicts, score=rules.score(verdicts), edit=edit, cost=step.cost + judgement.cost)
    steps = tuple(judged if each.index == step.index else each for each in trajectory.steps)
    leader = rules.best(steps)
    trajectory = replace(trajectory, steps=steps, best=leader.chosen if leader else judged.chosen)
    yield Decided("remarked", trajectory)
    return trajectory


def _warned(trajectory: Trajectory, *warnings: str) -> Trajectory:
    added = tuple(f"step {len(trajectory.steps)}: {warning}" for warning in warnings if warning)
    return replace(trajectory, warnings=(*trajectory.warnings, *added)) if added else trajectory


def _warned_once(trajectory: Trajectory, warnings: Iterable[str]) -> Trajectory:
    """Add those that no earlier step gave: a judge that cannot be shown two pictures fails at each step alike."""
    known = {warning.partition(": ")[2] for warning in trajectory.warnings}
    return _warned(trajectory, *(warning for warning in dict.fromkeys(warnings) if warning not in known))


def _round(trajectory: Trajectory, chosen: Chosen, policy: Policy):
    """Carry out one action: draw and judge, judge again, or pass END through the final gate. Returns the trajectory
    and, if the run ends, why."""
    action = chosen.action
    step = Step(len(trajectory.steps), action, parent=trajectory.current, cost=chosen.cost, exchanges=chosen.exchanges)
    if action.kind == "END":
        gate = policy.final_gate(trajectory)
        trajectory = trajectory.with_step(_ruled(step, gate))
        yield Decided("step", trajectory)
        return trajectory, Stop("end action", gate.reason) if gate.accepted else None
    if action.kind == "VALIDATE":
        trajectory = yield from _validate(trajectory, step)
        return trajectory, None
    count = policy.candidates(trajectory)
    seeds = tuple(seed_for(trajectory.brief.seed, step.index, index) for index in range(count))
    drawn = yield Draw(trajectory, action, seeds)
    trajectory = _warned(trajectory, *drawn.warnings)
    step = replace(step, candidates=drawn.candidates, cost=step.cost + drawn.cost)
    before = action.references[0] if action.kind == "EDIT" and action.references else None
    canvases = tuple(candidate.canvas for candidate in drawn.candidates)
    judgement = yield Judge(trajectory.with_step(step), trajectory.goals, canvases, before, action)
    trajectory = _warned_once(trajectory, judgement.warnings)
    pending = policy.pending(trajectory, step)
    verdicts = tuple(tuple(_postponed(verdict, pending) for verdict in each) for each in judgement.verdicts)
    damages = policy.damages(trajectory, judgement.edits)
    pick = rules.choose(verdicts, damages) if judgement.pick is None else judgement.pick
    step = replace(
        step,
        chosen=drawn.candidates[pick].canvas,
        verdicts=verdicts[pick],
        score=rules.score(verdicts[pick]),
        edit=judgement.edits[pick] if judgement.edits else EditCheck(),
        cost=step.cost + judgement.cost,
    )
    if before is not None and policy.repairs(trajectory, step):
        step = yield from _repaired(trajectory, step, before, policy)
    step = _ruled(step, policy.accept(trajectory, step))
    current = step.chosen if step.accepted else trajectory.current
    leads = rules.takes_lead(step, trajectory.best_step) or not trajectory.brief.rollback
    trajectory = replace(trajectory.with_step(step), current=current, best=step.chosen if leads else trajectory.best)
    yield Decided("step", trajectory)
    return trajectory, None


def _repaired(trajectory: Trajectory, step: Step, before: int, policy: Policy):
    """Put back what the edit did to the rest, and judge the canvas again. Returns the step with the repaired canvas, or
    with the one it had if the repair cost a goal or repaired nothing.

    A repair that cost a goal of the edit is made again with more areas of large change left as they are: a move changes
    two places. What several edits did together is put back only where it costs no goal at all.
    """
    canvas, change, served = step.chosen, step.edit.change, step.action.goals
    assert canvas is not None and change is not None
    if not any(policy.damages(trajectory, (replace(step.edit, drift=None),))) and step.edit.drift is not None:
        # No single edit did it: the sum of them did.
        before, change, served = trajectory.edits_since_source(before)[0].action.references[0], step.edit.drift, ()
    for further in FURTHER if change.meant else FURTHER[:1]:
        repaired = yield Repair(trajectory.with_step(step), canvas, before, change, further)
        step = replace(step, candidates=(*step.candidates, *repaired.candidates), cost=step.cost + repaired.cost)
        if not repaired.candidates:
            return step
        found = repaired.candidates[0].canvas
        parent = step.action.references[0]
        judgement = yield Judge(trajectory.with_step(step), trajectory.goals, (found,), parent, step.action)
        pending = policy.pending(trajectory, step)
        verdicts = tuple(_postponed(verdict, pending) for verdict in judgement.verdicts[0])
        step = replace(step, cost=step.cost + judgement.cost)
        (edit,) = judgement.edits or (step.edit,)
        damaged, left = policy.damages(trajectory, (step.edit, edit))
        if rules.costs(served, step.verdicts, verdicts):
            continue
        if left >= damaged:
            return step
        return replace(step, chosen=found, verdicts=verdicts, score=rules.score(verdicts), edit=edit)
    return step


def _ruled(step: Step, acceptance: Acceptance) -> Step:
    return replace(step, accepted=acceptance.accepted, ruling=acceptance.ruling, reason=acceptance.reason)


def _validate(trajectory: Trajectory, step: Step):
    """Judge the current canvas again by the goals without a clear verdict. A new verdict replaces the old one, a
    missing answer does not.

    In a guided run (`Brief.guided`) by all goals, and with a look at the whole picture: what the brief asks for and the
    checklist lacks becomes a goal, and the run may go back to an earlier canvas that is then ahead.
    """
    held = trajectory.current_step
    assert held is not None and held.chosen is not None, "VALIDATE is allowed only if there is a canvas"
    guided = trajectory.brief.guided
    every = frozenset(goal.id for goal in trajectory.goals)
    unclear = every if guided else rules.unclear(trajectory.goals, held.verdicts)
    asked = tuple(goal for goal in trajectory.goals if goal.id in unclear)
    judgement = yield Judge(trajectory, asked, (held.chosen,), None, step.action)
    trajectory = _warned_once(trajectory, judgement.warnings)
    fresh = {verdict.goal: verdict for verdict in judgement.verdicts[0] if verdict.state != "error"}
    known = {verdict.goal for verdict in held.verdicts}
    verdicts = (
        *(fresh.get(verdict.goal, verdict) if verdict.goal in unclear else verdict for verdict in held.verdicts),
        *(verdict for goal, verdict in fresh.items() if goal not in known),
    )
    # Counted by state: if another degree of unsure counted, VALIDATE and a refused END could alternate for ever.
    cleared = sum(verdict.state not in rules.UNCLEAR for verdict in fresh.values())
    verdicts = (*verdicts, *(Verdict(gap.id, "unmet", "seen when the picture was validated") for gap in judgement.gaps))
    updated = replace(held, verdicts=verdicts, score=rules.score(verdicts))
    steps = tuple(updated if item.index == held.index else item for item in trajectory.steps)
    trajectory = replace(trajectory, steps=steps, goals=(*trajectory.goals, *judgement.gaps))
    before = {verdict.goal: verdict.state for verdict in held.verdicts}
    changed = sum(before.get(verdict.goal) != verdict.state for verdict in fresh.values())
    back = _earlier(trajectory, updated, judgement.back_to)
    reason = f"judged again: {cleared} verdicts cleared up"
    if guided:
        reason = f"judged again: {changed} verdicts changed, {len(judgement.gaps)} goals added"
    step = replace(
        step,
        accepted=changed + len(judgement.gaps) > 0 if guided else cleared > 0,
        ruling="judged again",
        reason=reason,
        cost=step.cost + judgement.cost,
    )
    if back is not None:
        step = replace(step, accepted=True, ruling="gone back", reason=f"{reason}; gone back to canvas {back}")
    leader = rules.best(steps) if trajectory.brief.rollback else trajectory.best_step
    trajectory = replace(
        trajectory,
        steps=(*steps, step),
        best=leader.chosen if leader else None,
        current=trajectory.current if back is None else back,
    )
    yield Decided("step", trajectory)
    return trajectory


def _earlier(trajectory: Trajectory, held: Step, canvas: int | None) -> int | None:
    """The canvas to go back to, if its verdicts are no worse than the fresh ones on the current canvas."""
    earlier = trajectory.step_of(canvas)
    if earlier is None or canvas == trajectory.current or not earlier.accepted:
        return None
    return None if rules.ahead(held.verdicts, earlier.verdicts) else canvas


def _postponed(verdict: Verdict, pending: frozenset[str]) -> Verdict:
    return (
        replace(verdict, state="pending")
        if verdict.state in ("unmet", "unsure") and verdict.goal in pending
        else verdict
    )


def _finish(trajectory: Trajectory, policy: Policy, stop: Stop, nfe: int):
    """Hand over the best canvas by the verdicts; if the strategy compares the result, only if the one-shot picture does
    not beat it."""
    best, choice, step = trajectory.best, "the best canvas by the judge's word", trajectory.best_step
    if step is None or step.score is None:
        choice = "the first canvas: no canvas was judged" if step else "no canvas was drawn"
    if stop.ended == "accepted by the artist":
        best, choice = trajectory.current, "the artist's choice"
    compares = policy.final_ab if trajectory.brief.final_ab is None else trajectory.brief.final_ab
    # A given picture has no one-shot rival: a picture from words alone would be another picture.
    by_artist = stop.ended in ("accepted by the artist", "stopped by the artist")
    compares = compares and not by_artist and not trajectory.brief.picture
    if compares and best is not None and step and step.action.kind == "EDIT" and not rules.spent(trajectory):
        trajectory, rival = yield from _rival(trajectory, policy, nfe)
        if rival is not None and rival.chosen not in (None, best):
            compared = yield Compare(trajectory, best, rival.chosen)
            trajectory = replace(trajectory, overhead=trajectory.overhead + compared.cost)
            trajectory = _warned_once(trajectory, [f"no comparison: {compared.failure}"] if compared.failure else ())
            best, choice = _prefer(best, step, rival, compared.winner)
    step = trajectory.step_of(best)
    outcome = Outcome(stop.reason, best, rules.satisfied(trajectory, step), choice, stop.ended)
    trajectory = replace(trajectory, best=best, outcome=outcome)
    yield Decided("end", trajectory)
    return trajectory


def _rival(trajectory: Trajectory, policy: Policy, nfe: int):
    """The step of the one-shot picture: the first canvas if it was drawn from the brief's own words, else one more
    picture if the budget has room, else None."""
    brief = trajectory.brief
    for step in trajectory.steps:
        if step.action.kind == "GENERATE" and step.action.scene_prompt == brief.prompt and step.chosen is not None:
            return trajectory, step
    if rules.spent(trajectory, 1, nfe):
        return trajectory, None
    action = Action("GENERATE", "One shot of the whole brief, to compare with.", brief.prompt)
    step = Step(len(trajectory.steps), action)
    drawn = yield Draw(trajectory, action, (seed_for(brief.seed, step.index, 0),))
    trajectory = _warned(trajectory, *drawn.warnings)
    canvas = drawn.candidates[0].canvas
    step = replace(step, candidates=drawn.candidates, chosen=canvas, cost=drawn.cost)
    judgement = yield Judge(trajectory.with_step(step), trajectory.goals, (canvas,), None, action)
    (verdicts,) = judgement.verdicts
    step = replace(
        step,
        verdicts=verdicts,
        score=rules.score(verdicts),
        cost=step.cost + judgement.cost,
        ruling="one-shot rival",
        reason="drawn for the final comparison",
    )
    trajectory = trajectory.with_step(step)
    yield Decided("step", trajectory)
    return trajectory, step


def _prefer(best: int, step: Step, rival: Step, winner: int | None) -> tuple[int | None, str]:
    """The canvas to hand over and why. `step`: that of the best canvas. `winner`: of the comparison with the rival, as
    in Compared."""
    if winner == 0:
        return best, "preferred to the one-shot picture in both orders"
    if winner == 1:
        return rival.chosen, "the one-shot picture was preferred in both orders"
    if winner is None and rules.better(rival, step):
        return rival.chosen, "the one-shot picture by the judge's word; the comparison with it failed"
    if winner is None:
        return best, "the best canvas by the judge's word; the comparison with the one-shot picture failed"
    if rules.better(step, rival):
        reason = (
            "the best canvas by the judge's word; the comparison with the one-shot picture did not speak against it"
        )
        return best, reason
    return rival.chosen, "a tie with the one-shot picture, which is less edited"
