"""What happened: the steps of a run as a tree over canvases, and the numbers spent.

A canvas is named by its index: the order in which the run drew it. The pictures themselves stay in the run folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from .brief import Box, Brief, Budget, Goal

SCHEMA = 1

ActionKind = Literal["GENERATE", "EDIT", "VALIDATE", "END", "GIVEN"]
State = Literal["met", "unmet", "pending", "unsure", "error"]


@dataclass(frozen=True, slots=True)
class Action:
    """One decision of the controller; GIVEN is none of its own: the picture that the run begins from.

    summary: what is right, what is missing, what must stay. scene_prompt: what the canvas should show after this step (proxy T2I).
    edit_prompt: the instruction, with what to keep (proxy I2I). references: canvases, the one to edit first. goals: ids it serves.
    region: where a mask would be. strength: 0..1, for executors that start from a noised canvas.
    """

    kind: ActionKind
    summary: str = ""
    scene_prompt: str = ""
    edit_prompt: str = ""
    references: tuple[int, ...] = ()
    goals: tuple[str, ...] = ()
    region: Box | None = None
    strength: float | None = None

    @property
    def draws(self) -> bool:
        return self.kind in ("GENERATE", "EDIT")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge said of one goal. `error` means that it gave no usable answer; `pending`, that a later step is to serve it."""

    goal: str
    state: State
    evidence: str = ""
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class EditCheck:
    """What the judge said of the step itself: was the instruction carried out, and how much changed that should not have (0..1).

    None means that it was not asked or gave no usable answer.
    """

    success: bool | None = None
    over_edit: float | None = None
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One drawn picture. `sha256` is of its pixels; `nfe` counts transformer evaluations of one sample. latent: SHA-256 of the latents it
    was decoded from, if they are kept beside it for later edits."""

    canvas: int
    file: str
    seed: int
    sha256: str
    nfe: int = 0
    latent: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds by part, tokens of the vision-language model, its calls, transformer evaluations, pictures."""

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
class Step:
    """One round. `parent` is the canvas it started from; `chosen` is the canvas it proposed; `reason` says why it was kept or not."""

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

    def verdict(self, goal: str) -> Verdict | None:
        return next((verdict for verdict in self.verdicts if verdict.goal == goal), None)


Say = Literal["go on", "accept", "stop"]


@dataclass(frozen=True, slots=True)
class Remark:
    """What the artist said after a step. `accept` ends the run with the current canvas, `stop` with the best by the judge's word.

    after: index of the step. words: a wish, which becomes a goal of the run. corrected: goals of the current canvas of which the artist
    knows better, `met` or `unmet`. dropped: ids of goals that are no longer wanted. back_to: the canvas to go on from. mask: a PNG in the
    run folder, white where the next edit may change; `sha256` is of its pixels.
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
        return bool(self.words or self.corrected or self.dropped or self.mask) or self.back_to is not None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the run ended: which canvas is handed over and why, and whether the brief was met by the judge's word."""

    reason: str
    canvas: int | None
    met: bool
    choice: str = ""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """`prompts`: the versions of the words by which the models were asked."""

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
    schema: int = SCHEMA

    @property
    def cost(self) -> Cost:
        return total((self.overhead, *(step.cost for step in self.steps)))

    @property
    def canvases(self) -> int:
        """How many pictures have been drawn, which is the index of the next one."""
        return sum(len(step.candidates) for step in self.steps)

    def candidate(self, canvas: int) -> Candidate:
        """Raises KeyError for a canvas that was never drawn."""
        for step in self.steps:
            for candidate in step.candidates:
                if candidate.canvas == canvas:
                    return candidate
        raise KeyError(canvas)

    def step_of(self, canvas: int | None) -> Step | None:
        """The step that proposed this canvas as its choice."""
        return next((step for step in self.steps if canvas is not None and step.chosen == canvas), None)

    @property
    def best_step(self) -> Step | None:
        return self.step_of(self.best)

    @property
    def current_step(self) -> Step | None:
        return self.step_of(self.current)

    @property
    def offered(self) -> tuple[int, ...]:
        """Canvases the controller may refer to: the current one first, then the other kept ones from new to old, at most four in all."""
        kept = [
            step.chosen for step in reversed(self.steps) if step.chosen not in (None, self.current) and step.accepted
        ]
        return tuple(() if self.current is None else (self.current, *kept[:3]))

    @property
    def failed(self) -> tuple[Step, ...]:
        """Steps that drew and were rolled back, so that the controller is told what was tried."""
        return tuple(step for step in self.steps if step.action.draws and not step.accepted)

    @property
    def remark(self) -> Remark | None:
        """What the artist said of the last step, if anything: it is for the next one to heed."""
        last = self.remarks[-1] if self.remarks else None
        return last if last and last.after == len(self.steps) - 1 else None

    def goal(self, goal: str) -> Goal:
        """Raises KeyError for an id that is not in the list."""
        for item in self.goals:
            if item.id == goal:
                return item
        raise KeyError(goal)

    def with_step(self, step: Step) -> Trajectory:
        return replace(self, steps=(*self.steps, step))


T = TypeVar("T", Trajectory, Step)


def timeless(told: T) -> T:
    """The trajectory or step without wall times: what is written into pictures, so that the same run gives the same bytes.

    A run that has not ended is told without the limits of its budget, which say when to stop and nothing of the pictures until then: so
    one that is given a larger budget later has the bytes of one that had it from the start.
    """
    if isinstance(told, Step):
        return replace(told, cost=replace(told.cost, seconds={}))
    if told.outcome is None:
        budget = Budget(met=told.brief.budget.met, unmet=told.brief.budget.unmet)
        told = replace(told, brief=replace(told.brief, budget=budget))
    return replace(told, overhead=replace(told.overhead, seconds={}), steps=tuple(map(timeless, told.steps)))


def seed_for(run_seed: int, step: int, candidate: int) -> int:
    """The one split of randomness: (run seed, step, candidate) -> seed, 63 bits of SHA-256 over "clvr/run/step/candidate"."""
    digest = hashlib.sha256(f"clvr/{run_seed}/{step}/{candidate}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def states(verdicts: Iterable[Verdict]) -> dict[str, State]:
    return {verdict.goal: verdict.state for verdict in verdicts}
