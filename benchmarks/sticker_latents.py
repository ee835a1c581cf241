"""What the flow of the sticker world has learnt, read from the latents that it draws: before there is a decoder worth looking at.

The linear layer that trained the encoder reads each token: kind, look, size, letters, backdrop. It saw noised tokens of drawn scenes only,
never what the flow draws; its own errors on drawn scenes stand in the first line, and bound everything below.

python benchmarks/sticker_latents.py WEIGHTS [--readout DIR] [--count 200] [--seed 90001] [--json FILE]
    WEIGHTS: folder of `clvr train stickers base`
    --readout: folder with the linear layer of the same encoder, where WEIGHTS has none, as a merge
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clvr_core.executor.klein import KleinExecutor, Sampling
from clvr_core.stickers.phrases import instruct
from clvr_core.stickers.render import render
from clvr_core.stickers.sampling import (
    brief_of,
    random_backdrop,
    random_brief,
    random_edit,
    random_scene,
    random_sign,
)
from clvr_core.stickers.scene import LETTERS, MOST_LETTERS, SIGN, Scene, apply
from clvr_core.training.drawn_latents import LatentReader, bare
from clvr_core.training.sampler import Condition, TrainingSampler

EDITS = ("put", "remove", "recolor", "resize", "move", "word", "backdrop")
FEW = Sampling(4, 1.0)


def _drawn(
    sampler: TrainingSampler, prompts: list[str], references: list[Any], sampling: Sampling, seed: int
) -> torch.Tensor:
    """Draw tokens in the order of the prompts, those of one padded length together."""
    lengths = [sampler.executor.text_length(prompt) for prompt in prompts]
    result: dict[int, torch.Tensor] = {}
    for length in sorted(set(lengths)):
        rows = [row for row, each in enumerate(lengths) if each == length]
        tokens = sampler.references([references[row] for row in rows]) if references else ()
        condition = Condition(sampler.text([prompts[row] for row in rows]), tokens)
        noise = sampler.noise(condition, torch.Generator().manual_seed(seed))
        result |= dict(zip(rows, sampler.sample(sampler.pipe.transformer, condition, noise, sampling)))
    return torch.stack([result[row] for row in range(len(prompts))])


def one_shot(
    sampler: TrainingSampler, read: LatentReader, things: int, count: int, sampling: Sampling, seed: int
) -> dict:
    """Share of briefs whose spec holds; and where words on signs do not count."""
    rng = random.Random(f"one-shot/{seed}/{things}")
    briefs = [random_brief(rng, things) for _ in range(count)]
    seen = read(_drawn(sampler, [prompt for _, _, prompt in briefs], [], sampling, seed))
    exact = [spec.holds(scene) for (_, spec, _), scene in zip(briefs, seen)]
    free = [
        replace(spec, items=tuple(replace(item, word=None) for item in spec.items)).holds(scene)
        for (_, spec, _), scene in zip(briefs, seen)
    ]
    return {"exact": float(np.mean(exact)), "words aside": float(np.mean(free))}


def lettering(
    sampler: TrainingSampler, read: LatentReader, letters: int, count: int, sampling: Sampling, seed: int
) -> dict:
    """Share of briefs of one sign with a random word of that many letters whose spec holds, and of letters that are right."""
    rng = random.Random(f"lettering/{seed}/{letters}")
    briefs = []
    for _ in range(count):
        word = "".join(rng.choices(LETTERS, k=letters))
        scene = Scene((replace(random_sign(rng, rng.randrange(9)), word=word),), random_backdrop(rng))
        briefs.append((word, *brief_of(scene, rng)))
    seen = read(_drawn(sampler, [prompt for *_, prompt in briefs], [], sampling, seed))
    words = [next((thing.word for thing in scene.things if thing.noun == SIGN), "") for scene in seen]
    right = [a == b for (word, *_), said in zip(briefs, words) for a, b in zip_longest(word, said)]
    exact = [spec.holds(scene) for (_, spec, _), scene in zip(briefs, seen)]
    return {"exact": float(np.mean(exact)), "letters": float(np.mean(right))}


def edits(sampler: TrainingSampler, read: LatentReader, kind: str, count: int, sampling: Sampling, seed: int) -> dict:
    """Share of edits after which the whole scene is as wanted; and where words on signs do not count."""
    rng = random.Random(f"edit/{seed}/{kind}")
    cases = []
    while len(cases) < count:
        before = random_scene(rng, rng.randint(1, 7))
        edit = random_edit(rng, before, kind)
        if edit.kind == kind:
            cases.append((before, apply(edit, before), instruct(edit, before)))
    seen = read(_drawn(sampler, [words for *_, words in cases], [(render(case[0]),) for case in cases], sampling, seed))
    pairs = [(after, scene) for (_, after, _), scene in zip(cases, seen)]
    return {
        "exact": float(np.mean([bare(after) == scene for after, scene in pairs])),
        "words aside": float(np.mean([bare(after, False) == bare(scene, False) for after, scene in pairs])),
    }


def readable(sampler: TrainingSampler, read: LatentReader, count: int, seed: int) -> dict:
    """Share of drawn scenes that the linear layer reads exactly from their own clean tokens."""
    rng = random.Random(f"readable/{seed}")
    scenes = [random_scene(rng, rng.randint(0, 8)) for _ in range(count)]
    seen = read(sampler.tokens([render(scene) for scene in scenes]))
    return {
        "exact": float(np.mean([bare(one) == other for one, other in zip(scenes, seen)])),
        "words aside": float(np.mean([bare(one, False) == bare(other, False) for one, other in zip(scenes, seen)])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=90001)
    parser.add_argument("--readout", type=Path, metavar="DIR")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    executor = KleinExecutor.load(options.weights)
    sampler = TrainingSampler(executor)
    read = LatentReader(sampler, options.readout or options.weights)
    recipe = executor.recipe
    found: dict[str, Any] = {
        "count": options.count,
        "seed": options.seed,
        "readable": readable(sampler, read, options.count, options.seed),
    }
    print("scenes read from their own tokens", found["readable"], flush=True)
    for name, generate, edit in (("recipe", recipe.generate, recipe.edit), ("4 steps", FEW, FEW)):
        part: dict[str, Any] = {"one shot": {}, "edits": {}, "lettering": {}}
        for things in range(1, 9):
            part["one shot"][things] = one_shot(sampler, read, things, options.count, generate, options.seed)
        for kind in EDITS:
            part["edits"][kind] = edits(sampler, read, kind, options.count, edit, options.seed)
        for letters in range(1, MOST_LETTERS + 1):
            part["lettering"][letters] = lettering(sampler, read, letters, options.count, generate, options.seed)
        found[name] = part
        for what, rows in part.items():
            other = "letters" if what == "lettering" else "words aside"
            line = "  ".join(f"{key}: {row['exact']:.3f} ({row[other]:.3f})" for key, row in rows.items())
            print(f"{name}, {what}: exact ({other})  {line}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
