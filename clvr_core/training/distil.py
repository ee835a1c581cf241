"""Distillation to few steps: the student learns to go in one step as far as its teacher, with guidance, goes in
several.

Trajectory imitation: the teacher's paths from noise to picture are drawn once and stored. At each waymark of a path,
slightly displaced, the student's velocity is regressed on the one that leads to the next waymark. There is no second
network and no adversary, and the same files are used each time. DMD2 (arXiv 2405.14867) matches distributions instead
and may surpass its teacher, at five times the transformer calls of a step and with a second network to balance: too
much for a CPU.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import BadInput
from ..executor.klein import KleinExecutor, Sampling, SamplingRecipe
from ..records import to_json
from ..stickers.scene import Scene
from ..storage.atomic import writing
from ..weights.manifest import digests
from ..world import World, world_of
from .compile import compile_blocks
from .drawn_latents import LatentReader, bare
from .fit import Schedule, fit
from .sampler import Condition, TrainingSampler, guided, predict
from .samples import Sample, Samples, Window
from .stage import curve_of, moved, processes, save_weights, settle, stage
from .sticker_flow import DRAWN_FROM_TEXT, MAKERS

Report = Callable[[str], None]


@dataclass(frozen=True)
class DistilConfig:
    """Settings of the distillation.

    steps: of the student.
    shift: of the student's noise levels.
    generate, edit: how the teacher samples; its steps are divided among the student's.
    paths: paths of random samples of the world.
    right: leave paths of random samples out that do not end in what was asked for, as the linear layer beside the weights
        reads it from the latents; so a student can draw better than its teacher. The layer is no judge of what is measured.
    traces: further paths whose prompts and references are those of trajectories.
    window: tokens at which the prompts of `traces` are shortened; None for as many as the weights read.
    shard: paths in one file.
    share: odds of the kinds of random samples, of sticker_flow.MAKERS.
    long_text: share of the shards of text-to-image samples with longer prompts.
    displace: standard deviation of the noise added to a waymark, so that the student learns to correct its own errors.
    batch: samples of a step.
    """

    steps: int = 4
    shift: float = 3.0
    generate: Sampling = field(default_factory=lambda: Sampling(12, 2.0))
    edit: Sampling = field(default_factory=lambda: Sampling(8, 1.0))
    paths: int = 4096
    right: bool = False
    traces: int = 0
    window: int | None = 64
    shard: int = 128
    share: dict[str, float] = field(default_factory=lambda: {"t2i": 0.8, "edit": 0.16, "restore": 0.04})
    long_text: float = 0.2
    displace: float = 0.03
    batch: int = 32
    schedule: Schedule = field(
        default_factory=lambda: Schedule(steps=1600, lr=4e-4, warmup=50, ema=0.995, save_every=100)
    )


@dataclass(frozen=True)
class Paths:
    """The teacher's paths for one kind of sample.

    waymarks: N x (steps + 1) x tokens x C, from the noise to the clean tokens.
    """

    prompts: tuple[str, ...]
    references: tuple[torch.Tensor, ...]
    waymarks: torch.Tensor


def subdivide(sigmas: torch.Tensor, steps: int) -> torch.Tensor:
    """Return the student's noise levels with the teacher's between each two of them, as many as the teacher's steps
    allow."""
    each = max(1, steps // (len(sigmas) - 1))
    parts = [torch.linspace(high, low, each + 1)[:-1] for high, low in zip(sigmas[:-1].tolist(), sigmas[1:].tolist())]
    return torch.cat([*parts, sigmas[-1:].cpu()])


@torch.no_grad()
def walk(
    sampler: TrainingSampler, condition: Condition, noise: torch.Tensor, sampling: Sampling, sigmas: torch.Tensor
) -> torch.Tensor:
    """Return the teacher's path, N x len(sigmas) x tokens x C."""
    fine, blank = subdivide(sigmas, sampling.steps).to(noise.device), sampler.blank(condition.text.shape[1])
    each, mixed, marks = (len(fine) - 1) // (len(sigmas) - 1), noise, [noise]
    for index, (high, low) in enumerate(pairwise(fine), 1):
        mixed = mixed + (low - high) * guided(
            sampler.pipe.transformer, mixed, high.expand(len(mixed)), condition, blank, sampling.guidance
        )
        if index % each == 0:
            marks.append(mixed)
    return torch.stack(marks, 1)


def draw_paths(
    sampler: TrainingSampler,
    folder: Path,
    config: DistilConfig,
    sigmas: torch.Tensor,
    *,
    world: World,
    seed: int,
    ranks: tuple[int, int],
    report: Report,
    steps: Sequence[Sample] = (),
    read: LatentReader | None = None,
) -> None:
    """Write the shards that are missing and that belong to this process.

    ranks: number of this process, and of all processes.
    steps: steps of trajectories for the last `config.traces` paths.
    read: by which paths of random samples are checked; None to keep all.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    plain = -(-config.paths // config.shard)
    shards = plain + -(-config.traces // config.shard)
    traces: list[Traces] = []
    for index in range(ranks[0], shards, ranks[1]):
        path = folder / f"{index:05d}.safetensors"
        if _whole(path):
            continue
        rng = random.Random(f"{seed}/paths/{index}")
        met: list[Met] = []
        if index < plain:
            prompts, references, met = _cases(sampler, world, config, rng)
        else:
            traces = traces or _traces(sampler, config, steps)
            prompts, references = _traced(sampler, config, traces, rng)
        condition, sampling = (
            Condition(sampler.text(prompts), references),
            config.edit if references else config.generate,
        )
        noise = sampler.noise(condition, torch.Generator().manual_seed(seed * 1_000_003 + index))
        marks = walk(sampler, condition, noise, sampling, sigmas)
        if read and met:
            rows = [row for row, (holds, scene) in enumerate(zip(met, read(marks[:, -1]))) if holds(scene)]
            prompts, marks = [prompts[row] for row in rows], marks[rows]
            references = tuple(tokens[rows] for tokens in references)
        tensors = {"waymarks": marks} | {f"reference.{place}": tokens for place, tokens in enumerate(references)}
        fresh = path.with_suffix(".part")
        with writing(folder):
            save_file(
                {name: value.float().cpu().contiguous() for name, value in tensors.items()},
                fresh,
                {"prompts": json.dumps(prompts)},
            )
            fresh.rename(path)
        report(
            f"paths {(index + 1) * config.shard}/{shards * config.shard}, {len(prompts)} of {len(condition.text)} kept"
        )


def _whole(path: Path) -> bool:
    """Say whether the shard is complete. A damaged one is drawn again and gets the same content."""
    try:
        with safe_open(path, "pt") as file:
            return "waymarks" in file.keys()  # noqa: SIM118
    except (OSError, SafetensorError):
        return False


Met = Callable[[Scene], bool]
"""Whether a scene is what a sample asks for."""
Cases = tuple[list[str], tuple[torch.Tensor, ...]]
Traces = list[tuple[Sample, str]]


def _cases(
    sampler: TrainingSampler, world: World, config: DistilConfig, rng: random.Random
) -> tuple[list[str], tuple[torch.Tensor, ...], list[Met]]:
    """Return random prompts of one kind and one padded length, their references, and what meets them."""
    kind = rng.choices(list(config.share), list(config.share.values()))[0]
    lengths = list(sampler.recipe.text_lengths)
    length = (
        lengths[1] if kind in DRAWN_FROM_TEXT and len(lengths) > 1 and rng.random() < config.long_text else lengths[0]
    )
    sampling = world.sampling
    samples, prompts, met = [], [], []
    while len(samples) < config.shard:
        sample = MAKERS[kind](rng)
        prompt, holds = sample.prompt, bare(sample.target).__eq__
        if kind in DRAWN_FROM_TEXT:
            spec, prompt = sampling.brief_of(sample.target, rng, sampling.TAUGHT)
            holds = spec.holds
        if sampler.executor.tokens(prompt) <= lengths[-1] and sampler.executor.text_length(prompt) == length:
            samples.append(sample)
            prompts.append(prompt)
            met.append(holds)
    return prompts, sampler.references([tuple(map(world.render, sample.references)) for sample in samples]), met


def _traces(sampler: TrainingSampler, config: DistilConfig, steps: Sequence[Sample]) -> list[Traces]:
    """Return the steps of trajectories with their prompts, grouped by number of references and padded length."""
    executor, window = sampler.executor, Window(sampler.executor, config.window)
    found: dict[tuple[int, int], Traces] = {}
    for step in steps:
        text = step.text("trace", window)
        found.setdefault((len(step.references), executor.text_length(text)), []).append((step, text))
    return [found[key] for key in sorted(found)]


def _traced(sampler: TrainingSampler, config: DistilConfig, traces: Sequence[Traces], rng: random.Random) -> Cases:
    """Return prompts and references as `_cases` does, for steps of trajectories. A step may come several times, each
    with its own noise."""
    like = rng.choices(traces, list(map(len, traces)))[0]
    chosen = rng.choices(like, k=config.shard)
    return [text for _, text in chosen], sampler.references([step.pictures for step, _ in chosen])


def load_paths(folder: Path) -> list[Paths]:
    found = []
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            names = sorted(name for name in file.keys() if name.startswith("reference."))  # noqa: SIM118
            found.append(
                Paths(
                    tuple(json.loads(file.metadata()["prompts"])),
                    tuple(map(file.get_tensor, names)),
                    file.get_tensor("waymarks"),
                )
            )
    return found


class Imitation(torch.nn.Module):
    """The loss of imitation: from waymark i the student's velocity must lead to waymark i + 1 in one step."""

    def __init__(self, transformer: torch.nn.Module, sigmas: torch.Tensor, displace: float) -> None:
        super().__init__()
        self.transformer, self.sigmas, self.displace = transformer, sigmas, displace

    def forward(self, waymarks: torch.Tensor, index: torch.Tensor, condition: Condition) -> torch.Tensor:
        """waymarks: N x (steps + 1) x tokens x C. index: N, which of the steps."""
        each = torch.arange(len(index), device=index.device)
        here, there = waymarks[each, index], waymarks[each, index + 1]
        high, low = self.sigmas[index], self.sigmas[index + 1]
        here = here + self.displace * high.view(-1, 1, 1) * torch.randn_like(here)
        wanted = (here - there) / (high - low).view(-1, 1, 1)
        return (predict(self.transformer, here, high, condition) - wanted).square().mean()


@stage
def distil(
    out: Path,
    start: Path,
    config: Path | None = None,
    *,
    data: Path | None = None,
    student: Path | None = None,
    seed: int = 0,
    quick: bool = False,
) -> Path:
    """Distil weights to few steps without guidance, or continue a run that was stopped in `out`. Runs under `torchrun`
    too.

    start: folder of the weights, whose world's samples are drawn.
    config: JSON of what differs from DistilConfig's defaults.
    data: the data set of trajectories for `traces`.
    student: folder of weights with a student of the same base, which is trained on; None to begin with the base.
    quick: compile the blocks, see `compile_blocks`.

    Returns the folder of the student's weights. Raises BadInput as `settle`, `KleinExecutor.load` and `Samples.read`
    do, and for `traces` without `data`.
    """
    accelerator = processes()
    executor = KleinExecutor.load(start)
    run: dict[str, Any] = {"seed": seed, "start": digests(start)} | ({"student": digests(student)} if student else {})
    settings = settle(out, DistilConfig, config, run)
    if not settings.traces:
        data = None
    elif data is None:
        raise BadInput(
            f"traces is {settings.traces}, and there are no trajectories to tell them by; name a data set with --data"
        )
    sampler = TrainingSampler(executor, accelerator.device)
    pipe = sampler.pipe
    pipe.transformer.to(accelerator.device).requires_grad_(False)
    pipe.register_modules(scheduler=_scheduler(pipe.scheduler, settings.shift))
    tokens = 9
    sigmas = sampler.sigmas(settings.steps, tokens)
    report = accelerator.print
    ranks = accelerator.process_index, accelerator.num_processes
    steps = Samples.read(data, report).train if data else ()
    if quick:
        compile_blocks(pipe.transformer, accelerator.device)
    with accelerator.autocast():
        draw_paths(
            sampler,
            out / "paths",
            settings,
            sigmas,
            world=world_of(start),
            seed=seed,
            ranks=ranks,
            report=report,
            steps=steps,
            read=LatentReader(sampler, start) if settings.right else None,
        )
    accelerator.wait_for_everyone()
    shards = [shard for shard in load_paths(out / "paths") if shard.prompts]
    if not shards:
        raise BadInput(f"no path of {start} ends in what was asked for; leave `right` out of the config")
    base = {name: value.detach().cpu().clone() for name, value in pipe.transformer.state_dict().items()}
    if student:
        _begin_with(pipe.transformer, student)
    pipe.transformer.requires_grad_(True)
    objective = Imitation(pipe.transformer, sigmas, settings.displace)

    def loss_of(wrapped: torch.nn.Module, step: int) -> torch.Tensor:
        shared, mine = random.Random(f"{seed}/step/{step}"), random.Random(f"{seed}/step/{step}/{ranks[0]}")
        shard = shared.choice(shards)
        rows = mine.sample(range(len(shard.prompts)), min(settings.batch, len(shard.prompts)))
        condition = Condition(
            sampler.text([shard.prompts[row] for row in rows]),
            tuple(tokens[rows].to(accelerator.device) for tokens in shard.references),
        )
        index = torch.tensor([mine.randrange(settings.steps) for _ in rows], device=accelerator.device)
        return wrapped(shard.waymarks[rows].to(accelerator.device), index, condition)

    fit(objective, loss_of, settings.schedule, out / "student", seed=seed, accelerator=accelerator, report=report)
    weights = out / "weights"
    if accelerator.is_main_process:
        distance = moved(base, pipe.transformer.cpu().state_dict())
        report(f"the delta is {distance:.2%} of the base in norm")
        pipe.register_to_config(is_distilled=True)
        few = Sampling(settings.steps)
        record = {
            "stage": "distil",
            "seed": seed,
            "processes": accelerator.num_processes,
            "quick": quick,
            "config": to_json(settings),
            "curves": {"student": curve_of(out / "student")},
            "delta": distance,
            **{part: {"files": run[part]} for part in ("start", "student") if part in run},
        }
        save_weights(pipe.to("cpu"), weights, _few(executor.recipe, few), record)
    accelerator.wait_for_everyone()
    return weights


def _begin_with(transformer: torch.nn.Module, student: Path) -> None:
    """Give the transformer a student's weights. Raises BadInput for those of another architecture."""
    weights = KleinExecutor.load(student).pipe.transformer.state_dict()
    try:
        transformer.load_state_dict(weights)
    except RuntimeError as error:
        raise BadInput(
            f"the student in {student} has another transformer than the base: {str(error).splitlines()[1].strip()}"
        ) from error


def _few(recipe: SamplingRecipe, sampling: Sampling) -> SamplingRecipe:
    return replace(recipe, generate=sampling, edit=sampling)


def _scheduler(scheduler, shift: float):
    return FlowMatchEulerDiscreteScheduler.from_config(scheduler.config, shift=shift, use_dynamic_shifting=False)
