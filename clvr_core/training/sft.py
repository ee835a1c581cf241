"""Diffusion SFT: each step of a trajectory is learnt from the accumulated trace and the earlier canvases, by flow
matching."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator

from ..brief import Conditioning
from ..errors import BadInput
from ..executor.klein import KleinExecutor
from ..protocols import Picture
from ..records import to_json
from ..storage.atomic import writing
from ..weights.manifest import digests
from ..world import World
from .adapter import Lora, attach, gathered, save_lora
from .compile import compile_blocks
from .fit import Schedule, fit
from .sampler import Condition, TrainingSampler, predict
from .samples import Samples, Window, alike
from .stage import RECORD, curve_of, processes, save_record, save_weights, settle, stage


@dataclass(frozen=True)
class SftConfig:
    """Settings of the training.

    mode: conditioning mode of the trace.
    trace: share of the samples whose prompt is the trace; the others have the words of their step alone, so that the
        weights serve both modes of the loop.
    whole: of the samples without references, the share that are a row's brief alone with its last canvas. Without them
        a model that learns to begin with a part forgets to draw the whole.
    replay: of the same, the share that are random scenes of an embedded world with prompts as its base was taught, for
        the same reason.
    window: tokens at which a trace is shortened; None for as many as the weights read.
    sigma_mean, sigma_std: of the logit of the noise level.
    """

    batch: int = 32
    lora: Lora = field(default_factory=Lora)
    mode: Conditioning = "trace"
    trace: float = 0.7
    whole: float = 0.5
    replay: float = 0.0
    window: int | None = 64
    drop_text: float = 0.1
    sigma_mean: float = 1.4
    sigma_std: float = 1.2
    schedule: Schedule = field(
        default_factory=lambda: Schedule(steps=160, lr=2e-4, warmup=10, ema=0.95, log_every=10, save_every=40)
    )


class Following(torch.nn.Module):
    """Velocity regression on the canvas of a step: x_sigma = (1 - sigma) x0 + sigma eps, v = eps - x0."""

    def __init__(self, transformer: torch.nn.Module, mean: float, std: float) -> None:
        super().__init__()
        self.transformer, self.mean, self.std = transformer, mean, std

    def forward(self, target: torch.Tensor, condition: Condition) -> torch.Tensor:
        noise = torch.randn_like(target)
        sigma = torch.sigmoid(self.mean + self.std * torch.randn(len(target), device=target.device)).to(target.dtype)
        velocity = predict(self.transformer, torch.lerp(target, noise, sigma.view(-1, 1, 1)), sigma, condition)
        return (velocity.float() - (noise - target).float()).square().mean()


@stage
def sft(
    out: Path,
    start: Path,
    data: Path,
    config: Path | None = None,
    *,
    seed: int = 0,
    world: World | None = None,
    quick: bool = False,
    executor: KleinExecutor | None = None,
    accelerator: Accelerator | None = None,
) -> Path:
    """Train on the data set in `data`, or continue a run that was stopped in `out`. Rows without their pictures are
    left out and counted.

    start: folder of the weights.
    world: that of the weights if it is an embedded one, which has scenes to `replay`.
    quick: compile the blocks, see `compile_blocks`.
    executor: the weights, if they are loaded already.

    Returns the folder of the LoRA, or of the weights if all are trained. Raises BadInput for settings, weights or data
    that cannot be used.
    """
    accelerator = accelerator or processes()
    executor = executor or KleinExecutor.load(start)
    settings = settle(
        out, SftConfig, config, {"stage": "sft", "seed": seed, "start": digests(start), "data": str(data.name)}
    )
    if settings.replay and not world:
        raise BadInput(
            f"replay is {settings.replay}, and only an embedded world has scenes to replay; leave it out of the config"
        )
    report, rank = accelerator.print, accelerator.process_index
    samples = Samples.read(data, report)
    sampler = TrainingSampler(executor, accelerator.device)
    transformer = sampler.pipe.transformer.to(accelerator.device)
    torch.manual_seed(seed)
    attach(transformer, settings.lora)
    if quick:
        compile_blocks(transformer, accelerator.device)
    window = Window(executor, settings.window)

    def loss_of(wrapped: torch.nn.Module, step: int) -> torch.Tensor:
        shared, mine = random.Random(f"{seed}/step/{step}"), random.Random(f"{seed}/step/{step}/{rank}")
        # All processes take equally many references, so that none waits for another.
        like = shared.choice(samples.train)
        batch = alike(
            [sample for sample in samples.train if len(sample.references) == len(like.references)], mine, settings.batch
        )
        if not like.references:
            batch = [mine.choice(samples.wholes) if mine.random() < settings.whole else sample for sample in batch]
        texts = [sample.text(settings.mode if mine.random() < settings.trace else "proxy", window) for sample in batch]
        pictures = [sample.target_picture() for sample in batch]
        for place in range(len(batch)) if settings.replay and not like.references else ():
            if world and mine.random() < settings.replay:
                texts[place], pictures[place] = _replayed(world, mine, window)
        texts = ["" if mine.random() < settings.drop_text else text for text in texts]
        references = sampler.references([sample.pictures for sample in batch])
        condition = Condition(sampler.text(texts), references, sampler.grid(pictures[0]))
        return wrapped(sampler.tokens(pictures), condition)

    objective = Following(transformer, settings.sigma_mean, settings.sigma_std)
    fit(objective, loss_of, settings.schedule, out / "sft", seed=seed, accelerator=accelerator, report=report)
    record = {
        "stage": "sft",
        "seed": seed,
        "processes": accelerator.num_processes,
        "quick": quick,
        "config": to_json(settings),
        "samples": len(samples.train),
        "skipped": samples.skipped,
        "curves": {"sft": curve_of(out / "sft")},
        "start": {"files": digests(start)},
    }
    return finish(out, sampler, settings.lora, record, accelerator)


def _replayed(world: World, rng: random.Random, window: Window) -> tuple[str, Picture]:
    sampling = world.sampling
    while True:
        scene = sampling.t2i_sample(rng).target
        prompt = sampling.brief_of(scene, rng, sampling.TAUGHT)[1]
        if window.fits(prompt):
            return prompt, world.render(scene)


def finish(out: Path, sampler: TrainingSampler, lora: Lora, record: dict, accelerator: Accelerator) -> Path:
    """Write the trained weights: `out/lora`, or `out/weights` if all weights were trained."""
    folder = out / ("lora" if lora.rank else "weights")
    pipe = sampler.pipe
    state = gathered(pipe.transformer)
    if accelerator.is_main_process and lora.rank:
        with writing(out):
            folder.mkdir(parents=True, exist_ok=True)
            save_lora(pipe.transformer, state, folder)
        save_record(folder / RECORD, record)
    elif accelerator.is_main_process:
        whole = type(pipe.transformer).from_config(pipe.transformer.config)
        whole.load_state_dict(state)
        pipe.register_modules(transformer=whole.eval())
        save_weights(pipe.to("cpu"), folder, sampler.executor.recipe, record)
    accelerator.wait_for_everyone()
    return folder
