"""What trains on pictures of the sticker world: its VAE, encoder first, and its reader."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch.nn import Conv2d, Linear

from ..executor.small_klein import patchify
from ..stickers import readout
from ..stickers.codes import DX, FIELDS, KINDS, LOOK, LOOKS, NOUN, SIZE, WORD
from ..stickers.reader import SPLIT, UNCLEAR, Reader
from ..stickers.scene import BACKDROPS, CANVAS, CELL, CELLS, GRID, JITTER, LETTERS, MOST_LETTERS, NOUNS, looks
from .drawn_latents import DrawnLatents
from .fit import Schedule, fit
from .quick_norm import quicken
from .sticker_batches import SIGN_KIND, BatchRenderer

Vae = Any
Module = TypeVar("Module", bound=torch.nn.Module)


FILLED = 0.1, 0.3, 0.5, 0.8, 1.0
"""Odds that a cell is filled, one of them for each scene."""


def random_codes(
    count: int,
    rng: np.random.Generator,
    signs: float = 0.12,
    crowded: float = 0.0,
    filled_at: tuple[float, ...] = FILLED,
    lengths: tuple[float, ...] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes of random scenes, int8 count x 9 x FIELDS and int8 count; a filled cell is a sign at the odds
    `signs`, half of the looks are natural. The share `crowded` of the scenes has all cells filled, most by signs; of
    the others cells are filled at one of the odds `filled_at`. lengths: weights of words of one to five letters; all are
    as likely if there are none."""
    shape = (count, len(CELLS))
    cells = np.zeros((*shape, FIELDS), np.int8)
    noun = rng.integers(1, len(NOUNS) + 1, shape)
    sign = rng.random(shape) < signs
    filled = rng.random(shape) < rng.choice(filled_at, (count, 1))
    if crowded:
        among = rng.random((count, 1)) < crowded
        filled, sign = filled | among, sign | (among & (rng.random(shape) < 0.85))
    cells[..., NOUN] = np.where(sign, SIGN_KIND, noun) * filled
    look = rng.integers(1, len(LOOKS), shape) * (rng.random(shape) < 0.6)
    cells[..., LOOK] = _allowed()[noun, look] * (filled & ~sign)
    cells[..., SIZE] = np.where(sign, 1, rng.integers(0, 2, shape)) * filled
    cells[..., DX : DX + 2] = rng.integers(-JITTER, JITTER + 1, (*shape, 2)) * filled[..., None]
    length = rng.integers(1, MOST_LETTERS + 1, shape)
    if lengths:
        length = rng.choice(np.arange(1, MOST_LETTERS + 1), shape, p=np.divide(lengths, sum(lengths)))
    letters = rng.integers(1, len(LETTERS) + 1, (*shape, MOST_LETTERS))
    written = np.arange(MOST_LETTERS) < length[..., None]
    cells[..., WORD:] = letters * written * (filled & sign)[..., None]
    return cells, rng.integers(0, len(BACKDROPS), count).astype(np.int8)


@cache
def _allowed() -> np.ndarray:
    """int (kinds) x looks: the look itself, or 0 where the noun does not have it."""
    table = np.zeros((len(KINDS), len(LOOKS)), np.int64)
    for index, kind in enumerate(KINDS):
        for look, name in enumerate(LOOKS):
            table[index, look] = look if kind and name in looks(kind) else 0
    return table


def autocast(device: torch.device):
    """bfloat16 on a GPU; elsewhere what surrounds the call: float32, or bfloat16 where accelerate was told so
    (ACCELERATE_MIXED_PRECISION=bf16)."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()


@dataclass(frozen=True)
class Growth:
    """One of the stages in which the decoder is trained at a smaller side first.

    side: of the pictures in pixels: 12, 24, 48 or 96. batch: pictures a step.
    """

    side: int
    batch: int
    schedule: Schedule


@dataclass(frozen=True)
class StickerVaeConfig:
    """latent_noise: standard deviation added before reading or decoding, so that near-by latents mean the same.
    read: weight of what the finished encoder reads off the decoded picture, beside its error in pixels.
    signs: share of the filled cells that hold a sign.
    keep: weight of the distance between the latents of cells without a sign and those of the encoder that training
        started from, so that a flow trained on those goes on holding; 0 for none.
    crowded: share of the encoder's pictures with nine filled cells, most of them signs, the slowest to learn.
    fixed: how many of the encoder's levels, from the picture on, are left as they are.
    growth: stages of the decoder before the one at full size. A small side costs a tenth and teaches the levels that
        hold what things look like; the last levels then only have to sharpen it.
    filled_at: odds that a cell is filled, one of them for each of the decoder's pictures.
    pool: different batches that the decoder is trained on, whose latents are kept in memory (4.6 kB a picture in
        float32), so that each is encoded once; 0 for a new one at every step.
    edges: weight of the error of the differences between neighbouring pixels, which an error of pixels alone blurs.
    ink: weight of the pixels that letters darken, beside that of their sign; letters are few pixels, and come last.
    lengths: weights of words of one to five letters on the decoder's signs; none if all are as likely.
    drawn: share of the decoder's pictures whose latents a flow drew, where there are such weights.
    drawings: how many it draws, of which those are used that show what was asked for.
    edited: share of these that are edits of pictures drawn before.
    """

    batch: int = 64
    signs: float = 0.25
    latent_noise: float = 0.2
    shrink: float = 1e-3
    read: float = 0.02
    keep: float = 0.0
    crowded: float = 0.0
    fixed: int = 0
    growth: tuple[Growth, ...] = ()
    filled_at: tuple[float, ...] = FILLED
    pool: int = 0
    edges: float = 0.0
    ink: float = 0.0
    lengths: tuple[float, ...] = ()
    drawn: float = 0.5
    drawings: int = 4096
    edited: float = 0.5
    encoder: Schedule = field(
        default_factory=lambda: Schedule(steps=1500, lr=1.5e-3, weight_decay=0.0, ema=0.995, save_every=500)
    )
    decoder: Schedule = field(
        default_factory=lambda: Schedule(steps=4000, lr=1.5e-3, weight_decay=0.0, ema=0.998, save_every=1000)
    )


def channels_last(module: Module) -> Module:
    return cast(Any, module).to(memory_format=torch.channels_last)  # torch's hints lack this argument


def compiled(module: torch.nn.Module, device: torch.device) -> None:
    """Compile a part on a GPU, where its many small layers are bound by memory. Its weights keep their names."""
    if device.type == "cuda":
        torch._dynamo.config.suppress_errors = True
        module.compile()


class Encoding(torch.nn.Module):
    """Trains the encoder by what one linear layer can read from the token of each cell: kind, look, size, letters,
    offset and backdrop."""

    def __init__(self, vae: Vae, config: StickerVaeConfig) -> None:
        super().__init__()
        self.encoder, self.quant_conv, self.config = vae.encoder, vae.quant_conv, config
        self.linear = Linear(4 * vae.config.latent_channels, sum(readout.SPLIT))
        self.misread, self.moved = torch.ones(4), torch.zeros(())
        # In a list, so that it is no part of this module and its weights are neither trained nor saved.
        parts = torch.nn.Sequential(self.encoder, self.quant_conv)
        self.before = [channels_last(deepcopy(parts)).requires_grad_(False)] if config.keep else []
        if config.fixed:
            for part in (self.encoder.conv_in, *self.encoder.down_blocks[: config.fixed]):
                part.requires_grad_(False)

    def latents(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures in -1..1 -> latents before normalisation."""
        with autocast(pictures.device):
            return self.quant_conv(self.encoder(pictures)).float().chunk(2, dim=1)[0]

    def read(self, latents: torch.Tensor, cells: torch.Tensor, backdrops: torch.Tensor) -> torch.Tensor:
        """Return the loss of what is read from latents, and note the share misread of kind, look, size and word."""
        tokens = patchify(latents).flatten(2).transpose(1, 2).flatten(0, 1)
        what = cells.flatten(0, 1).long()
        *logits, offset = self.linear(tokens).split(readout.SPLIT, dim=-1)
        there, sign = what[:, NOUN] > 0, what[:, NOUN] == SIGN_KIND
        loss = F.cross_entropy(logits[0], what[:, NOUN])
        loss = loss + _mean(F.cross_entropy(logits[1], what[:, LOOK], reduction="none"), there)
        loss = loss + 0.5 * _mean(F.cross_entropy(logits[2], what[:, SIZE], reduction="none"), there)
        letters = torch.stack(
            [F.cross_entropy(logits[3 + i], what[:, WORD + i], reduction="none") for i in range(MOST_LETTERS)], -1
        )
        loss = loss + _mean(letters.mean(-1), sign)
        loss = loss + 0.5 * F.cross_entropy(logits[-1], backdrops.long().repeat_interleave(len(CELLS)))
        loss = loss + _mean((offset - what[:, DX : DX + 2] / JITTER).square().mean(-1), there)
        with torch.no_grad():
            word = torch.stack([logits[3 + i].argmax(-1) == what[:, WORD + i] for i in range(MOST_LETTERS)], -1).all(-1)
            wrong = [logits[i].argmax(-1) != what[:, field] for i, field in ((0, NOUN), (1, LOOK), (2, SIZE))]
            self.misread = torch.stack([_mean(each.float(), there) for each in wrong] + [_mean((~word).float(), sign)])
        return loss

    def told(self) -> str:
        """Say what was misread when `read` was called last."""
        return f"misread kind, look, size, word: {[round(each, 4) for each in self.misread.tolist()]}"

    def forward(self, pictures: torch.Tensor, cells: torch.Tensor, backdrops: torch.Tensor) -> torch.Tensor:
        latents = self.latents(pictures)
        noised = latents + self.config.latent_noise * torch.randn_like(latents)
        loss = self.read(noised, cells, backdrops) + self.config.shrink * latents.square().mean()
        if self.before:
            with torch.no_grad(), autocast(pictures.device):
                before = self.before[0].to(pictures.device)(pictures).float().chunk(2, dim=1)[0]
            moved = patchify(latents - before).square().mean(1).flatten(1)
            self.moved = _mean(moved, cells[..., NOUN] != SIGN_KIND)
            loss = loss + self.config.keep * self.moved
        return loss


def _mean(values: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    return (values * where).sum() / where.sum().clamp(min=1)


class Decoding(torch.nn.Module):
    """Trains the decoder alone, from noised latents of the finished encoder, by an error in which every sticker counts
    alike, and by what the encoder reads off the result.

    Where the decoder grows, each level of it also draws a small picture by a head of its own, which is discarded
    afterwards: the levels that hold what things look like are then taught at once, and not through all that follow.
    """

    def __init__(self, vae: Vae, encoding: Encoding, config: StickerVaeConfig) -> None:
        super().__init__()
        self.decoder, self.post_quant_conv, self.config = vae.decoder, vae.post_quant_conv, config
        self.heads = torch.nn.ModuleList()
        if config.growth:
            for block in self.decoder.up_blocks[:-2]:
                channels = block.upsamplers[0].conv.out_channels
                norm = torch.nn.GroupNorm(vae.config.norm_num_groups, channels)
                self.heads.append(torch.nn.Sequential(norm, torch.nn.SiLU(), Conv2d(channels, 3, 3, padding=1)))
        # In a list, so that it is no part of this module and its weights are not trained.
        self.encoding = [encoding.requires_grad_(False).eval()]
        self.l1 = torch.zeros(())

    def draw(self, latents: torch.Tensor, side: int) -> list[torch.Tensor]:
        """Latents -> the pictures that each level up to `side` pixels draws, the largest last."""
        decoder, drawn = self.decoder, []
        made = decoder.mid_block(decoder.conv_in(self.post_quant_conv(latents)))
        for place, block in enumerate(decoder.up_blocks):
            made = block(made)
            if place < len(self.heads):
                drawn.append(self.heads[place](made))
                if drawn[-1].shape[-1] >= side:
                    return drawn
        return [*drawn, decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(made)))]

    def forward(self, latents, pictures, weights, cells, backdrops, side: int = CANVAS) -> torch.Tensor:
        encoding = self.encoding[0]
        scale = self.config.latent_noise * torch.rand(len(latents), 1, 1, 1, device=latents.device)
        with autocast(pictures.device):
            drawn = self.draw(latents + scale * torch.randn_like(latents), side)
        loss = torch.zeros((), device=pictures.device)
        for each in drawn:
            wanted = F.interpolate(pictures, size=each.shape[-2:], mode="area")
            counted = F.interpolate(weights[:, None], size=each.shape[-2:], mode="area")[:, 0]
            error = (each.float() - wanted).abs().mean(1)
            loss = loss + (error * counted).mean()
            if self.config.edges:
                loss = loss + self.config.edges * _edges(each.float() - wanted, counted)
        self.l1 = error.detach().mean()
        if self.config.read and drawn[-1].shape[-1] == CANVAS:
            again = encoding.latents(drawn[-1].float().contiguous(memory_format=torch.channels_last))
            loss = loss + self.config.read * encoding.read(again, cells, backdrops)
        return loss


def _edges(error: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean size of the differences of an error, N x 3 x H x W, between pixels side by side. weights: N x H x W."""
    across, down = error.diff(dim=-1).abs().mean(1), error.diff(dim=-2).abs().mean(1)
    return (across * weights[..., 1:]).mean() + (down * weights[..., 1:, :]).mean()


class Drawn:
    """Random scenes drawn on the device, a batch for each key."""

    def __init__(
        self,
        renderer: BatchRenderer,
        batch: int,
        signs: float = 0.12,
        crowded: float = 0.0,
        filled_at: tuple[float, ...] = FILLED,
        lengths: tuple[float, ...] = (),
    ) -> None:
        self.renderer, self.batch = renderer, batch
        self.odds = signs, crowded, filled_at, lengths

    def __call__(self, key: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return pictures in -1..1 (channels last), cells and backdrops."""
        rng = np.random.default_rng(random.Random(key).getrandbits(63))
        cells, backdrops = random_codes(self.batch, rng, *self.odds)
        pictures = self.renderer(cells, backdrops) * 2 - 1
        device = self.renderer.device
        return (
            pictures.contiguous(memory_format=torch.channels_last),
            torch.from_numpy(cells).to(device),
            torch.from_numpy(backdrops).to(device),
        )

    def weights(
        self, pictures: torch.Tensor, cells: torch.Tensor, backdrops: torch.Tensor, ink: float = 0.0
    ) -> torch.Tensor:
        """Weights of the error, N x 192 x 192: a sticker's pixels count for its size, a sign's twice as much. ink: what
        the pixels that letters darken count for besides."""
        bare = self.renderer(torch.zeros_like(cells), backdrops) * 2 - 1
        drawn = ((pictures - bare).abs().amax(1) > 0.04).float()
        per = torch.tensor([2.5 * (56 / 40) ** 2, 2.5], device=cells.device)[cells[..., SIZE].long()]
        per = torch.where(cells[..., NOUN] == SIGN_KIND, 6.0, per)
        spread = per.view(-1, GRID, GRID).repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)
        weights = 1 + drawn * spread
        if ink:
            unwritten = cells.clone()
            unwritten[..., WORD:] = 0
            letters = (pictures - (self.renderer(unwritten, backdrops) * 2 - 1)).abs().amax(1)
            weights = weights + ink * (letters > 0.04)
        return weights


def train_encoder(
    encoding: Encoding,
    renderer: BatchRenderer,
    folder: Path,
    config: StickerVaeConfig,
    *,
    seed: int,
    accelerator: Accelerator,
    report=print,
) -> None:
    draw = Drawn(renderer, config.batch, config.signs, config.crowded)
    objective = channels_last(encoding)
    quicken(objective)
    compiled(encoding.encoder, accelerator.device)

    def loss_of(wrapped: torch.nn.Module, step: int) -> torch.Tensor:
        loss = wrapped(*draw(f"{seed}/encoder/{step}/{accelerator.process_index}"))
        if (step + 1) % config.encoder.log_every == 0:
            report(f"{objective.told()}; moved {objective.moved.item():.4f}")
        return loss

    fit(objective, loss_of, config.encoder, folder, seed=seed, accelerator=accelerator, report=report)


def train_decoder(
    vae: Vae,
    encoding: Encoding,
    renderer: BatchRenderer,
    folder: Path,
    config: StickerVaeConfig,
    *,
    seed: int,
    accelerator: Accelerator,
    drawn: DrawnLatents | None = None,
    report=print,
) -> None:
    """Trains at the sides of `config.growth` first, each in a folder of its own beside `folder`. drawn: latents of a flow, for
    the share `config.drawn` of the pictures."""
    objective = channels_last(Decoding(vae, encoding, config))
    quicken(objective)
    for part in (vae.encoder, vae.decoder.mid_block, *vae.decoder.up_blocks):
        compiled(part, accelerator.device)
    kept: dict[tuple[int, int], torch.Tensor] = {}

    def grow(stage: Growth, place: Path) -> None:
        others = round(stage.batch * config.drawn) if drawn else 0
        draw = Drawn(renderer, stage.batch - others, config.signs, filled_at=config.filled_at, lengths=config.lengths)

        def loss_of(wrapped: torch.nn.Module, step: int) -> torch.Tensor:
            number = step % config.pool if config.pool else step
            pictures, cells, backdrops = draw(f"{seed}/decoder/{number}/{accelerator.process_index}")
            latents = kept.get((stage.batch, number))
            if latents is None:
                with torch.no_grad(), accelerator.autocast():
                    latents = encoding.latents(pictures)
                if config.pool:
                    kept[stage.batch, number] = latents
            if drawn:
                more, *shown = drawn.some(f"{seed}/drawn/{step}/{accelerator.process_index}", others)
                latents, cells, backdrops = map(torch.cat, ((latents, more), (cells, shown[0]), (backdrops, shown[1])))
                made = torch.cat([pictures, renderer(*shown) * 2 - 1])
                pictures = made.contiguous(memory_format=torch.channels_last)
            weights = draw.weights(pictures, cells, backdrops, config.ink)
            loss = wrapped(latents, pictures, weights, cells, backdrops, stage.side)
            if (step + 1) % stage.schedule.log_every == 0:
                read = config.read and stage.side == CANVAS
                report(f"L1 {objective.l1.item():.4f}" + (f"; once decoded {encoding.told()}" if read else ""))
            return loss

        fit(objective, loss_of, stage.schedule, place, seed=seed, accelerator=accelerator, report=report)

    for stage in config.growth:
        grow(stage, folder.with_name(f"{folder.name}-{stage.side}"))
    grow(Growth(CANVAS, config.batch, config.decoder), folder)


@dataclass(frozen=True)
class ReaderConfig:
    """damage: share of the filled cells that are damaged and so labelled unclear, in every second batch.
    signs: share of the filled cells that hold a sign.
    """

    batch: int = 256
    damage: float = 0.25
    signs: float = 0.12
    schedule: Schedule = field(
        default_factory=lambda: Schedule(steps=4000, lr=1e-3, weight_decay=0.01, ema=0.998, save_every=1000)
    )


def damaged(
    pictures: torch.Tensor, others: torch.Tensor, bare: torch.Tensor, cells: torch.Tensor, share: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Spoil a share of the filled cells. pictures, others (other scenes), bare (the backdrops alone): N x 3 x H x W.

    Each spoilt cell is a blend with another cell, half of it and half of another, faded, moved out of place, smeared with
    blocks of another, or blurred. Return the pictures and bool N x 9, which cells are spoilt.
    """
    count, device = len(pictures), pictures.device

    def split(batch: torch.Tensor) -> torch.Tensor:
        return batch.view(count, 3, GRID, CELL, GRID, CELL).permute(0, 2, 4, 1, 3, 5).reshape(count, 9, 3, CELL, CELL)

    chosen = (torch.rand(count, 9, device=device) < share) & (cells[..., NOUN] > 0)
    spread = split(pictures)
    if chosen.any():
        mine, other, empty = spread[chosen], split(others).roll(1, 1)[chosen], split(bare)[chosen]
        spoilt = _spoilt(mine, other, empty)
        # What hardly changes the picture is no damage, and what leaves hardly anything is no thing.
        change = (spoilt - mine).abs().mean((1, 2, 3))
        left = (spoilt - empty).abs().mean((1, 2, 3))
        enough = (change > 0.035) & (left > 0.03)
        chosen[chosen.clone()] = enough
        spread = spread.clone()
        spread[chosen] = spoilt[enough]
    result = spread.view(count, GRID, GRID, 3, CELL, CELL).permute(0, 3, 1, 4, 2, 5).reshape(pictures.shape)
    return result, chosen


def _spoilt(mine: torch.Tensor, other: torch.Tensor, empty: torch.Tensor) -> torch.Tensor:
    """Spoil every one of these cells in one of six ways. All: M x 3 x 64 x 64."""
    count, device = len(mine), mine.device
    part = torch.rand(count, 1, 1, 1, device=device)
    side = torch.arange(CELL, device=device)
    blend = torch.lerp(mine, other, 0.3 + 0.4 * part)
    along = torch.where(part < 0.5, side[None, None, :, None], side[None, None, None, :])
    halves = torch.where(along < 22 + 20 * torch.rand_like(part), mine, other)
    faded = torch.lerp(mine, empty, 0.35 + 0.3 * part)
    shift = torch.randint(14, 40, (count,), device=device) * (1 - 2 * torch.randint(2, (count,), device=device))
    index = side[None] + shift[:, None]
    outside = (index < 0) | (index >= CELL)
    moved = mine.gather(3, index.clamp(0, CELL - 1)[:, None, None, :].expand(-1, 3, CELL, -1))
    moved = torch.where(outside[:, None, None, :], empty, moved)
    blocks = torch.rand(count, 1, 8, 8, device=device)
    smeared = torch.where(F.interpolate(blocks, size=(CELL, CELL)) < 0.35 + 0.3 * part, other, mine)
    blurred = F.interpolate(F.avg_pool2d(mine, 8), size=(CELL, CELL), mode="bilinear")
    ways = torch.stack((blend, halves, faded, moved, smeared, blurred))
    return ways[torch.randint(len(ways), (count,), device=device), torch.arange(count, device=device)]


def weathered(pictures: torch.Tensor) -> torch.Tensor:
    """Blur, resample, shift in colour and add noise, each picture by its own amounts. In and out in 0..1."""
    count, device = len(pictures), pictures.device
    side = pictures.shape[-1]
    blurred = torch.nonzero(torch.rand(count, device=device) < 0.35).squeeze(1)
    if len(blurred):
        scale = float(torch.empty(()).uniform_(0.5, 0.95))
        small = F.interpolate(pictures[blurred], scale_factor=scale, mode="area")
        pictures = pictures.index_copy(0, blurred, F.interpolate(small, size=(side, side), mode="bilinear"))
    gain = 1 + 0.06 * torch.randn(count, 1, 1, 1, device=device)
    tone = 0.02 * torch.randn(count, 3, 1, 1, device=device)
    sigma = 0.06 * torch.rand(count, 1, 1, 1, device=device) ** 2
    noise = torch.randn(pictures.shape, device=device).mul_(sigma).add_(0.5 - 0.5 * gain + tone)
    return noise.addcmul_(pictures, gain).clamp_(0, 1)


class Reading(torch.nn.Module):
    """The reader's loss; `wrong` is the share of scenes without damage that were not read exactly."""

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self.reader = reader
        self.wrong = self.accepted = torch.ones(())

    def forward(self, pictures, cells, backdrops, spoilt) -> torch.Tensor:
        with autocast(pictures.device):
            found, whole = self.reader(pictures)
        what = cells.flatten(0, 1).long()
        bad = spoilt.flatten()
        parts = found.float().flatten(0, 1).split(SPLIT, dim=-1)
        wanted = torch.where(bad, UNCLEAR, what[:, NOUN])
        there, sign = (what[:, NOUN] > 0) & ~bad, (what[:, NOUN] == SIGN_KIND) & ~bad
        loss = F.cross_entropy(parts[0], wanted) + F.cross_entropy(whole.float(), backdrops.long())
        loss = loss + _mean(F.cross_entropy(parts[1], what[:, LOOK], reduction="none"), there)
        loss = loss + 0.5 * _mean(F.cross_entropy(parts[2], what[:, SIZE], reduction="none"), there)
        loss = loss + 0.5 * _mean((parts[3] - what[:, DX : DX + 2] / JITTER).square().mean(-1), there)
        letters = [F.cross_entropy(parts[4 + i], what[:, WORD + i], reduction="none") for i in range(MOST_LETTERS)]
        loss = loss + _mean(torch.stack(letters, -1).mean(-1), sign)
        with torch.no_grad():
            right = parts[0].argmax(-1) == wanted
            right &= ~there | ((parts[1].argmax(-1) == what[:, LOOK]) & (parts[2].argmax(-1) == what[:, SIZE]))
            for i in range(MOST_LETTERS):
                right &= ~sign | (parts[4 + i].argmax(-1) == what[:, WORD + i])
            scene = right.view(-1, len(CELLS)).all(1) & (whole.argmax(-1) == backdrops)
            whole_ones = ~bad.view(-1, len(CELLS)).any(1)
            self.wrong = _mean((~scene).float(), whole_ones)
            self.accepted = _mean((parts[0].argmax(-1) != UNCLEAR).float(), bad)
        return loss


def train_reader(
    reader: Reader,
    draw: Drawn,
    folder: Path,
    config: ReaderConfig,
    *,
    seed: int,
    accelerator: Accelerator,
    vae: Callable[[torch.Tensor], torch.Tensor] | None = None,
    report=print,
) -> None:
    """vae: pictures in 0..1 -> the same after a round trip; None for none. A third of the pictures take it."""
    objective = channels_last(Reading(reader))

    def loss_of(wrapped: torch.nn.Module, step: int) -> torch.Tensor:
        key = f"{seed}/reader/{step}/{accelerator.process_index}"
        pictures, cells, backdrops = draw(key)
        pictures = (pictures + 1) / 2
        spoilt = torch.zeros(cells.shape[:2], dtype=torch.bool, device=pictures.device)
        if step % 2:
            bare = draw.renderer(torch.zeros_like(cells), backdrops)
            others = draw.renderer(cells.roll(1, 0), backdrops)  # other things before the same backdrop
            pictures, spoilt = damaged(pictures, others, bare, cells, config.damage)
        if vae:
            taken = len(pictures) // 3
            with torch.no_grad():
                pictures = torch.cat([vae(pictures[:taken]).clamp(0, 1), pictures[taken:]])
        pictures = weathered(pictures).contiguous(memory_format=torch.channels_last)
        loss = wrapped(pictures, cells, backdrops, spoilt)
        if (step + 1) % config.schedule.log_every == 0:
            report(
                f"scenes misread {objective.wrong.item():.4f}, damage taken for clear {objective.accepted.item():.4f}"
            )
        return loss

    fit(objective, loss_of, config.schedule, folder, seed=seed, accelerator=accelerator, report=report)
