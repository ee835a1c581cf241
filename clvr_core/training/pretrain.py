"""Base weights of the shapes world: a VAE first, then transformer and text encoder together by flow matching."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch.nn import Linear

from ..executor.klein import KleinExecutor, SamplingRecipe, chat_text
from ..executor.small_klein import patchify
from ..records import to_json
from ..shapes.model import RECIPE, TEXT_BUCKETS, build_pipeline
from ..shapes.render import render
from ..shapes.sampling import TAUGHT, Telling, brief_of, edit_sample, random_scene, restore_sample, t2i_sample
from ..shapes.scene import BACKGROUND, CANVAS, CELLS, COLORS, JITTER, PALETTE, RADII, SHAPES, SIZES, Scene
from ..weights.manifest import digests
from .fit import Schedule, fit
from .flow import FlowMatching, Vae, normalise, spoil, to_tensor
from .stage import curve_of, lineage, processes, save_weights, settle, stage

Module = TypeVar("Module", bound=torch.nn.Module)


@dataclass(frozen=True)
class VaeConfig:
    """latent_noise: standard deviation added before reading or decoding, so that near-by latents mean the same."""

    batch: int = 24
    latent_noise: float = 0.2
    shrink: float = 1e-3
    encoder: Schedule = field(default_factory=lambda: Schedule(steps=3000, lr=1.5e-3, weight_decay=0.0, ema=0.995))
    decoder: Schedule = field(default_factory=lambda: Schedule(steps=6000, lr=1.5e-3, weight_decay=0.0, ema=0.995))


def attention(scene: Scene) -> np.ndarray:
    """Return float32 H x W weights of the reconstruction error: every thing counts alike, small or large, pale or dark.

    Without them the few pixels between a small cross and a small diamond would be learnt last.
    """
    weights = np.ones((CANVAS, CANVAS), np.float32)
    for thing in scene.things:
        radius, (x, y) = RADII[thing.size] + 2, thing.center
        contrast = sum(abs(a - b) for a, b in zip(PALETTE[thing.color], BACKGROUND)) / 400
        window = weights[max(y - radius, 0) : y + radius + 1, max(x - radius, 0) : x + radius + 1]
        np.maximum(window, 6 * (RADII["large"] / RADII[thing.size]) / contrast, out=window)
    return weights


def labels(scene: Scene) -> np.ndarray:
    """int64 cells x 5: shape, colour and size (0 for an empty cell, else 1 + index), dx, dy."""
    found = np.zeros((len(CELLS), 5), np.int64)
    for thing in scene.things:
        found[thing.cell] = (
            1 + SHAPES.index(thing.shape),
            1 + COLORS.index(thing.color),
            1 + SIZES.index(thing.size),
            thing.dx,
            thing.dy,
        )
    return found


class Encoding(torch.nn.Module):
    """Trains the encoder by what one linear layer, discarded afterwards, can read from the token of each cell.

    Reconstruction learns small differences last, such as a small cross from a small diamond; the linear layer learns
    them first.
    """

    SPLIT = (1 + len(SHAPES), 1 + len(COLORS), 1 + len(SIZES))

    def __init__(self, vae: Vae, config: VaeConfig) -> None:
        super().__init__()
        self.encoder, self.quant_conv, self.config = vae.encoder, vae.quant_conv, config
        self.linear = Linear(4 * vae.config.latent_channels, sum(self.SPLIT) + 2)

    def forward(self, pictures: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """pictures: N x 3 x H x W. wanted: N x cells x 5, as `labels` gives."""
        latents = self.quant_conv(self.encoder(pictures)).chunk(2, dim=1)[0]
        noised = latents + self.config.latent_noise * torch.randn_like(latents)
        tokens, wanted = patchify(noised).flatten(2).transpose(1, 2).flatten(0, 1), wanted.flatten(0, 1)
        *logits, offset = self.linear(tokens).split((*self.SPLIT, 2), dim=-1)
        loss = sum(torch.nn.functional.cross_entropy(each, wanted[:, index]) for index, each in enumerate(logits))
        there = wanted[:, 0] > 0
        self.misread = (
            1
            - torch.stack([each.argmax(-1) == wanted[:, index] for index, each in enumerate(logits)])
            .all(0)[there]
            .float()
            .mean()
        )
        return (
            loss
            + (offset - wanted[:, 3:] / JITTER)[there].square().mean()
            + self.config.shrink * latents.square().mean()
        )


class Decoding(torch.nn.Module):
    """Trains the decoder alone, by weighted L1 from noised latents of the finished encoder, which the transformer may
    already learn."""

    def __init__(self, vae: Vae, config: VaeConfig) -> None:
        super().__init__()
        self.decoder, self.post_quant_conv, self.config = vae.decoder, vae.post_quant_conv, config
        self.encode = [vae.encode]  # in a list, so that it is no part of this module and its weights are not trained

    def forward(self, pictures: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            latents = self.encode[0](pictures).latent_dist.mode()
        noised = latents + self.config.latent_noise * torch.rand(
            len(latents), 1, 1, 1, device=latents.device
        ) * torch.randn_like(latents)
        error = (self.decoder(self.post_quant_conv(noised)) - pictures).abs().mean(1)
        return (error * weights).mean()


def train_encoder(
    vae: Vae, folder: Path, config: VaeConfig, *, seed: int, accelerator: Accelerator, report=print
) -> None:
    objective = _channels_last(Encoding(vae, config))

    def loss_of(wrapped: torch.nn.Module, step: int) -> torch.Tensor:
        scenes = _scenes(config, f"{seed}/encoder/{step}/{accelerator.process_index}")
        wanted = torch.from_numpy(np.stack([labels(scene) for scene in scenes])).to(accelerator.device)
        loss = wrapped(_pictures(scenes, accelerator), wanted)
        if (step + 1) % config.encoder.log_every == 0:
            report(f"things misread: {objective.misread.item():.3f}")
        return loss

    fit(objective, loss_of, config.encoder, folder, seed=seed, accelerator=accelerator, report=report)


def train_decoder(
    vae: Vae, folder: Path, config: VaeConfig, *, seed: int, accelerator: Accelerator, report=print
) -> None:
    objective = _channels_last(Decoding(vae.eval(), config))

    def loss_of(wrapped: torch.nn.Module, step: int) -> torch.Tensor:
        scenes = _scenes(config, f"{seed}/decoder/{step}/{accelerator.process_index}")
        weights = torch.from_numpy(np.stack([attention(scene) for scene in scenes])).to(accelerator.device)
        return wrapped(_pictures(scenes, accelerator), weights)

    fit(objective, loss_of, config.decoder, folder, seed=seed, accelerator=accelerator, report=report)


def _channels_last(module: Module) -> Module:
    return cast(Any, module).to(memory_format=torch.channels_last)  # torch's hints lack this argument


def _scenes(config: VaeConfig, key: str) -> list[Scene]:
    rng = random.Random(key)
    return [random_scene(rng, rng.choice((0, 1, 2, 4, 6, 7, 8, 9))) for _ in range(config.batch)]


def _pictures(scenes: list[Scene], accelerator: Accelerator) -> torch.Tensor:
    batch = to_tensor([render(scene) for scene in scenes]).to(accelerator.device)
    return batch.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def encode(vae: Vae, pictures: Sequence[np.ndarray], batch: int = 128) -> torch.Tensor:
    """Patchified latents before normalisation, N x 4C x 3 x 3."""
    device, parts = next(vae.parameters()).device, []
    for start in range(0, len(pictures), batch):
        latents = vae.encode(to_tensor(pictures[start : start + batch]).to(device)).latent_dist.mode()
        parts.append(patchify(latents))
    return torch.cat(parts)


def set_statistics(vae: Vae, *, seed: int, count: int = 4000) -> None:
    """Sets the batch-norm statistics that the pipeline normalises latents with, from random scenes."""
    rng = random.Random(f"{seed}/statistics")
    latents = encode(vae, [render(random_scene(rng, rng.randint(0, 8))) for _ in range(count)])
    vae.bn.running_mean.copy_(latents.mean((0, 2, 3)))
    vae.bn.running_var.copy_(latents.var((0, 2, 3)))


@dataclass(frozen=True)
class FlowConfig:
    """Settings of the flow matching.

    sigma_mean, sigma_std: of the logit of the noise level. Only above a level of .85 does a token no longer show what
        it will be, so only there are the words learnt. A mean of 1.4 gives 39 % of the samples such a level; .6 gave 17
        % and learnt far more slowly.
    """

    batch: int = 32
    pool: dict[str, int] = field(default_factory=lambda: {"t2i": 20_000, "edit": 20_000, "restore": 4_000})
    share: dict[str, float] = field(default_factory=lambda: {"t2i": 0.42, "edit": 0.48, "restore": 0.1})
    telling: Telling = TAUGHT
    long_text: float = 0.15
    drop_text: float = 0.1
    edited_weight: float = 3.0
    reference_noise: float = 0.05
    spoil: float = 0.1
    sigma_mean: float = 1.4
    sigma_std: float = 1.2
    schedule: Schedule = field(default_factory=lambda: Schedule(steps=15_000, lr=1.5e-3, warmup=200))


class Pool:
    """Encoded samples of one kind. A text-to-image sample gets a new prompt each time it is drawn."""

    def __init__(self, kind: str, count: int, vae: Vae, rng: random.Random) -> None:
        make = {"t2i": t2i_sample, "edit": edit_sample, "restore": restore_sample}[kind]
        self.kind, self.samples = kind, [make(rng) for _ in range(count)]
        scenes = [(*sample.references, sample.target) for sample in self.samples]
        tokens = [
            normalise(encode(vae, [render(group[index]) for group in scenes]), vae) for index in range(len(scenes[0]))
        ]
        self.references, self.target = tokens[:-1], tokens[-1]
        self.edited = torch.tensor([[float(cell in sample.cells) for cell in CELLS] for sample in self.samples])

    def draw(
        self, rng: random.Random, batch: int, fits: Callable[[str], bool], telling: Telling
    ) -> tuple[list[str], list[int]]:
        prompts, indices = [], []
        while len(prompts) < batch:
            index = rng.randrange(len(self.samples))
            sample = self.samples[index]
            prompt = brief_of(sample.target, rng, telling)[1] if self.kind == "t2i" else sample.prompt
            if fits(prompt):
                prompts.append(prompt)
                indices.append(index)
        return prompts, indices


def train_flow(pipe, folder: Path, config: FlowConfig, *, seed: int, accelerator: Accelerator, report=print) -> None:
    """Trains pipe.transformer and pipe.text_encoder on latents of pipe.vae, which must be trained and have its
    statistics set."""
    device, rank = accelerator.device, accelerator.process_index
    vae = pipe.vae.to(device).requires_grad_(False)
    pools = {
        kind: Pool(kind, count, vae, random.Random(f"{seed}/pool/{kind}/{rank}")) for kind, count in config.pool.items()
    }
    report(f"encoded {sum(config.pool.values())} samples")
    tokenizer = pipe.tokenizer

    def length_of(prompt: str) -> int:
        return len(tokenizer(chat_text(tokenizer, prompt))["input_ids"])

    def loss_of(wrapped: torch.nn.Module, step: int) -> torch.Tensor:
        shared, mine = random.Random(f"{seed}/step/{step}"), random.Random(f"{seed}/step/{step}/{rank}")
        kind = shared.choices(list(config.share), list(config.share.values()))[0]
        bucket = TEXT_BUCKETS[0]
        if kind == "t2i" and shared.random() < config.long_text:
            bucket = TEXT_BUCKETS[1]
        floor = 0 if bucket == TEXT_BUCKETS[0] else TEXT_BUCKETS[0]
        prompts, indices = pools[kind].draw(
            mine, config.batch, lambda prompt: floor < length_of(prompt) <= bucket, config.telling
        )
        prompts = ["" if mine.random() < config.drop_text else prompt for prompt in prompts]
        batch = tokenizer(
            [chat_text(tokenizer, prompt) for prompt in prompts],
            padding="max_length",
            max_length=bucket,
            return_tensors="pt",
        )
        pool = pools[kind]
        edited = pool.edited[indices].to(device)
        references = [reference[indices] for reference in pool.references]
        if references:
            references[0] = spoil(references[0], edited, config.spoil)
            references = [
                reference + config.reference_noise * torch.rand(len(indices), 1, 1) * torch.randn_like(reference)
                for reference in references
            ]
        weight = 1 + (config.edited_weight - 1) * edited
        return wrapped(
            batch["input_ids"].to(device), batch["attention_mask"].to(device), pool.target[indices], references, weight
        )

    objective = FlowMatching(pipe.transformer, pipe.text_encoder, config.sigma_mean, config.sigma_std)
    fit(objective, loss_of, config.schedule, folder, seed=seed, accelerator=accelerator, report=report)


@dataclass(frozen=True)
class BaseConfig:
    """All settings of `clvr train shapes base`, written beside the weights."""

    width: int = 160
    double: int = 2
    single: int = 4
    text_width: int = 96
    vae_channels: tuple[int, ...] = (8, 16, 32, 64, 64)
    vae: VaeConfig = field(default_factory=VaeConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    recipe: SamplingRecipe = RECIPE


@stage
def train_base(out: Path, config: Path | None = None, *, seed: int = 0, start: Path | None = None) -> Path:
    """Train the embedded base from nothing, or continue a run that was stopped in `out`. Runs under `torchrun` and
    `accelerate launch` too.

    start: folder of weights; its VAE is kept, its transformer and text encoder are trained on, and the sizes in the
        config are not used.

    Returns the folder of the weights. Raises BadInput for a config that cannot be read or differs from the earlier
    run's, and for weights that are missing or damaged.
    """
    accelerator = processes()
    pipe = KleinExecutor.load(start).pipe if start else None
    settings = settle(out, BaseConfig, config, {"seed": seed} | ({"start": digests(start)} if start else {}))
    torch.manual_seed(seed)
    report, stages = accelerator.print, ["flow"]
    if pipe is None:
        stages = ["encoder", "decoder", "flow"]
        pipe = build_pipeline(
            settings.width, settings.double, settings.single, settings.text_width, settings.vae_channels
        )
        train_encoder(pipe.vae, out / "encoder", settings.vae, seed=seed, accelerator=accelerator, report=report)
        train_decoder(pipe.vae, out / "decoder", settings.vae, seed=seed, accelerator=accelerator, report=report)
        pipe.vae.to(memory_format=torch.contiguous_format)
        set_statistics(pipe.vae, seed=seed)
    train_flow(pipe, out / "flow", settings.flow, seed=seed, accelerator=accelerator, report=report)
    weights = out / "weights"
    if accelerator.is_main_process:
        curves = {stage: curve_of(out / stage) for stage in stages}
        record = {"seed": seed, "processes": accelerator.num_processes, "config": to_json(settings), "curves": curves}
        if start:
            record["start"] = lineage(start)
        save_weights(pipe.to("cpu"), weights, settings.recipe, record)
    accelerator.wait_for_everyone()
    return weights
