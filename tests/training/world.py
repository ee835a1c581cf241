"""Tiny random weights of the real classes, and a data set of rendered trajectories, in either world."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from clvr_core.executor.small_klein import save_pipeline
from clvr_core.shapes import model as shapes
from clvr_core.stickers import model as stickers
from clvr_core.synthesis.data import IMAGES, Row, Turn, write_rows
from clvr_core.training.pretrain import set_statistics
from clvr_core.world import World, world_named

WORLD = world_named("shapes")
TINY = (32, 1, 1, 16)


def tiny_weights(folder: Path, world: World = WORLD) -> Path:
    torch.manual_seed(0)
    if world.name == "shapes":
        pipe = shapes.build_pipeline(*TINY, (4,) * 5)
        set_statistics(pipe.vae, seed=0, count=16)
        save_pipeline(pipe, folder, replace(shapes.RECIPE, batch=8))
    else:
        save_pipeline(stickers.build_pipeline(*TINY, (4,) * 6), folder, replace(stickers.RECIPE, batch=8))
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
