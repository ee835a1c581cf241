"""The record of a run: its steps, which form a tree over canvases, and what they cost.

A canvas is a picture that the run drew or was given, named by its index in drawing order. The pixels are in the run
folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from .brief import Box, Brief, Budget, Goal, around

SCHEMA = 1

ActionKind = Literal["GENERATE", "EDIT", "VALIDATE", "END", "GIVEN"]
State = Literal["met", "unmet", "pending", "unsure", "error"]

Route = Literal["", "one shot", "staged"]
"""How a run begins: with one generation of the brief's own words, or in stages. "" before the plan is made."""

Ruling = Literal[
    "",
    "given",
    "first canvas",
    "goals gained",
    "less edited",
    "goals lost",
    "no gain",
    "over-edited",
    "not judged",
    "judged again",
    "gone back",
    "no rollback",
    "end accepted",
    "end refused",
    "one-shot rival",
    "picked by the artist",
]
"""Why a step was kept or rolled back, as a code beside the sentence; "" before that is decided."""

Ended = Literal[
    "",
    "goals met",
    "end action",
    "accepted by the artist",
    "stopped by the artist",
    "budget spent",
    "no improvement",
    "controller failed",
    "all drawn",
]
"""Why a run ended, as a code beside the sentence. "all drawn": a strategy without a loop has drawn what it draws."""


@dataclass(frozen=True, slots=True)
class Action:
    """One decision of the controller.

    kind: GIVEN is not chosen by the controller; it stands for the picture that the run begins from.
    summary: what is right, what is missing and what must stay, in the controller's words.
    scene_prompt: what the canvas should show after this step (the proxy T2I prompt).
    edit_prompt: the instruction of an edit, with what to keep (the proxy I2I prompt).
    references: canvases that an edit reads, the one to edit first.
    goals: ids of the goals that the action serves.
    region: the place that an edit may change; None for everywhere.
    strength: 0..1, share of the noise schedule that an edit runs; None leaves it to the executor.
    checks: questions on the result of this step, made with it; "yes" means that it was carried out.
    """

    kind: ActionKind
    summary: str = ""
    scene_prompt: str = ""
    edit_prompt: str = ""
    references: tuple[int, ...] = ()
    goals: tuple[str, ...] = ()
    region: Box | None = None
    strength: float | None = None
    checks: tuple[str, ...] = ()

    @property
    def draws(self) -> bool:
        return self.kind in ("GENERATE", "EDIT")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a second witness says of one goal, beside the judge (`clvr_core/witness`).

    witness: text, objects, count, likeness or changes.
    says: whether the goal holds.
    strength: 0..1, the lowest score of what it goes by.
    words: what it found, for the controller and the artist.
    boxes: where it found that.
    fault: the place in which an edit can mend what is wrong; None if there is no such place, as for a thing that is
        missing.
    reliability: 0..1, share of the cases in which this witness was right when it said so, as it was measured
        (`clvr_core/witness/reliability.py`); None if it was not.
    """

    witness: str
    says: Literal["yes", "no"]
    strength: float = 1.0
    words: str = ""
    boxes: tuple[Box, ...] = ()
    fault: Box | None = None
    reliability: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judge's answer on one goal, made one with what second witnesses say.

    goal: id of the goal.
    state: `error` for no usable answer, `pending` for a goal that a later step will serve.
    evidence: what the judge saw, or why there was no answer; with witnesses the story of each.
    confidence: probability 0.5..1 of the answer that was given, yes or no; None if it came without one, or if a witness
        moved it.
    witnesses: what they say; none if nothing was to be said.
    """

    goal: str
    state: State
    evidence: str = ""
    confidence: float | None = None
    witnesses: tuple[Finding, ...] = ()

    @property
    def wrong_places(self) -> list[Box]:
        """The boxes of the witnesses who say that an open goal does not hold: where they found it, else where it can be
        mended. As in web/viewer/places.js."""
        if self.state not in ("unmet", "unsure"):
            return []
        said = [each for each in self.witnesses if each.says == "no"]
        return [box for each in said for box in each.boxes or ((each.fault,) if each.fault else ())]

    @property
    def fault(self) -> Box | None:
        """The place of what is wrong, around all that the witnesses found who say that the goal does not hold; None for a
        goal that is not open, and if none of them names a place."""
        if self.state not in ("unmet", "unsure"):
            return None
        return around(each.fault for each in self.witnesses if each.says == "no" and each.fault is not None)


@dataclass(frozen=True, slots=True)
class Change:
    """What differs between two canvases where the second was to stay as the first, measured on the pixels without a
    model (`clvr_core/verifier/changes.py`).

    outside: 0..1, share of those pixels that changed visibly.
    strength: 0..255, mean change of the pixels that changed.
    colour: shift of the colour in CIELAB (L, a, b).
    uneven: how far from that shift the shift of single places is, in CIELAB.
    offset: pixels to the right and down by which the picture moved; None if it has too little structure to tell.
    scale: factor by which it grew; None likewise.
    sharpness: mean step between neighbouring pixels, after over before: below 1 it was blurred.
    noise: noise that was added, in levels of 0..255; below 0 if there is less.
    meant: boxes in which the change was meant, which are left out of all this.
    """

    outside: float = 0.0
    strength: float = 0.0
    colour: tuple[float, float, float] = (0.0, 0.0, 0.0)
    uneven: float = 0.0
    offset: tuple[float, float] | None = None
    scale: float | None = None
    sharpness: float = 1.0
    noise: float = 0.0
    meant: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class EditCheck:
    """What is known of an edit as such. None stands for a question that was not asked or got no usable answer, and for
    a canvas that was not measured.

    success: whether the instruction was carried out, by the judge.
    over_edit: 0..1, how much changed that should have stayed, by the judge.
    evidence: what the judge saw.
    change: measured between the canvas that was edited and the new one.
    drift: measured between the clean source of that canvas and the new one, where the source is another canvas.
    missed: questions of the step's own checklist that the judge answered with no.
    witnesses: what they say of whether the rest was kept.
    """

    success: bool | None = None
    over_edit: float | None = None
    evidence: str = ""
    change: Change | None = None
    drift: Change | None = None
    missed: tuple[str, ...] = ()
    witnesses: tuple[Finding, ...] = ()

    @property
    def kept_the_rest(self) -> bool:
        """Whether nothing changed outside the place that was meant, by what was measured."""
        return self.change is not None and self.change == Change(offset=(0.0, 0.0), scale=1.0, meant=self.change.meant)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One picture of a round.

    canvas: its index among the run's canvases.
    file: name of its file in the run folder; "" for a run in memory.
    seed: of the initial noise.
    sha256: of its pixels.
    nfe: transformer evaluations spent on it, both branches of guidance counted; 0 for a repaired edit.
    latent: SHA-256 of the latent it was decoded from, if the latent is kept for later edits; else "".
    """

    canvas: int
    file: str
    seed: int
    sha256: str
    nfe: int = 0
    latent: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """
    seconds: wall time by part: think, draw, judge.
    vlm_tokens: tokens that the vision-language model read and wrote.
    vlm_calls: calls of it.
    evaluations: transformer evaluations (NFE).
    images: pictures drawn.
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    vlm_tokens: int = 0
    vlm_calls: int = 0
    evaluations: int = 0
    images: int = 0

    def __add__(self, other: Cost) -> Cost:
        return total((self, other))

    @property
    def wall(self) -> float:
        return sum(self.seconds.values())


def total(costs: Iterable[Cost]) -> Cost:
    seconds: dict[str, float] = {}
    tokens = calls = evaluations = images = 0
    for cost in costs:
        for part, value in cost.seconds.items():
            seconds[part] = seconds.get(part, 0.0) + value
        tokens, calls = tokens + cost.vlm_tokens, calls + cost.vlm_calls
        evaluations, images = evaluations + cost.evaluations, images + cost.images
    return Cost(seconds, tokens, calls, evaluations, images)


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request to the controller and its reply, in a run that asks it in one growing conversation.

    asked: words of the request.
    canvases: those shown with it, in this order; a request that begins a conversation is shown the brief's references
        after them.
    replied: the action, as JSON in the order of its schema; what stands for it if the controller gave none.
    begins: whether a conversation begins with it, with all that is known of the run. False for one that goes on.
    """

    asked: str
    canvases: tuple[int, ...] = ()
    replied: str = ""
    begins: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One round.

    index: its number, from 0 on.
    action: what the controller decided.
    parent: canvas that the step started from; None for the empty canvas.
    candidates: the pictures drawn.
    chosen: canvas of the candidate that the step proposes; None if it drew nothing.
    verdicts: of the judge on that canvas, one for each goal.
    score: 0..1, mean weight of the verdicts; None if nothing was judged.
    edit: the judge's answer on the edit as such.
    accepted: whether the step was kept; else it was rolled back.
    reason: why, in a sentence.
    cost: of the step alone.
    ruling: why, as a code.
    exchanges: how the controller was asked for the action, in a run with one conversation; empty for single prompts.
    """

    index: int
    action: Action
    parent: int | None = None
    candidates: tuple[Candidate, ...] = ()
    chosen: int | None = None
    verdicts: tuple[Verdict, ...] = ()
    score: float | None = None
    edit: EditCheck = EditCheck()
    accepted: bool = False
    reason: str = ""
    cost: Cost = field(default_factory=Cost)
    ruling: Ruling = ""
    exchanges: tuple[Exchange, ...] = ()

    def verdict(self, goal: str) -> Verdict | None:
        return next((verdict for verdict in self.verdicts if verdict.goal == goal), None)


Say = Literal["go on", "accept", "stop"]


@dataclass(frozen=True, slots=True)
class Remark:
    """The artist's answer to a review.

    after: index of the step that it follows.
    say: `accept` ends the run with the current canvas, `stop` with the best one by the judge's verdicts.
    words: a wish, which becomes a goal of the run; "" for none.
    corrected: goal -> the artist's own verdict on the current canvas, which replaces the judge's.
    dropped: ids of goals that are no longer wanted.
    back_to: canvas to continue from; None for the current one. Of a candidate that its step did not choose, it makes
        the chosen one.
    mask: name of a PNG in the run folder, white where the next edit may change the picture; "" for none.
    sha256: of the mask's pixels.
    """

    after: int
    say: Say = "go on"
    words: str = ""
    corrected: Mapping[str, Literal["met", "unmet"]] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    back_to: int | None = None
    mask: str = ""
    sha256: str = ""

    @property
    def steers(self) -> bool:
        """Whether it changes how the run continues."""
        return bool(self.words or self.corrected or self.dropped or self.mask) or self.back_to is not None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the run ended.

    reason: why, in a sentence.
    canvas: the canvas handed over; None if nothing was drawn.
    met: whether that canvas meets every goal that must hold, by the judge's verdicts.
    choice: why this canvas, in a sentence.
    ended: why the run ended, as a code.
    """

    reason: str
    canvas: int | None
    met: bool
    choice: str = ""
    ended: Ended = ""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A run as far as it has come.

    brief: the request.
    goals: what the brief is judged by, fixed once they are planned; the artist's remarks may add and drop some.
    models: role (controller, verifier, executor) -> name of its model.
    plan: batches of goal ids that are served in turn; empty if all open goals are served at once.
    gate: why the run begins as it does, in a sentence.
    steps: the rounds, oldest first.
    current: canvas that the next step starts from; None before the first one is kept.
    best: canvas with the best verdicts so far.
    outcome: None while the run has not ended.
    overhead: cost of what belongs to no step.
    warnings: a sentence each.
    prompts: room (controller, verifier) -> version of its prompts to the models.
    remarks: of the artist, oldest first.
    route: how the run begins, as a code.
    schema: version of this record.
    """

    brief: Brief
    goals: tuple[Goal, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)
    plan: tuple[tuple[str, ...], ...] = ()
    gate: str = ""
    steps: tuple[Step, ...] = ()
    current: int | None = None
    best: int | None = None
    outcome: Outcome | None = None
    overhead: Cost = field(default_factory=Cost)
    warnings: tuple[str, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()
    route: Route = ""
    schema: int = SCHEMA

    @property
    def cost(self) -> Cost:
        return total((self.overhead, *(step.cost for step in self.steps)))

    @property
    def canvases(self) -> int:
        """How many canvases there are, which is the index of the next one."""
        return sum(len(step.candidates) for step in self.steps)

    def candidate(self, canvas: int) -> Candidate:
        """Raises KeyError for a canvas that the run does not have."""
        for step in self.steps:
            for candidate in step.candidates:
                if candidate.canvas == canvas:
                    return candidate
        raise KeyError(canvas)

    def step_with(self, canvas: int | None) -> Step | None:
        """The step that drew this canvas, chosen or not; None if no step did."""
        return next((step for step in self.steps if any(each.canvas == canvas for each in step.candidates)), None)

    def step_of(self, canvas: int | None) -> Step | None:
        """The step that proposed this canvas; None if no step did."""
        return next((step for step in self.steps if canvas is not None and step.chosen == canvas), None)

    def edits_since_source(self, canvas: int) -> tuple[Step, ...]:
        """The edits that lie between a canvas and its clean source, oldest first; none for a canvas that was drawn
        from words alone or given."""
        return tuple(step for step, _ in self._edits(canvas))

    def depth(self, canvas: int) -> int:
        """How many edits in a row wore the canvas since its clean source: 0 for a source.

        An edit that left everything outside its place as it was, bit for bit, wears that place alone: it counts with
        the earlier edits that it overlaps, and not with the others.
        """
        worn: list[tuple[tuple[Box, ...] | None, int]] = []
        for step, drawn in self._edits(canvas):
            change = step.edit.change if step.chosen == drawn and step.edit.kept_the_rest else None
            boxes = change.meant if change is not None else None
            below = [level for other, level in worn if boxes is None or other is None or any_overlap(boxes, other)]
            worn.append((boxes, 1 + max(below, default=0)))
        return max((level for _, level in worn), default=0)

    def _edits(self, canvas: int) -> list[tuple[Step, int]]:
        """The edits since the clean source, oldest first, each with the canvas that it drew on the way to this one."""
        found: list[tuple[Step, int]] = []
        while (step := self._drawn_by(canvas)) is not None and step.action.kind == "EDIT" and step.action.references:
            found.append((step, canvas))
            canvas = step.action.references[0]
        return found[::-1]

    def _drawn_by(self, canvas: int) -> Step | None:
        """The step that drew this canvas, whether or not it proposed it."""
        drew = (step for step in self.steps if any(candidate.canvas == canvas for candidate in step.candidates))
        return next(drew, None)

    @property
    def best_step(self) -> Step | None:
        return self.step_of(self.best)

    @property
    def current_step(self) -> Step | None:
        return self.step_of(self.current)

    @property
    def offered(self) -> tuple[int, ...]:
        """Canvases that the controller may refer to, at most four: the current one, then other kept ones, newest
        first."""
        kept = [
            step.chosen for step in reversed(self.steps) if step.chosen not in (None, self.current) and step.accepted
        ]
        return tuple(() if self.current is None else (self.current, *kept[:3]))

    @property
    def failed(self) -> tuple[Step, ...]:
        """Steps that drew and were rolled back. The controller sees them, so that it does not repeat them."""
        return tuple(step for step in self.steps if step.action.draws and not step.accepted)

    @property
    def remark(self) -> Remark | None:
        """The artist's remark on the last step, which the next step follows; None if there is none."""
        last = self.remarks[-1] if self.remarks else None
        return last if last and last.after == len(self.steps) - 1 else None

    def goal(self, goal: str) -> Goal:
        """Raises KeyError for an id that the run does not have."""
        for item in self.goals:
            if item.id == goal:
                return item
        raise KeyError(goal)

    def with_step(self, step: Step) -> Trajectory:
        return replace(self, steps=(*self.steps, step))


def any_overlap(boxes: Iterable[Box], others: tuple[Box, ...]) -> bool:
    """Whether any of the boxes has an area in common with any of the others."""
    return any(
        left < other[2] and other[0] < right and top < other[3] and other[1] < bottom
        for left, top, right, bottom in boxes
        for other in others
    )


T = TypeVar("T", Trajectory, Step)


def timeless(record: T) -> T:
    """The trajectory or step without wall times, as pictures carry it, so that the same run gives the same bytes.

    The limits of the budget are left out as long as the run has not ended: they decide only when it ends. So a run that
    gets a larger budget later has the bytes of one that had it from the start.
    """
    if isinstance(record, Step):
        return replace(record, cost=replace(record.cost, seconds={}))
    if record.outcome is None:
        budget = Budget(met=record.brief.budget.met, unmet=record.brief.budget.unmet)
        record = replace(record, brief=replace(record.brief, budget=budget))
    return replace(record, overhead=replace(record.overhead, seconds={}), steps=tuple(map(timeless, record.steps)))


_ROUTES: tuple[tuple[str, Route], ...] = (("one shot", "one shot"), ("staged", "staged"))
_RULINGS: tuple[tuple[str, Ruling], ...] = (
    ("the picture to begin from", "given"),
    ("the first canvas", "first canvas"),
    ("kept: ", "goals gained"),
    ("rolled back: lost ", "goals lost"),
    ("rolled back: no goal gained", "no gain"),
    ("rolled back: changed what was to stay", "over-edited"),
    ("rolled back: the judge gave no answer", "not judged"),
    ("judged again: ", "judged again"),
    ("END refused", "end refused"),
    ("END: ", "end accepted"),
    ("drawn for the final comparison", "one-shot rival"),
)
_ENDED: tuple[tuple[str, Ended], ...] = (
    ("every goal is met", "goals met"),
    ("END: ", "end action"),
    ("the artist accepted the picture", "accepted by the artist"),
    ("the artist stopped the run", "stopped by the artist"),
    ("budget: ", "budget spent"),
    ("no improvement in ", "no improvement"),
    ("the controller gave no usable action", "controller failed"),
    ("one shot", "all drawn"),
    ("best of ", "all drawn"),
)
C = TypeVar("C", bound=str)


def with_codes(trajectory: Trajectory) -> Trajectory:
    """Fill in the codes of a record from before there were any, from the beginnings of its sentences.

    A sentence that no earlier version wrote leaves its code empty. Every reader of records calls this, and nothing else
    reads sentences.
    """
    steps = tuple(
        step if step.ruling else replace(step, ruling=_code(step.reason, _RULINGS, "")) for step in trajectory.steps
    )
    outcome = trajectory.outcome
    if outcome is not None and not outcome.ended:
        outcome = replace(outcome, ended=_code(outcome.reason, _ENDED, ""))
    route = trajectory.route or _code(trajectory.gate, _ROUTES, "")
    return replace(trajectory, route=route, steps=steps, outcome=outcome)


def _code(sentence: str, table: Iterable[tuple[str, C]], unknown: C) -> C:
    return next((code for beginning, code in table if sentence.startswith(beginning)), unknown)


def seed_for(run_seed: int, step: int, candidate: int) -> int:
    """Seed of one candidate, below 2**63: the first 63 bits of SHA-256 over "clvr/run_seed/step/candidate"."""
    digest = hashlib.sha256(f"clvr/{run_seed}/{step}/{candidate}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def states(verdicts: Iterable[Verdict]) -> dict[str, State]:
    return {verdict.goal: verdict.state for verdict in verdicts}
