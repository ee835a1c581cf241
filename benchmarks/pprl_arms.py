"""Held-out cases that LoRAs of PPRL's arms draw exactly right, and their differences: the table of docs/training.md.

python benchmarks/pprl_arms.py --data DIR [--start WEIGHTS] --lora NAME=DIR [--lora NAME=DIR ...] [--briefs 512] [--steps 6] [--seed 9]
    [--json FILE]

Cases: random briefs at once; first canvases and edits of the trajectories in DIR (a data set of `clvr synthesize`) that training holds out.
Each is drawn once, conditioned on its trace, without guidance, from the same noise for every LoRA; NAME=- stands for the weights alone.
Exactly right: by the world's own reader, everything that the proxy prompts say and nothing else. Intervals: 95 %, paired bootstrap over the
cases of all three kinds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clvr_core.evaluation.statistics import RESAMPLES, interval
from clvr_core.executor.klein import KleinExecutor, Sampling
from clvr_core.training.adapter import Lora, attach
from clvr_core.training.pprl import PprlConfig, Rollouts
from clvr_core.training.rewards import WorldReward
from clvr_core.training.sampler import TrainingSampler
from clvr_core.training.samples import Samples
from clvr_core.world import World, world_named, world_of

AT_ONCE = 64


def right(
    world: World, start: Path, lora: Path | None, data: Path, briefs: int, steps: int, seed: int, rank: Lora
) -> dict[str, list[int]]:
    """Return for each kind of case whether each one is exactly right, 0 or 1."""
    sampler = TrainingSampler(KleinExecutor.load(start))
    transformer = sampler.pipe.transformer
    if lora is not None:
        attach(transformer, rank, lora)
    # Every case by its whole trace, so that all LoRAs are asked for the same.
    config = replace(PprlConfig(), trace=1.0, sampling=Sampling(steps, 1.0))
    rollouts = Rollouts(sampler, Samples.read(data, lambda line: None), WorldReward(world), world, config)
    held = rollouts.held_out(briefs, seed)
    cases = {"briefs": held["held_scenes"], "first canvases": rollouts.firsts_held, "edits": held["held_edits"]}
    found: dict[str, list[int]] = {}
    with torch.no_grad():
        for kind, samples in cases.items():
            parts = [samples[first : first + AT_ONCE] for first in range(0, len(samples), AT_ONCE)]
            values = [rollouts.scores(transformer, part, seed + number) for number, part in enumerate(parts)]
            found[kind] = [int(value == 1) for part in values for value in part]
    return found


def compared(arms: Mapping[str, Mapping[str, Sequence[int]]]) -> dict[str, list[float]]:
    """Return for each two arms the difference of the share of all cases, and the bounds of its paired interval."""
    rng, found = np.random.default_rng(0), {}
    for one, other in combinations(arms, 2):
        gap = np.concatenate([np.subtract(arms[one][kind], arms[other][kind]) for kind in arms[one]])
        means = gap[rng.integers(0, len(gap), (RESAMPLES, len(gap)))].mean(1)
        bounds = interval(means)
        found[f"{one} - {other}"] = [round(float(each), 4) for each in (gap.mean(), bounds.low, bounds.high)]
    return found


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--start", type=Path, default=world_named().base)
    parser.add_argument("--lora", action="append", required=True, metavar="NAME=DIR")
    parser.add_argument("--briefs", type=int, default=512)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--seed", type=int, default=9)
    parser.add_argument("--rank", type=int, default=Lora().rank, help="of the LoRAs (default 32)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    world, rank, arms = world_of(options.start), Lora(options.rank, options.rank), {}
    for name, _, folder in (each.partition("=") for each in options.lora):
        lora = None if folder == "-" else Path(folder)
        arms[name] = right(world, options.start, lora, options.data, options.briefs, options.steps, options.seed, rank)
        print(name, *(f"{kind} {np.mean(cases):.2f} of {len(cases)}" for kind, cases in arms[name].items()), sep="  ")
    shares = {name: {kind: float(np.mean(cases)) for kind, cases in arm.items()} for name, arm in arms.items()}
    result = {
        "settings": {"briefs": options.briefs, "steps": options.steps, "seed": options.seed, "data": options.data.name},
        "cases": {kind: len(cases) for kind, cases in next(iter(arms.values())).items()},
        "right": shares,
        "differences": compared(arms),
    }
    for pair, (gap, low, high) in result["differences"].items():
        print(f"{pair}: {gap:+.3f} ({low:+.3f} to {high:+.3f})")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return result


if __name__ == "__main__":
    main()
