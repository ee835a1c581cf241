"""Tiny random weights of the real classes, and a data set of trajectories, in the embedded world."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from clvr_core.executor.small_klein import patchify, save_pipeline
from clvr_core.stickers import readout
from clvr_core.stickers.model import RECIPE, build_pipeline
from clvr_core.synthesis.data import IMAGES, Row, Turn, write_rows
from clvr_core.training.flow import to_tensor
from clvr_core.training.sticker_flow import set_statistics
from clvr_core.weights.manifest import write_manifest
from clvr_core.world import World
from tests.stickers.oracle import WORLD

__all__ = ["WORLD", "data_set", "pictures", "tiny_pipeline", "tiny_weights"]


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    """Of random scenes, as the oracle draws them."""
    rng = random.Random(seed)
    return [WORLD.render(WORLD.sampling.random_scene(rng, rng.randint(0, 8))) for _ in range(count)]


def tiny_pipeline():
    """A pipeline with random weights, whose latents are normalised for the oracle's pictures."""
    torch.manual_seed(0)
    pipe = build_pipeline(32, 1, 1, 16, (4,) * 6)
    with torch.no_grad():
        latents = pipe.vae.encode(to_tensor(pictures(16))).latent_dist.mode()
    set_statistics(pipe.vae, patchify(latents).flatten(2).transpose(1, 2))
    return pipe


def tiny_weights(folder: Path) -> Path:
    """Write them with the linear layer that reads their encoder, which is random too."""
    pipe = tiny_pipeline()
    save_pipeline(pipe, folder, replace(RECIPE, batch=8))
    layer = torch.nn.Linear(4 * pipe.vae.config.latent_channels, sum(readout.SPLIT))
    save_file(layer.state_dict(), folder / readout.FILE)
    write_manifest(folder)
    return folder


def data_set(folder: Path, rows: int = 9, steps: int = 3, world: World = WORLD) -> Path:
    (folder / IMAGES).mkdir(parents=True)
    rng, made = random.Random(5), []
    for index in range(rows):
        scene, turns = world.sampling.random_scene(rng, 3), []
        words = world.write(world.whole(scene), "terse")
        for place in range(steps):
            image = f"{IMAGES}/{index}-{place}.png"
            if place:
                edit = world.sampling.random_edit(rng, scene, "put")
                words, scene = world.instruct(edit, scene), world.apply(edit, scene)
            Image.fromarray(world.render(scene)).save(folder / image)
            kind = "EDIT" if place else "GENERATE"
            references = (place - 1,) if place else ()
            turns.append(
                Turn(
                    kind,
                    "I go on.",
                    "I go on.",
                    words,
                    world.write(world.whole(scene), "terse"),
                    image,
                    words if place else "",
                    references,
                    1.0,
                )
            )
        made.append(Row(f"{index:06d}", world.write(world.whole(scene), "terse"), index, tuple(turns), "All holds."))
    write_rows(folder, made, [])
    return folder


class Brightness:
    """A reward with variance: how light the picture is."""

    def scene(self, picture, prompt):
        return float(picture.mean()) / 255

    def edit(self, picture, references, instruction):
        return float(picture[:96].mean()) / 255

    said = scene
