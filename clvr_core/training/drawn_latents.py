"""Latents that a flow drew, with the scenes that they mean: a decoder that only ever saw those of its encoder draws other
letters from them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..errors import BadInput
from ..executor.klein import KleinExecutor
from ..executor.small_klein import patchify
from ..stickers import readout
from ..stickers.codes import DX, DY, FIELDS, LOOK, NOUN, SIZE, WORD, codes
from ..stickers.phrases import whole, write
from ..stickers.sampling import random_backdrop, random_thing
from ..stickers.scene import CELLS, GRID, JITTER, MOST_LETTERS, Scene
from ..world import world_named
from .sampler import Condition, TrainingSampler
from .sticker_batches import SIGN_KIND

AT_ONCE = 128
MOST = 6
"""Things of a scene; the prompt says the place of each, and long prompts are drawn seldom."""
SIGNS = 0.4
"""Odds of a thing to be a sign."""


@dataclass(frozen=True)
class DrawnLatents:
    """latents: float N x C x 6 x 6, before normalisation. cells: int8 N x 9 x FIELDS. backdrops: int8 N. asked: how many
    were drawn; those that do not show what was asked for are left out."""

    latents: torch.Tensor
    cells: torch.Tensor
    backdrops: torch.Tensor
    asked: int

    def some(self, key: str, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return so many latents, cells and backdrops; the same ones for the same key."""
        rows = torch.tensor(random.Random(key).choices(range(len(self.latents)), k=count))
        return self.latents[rows], self.cells[rows], self.backdrops[rows]


def drawn_latents(
    weights: Path, layer: torch.nn.Module, count: int, seed: int, device: torch.device, tell: Callable[[str], None]
) -> DrawnLatents:
    """Draw latents of random scenes, as the recipe of the weights says, and pair each with what the encoder's linear layer
    reads from it. Those are kept in which it reads what was asked for; the offsets are those that it reads.

    weights: a folder of them, whose VAE has the encoder that `layer` reads the latents of. count: how many are drawn.
    tell: called with a line from time to time.

    Raises BadInput if the weights are missing or damaged, or draw nothing that was asked for.
    """
    executor, world = KleinExecutor.load(weights), world_named()
    sampler, sampling = TrainingSampler(executor, device), executor.recipe.generate
    rng, same = random.Random(f"drawn/{seed}"), [NOUN, LOOK, SIZE, *range(WORD, FIELDS)]
    kept: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    asked = 0
    while asked < count:
        by_length: dict[int, list[tuple[Scene, str]]] = {}
        for _ in range(AT_ONCE):
            cells = rng.sample(CELLS, rng.randint(1, MOST))
            scene = Scene(tuple(random_thing(rng, cell, SIGNS) for cell in cells), random_backdrop(rng))
            prompt = write(whole(scene), "terse")
            if len(world.tokens_of(prompt)) <= world.longest:
                by_length.setdefault(executor.text_length(prompt), []).append((scene, prompt))
        for pairs in by_length.values():
            condition = Condition(sampler.text([prompt for _, prompt in pairs]), ())
            noise = sampler.noise(condition, torch.Generator().manual_seed(rng.randrange(2**62)))
            with torch.no_grad():
                tokens = sampler.sample(sampler.pipe.transformer, condition, noise, sampling)
                latents = sampler.latents(tokens, (GRID, GRID)).float()
                seen, grounds = read_codes(layer, patchify(latents).flatten(2).transpose(1, 2))
            wanted, backdrops = codes([scene for scene, _ in pairs])
            right = (seen.cpu().numpy()[..., same] == wanted[..., same]).all((1, 2)) & (
                grounds.cpu().numpy() == backdrops
            )
            rows = torch.from_numpy(np.flatnonzero(right)).to(device)
            kept.append((latents[rows], seen[rows], grounds[rows]))
            asked += len(pairs)
        if asked // AT_ONCE % 8 == 0:
            tell(f"{asked} of {count} latents drawn, {sum(len(each[0]) for each in kept)} as they were asked for")
    if not any(len(each[0]) for each in kept):
        raise BadInput(
            f"of {asked} latents that {weights} drew none shows what was asked for; name weights of this encoder that draw well"
        )
    latents, cells, backdrops = (torch.cat(parts) for parts in zip(*kept))
    return DrawnLatents(latents, cells, backdrops, asked)


def read_codes(layer: torch.nn.Module, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the layer reads from tokens, N x 9 x C before normalisation: codes, int8 N x 9 x FIELDS, and backdrops,
    int8 N."""
    kind, look, size, *letters, backdrop, offset = layer(tokens).split(readout.SPLIT, dim=-1)
    found = torch.zeros(*kind.shape[:2], FIELDS, dtype=torch.int8, device=kind.device)
    there = kind.argmax(-1) > 0
    found[..., NOUN], found[..., LOOK], found[..., SIZE] = kind.argmax(-1), look.argmax(-1), size.argmax(-1)
    found[..., DX : DY + 1] = (offset * JITTER).round().clamp(-JITTER, JITTER).to(torch.int8)
    sign = kind.argmax(-1) == SIGN_KIND
    for place in range(MOST_LETTERS):
        found[..., WORD + place] = letters[place].argmax(-1) * sign
    return found * there[..., None], backdrop.mean(1).argmax(-1).to(torch.int8)
