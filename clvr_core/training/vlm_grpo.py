"""GRPO of the controller through the real loop, as VisionDirector (arXiv 2512.19243) trains its planner.

Of each brief several rollouts are run side by side, with the drawing of a round in one batch. Controller's tokens are sampled;
the reward is how far a judge finds the best canvas to meet the brief, less a cost for each edit. What the controller chose
is pushed by its advantage within the group, what the loop wrote between (requests, verdicts, pictures) is masked out.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor

from ..brief import Brief, Budget, Goal, Strategy
from ..controller import draft_goals
from ..errors import BadInput
from ..fleet.rounds import drive_all
from ..records import to_json
from ..run.session import RunModels, Session
from ..trajectory import Trajectory
from ..vlm.local import Local
from ..weights.manifest import digests
from .adapter import FrozenCopy, Lora
from .fit import Schedule, fit
from .grpo import advantages, grpo_loss, rewards
from .measures import MEASURES, Measures
from .stage import curve_of, processes, settle, stage
from .vlm_rollouts import Meeting, RolloutVlm, Row, SamplingVlm, Take, log_probabilities_of, rows_of
from .vlm_setup import RolloutSetup
from .vlm_tuning import load_trainable, save_tuned


@dataclass(frozen=True)
class GrpoConfig:
    """Settings of the training.

    arm: `masked` learns from what the controller chose; `unmasked`, for comparison, from every token of the conversation.
    strategy: whose loop the rollouts run. VisionDirector's own leaves less to the controller: its gate and its batches
        decide what an action serves.
    groups: briefs of a drawing. size: rollouts of each. batch: rollouts of a step of the optimiser. reuse: how often a
        rollout is learnt from.
    conversation: whether a rollout's requests are one growing conversation, and so mostly one row; if not, each request
        tells the run anew and is a row of its own.
    own_goals: whether the controller also takes the brief apart, and learns that; if not, the judge's goals are given.
    candidates: pictures of a round. rounds, patience: budget of a rollout.
    most, cost: the reward is most x (share of the brief that is met) - cost x edits.
    temperature: at which tokens are sampled.
    clip, kl: of `grpo_loss`; the reference is the model that training began with.
    together: replies that are written in one batch, of rollouts that run side by side; 1 writes one after the other.
    measured: held-out briefs, which are run with the likeliest tokens at every `measure_every`-th drawing.
    lora: rank 0 trains all weights.
    dtype, image_side, max_tokens: of the model, as in `Local`.
    """

    arm: Literal["masked", "unmasked"] = "masked"
    strategy: Strategy = "clvr"
    groups: int = 4
    size: int = 8
    batch: int = 16
    reuse: int = 1
    conversation: bool = True
    own_goals: bool = False
    candidates: int = 1
    rounds: int = 6
    patience: int = 3
    most: float = 5.0
    cost: float = 0.1
    temperature: float = 1.0
    clip: float = 0.2
    kl: float = 0.01
    together: int = 8
    measured: int = 32
    measure_every: int = 10
    lora: Lora = field(default_factory=lambda: Lora(0, 0))
    dtype: Literal["bfloat16", "float16", "float32"] = "float32"
    image_side: int = 1024
    max_tokens: int = 768
    schedule: Schedule = field(
        default_factory=lambda: Schedule(
            steps=200, lr=2e-5, warmup=5, floor=0.2, weight_decay=0.0, ema=0.0, log_every=2, save_every=20
        )
    )

    def __post_init__(self) -> None:
        if self.size < 2:
            raise BadInput(f"size is {self.size}; a group needs at least 2 rollouts to compare")
        if self.batch < 1 or self.groups * self.size % self.batch:
            raise BadInput(
                f"batch is {self.batch}; it must divide the {self.groups * self.size} rollouts of a drawing (groups x size)"
            )
        if self.together < 1:
            raise BadInput(f"together is {self.together}; it must be at least 1")
        if not self.temperature > 0:
            raise BadInput(f"temperature is {self.temperature}; it must be above 0, or all rollouts are alike")
        if self.schedule.save_every % self.steps or self.schedule.steps % self.steps:
            raise BadInput(
                f"steps and save_every must be multiples of {self.steps}, the steps of a drawing (groups x size x reuse / batch), "
                "since a run goes on where rollouts are drawn"
            )

    @property
    def steps(self) -> int:
        """Of the optimiser, for each drawing."""
        return self.groups * self.size * self.reuse // self.batch


@dataclass
class Rollout:
    """One run of the loop, and what the controller wrote in it.

    aligned: how far the judge finds its best canvas to meet the brief, 0 to 1; None without an answer.
    edits: rounds that drew after the first canvas, kept or rolled back.
    advantage, old, reference: to learn from; the log probabilities of its rows one after another.
    """

    rows: list[Row]
    aligned: float | None
    edits: int
    rounds: int
    met: bool
    advantage: float = 0.0
    old: Tensor = field(default_factory=lambda: torch.zeros(0))
    reference: Tensor = field(default_factory=lambda: torch.zeros(0))


class Learning(torch.nn.Module):
    """The loss of a batch of rollouts."""

    def __init__(self, model: torch.nn.Module, config: GrpoConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(self, batch: Sequence[Rollout]) -> Tensor:
        """Return the scalar loss; 0, which no gradient comes from, where no controller wrote anything."""
        told = [each for each in batch if each.rows]
        if not told:
            return torch.zeros((), device=next(self.model.parameters()).device, requires_grad=True)
        now = [self.log_probabilities(each) for each in told]
        padded = torch.nn.utils.rnn.pad_sequence
        lengths = torch.tensor([len(each) for each in now], device=now[0].device)
        table = padded(now, batch_first=True)
        mask = torch.arange(table.shape[1], device=table.device) < lengths[:, None]
        loss = grpo_loss(
            table,
            padded([each.old.to(table.device) for each in told], batch_first=True),
            mask,
            torch.tensor([each.advantage for each in told], device=table.device),
            clip=self.config.clip,
            reference=padded([each.reference.to(table.device) for each in told], batch_first=True),
            kl=self.config.kl,
        )
        return loss * len(told) / len(batch)

    def log_probabilities(self, rollout: Rollout) -> Tensor:
        """Return those of the tokens that are learnt from, of one row after another."""
        everything = self.config.arm == "unmasked"
        told = [log_probabilities_of(self.model, row, self.config.temperature, everything) for row in rollout.rows]
        return torch.cat(told)


class Rollouts:
    """Runs groups of rollouts, judges them, and measures them."""

    def __init__(
        self, vlm: SamplingVlm, where: RolloutSetup, learning: Learning, reference: FrozenCopy, seed: int
    ) -> None:
        self.vlm, self.where, self.learning, self.reference = vlm, where, learning, reference
        self.config, self.seed = learning.config, seed
        self._goals: dict[str, tuple[Goal, ...]] = {}

    def draw(self, drawing: int) -> tuple[list[Rollout], dict[str, float]]:
        """Return the rollouts to learn from, of one group after the other, and measures of them."""
        config, chance = self.config, random.Random(f"{self.seed}/rollouts/{drawing}")
        briefs, takes = [], []
        for _ in range(config.groups):
            # Rollouts of a group differ by what the controller writes and by nothing else.
            brief = self._brief(chance)
            for _ in range(config.size):
                briefs.append(brief)
                takes.append(Take(torch.Generator().manual_seed(chance.randrange(2**62)), config.temperature))
        found = self.run(briefs, takes)
        flat = self._advise(found)
        with torch.no_grad():
            for rollout in (each for each in found if each.rows):
                rollout.old = self.learning.log_probabilities(rollout)
            with self.reference.standing_in(self.learning.model):
                for rollout in (each for each in found if each.rows):
                    rollout.reference = self.learning.log_probabilities(rollout)
        return found, _summary(found) | {"zero_variance": flat, "kl": _kl(found)}

    def _advise(self, found: Sequence[Rollout]) -> float:
        """Give each rollout its reward's advantage; one without a reward gets the mean of its group, which teaches
        nothing. Returns the share of groups whose rewards are all the same."""
        config = self.config
        known = [each.aligned if each.aligned is not None else float("nan") for each in found]
        table = rewards(known, [each.edits for each in found], most=config.most, cost=config.cost)
        table = table.view(config.groups, config.size)
        table = torch.where(table.isnan(), table.nanmean(1, keepdim=True).nan_to_num(0.0), table)
        for rollout, value in zip(found, advantages(table).flatten().tolist()):
            rollout.advantage = value
        return float((table.std(1) == 0).float().mean())

    def measure(self) -> dict[str, float]:
        """Run the held-out briefs, the same ones each time, with the likeliest tokens."""
        chance = random.Random(f"{self.seed}/held out")
        briefs = [self._brief(chance) for _ in range(self.config.measured)]
        found = self.run(briefs, [Take(None) for _ in briefs])
        return {f"held_{name}": value for name, value in _summary(found).items()}

    def run(self, briefs: Sequence[Brief], takes: Sequence[Take]) -> list[Rollout]:
        """Run the loop once for each brief."""
        self.vlm.forget()  # it has other weights than the last time
        where, config = self.where, self.config
        meeting = Meeting(self.vlm, config.together) if config.together > 1 and self.vlm.croppable else None
        sessions = [
            Session(brief, RunModels(RolloutVlm(self.vlm, take, meeting), where.executor, judge=where.verifier))
            for brief, take in zip(briefs, takes)
        ]
        ends = drive_all(sessions, where.executor, engine=meeting)
        return [self._rollout(session, end, take) for session, end, take in zip(sessions, ends, takes)]

    def _rollout(self, session: Session, end: Trajectory, take: Take) -> Rollout:
        drawn = sum(step.action.draws for step in end.steps)
        best, outcome = end.best, end.outcome
        aligned = 0.0 if best is None else self.where.reward.scene(session.picture(best), end.brief.prompt)
        return Rollout(rows_of(take.said), aligned, max(0, drawn - 1), drawn, bool(outcome and outcome.met))

    def _brief(self, chance: random.Random) -> Brief:
        config, where = self.config, self.where
        brief = Brief(
            where.brief(chance),
            config.strategy,
            chance.randrange(2**31),
            where.width,
            where.height,
            Budget(config.rounds, patience=config.patience),
            candidates=config.candidates,
            final_ab=False,
            conversation=config.conversation,
        )
        if config.own_goals:
            return brief
        if brief.prompt not in self._goals:
            self._goals[brief.prompt] = draft_goals(where.verifier, brief).value or ()
        return replace(brief, goals=self._goals[brief.prompt])


def _summary(found: Sequence[Rollout]) -> dict[str, float]:
    aligned = [each.aligned for each in found if each.aligned is not None]
    return {
        "aligned": sum(aligned) / max(1, len(aligned)),
        "met": sum(each.met for each in found) / len(found),
        "edits": sum(each.edits for each in found) / len(found),
        "rounds": sum(each.rounds for each in found) / len(found),
        "unanswered": float(len(found) - len(aligned)),
        "tokens": sum(len(row.chosen) for each in found for row in each.rows) / len(found),
    }


def _kl(found: Sequence[Rollout]) -> float:
    """Return the estimate of the KL to the reference, a token's mean."""
    apart = torch.cat([each.reference - each.old for each in found if each.rows] or [torch.zeros(1)])
    return float((apart.exp() - apart - 1).mean())


@stage
def grpo(
    out: Path,
    start: Path,
    where: RolloutSetup,
    config: Path | None = None,
    *,
    seed: int = 0,
    accelerator: Accelerator | None = None,
) -> Path:
    """Train the controller in the folder `start`, or continue a run that was stopped in `out`. Returns the folder of the
    weights.

    Raises BadInput for settings or weights that cannot be used, and under several processes: models too large for one
    are trained by TRL with `trl_environment.py`.
    """
    accelerator = accelerator or processes()
    if accelerator.num_processes > 1:
        raise BadInput(
            f"this stage runs in one process, and here are {accelerator.num_processes}; for several GPUs see "
            "`docs/stickers-vlm.md`, Reinforcement learning, on TRL"
        )
    run = {"stage": "vlm grpo", "seed": seed, "start": digests(start), "with": where.name}
    settings = settle(out, GrpoConfig, config, run)
    local = Local(
        str(start),
        str(accelerator.device),
        settings.dtype,
        image_side=settings.image_side,
        max_tokens=settings.max_tokens,
    )
    vlm, around = load_trainable(local, settings.lora)
    learning = Learning(vlm.model, settings)
    rollouts = Rollouts(vlm, where, learning, FrozenCopy(vlm.model), seed)
    log = Measures(out, accelerator)
    drawn: list[Rollout] = []

    def loss_of(wrapped: torch.nn.Module, step: int) -> Tensor:
        drawing, place = divmod(step, settings.steps)
        if place == 0:
            if drawing % settings.measure_every == 0 and settings.measured:
                log.add(step, rollouts.measure())
            drawn[:], seen = rollouts.draw(drawing)
            log.add(step, seen)
        order = random.Random(f"{seed}/order/{drawing}").sample(range(len(drawn)), len(drawn))
        first = place * settings.batch % len(drawn)
        return wrapped([drawn[each] for each in order[first : first + settings.batch]])

    fit(
        learning,
        loss_of,
        settings.schedule,
        out / "grpo",
        seed=seed,
        accelerator=accelerator,
        report=accelerator.print,
        resumed=log.resume,
    )
    if settings.measured:
        log.add(settings.schedule.steps, rollouts.measure())
    record: Mapping[str, Any] = {
        "stage": "vlm grpo",
        "seed": seed,
        "config": to_json(settings),
        "with": where.name,
        "curves": {"grpo": curve_of(out / "grpo")},
        "measures": curve_of(out, MEASURES),
        "start": {"files": digests(start)},
    }
    return save_tuned(out, start, vlm.model, around, record)
