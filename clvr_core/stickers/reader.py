"""The reader: a small convolutional network that says what stands in each cell of a picture, and which backdrop it has.

Its last class of a cell is `unclear`: blends, halves, smears, stickers out of their cell. It was trained on drawn scenes
with blur, noise, resampling and round trips through the world's VAE, and on such damage; never on what a loop wants.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..errors import BadInput
from .codes import KINDS, LOOKS
from .scene import BACKDROPS, CANVAS, GRID, LETTERS, MOST_LETTERS, SIZES

UNCLEAR = len(KINDS)
"""The class of a cell that holds something which is no clear thing."""
SPLIT = (len(KINDS) + 1, len(LOOKS), len(SIZES), 2, *(len(LETTERS) + 1 for _ in range(MOST_LETTERS)))
"""Outputs of a cell: what it holds, its look, its size, its offset in units of the jitter, its letters."""
WIDTHS = (32, 64, 96, 128)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(8, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(torch.relu(self.first(self.norm(x))))


class Reader(nn.Module):
    """float N x 3 x 192 x 192 in 0..1 -> per cell logits N x 9 x sum(SPLIT), backdrop logits N x (8 + 1).

    The last backdrop is `unclear`.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS, hidden: int = 256) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in widths:
            layers += [nn.Conv2d(before, width, 4, stride=2, padding=1), nn.ReLU(), Block(width)]
            before = width
        self.features = nn.Sequential(*layers)
        side = CANVAS // 2 ** len(widths) // GRID
        self.cell = nn.Sequential(nn.Linear(before * side * side, hidden), nn.ReLU(), nn.Linear(hidden, sum(SPLIT)))
        self.whole = nn.Sequential(
            nn.Linear(before * GRID * GRID, hidden), nn.ReLU(), nn.Linear(hidden, len(BACKDROPS) + 1)
        )

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.features(pictures * 2 - 1)
        count, width, side = len(found), found.shape[1], found.shape[2] // GRID
        cells = found.view(count, width, GRID, side, GRID, side).permute(0, 2, 4, 1, 3, 5).flatten(1, 2).flatten(2)
        return self.cell(cells), self.whole(nn.functional.adaptive_avg_pool2d(found, GRID).flatten(1))


def load(file: Path) -> Reader:
    """Load a reader in float32. Raises BadInput for a file that is missing, damaged or of another network."""
    network = Reader()
    try:
        network.load_state_dict({name: value.to(torch.float32) for name, value in load_file(file).items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise BadInput(
            f"{file} is no reader of the sticker world ({str(error).splitlines()[0]}); restore the file or train one anew"
        ) from error
    return network.eval()
