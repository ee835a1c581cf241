"""Flow matching of the sticker world: transformer and text encoder together, from samples prepared by several
processes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save

from ..executor.klein import chat_text
from ..executor.small_klein import patchify
from ..stickers.codes import codes
from ..stickers.model import TEXT_BUCKETS, build_tokenizer
from ..stickers.sampling import (
    TAUGHT,
    Sample,
    brief_of,
    edit_sample,
    restore_sample,
    signed_sample,
    t2i_sample,
    word_sample,
)
from ..stickers.scene import CELLS
from ..storage.atomic import write_bytes
from .fit import Schedule, fit
from .flow import FlowMatching, spoil
from .sticker_batches import BatchRenderer
from .sticker_pictures import Vae, autocast

MAKERS: dict[str, Callable[[random.Random], Sample]] = {
    "t2i": t2i_sample,
    "signs": signed_sample,
    "edit": edit_sample,
    "word": word_sample,
    "restore": restore_sample,
}
"""What makes a sample of each kind."""
DRAWN_FROM_TEXT = ("t2i", "signs")
"""Kinds of samples without a reference: each has several prompts."""


@dataclass(frozen=True)
class StickerFlowConfig:
    """Settings of the flow matching.

    pool: samples of each kind, made once: `t2i`, `edit` and `restore`; for lettering `signs`, briefs with a sign, and
        `word`, edits of one.
    prompts: different prompts of each sample without a reference.
    share: odds of the kinds in training.
    sigma_mean, sigma_std: of the logit of the noise level. Only above a level of .85 does a token no longer show what
        it will be, so only there are the words learnt. A mean of 1.4 gives 39 % of the samples such a level; in the
        world before this one .6 gave 17 % and learnt far more slowly.
    """

    batch: int = 1024
    pool: dict[str, int] = field(default_factory=lambda: {"t2i": 300_000, "edit": 250_000, "restore": 40_000})
    prompts: int = 2
    share: dict[str, float] = field(default_factory=lambda: {"t2i": 0.5, "edit": 0.42, "restore": 0.08})
    drop_text: float = 0.1
    edited_weight: float = 3.0
    reference_noise: float = 0.05
    spoil: float = 0.1
    sigma_mean: float = 1.4
    sigma_std: float = 1.2
    schedule: Schedule = field(
        default_factory=lambda: Schedule(steps=5000, lr=1.5e-3, warmup=200, ema=0.998, save_every=1000)
    )


@dataclass
class Prepared:
    """Samples of one kind and one length of text.

    ids: uint16 N x length, padded. mask: lengths N. which: int64 N, rows of `cells`.
    cells: for each canvas, references first and the target last, int8 M x 9 x FIELDS. backdrops: likewise int8 M.
    edited: bool M x 9, the cells that an edit names.
    """

    ids: np.ndarray
    lengths: np.ndarray
    which: np.ndarray
    cells: list[np.ndarray]
    backdrops: list[np.ndarray]
    edited: np.ndarray


def prepare(kind: str, count: int, prompts: int, seed: str) -> dict[int, Prepared]:
    """Make samples and their prompts as token ids, grouped by the padded length; prompts longer than the last length
    are left out."""
    rng = random.Random(seed)
    samples = [MAKERS[kind](rng) for _ in range(count)]
    if kind in DRAWN_FROM_TEXT:
        texts = [
            (brief_of(sample.target, rng, TAUGHT)[1], i) for i, sample in enumerate(samples) for _ in range(prompts)
        ]
    else:
        texts = [(sample.prompt, i) for i, sample in enumerate(samples)]
    ids = token_ids([text for text, _ in texts])
    canvases = [codes(group) for group in zip(*((*sample.references, sample.target) for sample in samples))]
    edited = np.array([[cell in sample.cells for cell in CELLS] for sample in samples])
    found, low = {}, 0
    for length in TEXT_BUCKETS:
        rows = [row for row, each in enumerate(ids) if low < len(each) <= length]
        low = length
        if not rows:
            continue
        padded = np.zeros((len(rows), length), np.uint16)
        for place, row in enumerate(rows):
            padded[place, : len(ids[row])] = ids[row]
        used, which = np.unique([texts[row][1] for row in rows], return_inverse=True)
        lengths = np.array([len(ids[row]) for row in rows], np.int16)
        cells, backdrops = [each[used] for each, _ in canvases], [each[used] for _, each in canvases]
        found[length] = Prepared(padded, lengths, which, cells, backdrops, edited[used])
    return found


def token_ids(prompts: Sequence[str]) -> list[list[int]]:
    """Token ids of prompts in the chat form that the pipeline gives its text encoder, without padding."""
    tokenizer = build_tokenizer()
    form = chat_text(tokenizer, "\0")  # once: to fill it in is faster than to render it for every prompt
    return tokenizer([form.replace("\0", prompt) for prompt in prompts])["input_ids"]


@dataclass
class StickerPool:
    """Samples of one kind and length on the device.

    ids: int32 N x length, padded. lengths: int16 N. which: int64 N, rows of `edited` and of each canvas.
    edited: bool M x 9. canvases: references first and the target last, half-precision tokens M x 9 x C.
    """

    ids: torch.Tensor
    lengths: torch.Tensor
    which: torch.Tensor
    edited: torch.Tensor
    canvases: list[torch.Tensor]

    @classmethod
    def encode(cls, parts: Sequence[Prepared], vae: Vae, renderer: BatchRenderer) -> StickerPool:
        """Draw the samples and encode them."""
        device = renderer.device
        offsets = np.cumsum([0, *(len(part.edited) for part in parts)])[:-1]
        which = np.concatenate([part.which + offset for part, offset in zip(parts, offsets)])
        canvases = [
            encoded(
                np.concatenate([part.cells[place] for part in parts]),
                np.concatenate([part.backdrops[place] for part in parts]),
                vae,
                renderer,
            )
            for place in range(len(parts[0].cells))
        ]

        return cls(
            torch.from_numpy(np.concatenate([part.ids for part in parts]).astype(np.int32)).to(device),
            torch.from_numpy(np.concatenate([part.lengths for part in parts])).to(device),
            torch.from_numpy(which).to(device),
            torch.from_numpy(np.concatenate([part.edited for part in parts])).to(device),
            canvases,
        )

    def __len__(self) -> int:
        return len(self.ids)


@torch.no_grad()
def encoded(cells: np.ndarray, backdrops: np.ndarray, vae: Vae, renderer: BatchRenderer):
    """Patchified latents before normalisation as half-precision tokens, N x 9 x C."""
    parts = []
    batch = 1024 if renderer.device.type == "cuda" else 16  # what fits into a CPU's cache is encoded faster
    for start in range(0, len(cells), batch):
        pictures = renderer(cells[start : start + batch], backdrops[start : start + batch]) * 2 - 1
        with autocast(renderer.device):
            latents = vae.encode(pictures.contiguous(memory_format=torch.channels_last)).latent_dist.mode()
        parts.append(patchify(latents.float()).flatten(2).transpose(1, 2).half())
    return torch.cat(parts)


@torch.no_grad()
def set_statistics(vae: Vae, tokens: torch.Tensor) -> None:
    """Set the batch-norm statistics that the pipeline normalises latents with. tokens: N x 9 x C."""
    rows = tokens.float().flatten(0, 1)
    vae.bn.running_mean.copy_(rows.mean(0))
    vae.bn.running_var.copy_(rows.var(0))


class AutocastFlow(FlowMatching):
    """FlowMatching in bfloat16 on a GPU."""

    def forward(self, ids, mask, target, references, weight) -> torch.Tensor:
        with autocast(target.device):
            return super().forward(ids, mask, target, references, weight)


def gather_pools(config: StickerFlowConfig, seed: int, workers: int, chunk: int = 10_000) -> dict[str, dict[int, list]]:
    """Make all samples in `workers` processes."""
    jobs = [
        (kind, min(chunk, count - start), config.prompts, f"{seed}/pool/{kind}/{start}")
        for kind, count in config.pool.items()
        for start in range(0, count, chunk)
    ]
    found: dict[str, dict[int, list]] = {kind: {} for kind in config.pool}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as processes:
        for (kind, *_), made in zip(jobs, processes.map(prepare, *zip(*jobs))):
            for length, part in made.items():
                found[kind].setdefault(length, []).append(part)
    return found


def train_flow(
    pipe,
    renderer: BatchRenderer,
    folder: Path,
    config: StickerFlowConfig,
    *,
    seed: int,
    accelerator: Accelerator,
    workers: int = 2,
    statistics: bool = True,
    report=print,
) -> None:
    """Trains pipe.transformer and pipe.text_encoder on latents of pipe.vae, whose encoder must be trained.

    statistics: sets the mean and the variance by which the pipeline normalises latents; not for a transformer that was
    trained with those of the VAE.
    """
    device, rank = accelerator.device, accelerator.process_index
    vae = pipe.vae.to(device).requires_grad_(False).eval()
    pools = _pools(config, seed + rank, workers, vae, renderer, folder / f"pool-{rank}.safetensors", report)
    if statistics:
        set_statistics(vae, torch.cat([pool.canvases[-1][:20_000] for pool in pools.values()]))
    for pool in pools.values():
        pool.canvases = [_normal(canvas, vae) for canvas in pool.canvases]
    report("encoded " + ", ".join(f"{len(pool)} {kind} of {length}" for (kind, length), pool in pools.items()))
    odds = {key: config.share[key[0]] * len(pool) / _total(pools, key[0]) for key, pool in pools.items()}
    blank = {length: _blank(pipe, length, device) for _, length in pools}

    def loss_of(wrapped: torch.nn.Module, step: int) -> torch.Tensor:
        key = random.Random(f"{seed}/step/{step}").choices(list(odds), list(odds.values()))[0]
        pool = pools[key]
        generator = torch.Generator(device).manual_seed(random.Random(f"{seed}/step/{step}/{rank}").getrandbits(60))
        rows = torch.randint(len(pool), (config.batch,), device=device, generator=generator)
        which = pool.which[rows]
        ids, lengths = pool.ids[rows].long(), pool.lengths[rows].long()
        dropped = torch.rand(config.batch, device=device, generator=generator) < config.drop_text
        empty, size = blank[key[1]]
        ids, lengths = torch.where(dropped[:, None], empty, ids), torch.where(dropped, size, lengths)
        mask = (torch.arange(ids.shape[1], device=device)[None] < lengths[:, None]).long()
        edited = pool.edited[which].float()
        *references, target = (canvas[which].float() for canvas in pool.canvases)
        if references:
            references[0] = spoil(references[0], edited, config.spoil)
            references = [
                each
                + config.reference_noise
                * torch.rand(len(which), 1, 1, device=device, generator=generator)
                * torch.randn_like(each)
                for each in references
            ]
        weight = 1 + (config.edited_weight - 1) * edited
        return wrapped(ids, mask, target, references, weight)

    objective = AutocastFlow(pipe.transformer, pipe.text_encoder, config.sigma_mean, config.sigma_std)
    fit(objective, loss_of, config.schedule, folder, seed=seed, accelerator=accelerator, report=report)


def _pools(
    config: StickerFlowConfig, seed: int, workers: int, vae: Vae, renderer: BatchRenderer, file: Path, report
) -> dict[tuple[str, int], StickerPool]:
    """Return the samples of each kind and length. On a CPU, where it takes long to encode them, they are kept in `file`
    for the time when the training is resumed."""
    if file.exists():
        return _kept(load_file(file))
    made = gather_pools(config, seed, workers)
    report("samples made")
    pools = {
        (kind, length): StickerPool.encode(parts, vae, renderer)
        for kind, several in sorted(made.items())
        for length, parts in sorted(several.items())
    }
    if renderer.device.type == "cpu":
        tensors = {}
        for (kind, length), pool in pools.items():
            parts = {f"canvas-{place}": canvas for place, canvas in enumerate(pool.canvases)}
            parts |= {"ids": pool.ids, "lengths": pool.lengths, "which": pool.which, "edited": pool.edited}
            tensors |= {f"{kind}/{length}/{name}": value.contiguous() for name, value in parts.items()}
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, save(tensors))
    return pools


def _kept(tensors: dict[str, torch.Tensor]) -> dict[tuple[str, int], StickerPool]:
    found: dict[tuple[str, int], dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        kind, length, part = name.split("/")
        found.setdefault((kind, int(length)), {})[part] = value
    return {
        key: StickerPool(
            parts["ids"],
            parts["lengths"],
            parts["which"],
            parts["edited"],
            [parts[name] for name in sorted(parts) if name.startswith("canvas-")],
        )
        for key, parts in sorted(found.items())
    }


def _normal(tokens: torch.Tensor, vae: Vae, batch: int = 65_536) -> torch.Tensor:
    """Normalise tokens N x 9 x C as the pipeline does; in half precision."""
    mean = vae.bn.running_mean
    std = torch.sqrt(vae.bn.running_var + vae.config.batch_norm_eps)
    return torch.cat([((part.float() - mean) / std).half() for part in tokens.split(batch)])


def _total(pools: dict, kind: str) -> int:
    return sum(len(pool) for (other, _), pool in pools.items() if other == kind)


def _blank(pipe, length: int, device) -> tuple[torch.Tensor, int]:
    ids = token_ids([""])[0]
    return torch.tensor([*ids, *[0] * (length - len(ids))], device=device), len(ids)
