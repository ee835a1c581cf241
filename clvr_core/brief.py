"""The request: a brief with its goals and its budget."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from .errors import BadInput
from .records import ABSENT

GoalKind = Literal["global", "local", "text", "layout", "likeness"]
DraftedKind = Literal["global", "local", "text", "layout"]
Aspect = Literal["subject", "face", "product", "style"]
Need = Literal["must", "nice"]
Strategy = Literal["clvr", "director", "strokes", "oneshot", "best-of-n"]
Conditioning = Literal["proxy", "instruction", "summary", "trace"]
Judging = Literal["each", "pairs", "set"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
GOAL_KINDS: tuple[DraftedKind, ...] = get_args(DraftedKind)
"""Those that are drafted from words. A goal of likeness comes with its reference."""
ASPECTS: tuple[Aspect, ...] = get_args(Aspect)
MAX_REFERENCES = 8
CONDITIONINGS: tuple[Conditioning, ...] = get_args(Conditioning)
JUDGINGS: tuple[Judging, ...] = get_args(Judging)
LIMITS = ("rounds", "images", "evaluations", "seconds", "vlm_tokens", "patience")
"""Fields of a budget that end a run."""
MAX_PROMPT = 20_000
"""Characters."""
SIDE = 192
"""Pixels of a side where none is named: what the embedded models draw."""
MAX_SIDE = 8192
"""Pixels."""

Box = tuple[float, float, float, float]
"""left, top, right, bottom as fractions 0..1 of the canvas."""


def common_area(one: Box, other: Box) -> float:
    """The area that two boxes have in common, as a fraction 0..1 of the canvas."""
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    return width * height


def around(boxes: Iterable[Box]) -> Box | None:
    """The box around all of these; None if there are none."""
    edges = list(zip(*boxes))
    if not edges:
        return None
    left, top, right, bottom = edges
    return min(left), min(top), max(right), max(bottom)


def part_in_words(box: Box) -> str:
    """Say in which of nine parts of the picture the centre of a box lies."""
    left, top, right, bottom = box
    row = ("upper", "", "lower")[min(2, int(3 * (top + bottom) / 2))]
    column = ("left", "", "right")[min(2, int(3 * (left + right) / 2))]
    return f"the {' '.join(filter(None, (row, column))) or 'middle'} part of the picture"


@dataclass(frozen=True, slots=True)
class Goal:
    """One requirement of the brief. Made once, then unchanged for the run.

    id: unique in the brief; drafted goals have g1, g2, ..., the artist's wishes a1, a2, ...
    text: the requirement, verbatim where it quotes the brief.
    kind: global (style, light, the whole scene), local (one object), text (lettering), layout (arrangement) or likeness
        (what a reference shows is kept).
    check: a question whose answer "yes" means that the goal holds.
    feasibility: 0..1, how likely one generation meets it.
    area: where in the picture; None if the brief does not say.
    conflicts_with: ids of goals that cannot hold beside it.
    need: the brief is met when every `must` holds; a missed `nice` goal is no failure.
    reference: name of the reference that a goal of likeness is about; "" for others.
    """

    id: str
    text: str
    kind: GoalKind = "local"
    check: str = ""
    feasibility: float = 1.0
    area: Box | None = None
    conflicts_with: tuple[str, ...] = ()
    need: Need = "must"
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Reference:
    """A picture of which something is to be kept in what is drawn.

    name: letters, digits, dashes, underscores; unique in the brief. Words may speak of it.
    sha256: of its pixels; they lie in the run's folder.
    keeps: what of it is kept: the whole subject, the face, the product or the style.
    """

    name: str
    sha256: str
    keeps: Aspect = "subject"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise BadInput(
                f"the name of a reference is {self.name!r:.80}; write 1 to 40 letters, digits, dashes and underscores"
            )
        if self.keeps not in ASPECTS:
            raise BadInput(f"reference {self.name} keeps {self.keeps!r:.80}; choose one of {', '.join(ASPECTS)}")


def likeness_goals(references: Iterable[Reference]) -> tuple[Goal, ...]:
    """Return one goal of likeness for each reference, with ids r1, r2, ... in their order."""
    return tuple(
        Goal(
            f"r{number}",
            f'the {each.keeps} of the reference "{each.name}" is kept',
            "likeness",
            _ASKED[each.keeps],
            reference=each.name,
        )
        for number, each in enumerate(references, 1)
    )


_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")
_ASKED: dict[Aspect, str] = {
    "subject": "Is the subject of the first image, the reference, in the second image, and clearly the same one?",
    "face": "Is the person whose face the first image, the reference, shows in the second image, with the same face?",
    "product": "Is the product that the first image, the reference, shows in the second image, with the same form, colours and marks?",
    "style": "Is the second image in the style of the first, the reference: the same technique, palette and line?",
}
"""What is asked of the reference and the picture, in this order."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of a run and the judge's thresholds. A limit of None means no limit.

    rounds: actions that draw.
    images: pictures drawn, all candidates counted.
    evaluations: transformer evaluations (NFE, one for each sample and branch of guidance).
    seconds: wall time.
    vlm_tokens: tokens that the vision-language model reads and writes.
    patience: rounds without improvement after which the loop gives up.
    met: probability 0..1 from which up a goal counts as met.
    unmet: probability 0..1 up to which a goal counts as unmet; between `unmet` and `met` the judge is unsure.
    tolerance: what an edit may do to the rest of the picture, as a multiple of the usual limits in
        `clvr_core/policy/damage.py`; beyond it the rest is put back. None for any damage.
    depth: edits between a canvas and its clean source from which on the next edit starts from that source again, with
        one merged instruction (`clvr_core/policy/depth.py`). None for any number, as in runs of before it was counted.
    """

    rounds: int = 8
    images: int | None = None
    evaluations: int | None = None
    seconds: float | None = None
    vlm_tokens: int | None = None
    patience: int = 3
    met: float = 0.65
    unmet: float = 0.35
    tolerance: float | None = 1.0
    depth: int | None = None

    def __post_init__(self) -> None:
        for name in (*LIMITS, "tolerance", "depth"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise BadInput(f"budget: {name} is {value}; it must be above 0 and finite")
        if not 0 <= self.unmet < self.met <= 1:
            raise BadInput(
                f"budget: unmet is {self.unmet} and met is {self.met}; they must satisfy 0 <= unmet < met <= 1"
            )

    def covers(self, other: Budget) -> bool:
        """Whether no limit is tighter than the other's, and the judge's thresholds, tolerance and depth are the same."""
        limits = ((getattr(self, name), getattr(other, name)) for name in LIMITS)
        wide = all(mine is None or (theirs is not None and theirs <= mine) for mine, theirs in limits)
        steering = ("met", "unmet", "tolerance", "depth")
        return wide and all(getattr(self, name) == getattr(other, name) for name in steering)


@dataclass(frozen=True, slots=True)
class Brief:
    """The request as the artist gave it.

    prompt: what the picture should show, at most MAX_PROMPT characters.
    strategy: how the loop works, by its name in `clvr_core.policy`.
    seed: of the run, below 2**63; `seed_for` derives those of the pictures.
    width: of the canvas, in pixels; what the embedded models draw unless told otherwise. A record that leaves it out
        means 96, the side of the world before.
    height: of the canvas, in pixels; as width.
    budget: the limits of the run.
    candidates: pictures of a round, 1 to 64; None for the strategy's own number.
    final_ab: whether the result is compared with the one-shot picture; None for the strategy's own choice.
    conditioning: which text the executor gets (see `clvr_core/run/conditioning.py`).
    goals: the checklist, if the artist wrote one; else it is drafted.
    judging: how several candidates are judged. `each`: all by every goal. `pairs`: the same, ties broken by comparison.
        `set`: all side by side, then only the winner by every goal.
    evidence: whether the judge says in words what it sees where a goal does not hold.
    fused: whether verdicts and next action come in one reply, where the strategy allows it: a call less, verdicts in
        words instead of probabilities, except where the run could end by them.
    picture: SHA-256 of the pixels of the picture that the run begins from, which has the brief's width and height; ""
        for none.
    estimate: whether the estimated complexity of the goals also decides on the one-shot gate and the limit of rounds.
    guided: whether states with retry budgets (`clvr_core/policy/states.py`) guide the controller: no failed action is
        tried again in other words, stalled edits and wrong positions are drawn anew, VALIDATE looks for what the
        checklist lacks, each action brings a checklist of its own, and the director's gate reads the areas of goals.
        The command line, the nodes, `clvr serve` and the arms of probe and eval set it unless told otherwise; False is
        what a record means that leaves it out.
    rollback: whether a canvas that is no better is rolled back; if not, each canvas replaces the one before.
    references: pictures of which something is kept, at most MAX_REFERENCES, in the order in which every model sees them.
    conversation: whether the controller is asked in one conversation that grows from step to step
        (`clvr_core/controller/conversation.py`); if not, each request tells the run anew.
    """

    prompt: str
    strategy: Strategy = "clvr"
    seed: int = 0
    width: int = field(default=SIDE, metadata={ABSENT: 96})
    height: int = field(default=SIDE, metadata={ABSENT: 96})
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
    guided: bool = False
    rollback: bool = True
    references: tuple[Reference, ...] = ()
    conversation: bool = False

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
        if self.fused and self.conversation:
            raise BadInput(
                "fused and conversation are both on; fused asks for verdicts and action in one single prompt, so choose one"
            )
        if not 0 <= self.seed < 2**63:
            raise BadInput(f"seed is {self.seed}; it must be between 0 and 2**63 - 1")
        names = [each.name for each in self.references]
        if len(names) > MAX_REFERENCES:
            raise BadInput(f"the brief has {len(names)} references; at most {MAX_REFERENCES} are taken")
        if twice := [name for name in names if names.count(name) > 1]:
            raise BadInput(f"two references have the name {twice[0]!r}; each needs its own")
        taken: set[str] = set()
        for goal in self.goals:
            if goal.id in taken:
                raise BadInput(f"two goals have the id {goal.id!r}; each needs its own")
            taken.add(goal.id)
