"""What was asked: the brief, its goals, its budget."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .errors import BadInput

GoalKind = Literal["global", "local", "text", "layout"]
Need = Literal["must", "nice"]
Strategy = Literal["clvr", "director", "strokes", "oneshot", "best-of-n"]
Conditioning = Literal["proxy", "instruction", "summary", "trace"]
Judging = Literal["each", "pairs", "set"]
STRATEGIES: tuple[str, ...] = Strategy.__args__
GOAL_KINDS: tuple[str, ...] = GoalKind.__args__
CONDITIONINGS: tuple[str, ...] = Conditioning.__args__
JUDGINGS: tuple[str, ...] = Judging.__args__
LIMITS = ("rounds", "images", "evaluations", "seconds", "vlm_tokens", "patience")
MAX_PROMPT = 20_000
MAX_SIDE = 8192
"""Pixels."""

Box = tuple[float, float, float, float]
"""left, top, right, bottom as fractions 0..1 of the canvas."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One requirement of the brief. Made once, then frozen for the run.

    text: verbatim where it quotes the brief. check: a question whose answer "yes" means that the goal holds.
    feasibility: 0..1, how likely one generation meets it. conflicts_with: ids of goals that cannot hold beside it. need: a run is served
    that meets every `must`; a `nice` goal is worked for, and missing it is no failure.
    """

    id: str
    text: str
    kind: GoalKind = "local"
    check: str = ""
    feasibility: float = 1.0
    area: Box | None = None
    conflicts_with: tuple[str, ...] = ()
    need: Need = "must"


@dataclass(frozen=True, slots=True)
class Budget:
    """Where the loop must stop, and from where on a goal counts as met. None means no limit.

    rounds: actions that draw. images: pictures drawn, candidates counted. evaluations: transformer calls (NFE, one per sample and
    branch of guidance). seconds: wall time. vlm_tokens: tokens the vision-language model read and wrote. patience: rounds without
    improvement after which the loop gives up. met, unmet: probabilities 0..1 that the judge gives a goal; from `met` up it holds, from
    `unmet` down it does not, between them the judge is unsure.
    """

    rounds: int = 8
    images: int | None = None
    evaluations: int | None = None
    seconds: float | None = None
    vlm_tokens: int | None = None
    patience: int = 3
    met: float = 0.65
    unmet: float = 0.35

    def __post_init__(self) -> None:
        for name in LIMITS:
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise BadInput(f"budget: {name} is {value}; it must be above 0 and finite")
        if not 0 <= self.unmet < self.met <= 1:
            raise BadInput(
                f"budget: unmet is {self.unmet} and met is {self.met}; they must satisfy 0 <= unmet < met <= 1"
            )

    def covers(self, other: Budget) -> bool:
        """Whether no limit is tighter than the other's, and the judge is held to the same thresholds."""
        limits = ((getattr(self, name), getattr(other, name)) for name in LIMITS)
        wide = all(mine is None or (theirs is not None and theirs <= mine) for mine, theirs in limits)
        return wide and (self.met, self.unmet) == (other.met, other.unmet)


@dataclass(frozen=True, slots=True)
class Brief:
    """The request as it was given.

    candidates: size of the micro-grid, None for the strategy's own. final_ab: compare the end with the one-shot picture, None for the
    strategy's own. conditioning: what text the executor is given. goals: the checklist, if the artist wrote it; else it is drafted.
    judging, of several candidates: `each` against every goal, `pairs` the same with ties broken by comparison, `set` all of them side by
    side and then only the winner against the goals. evidence: the judge says in words what it sees where a goal does not hold. fused:
    `clvr` has a new canvas judged and the next action chosen in one reply, which saves a call and judges by words, not by probabilities.
    picture: SHA-256 of the pixels of the picture that the run begins from, if it edits one; it has the width and height of the brief.
    estimate: how much is asked for opens the gate to one shot and lowers the limit of rounds, beside what the goals and the budget say.
    """

    prompt: str
    strategy: Strategy = "clvr"
    seed: int = 0
    width: int = 96
    height: int = 96
    budget: Budget = field(default_factory=Budget)
    candidates: int | None = None
    final_ab: bool | None = None
    conditioning: Conditioning = "proxy"
    goals: tuple[Goal, ...] = ()
    judging: Judging = "each"
    evidence: bool = False
    picture: str = ""
    fused: bool = False
    estimate: bool = False

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise BadInput("the brief is empty; say in words what the picture should show")
        if len(self.prompt) > MAX_PROMPT:
            raise BadInput(f"the brief has {len(self.prompt):,} characters; at most {MAX_PROMPT:,} are read")
        if self.strategy not in STRATEGIES:
            raise BadInput(f"unknown strategy {self.strategy!r}; choose one of {', '.join(STRATEGIES)}")
        if self.conditioning not in CONDITIONINGS:
            raise BadInput(f"unknown conditioning {self.conditioning!r}; choose one of {', '.join(CONDITIONINGS)}")
        if self.judging not in JUDGINGS:
            raise BadInput(f"unknown judging {self.judging!r}; choose one of {', '.join(JUDGINGS)}")
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise BadInput(
                f"the canvas is {self.width} x {self.height}; both must be between 1 and {MAX_SIDE:,} pixels"
            )
        if self.candidates is not None and not 1 <= self.candidates <= 64:
            raise BadInput(f"candidates is {self.candidates}; it must be between 1 and 64")
        if not 0 <= self.seed < 2**63:
            raise BadInput(f"seed is {self.seed}; it must be between 0 and 2**63 - 1")
        twice = [
            goal.id for place, goal in enumerate(self.goals) if goal.id in {other.id for other in self.goals[:place]}
        ]
        if twice:
            raise BadInput(f"two goals have the id {twice[0]!r}; each needs its own")
