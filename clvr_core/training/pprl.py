"""Proxy-prompt RL (arXiv 2605.14876): the executor learns by DiffusionNFT from rewards on the pictures that it drew for
a trace.

The prompt to draw is the long history; the reward judges by the short proxy prompts distilled from it. Two other arms,
for comparison, judge by the last text alone and by the whole request.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from ..brief import Conditioning
from ..errors import BadInput
from ..executor.klein import KleinExecutor, Sampling
from ..fleet.crew import Engine
from ..fleet.engine import threads_for
from ..protocols import Picture
from ..records import to_json
from ..weights.manifest import digests
from ..world import World
from .adapter import FrozenCopy, Lora, attach
from .compile import compile_blocks
from .drawing_crew import Draw, GroupDrawing, drawing
from .fit import Schedule, fit
from .measures import MEASURES, Measures
from .nft import advantages, nft_loss, optimality
from .rewards import ARMS, ExactReward, Reward
from .sampler import Condition, TrainingSampler, guided
from .samples import Sample, Samples, Window, alike, one_shot, read_picture
from .sft import finish
from .stage import curve_of, processes, settle, stage


@dataclass(frozen=True)
class PprlConfig:
    """Settings of the training.

    groups: of one step and process.
    size: pictures of a group, all of one sample.
    reuse: steps of the optimiser for each drawing.
    generate: share of the steps that draw without references; the others edit, with the step numbers of the
        trajectories in equal shares.
    briefs: share of the former that draw a random brief of the embedded world in one shot.
    sampling: of the drawing; with guidance above 1 the guided velocity is trained.
    ramp, most: the decay of the old policy grows by `ramp` a step, up to `most`.
    low, high: range of the noise levels that are trained.
    """

    arm: str = "proxy"
    groups: int = 6
    size: int = 16
    reuse: int = 2
    generate: float = 0.5
    briefs: float = 0.75
    mode: Conditioning = "trace"
    trace: float = 0.7
    window: int | None = 64
    sampling: Sampling = field(default_factory=lambda: Sampling(8, 1.0))
    beta: float = 1.0
    clip: float = 5.0
    kl: float = 1e-5
    ramp: float = 0.01
    most: float = 0.5
    low: float = 0.3
    high: float = 1.0
    lora: Lora = field(default_factory=Lora)
    measure_every: int = 20
    measured: int = 48
    schedule: Schedule = field(
        default_factory=lambda: Schedule(
            steps=160, lr=5e-4, warmup=5, floor=0.2, weight_decay=0.0, ema=0.9, log_every=10, save_every=20
        )
    )

    def __post_init__(self) -> None:
        if self.arm not in ARMS:
            raise BadInput(f"arm is {self.arm!r}; choose one of {', '.join(ARMS)}")
        if self.size < 2:
            raise BadInput(f"size is {self.size}; a group needs at least 2 pictures to compare")
        if self.schedule.save_every % self.reuse or self.schedule.steps % self.reuse:
            raise BadInput(
                f"steps and save_every must be multiples of reuse ({self.reuse}), since a run goes on where pictures are drawn"
            )


@dataclass(frozen=True)
class Drawn:
    """The drawings that a step learns from, without groups of zero variance.

    good: N, `optimality`.
    weight: 0 where nothing can be learnt. The loss is computed all the same, since other processes may wait for this
        one's gradients.
    """

    condition: Condition
    clean: torch.Tensor
    good: torch.Tensor
    weight: float = 1.0


class Learning(torch.nn.Module):
    """The loss of a batch that the old policy drew."""

    def __init__(self, transformer: torch.nn.Module, old: FrozenCopy, first: FrozenCopy, config: PprlConfig) -> None:
        super().__init__()
        self.transformer, self.config = transformer, config
        self.others = old, first

    def forward(self, drawn: Drawn, blank: torch.Tensor) -> torch.Tensor:
        config, clean = self.config, drawn.clean
        sigma = config.low + (config.high - config.low) * torch.rand(len(clean), device=clean.device)
        sigma = sigma.clamp(1e-3, 1).to(clean.dtype)
        mixed = torch.lerp(clean, torch.randn_like(clean), sigma.view(-1, 1, 1))

        def velocity() -> torch.Tensor:
            return guided(self.transformer, mixed, sigma, drawn.condition, blank, config.sampling.guidance).float()

        old, first = self.others
        with old.standing_in(self.transformer):
            before = velocity()
        reference = None
        if config.kl:
            with first.standing_in(self.transformer):
                reference = velocity()
        return nft_loss(
            velocity(),
            before,
            mixed.float(),
            clean.float(),
            sigma.float(),
            drawn.good,
            beta=config.beta,
            clip=config.clip,
            reference=reference,
            kl=config.kl,
        )


def diversity(pictures: Sequence[Picture]) -> float:
    """Return the mean absolute difference between the pictures of one group, over all pairs, 0 to 1."""
    stack = np.stack(pictures).astype(np.float32) / 255
    count = len(stack)
    pairs = [np.abs(stack[a] - stack[b]).mean() for a in range(count) for b in range(a)]
    return float(np.mean(pairs)) if pairs else 0.0


def by_step(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Group the samples that edit by the edits up to theirs: one, two, three, and four or more, which CLVR draws 1:1:1:1.

    The first step of a trajectory generates, so its second is the first edit.
    """
    found: dict[int, list[Sample]] = {}
    for sample in samples:
        if sample.references:
            found.setdefault(min(sample.number, 5), []).append(sample)
    return list(found.values())


class Rollouts:
    """Draws groups with the old policy, judges them, and measures them.

    drawn: how others draw groups, with the old policy; None draws them here.
    """

    drawn: Draw | None = None

    def __init__(
        self, sampler: TrainingSampler, samples: Samples, reward: Reward, world: World | None, config: PprlConfig
    ) -> None:
        self.sampler, self.reward, self.world, self.config = sampler, reward, world, config
        self.exact = ExactReward(world) if world else None
        self.samples, self.steps = samples, by_step(samples.train)
        self.firsts = [sample for sample in samples.train if not sample.references]
        self.window = Window(sampler.executor, config.window)

    def pick(self, shared: random.Random, mine: random.Random) -> list[Sample]:
        """Return one sample for each group, all with the same number of references."""
        config, generate = self.config, shared.random() < self.config.generate
        if generate or not self.steps:
            if self.world and (shared.random() < config.briefs or not self.firsts):
                return [self._brief(self.world, mine) for _ in range(config.groups)]
            return [mine.choice(self.firsts) for _ in range(config.groups)]
        step = shared.choice(self.steps)
        like = shared.choice(step)
        return alike([sample for sample in step if len(sample.references) == len(like.references)], mine, config.groups)

    def _brief(self, world: World, rng: random.Random) -> Sample:
        sampling = world.sampling
        while True:
            scene = sampling.grouped_scene(rng, rng.choices(range(2, 9), (1, 2, 3, 3, 3, 2, 2))[0])
            prompt = sampling.brief_of(scene, rng, sampling.TAUGHT)[1]
            if self.window.fits(prompt):
                return one_shot(prompt)

    def condition(self, samples: Sequence[Sample], each: int, rng: random.Random) -> Condition:
        config = self.config
        texts = [
            sample.text(config.mode if rng.random() < config.trace else "proxy", self.window) for sample in samples
        ]
        references = self.sampler.references([sample.pictures for sample in samples])
        grid = self.sampler.grid(samples[0].pictures[0]) if references else self._grid(samples[0])
        text = self.sampler.text(texts).repeat_interleave(each, 0)
        return Condition(text, tuple(tokens.repeat_interleave(each, 0) for tokens in references), grid)

    def _grid(self, sample: Sample) -> tuple[int, int]:
        return (3, 3) if sample.target is None else self.sampler.grid(read_picture(sample.target))

    def draw(self, transformer: torch.nn.Module, shared: random.Random, mine: random.Random) -> tuple[Drawn, dict]:
        """Return the drawings to learn from, and measures of them."""
        config, samples = self.config, self.pick(shared, mine)
        condition = self.condition(samples, config.size, mine)
        noise = self.sampler.noise(condition, torch.Generator().manual_seed(mine.randrange(2**62)))
        draw = self.drawn or partial(self.sampler.sample, transformer, sampling=config.sampling)
        clean = draw(condition, noise)
        pictures = self.sampler.pictures(clean, condition.grid)
        groups = [pictures[start : start + config.size] for start in range(0, len(pictures), config.size)]
        rewards, missing = self.judge(samples, groups)
        advantage = advantages(rewards, config.clip)
        flat = (rewards.std(1, unbiased=False) <= 1e-6).repeat_interleave(config.size)
        seen = {
            "reward": float(rewards.mean()),
            "zero_variance": float(flat.float().mean()),
            "diversity": float(np.mean([diversity(group) for group in groups])),
            "unanswered": missing,
            "edits": int(bool(samples[0].references)),
        }
        if bool(flat.all()):
            return Drawn(condition[:1], clean[:1], torch.full((1,), 0.5, device=clean.device), weight=0.0), seen
        kept = (~flat).nonzero().flatten().to(clean.device)
        good = optimality(advantage, config.clip).flatten().to(clean.device)
        return Drawn(condition[kept], clean[kept], good[kept]), seen

    def judge(self, samples: Sequence[Sample], groups: Sequence[Sequence[Picture]]) -> tuple[torch.Tensor, int]:
        """Return the rewards, groups x size, and how many are missing. A missing one gets the mean of its group, which
        teaches nothing."""
        score, missing, rows = ARMS[self.config.arm], 0, []
        pairs = [(sample, picture) for sample, group in zip(samples, groups) for picture in group]
        # A judge behind a server is asked about many pictures at the same time.
        scored = threads_for(self.reward).each(lambda pair: score(self.reward, *pair), pairs)
        for group in groups:
            values = [next(scored) for _ in group]
            known = [value for value in values if value is not None]
            missing += len(values) - len(known)
            mean = sum(known) / len(known) if known else 0.0
            rows.append([mean if value is None else value for value in values])
        return torch.tensor(rows, dtype=torch.float32), missing

    def held_out(self, count: int, seed: int) -> dict[str, list[Sample]]:
        """Return samples that are not trained on, the same ones each time, at most `count` of a kind: scenes at once, of
        an embedded world random briefs, and edits of one reference."""
        rng = random.Random(f"held/{seed}")
        scenes = [self._brief(self.world, rng) for _ in range(count)] if self.world else []
        edits = [sample for sample in self.samples.held if len(sample.references) == 1]
        return {"held_scenes": (scenes or self.firsts_held)[:count], "held_edits": edits[:count]}

    @property
    def firsts_held(self) -> list[Sample]:
        """The first canvases of the trajectories that are not trained on."""
        return [sample for sample in self.samples.held if not sample.references]

    def scores(self, transformer: torch.nn.Module, samples: Sequence[Sample], seed: int) -> list[float | None]:
        """Draw one picture for each sample, all with the same number of references, and return how well it shows what
        its proxy prompts say: in an embedded world exactly, else by the reward; None without an answer."""
        condition = self.condition(samples, 1, random.Random(0))
        noise = self.sampler.noise(condition, torch.Generator().manual_seed(seed))
        clean = self.sampler.sample(transformer, condition, noise, self.config.sampling)
        pictures = self.sampler.pictures(clean, condition.grid)
        judge = self.exact or self.reward
        return [ARMS["proxy"](judge, sample, picture) for sample, picture in zip(samples, pictures)]

    def measure(self, transformer: torch.nn.Module, seed: int) -> dict[str, float]:
        """Measure the share of held-out samples, the same ones each time, that one picture each gets exactly right."""
        result = {}
        for name, found in self.held_out(self.config.measured, seed).items():
            if not found:
                continue
            known = [value for value in self.scores(transformer, found, seed) if value is not None]
            result[name] = (
                sum(value == 1 for value in known) / len(known) if self.exact else sum(known) / max(1, len(known))
            )
        return result


@stage
def pprl(
    out: Path,
    start: Path,
    data: Path,
    reward: Reward,
    config: Path | None = None,
    *,
    seed: int = 0,
    lora: Path | None = None,
    world: World | None = None,
    quick: bool = False,
    executor: KleinExecutor | None = None,
    accelerator: Accelerator | None = None,
    engine: Engine | None = None,
    weights: Callable[[], KleinExecutor] | None = None,
) -> Path:
    """Train on drawings for the traces of the data set, or continue a run that was stopped in `out`.

    start: folder of the weights.
    lora: LoRA to start from, if given.
    world: that of the weights if it is an embedded one, which has random briefs and an exact measure that is not
        optimised. Elsewhere the reward itself scores held-out samples.
    quick: compile the blocks, see `compile_blocks`.
    engine: its workers draw the pictures to learn from, each a group at a time; None draws them here.
    weights: how a worker loads the executor, on the CPU (default: `KleinExecutor.load(start)`). It can be pickled.

    Returns the folder of the LoRA. Raises BadInput as `sft` does.
    """
    accelerator = accelerator or processes()
    executor = executor or KleinExecutor.load(start)
    run = {"stage": "pprl", "seed": seed, "start": digests(start), "data": str(data.name)} | (
        {"lora": digests(lora)} if lora else {}
    )
    settings = settle(out, PprlConfig, config, run)
    report, rank = accelerator.print, accelerator.process_index
    samples = Samples.read(data, report)
    sampler = TrainingSampler(executor, accelerator.device)
    transformer = sampler.pipe.transformer.to(accelerator.device)
    torch.manual_seed(seed)
    attach(transformer, settings.lora, lora)
    if quick:
        compile_blocks(transformer, accelerator.device)
    old, first = FrozenCopy(transformer), FrozenCopy(transformer)
    rollouts = Rollouts(sampler, samples, reward, world, settings)
    log = Measures(out, accelerator)
    kept: dict[str, Drawn] = {}

    def loss_of(wrapped: torch.nn.Module, step: int) -> torch.Tensor:
        if step % settings.reuse == 0:
            if step:
                old.follow(transformer, min(settings.ramp * step, settings.most))
            shared, mine = random.Random(f"{seed}/step/{step}"), random.Random(f"{seed}/step/{step}/{rank}")
            with old.standing_in(transformer):
                if step % settings.measure_every == 0:
                    log.add(step, rollouts.measure(transformer, seed))
                kept["drawn"], seen = rollouts.draw(transformer, shared, mine)
            log.add(step, seen)
        drawn = kept["drawn"]
        return wrapped(drawn, sampler.blank(drawn.condition.text.shape[1])) * drawn.weight

    def resumed(step: int) -> None:
        log.resume(step)

    objective = Learning(transformer, old, first, settings)
    load = weights or partial(KleinExecutor.load, start)
    task = GroupDrawing(load, accelerator.device.type, settings.lora, settings.sampling)
    with drawing(engine, task, old.tensors, settings.size) as rollouts.drawn:
        fit(
            objective,
            loss_of,
            settings.schedule,
            out / "pprl",
            seed=seed,
            accelerator=accelerator,
            report=report,
            resumed=resumed,
            beside=old.tensors,
        )
    log.add(settings.schedule.steps, rollouts.measure(transformer, seed))
    record = {
        "stage": "pprl",
        "seed": seed,
        "processes": accelerator.num_processes,
        "quick": quick,
        "config": to_json(settings),
        "samples": len(samples.train),
        "skipped": samples.skipped,
        "curves": {"pprl": curve_of(out / "pprl")},
        "measures": curve_of(out, MEASURES),
        "start": {"files": digests(start)},
    }
    if accelerator.is_main_process:
        from ..evaluation.plot import plot_training

        plot_training(record["measures"], out / "pprl.png", settings.arm)
    return finish(out, sampler, settings.lora, record, accelerator)
