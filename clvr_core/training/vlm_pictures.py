"""By what the vision part of the embedded model learns: pictures whose places are filled at random, and wear as a model's
drawing has it."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..stickers.codes import DX, DY, FIELDS, KINDS, LOOK, LOOKS, NOUN, SIZE, WORD
from ..stickers.scene import BACKDROPS, JITTER, LETTERS, MOST_LETTERS, NOUNS, SIGN, SIZES, looks
from .vlm_model import TOKENS


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
