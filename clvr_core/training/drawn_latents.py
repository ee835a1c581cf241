"""Latents that a flow drew, with the scenes that they mean: a decoder that only ever saw those of its encoder draws other
letters from them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..errors import BadInput
from ..executor.klein import KleinExecutor
from ..executor.small_klein import patchify
from ..protocols import Picture
from ..stickers import readout
from ..stickers.codes import DX, DY, FIELDS, LOOK, NOUN, SIZE, WORD, codes, scene_of
from ..stickers.phrases import whole, write
from ..stickers.sampling import Sample, edit_sample, random_backdrop, random_thing, word_sample
from ..stickers.scene import CELLS, GRID, JITTER, MOST_LETTERS, Scene
from ..world import world_named
from .sampler import Condition, TrainingSampler
from .sticker_batches import SIGN_KIND, to_uint8

AT_ONCE = 128
DECODED, CANVASES = 8, 512
"""Pictures that are decoded of latents drawn at once, and how many are kept to be edited."""
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

    def save(self, file: Path) -> None:
        """Write them whole or not at all."""
        tensors = {"latents": self.latents, "cells": self.cells, "backdrops": self.backdrops}
        there = {name: each.cpu().contiguous() for name, each in tensors.items()}
        part = file.with_suffix(".part")
        save_file(there | {"asked": torch.tensor(self.asked)}, part)
        part.replace(file)

    @staticmethod
    def load(file: Path, device: torch.device) -> DrawnLatents:
        """Raises BadInput if the file is damaged."""
        try:
            found = load_file(file, device=str(device))
            return DrawnLatents(found["latents"], found["cells"], found["backdrops"], int(found["asked"]))
        except (OSError, SafetensorError, KeyError) as error:
            raise BadInput(
                f"{file} is damaged ({str(error).splitlines()[0]}); remove it, and the latents are drawn again"
            ) from error


def drawn_latents(
    weights: Path,
    layer: torch.nn.Module,
    count: int,
    seed: int,
    device: torch.device,
    tell: Callable[[str], None],
    edited: float = 0.0,
) -> DrawnLatents:
    """Draw latents of random scenes and edits, as the recipe of the weights says, and pair each with what the encoder's
    linear layer reads from it. Those are kept in which it reads what was asked for; the offsets are those that it reads.

    weights: a folder of them, whose VAE has the encoder that `layer` reads the latents of. count: how many are drawn.
    tell: called with a line from time to time. edited: share of edits, which change pictures that were decoded from
        latents drawn before; none for 0.

    Raises BadInput if the weights are missing or damaged, or draw nothing that was asked for.
    """
    executor, rng = KleinExecutor.load(weights), random.Random(f"drawn/{seed}")
    drawer = _Drawer(TrainingSampler(executor, device), layer)
    parts: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    canvases: list[tuple[Scene, Picture]] = []
    asked = 0
    while asked < count:
        edits = round(AT_ONCE * edited) if canvases else 0
        samples = [(_told(rng), None) for _ in range(AT_ONCE - edits)]
        samples += [_edit(rng, *rng.choice(canvases)) for _ in range(edits)]
        by_length: dict[tuple[int, bool], list[tuple[Sample, Picture | None]]] = {}
        for sample, shown in samples:
            by_length.setdefault((executor.text_length(sample.prompt), shown is None), []).append((sample, shown))
        for pairs in by_length.values():
            kept = drawer(pairs, rng.randrange(2**62))
            parts.append(kept)
            asked += len(pairs)
            if edited:
                canvases += drawer.canvases(*(each[:DECODED] for each in kept))
        canvases = canvases[-CANVASES:]
        if asked // AT_ONCE % 8 == 0:
            tell(f"{asked} of {count} latents drawn, {sum(len(each[0]) for each in parts)} as they were asked for")
    if not any(len(each[0]) for each in parts):
        raise BadInput(
            f"of {asked} latents that {weights} drew none shows what was asked for; name weights of this encoder that draw well"
        )
    latents, cells, backdrops = (torch.cat(each) for each in zip(*parts))
    return DrawnLatents(latents, cells, backdrops, asked)


def _told(rng: random.Random) -> Sample:
    """Return a scene told whole, in a prompt that the embedded weights can read."""
    world = world_named()
    while True:
        cells = rng.sample(CELLS, rng.randint(1, MOST))
        scene = Scene(tuple(random_thing(rng, cell, SIGNS) for cell in cells), random_backdrop(rng))
        prompt = write(whole(scene), "terse")
        if len(world.tokens_of(prompt)) <= world.longest:
            return Sample(prompt, (), scene)


def _edit(rng: random.Random, scene: Scene, shown: Picture) -> tuple[Sample, Picture]:
    """Return an edit of a scene with the picture that shows it."""
    world = world_named()
    while True:
        sample = (word_sample if rng.random() < SIGNS else edit_sample)(rng, scene)
        if len(world.tokens_of(sample.prompt)) <= world.longest:
            return sample, shown


class _Drawer:
    def __init__(self, sampler: TrainingSampler, layer: torch.nn.Module) -> None:
        self.sampler, self.layer = sampler, layer
        self.sampling = sampler.executor.recipe.generate, sampler.executor.recipe.edit

    def __call__(
        self, pairs: Sequence[tuple[Sample, Picture | None]], seed: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Draw samples, which all have a picture to edit or all have none. Return latents, cells and backdrops of those that
        the layer reads as they were asked for."""
        sampler, same = self.sampler, [NOUN, LOOK, SIZE, *range(WORD, FIELDS)]
        shown = [picture for _, picture in pairs if picture is not None]
        references = (sampler.tokens(shown),) if shown else ()
        condition = Condition(sampler.text([sample.prompt for sample, _ in pairs]), references)
        noise = sampler.noise(condition, torch.Generator().manual_seed(seed))
        with torch.no_grad():
            tokens = sampler.sample(sampler.pipe.transformer, condition, noise, self.sampling[bool(shown)])
            latents, seen, grounds = read_tokens(sampler, self.layer, tokens)
        wanted, backdrops = codes([sample.target for sample, _ in pairs])
        right = (seen.cpu().numpy()[..., same] == wanted[..., same]).all((1, 2)) & (grounds.cpu().numpy() == backdrops)
        rows = torch.from_numpy(np.flatnonzero(right)).to(latents.device)
        return latents[rows], seen[rows], grounds[rows]

    def canvases(
        self, latents: torch.Tensor, cells: torch.Tensor, backdrops: torch.Tensor
    ) -> list[tuple[Scene, Picture]]:
        """Return what latents show, and their pictures."""
        if not len(latents):
            return []
        with torch.no_grad():
            decoded = self.sampler.pipe.vae.decode(latents, return_dict=False)[0].float()
        scenes = [scene_of(*each) for each in zip(cells.cpu().numpy(), backdrops.tolist())]
        return list(zip(scenes, to_uint8(decoded / 2 + 0.5)))


class LatentReader:
    """Reads normalised tokens of a sampler's weights by the linear layer that trained their encoder. folder: that has it.
    Raises BadInput as `readout.load_layer` does."""

    def __init__(self, sampler: TrainingSampler, folder: Path) -> None:
        self.sampler = sampler
        self.layer = readout.load_layer(folder).requires_grad_(False).to(sampler.pipe.vae.device)

    def __call__(self, tokens: torch.Tensor) -> list[Scene]:
        """tokens: N x 9 x C. Things are read without their offsets."""
        _, cells, backdrops = read_tokens(self.sampler, self.layer, tokens)
        return [bare(scene_of(*each)) for each in zip(cells.cpu().numpy(), backdrops.tolist())]


def bare(scene: Scene, words: bool = True) -> Scene:
    """Return the scene without offsets, and without words on signs if they are not to count."""
    things = [replace(thing, dx=0, dy=0, word=thing.word if words else "") for thing in scene.things]
    return Scene(tuple(things), scene.backdrop)


def read_tokens(
    sampler: TrainingSampler, layer: torch.nn.Module, tokens: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the latents of normalised tokens, N x 9 x C, and what the layer reads from them as `read_codes` does."""
    latents = sampler.latents(tokens, (GRID, GRID)).float()
    return latents, *read_codes(layer, patchify(latents).flatten(2).transpose(1, 2))


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
