"""By what the vision part of the embedded model learns: pictures whose places are filled at random, wear as a model's drawing
has it, and what is to be read off each place."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..stickers.codes import DX, DY, FIELDS, KINDS, LOOK, LOOKS, NOUN, SIZE, WORD
from ..stickers.scene import BACKDROPS, CELLS, JITTER, LETTERS, MOST_LETTERS, NOUNS, SIGN, SIZES, looks
from .vlm_model import TOKENS


class Marks(nn.Module):
    """Reads off a visual token what stands there, which place it is, and the backdrop; for training only."""

    sizes = (len(KINDS), len(LOOKS), len(SIZES), len(CELLS), len(BACKDROPS), *[len(LETTERS) + 1] * MOST_LETTERS)

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.line = nn.Linear(hidden, sum(self.sizes))

    def forward(self, seen: Tensor, cells: Tensor, backdrops: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss, and the shares that are right: noun, look, size, place, backdrop, letters of signs."""
        parts = self.line(seen).float().flatten(0, 1).split(self.sizes, -1)
        cells = cells.long()
        flat = cells.flatten(0, 1)
        places = torch.arange(TOKENS, device=seen.device).expand(len(seen), -1).flatten()
        thing = (flat[:, NOUN] > 0) & (flat[:, NOUN] < len(KINDS) - 1)
        sign = flat[:, NOUN] == len(KINDS) - 1
        always = torch.ones_like(sign)
        wanted = [
            (flat[:, NOUN], always),
            (flat[:, LOOK], thing),
            (flat[:, SIZE], thing),
            (places, always),
            (backdrops.long()[:, None].expand(-1, TOKENS).flatten(), always),
            *((flat[:, WORD + letter], sign) for letter in range(MOST_LETTERS)),
        ]
        losses, right = [], []
        for part, (target, counts) in zip(parts, wanted):
            weight = counts.float()
            total = weight.sum().clamp(min=1)
            losses.append((functional.cross_entropy(part, target, reduction="none") * weight).sum() / total)
            right.append(((part.argmax(-1) == target) * weight).sum() / total)
        return torch.stack(losses).sum(), torch.stack([*right[:5], torch.stack(right[5:]).mean()])


def random_codes(chance: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return codes of pictures in which every place is drawn by itself."""
    shape = (count, TOKENS)
    cells = np.zeros((*shape, FIELDS), np.int8)
    noun = chance.integers(1, len(NOUNS) + 1, shape)
    has = np.array([[False] * len(LOOKS)] + [[look in looks(noun) for look in LOOKS] for noun in NOUNS])
    look = np.where(chance.random(shape) < 0.3, 0, chance.integers(0, len(LOOKS), shape))
    cells[..., NOUN], cells[..., LOOK] = noun, np.where(has[noun, look], look, 0)
    cells[..., SIZE] = chance.integers(0, len(SIZES), shape)
    cells[..., DX], cells[..., DY] = chance.integers(-JITTER, JITTER + 1, (2, *shape))
    sign = chance.random(shape) < 0.15
    cells[sign, NOUN], cells[sign, LOOK], cells[sign, SIZE] = KINDS.index(SIGN), 0, SIZES.index("large")
    letters = chance.integers(1, len(LETTERS) + 1, (*shape, MOST_LETTERS))
    long = chance.integers(1, MOST_LETTERS + 1, shape)
    cells[..., WORD:] = np.where(sign[..., None] & (np.arange(MOST_LETTERS) < long[..., None]), letters, 0)
    cells[chance.random(shape) < 0.15] = 0
    return cells, chance.integers(0, len(BACKDROPS), count).astype(np.int8)


def worn(pictures: Tensor) -> Tensor:
    """Return the pictures as a model might draw them: some blurred, resampled, noisy, or of another light."""
    count, device = len(pictures), pictures.device

    def some(share: float) -> Tensor:
        return (torch.rand(count, 1, 1, 1, device=device) < share).float()

    side = random.choice((72, 96, 120, 144, 168, 224))
    mode = random.choice(("bilinear", "bicubic", "area"))
    small = functional.interpolate(pictures, size=(side, side), mode=mode)
    again = functional.interpolate(small, size=pictures.shape[-2:], mode="bilinear")
    mixed = torch.lerp(pictures, again, some(0.4) * torch.rand(count, 1, 1, 1, device=device).sqrt())
    soft = functional.avg_pool2d(mixed, 3, 1, 1, count_include_pad=False)
    mixed = torch.lerp(mixed, soft, some(0.3) * (torch.rand(count, 1, 1, 1, device=device) * 1.6 - 0.6))
    light = 1 + (torch.rand(count, 1, 1, 1, device=device) - 0.5) * 0.16 * some(0.4)
    tint = (torch.rand(count, 3, 1, 1, device=device) - 0.5) * 0.08 * some(0.4)
    coarse = functional.interpolate(
        torch.randn(count, 3, 24, 24, device=device), size=pictures.shape[-2:], mode="bilinear"
    )
    noise = torch.randn_like(mixed) * 0.06 * some(0.4) * torch.rand(count, 1, 1, 1, device=device)
    mixed = mixed * light + tint + noise + coarse * 0.03 * some(0.3)
    return mixed.clamp(0, 1)
