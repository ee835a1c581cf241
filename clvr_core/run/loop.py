"""Drives one trajectory. The only place where the order of work is decided.

`run` is a generator: it yields a Call for everything that costs time and gets the Call's result back, and yields the line of each
decision. It holds no model, file or clock of its own, so a recorded run replays to the same state (resume), and many runs can
advance side by side with their drawing batched (the probe).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace

from ..brief import Brief, Goal
from ..policy import Directive, Policy, rules
from ..policy.remarks import apply_remark
from ..trajectory import Action, Candidate, Cost, EditCheck, Outcome, Remark, Step, Trajectory, Verdict, seed_for

WHOLE = "g1"
ENDED = {"accept": "the artist accepted the picture", "stop": "the artist stopped the run"}


@dataclass(frozen=True, slots=True)
class DraftGoals:
    """-> Goals"""

    brief: Brief


@dataclass(frozen=True, slots=True)
class ChooseAction:
    """-> Chosen. With `inspect` the action is also held against the brief's words before anything is drawn."""

    trajectory: Trajectory
    directive: Directive
    inspect: bool = False


@dataclass(frozen=True, slots=True)
class Draw:
    """-> Drawn: one canvas for each seed."""

    trajectory: Trajectory
    action: Action
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Judge:
    """-> Judgement of every canvas, against the goals; for an edit also against the canvas it started from."""

    trajectory: Trajectory
    goals: tuple[Goal, ...]
    canvases: tuple[int, ...]
    before: int | None
    action: Action


@dataclass(frozen=True, slots=True)
class Compare:
    """-> Compared: which of two canvases fits the brief better, asked in both orders."""

    trajectory: Trajectory
    first: int
    second: int


@dataclass(frozen=True, slots=True)
class Review:
    """-> Remark, or None where nobody is there to ask."""

    trajectory: Trajectory


Call = DraftGoals | ChooseAction | Draw | Judge | Compare | Review


@dataclass(frozen=True, slots=True)
class Goals:
    goals: tuple[Goal, ...]
    failure: str = ""
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True, slots=True)
class Chosen:
    action: Action
    failure: str = ""
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True, slots=True)
class Drawn:
    """`warnings`: what the executor was not told of the action."""

    candidates: tuple[Candidate, ...]
    cost: Cost = field(default_factory=Cost)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """`pick`: index of the candidate that won a comparison, None if the verdicts alone decide. A loser may have no verdicts. `next`: the
    action that the same reply chose for the case that the canvas is kept."""

    verdicts: tuple[tuple[Verdict, ...], ...]
    edits: tuple[EditCheck, ...]
    cost: Cost = field(default_factory=Cost)
    pick: int | None = None
    next: Action | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """0 or 1 where both orders agree, -1 for a split, None where the judge failed."""

    winner: int | None
    cost: Cost = field(default_factory=Cost)


Result = Goals | Chosen | Drawn | Judgement | Compared | Remark

RESULTS: dict[type, type] = {
    DraftGoals: Goals,
    ChooseAction: Chosen,
    Draw: Drawn,
    Judge: Judgement,
    Compare: Compared,
    Review: Remark,
}


@dataclass(frozen=True, slots=True)
class Decided:
    """The trajectory after a decision. `event` is planned, step, remarked, stop or end; `stop` says that no further round is begun."""

    event: str
    trajectory: Trajectory


def run(
    start: Trajectory, policy: Policy, nfe: Mapping[str, int], given: Candidate | None = None
) -> Generator[Call | Decided, object, Trajectory]:
    """Yields Calls and Decided; send each Call's result back, and None for Decided. Returns the finished trajectory.

    `start`: the brief, and what it is worked on with. `nfe`: transformer evaluations of one picture by kind of action (GENERATE, EDIT), by
    which the budget of evaluations is kept. `given`: the picture to begin from, canvas 0.
    """
    trajectory = yield from _prepare(start, policy)
    if given is not None:
        trajectory = yield from _received(trajectory, given, policy)
    controller_failures = 0
    while True:
        trajectory, reason = yield from _reviewed(trajectory)
        if reason:
            break
        directive = policy.directive(trajectory)
        kinds = (directive.fixed.kind,) if directive.fixed else directive.allowed
        reason = policy.stop(trajectory) or _too_dear(
            trajectory, policy, min(nfe[kind] for kind in kinds if kind in nfe)
        )
        if reason:
            break
        chosen = yield from _choose(trajectory, directive, policy)
        reason = _too_dear(trajectory, policy, nfe[chosen.action.kind]) if chosen.action.draws else None
        controller_failures = controller_failures + 1 if chosen.failure else 0
        if controller_failures > trajectory.brief.budget.patience:
            reason = f"the controller gave no usable action {controller_failures} times running: {chosen.failure}"
        trajectory = _warned(trajectory, chosen.failure)
        if reason:
            trajectory = replace(trajectory, overhead=trajectory.overhead + chosen.cost)
            break
        trajectory, ended = yield from _round(trajectory, chosen, policy)
        if ended:
            reason = ended
            break
    yield Decided("stop", trajectory)
    return (yield from _finish(trajectory, policy, reason, nfe["GENERATE"]))


def _too_dear(trajectory: Trajectory, policy: Policy, nfe: int) -> str | None:
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
    plan = policy.plan(brief, goals)
    trajectory = replace(
        trajectory, goals=goals, plan=plan.batches, gate=plan.gate, overhead=drafted.cost, warnings=warnings
    )
    yield Decided("planned", trajectory)
    return trajectory


def _received(trajectory: Trajectory, given: Candidate, policy: Policy):
    """The given picture is judged like any other canvas, and is what the first edit starts from."""
    step = Step(
        len(trajectory.steps), Action("GIVEN", "The picture that was given."), candidates=(given,), chosen=given.canvas
    )
    judgement = yield Judge(trajectory.with_step(step), trajectory.goals, (given.canvas,), None, step.action)
    pending = policy.pending(trajectory, step)
    verdicts = tuple(_postponed(verdict, pending) for verdict in judgement.verdicts[0])
    reason = "the picture to begin from"
    step = replace(
        step, verdicts=verdicts, score=rules.score(verdicts), accepted=True, reason=reason, cost=judgement.cost
    )
    trajectory = replace(trajectory.with_step(step), current=given.canvas, best=given.canvas)
    yield Decided("step", trajectory)
    return trajectory


def _choose(trajectory: Trajectory, directive: Directive, policy: Policy):
    if directive.fixed:
        return Chosen(directive.fixed)
    return (yield ChooseAction(trajectory, directive, policy.inspects_text))


def _reviewed(trajectory: Trajectory):
    """Asks the artist after each step. Returns the trajectory and why to end, if so."""
    remark = (yield Review(trajectory)) if trajectory.steps else None
    if remark is None:
        return trajectory, None
    trajectory = apply_remark(trajectory, remark)
    yield Decided("remarked", trajectory)
    return trajectory, None if remark.say == "go on" else ENDED[remark.say]


def _warned(trajectory: Trajectory, *warnings: str) -> Trajectory:
    told = tuple(f"step {len(trajectory.steps)}: {warning}" for warning in warnings if warning)
    return replace(trajectory, warnings=(*trajectory.warnings, *told)) if told else trajectory


def _round(trajectory: Trajectory, chosen: Chosen, policy: Policy):
    """One action: drawn and judged, judged again, or an END held against the final gate. Returns the trajectory and why to end, if so."""
    action = chosen.action
    step = Step(len(trajectory.steps), action, parent=trajectory.current, cost=chosen.cost)
    if action.kind == "END":
        passed, reason = policy.final_gate(trajectory)
        trajectory = trajectory.with_step(replace(step, accepted=passed, reason=reason))
        yield Decided("step", trajectory)
        return trajectory, reason if passed else None
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
    pending = policy.pending(trajectory, step)
    verdicts = tuple(tuple(_postponed(verdict, pending) for verdict in each) for each in judgement.verdicts)
    pick = rules.choose(verdicts) if judgement.pick is None else judgement.pick
    step = replace(
        step,
        chosen=drawn.candidates[pick].canvas,
        verdicts=verdicts[pick],
        score=rules.score(verdicts[pick]),
        edit=judgement.edits[pick] if judgement.edits else EditCheck(),
        cost=step.cost + judgement.cost,
    )
    accepted, reason = policy.accept(trajectory, step)
    step = replace(step, accepted=accepted, reason=reason)
    current = step.chosen if accepted else trajectory.current
    best = step.chosen if rules.better(step, trajectory.best_step) else trajectory.best
    trajectory = replace(trajectory.with_step(step), current=current, best=best)
    yield Decided("step", trajectory)
    return trajectory, None


def _validate(trajectory: Trajectory, step: Step):
    """Asks again of the current canvas what had no clear word; a new word takes the place of the old one, silence does not."""
    held = trajectory.current_step
    unclear = rules.unclear(trajectory.goals, held.verdicts)
    asked = tuple(goal for goal in trajectory.goals if goal.id in unclear)
    judgement = yield Judge(trajectory, asked, (trajectory.current,), None, step.action)
    fresh = {verdict.goal: verdict for verdict in judgement.verdicts[0] if verdict.state != "error"}
    known = {verdict.goal for verdict in held.verdicts}
    verdicts = (
        *(fresh.get(verdict.goal, verdict) if verdict.goal in unclear else verdict for verdict in held.verdicts),
        *(verdict for goal, verdict in fresh.items() if goal not in known),
    )
    # Counted by state: another shade of unsure would let VALIDATE and a refused END take turns for ever.
    cleared = sum(verdict.state not in rules.UNCLEAR for verdict in fresh.values())
    mended = replace(held, verdicts=verdicts, score=rules.score(verdicts))
    steps = tuple(mended if item.index == held.index else item for item in trajectory.steps)
    step = replace(
        step,
        accepted=cleared > 0,
        reason=f"judged again: {cleared} verdicts cleared up",
        cost=step.cost + judgement.cost,
    )
    trajectory = replace(trajectory, steps=(*steps, step), best=rules.best(steps).chosen)
    yield Decided("step", trajectory)
    return trajectory


def _postponed(verdict: Verdict, pending: frozenset[str]) -> Verdict:
    return (
        replace(verdict, state="pending")
        if verdict.state in ("unmet", "unsure") and verdict.goal in pending
        else verdict
    )


def _finish(trajectory: Trajectory, policy: Policy, reason: str, nfe: int):
    """Hands over the best verified canvas; with the A/B on, only if it is not beaten by the one-shot picture."""
    best, choice, step = trajectory.best, "the best canvas by the judge's word", trajectory.best_step
    if step is None:
        choice = "no canvas was drawn"
    elif step.score is None:
        choice = "the first canvas: no canvas was judged"
    ended_by_artist = reason in ENDED.values()
    if reason == ENDED["accept"]:
        best, choice = trajectory.current, "the artist's choice"
    compares = policy.final_ab if trajectory.brief.final_ab is None else trajectory.brief.final_ab
    # A given picture has no one-shot rival: one that was painted from words alone would be another picture.
    compares = compares and not ended_by_artist and not trajectory.brief.picture
    if compares and step is not None and step.action.kind == "EDIT" and not rules.spent(trajectory):
        trajectory, rival = yield from _rival(trajectory, policy, nfe)
        if rival is not None and rival.chosen != best:
            compared = yield Compare(trajectory, best, rival.chosen)
            trajectory = replace(trajectory, overhead=trajectory.overhead + compared.cost)
            best, choice = _ab(trajectory, best, rival, compared.winner)
    step = trajectory.step_of(best)
    outcome = Outcome(reason, best, rules.satisfied(trajectory, step), choice)
    trajectory = replace(trajectory, best=best, outcome=outcome)
    yield Decided("end", trajectory)
    return trajectory


def _rival(trajectory: Trajectory, policy: Policy, nfe: int):
    """The one-shot picture: the first canvas if it was drawn from the brief's own words, else one more picture if the budget has room."""
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
    step = replace(step, candidates=drawn.candidates, chosen=drawn.candidates[0].canvas, cost=drawn.cost)
    judgement = yield Judge(trajectory.with_step(step), trajectory.goals, (step.chosen,), None, action)
    verdicts = judgement.verdicts[0]
    step = replace(
        step,
        verdicts=verdicts,
        score=rules.score(verdicts),
        cost=step.cost + judgement.cost,
        reason="drawn for the final comparison",
    )
    trajectory = trajectory.with_step(step)
    yield Decided("step", trajectory)
    return trajectory, step


def _ab(trajectory: Trajectory, best: int, rival: Step, winner: int | None) -> tuple[int, str]:
    if winner == 0:
        return best, "preferred to the one-shot picture in both orders"
    if winner == 1:
        return rival.chosen, "the one-shot picture was preferred in both orders"
    if winner is None and rules.better(rival, trajectory.step_of(best)):
        return rival.chosen, "the one-shot picture by the judge's word; the comparison with it failed"
    if winner is None:
        return best, "the best canvas by the judge's word; the comparison with the one-shot picture failed"
    if rules.better(trajectory.step_of(best), rival):
        return (
            best,
            "the best canvas by the judge's word; the comparison with the one-shot picture did not speak against it",
        )
    return rival.chosen, "a tie with the one-shot picture, which is less edited"
