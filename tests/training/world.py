"""Tiny random weights of the real classes, and a data set of rendered trajectories."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from clvr_core.shapes.model import RECIPE, build_pipeline, save_pipeline
from clvr_core.shapes.phrases import instruct, whole, write
from clvr_core.shapes.render import render
from clvr_core.shapes.sampling import random_edit, random_scene
from clvr_core.shapes.scene import apply
from clvr_core.synthesis.data import IMAGES, Row, Turn, write_rows
from clvr_core.training.pretrain import set_statistics

TINY = (32, 1, 1, 16, (4, 4, 4, 4, 4))


def tiny_weights(folder: Path) -> Path:
    torch.manual_seed(0)
    pipe = build_pipeline(*TINY)
    set_statistics(pipe.vae, seed=0, count=16)
    save_pipeline(pipe, folder, replace(RECIPE, batch=8))
    return folder


def data_set(folder: Path, rows: int = 9, steps: int = 3) -> Path:
    (folder / IMAGES).mkdir(parents=True)
    rng, made = random.Random(5), []
    for index in range(rows):
        scene, turns = random_scene(rng, 3), []
        words = write(whole(scene), "terse")
        for place in range(steps):
            image = f"{IMAGES}/{index}-{place}.png"
            if place:
                edit = random_edit(rng, scene, "put")
                words, scene = instruct(edit, scene), apply(edit, scene)
            Image.fromarray(render(scene)).save(folder / image)
            kind = "EDIT" if place else "GENERATE"
            references = (place - 1,) if place else ()
            turns.append(
                Turn(
                    kind,
                    "I go on.",
                    "I go on.",
                    words,
                    write(whole(scene), "terse"),
                    image,
                    words if place else "",
                    references,
                    1.0,
                )
            )
        made.append(Row(f"{index:06d}", write(whole(scene), "terse"), index, tuple(turns), "All holds."))
    write_rows(folder, made, [])
    return folder
