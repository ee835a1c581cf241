"""What each way to combine the deltas (`clvr merge --combine`) does to the embedded weights: one shot of 4 steps on held-out briefs.

python benchmarks/combine.py [--distilled DIR] [--lora FILE] [--strength 1] [--beta 0.85] [--per-tier 4] [--seed 41]

Pass by the exact perceiver, of the same briefs and seeds for each; the difference from the sum with its paired 95 % interval over
the briefs.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from dswm_matrix import FEW, FILE, Bench
from safetensors.torch import load_file

from clvr_core.cli import main as clvr
from clvr_core.world import ALIGNED, world_named

WEIGHTS = world_named().base


def merged(options: argparse.Namespace, combine: str, out: Path) -> dict[str, torch.Tensor]:
    words = ["--base", WEIGHTS / FILE, "--distilled", options.distilled / FILE, "--beta", options.beta]
    words += ["--lora", f"{options.lora}:{options.strength}", "--combine", combine, "--dtype", "fp32", "--out", out]
    if clvr(["merge", "--json", *map(str, words)]):
        raise SystemExit(f"the merge by {combine} failed")
    return {name: value.float() for name, value in load_file(out).items()}


def interval(differences: np.ndarray) -> tuple[float, float]:
    random = np.random.default_rng(0)
    means = [random.choice(differences, len(differences)).mean() for _ in range(4000)]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--distilled", type=Path, default=WEIGHTS.parent / "distilled")
    parser.add_argument("--lora", type=Path, default=WEIGHTS.parent / ALIGNED)
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--beta", type=float, default=0.85)
    parser.add_argument("--per-tier", type=int, default=4)
    parser.add_argument("--seed", type=int, default=41)
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(WEIGHTS, options.distilled, options.per_tier, options.seed, "trace", 64)
    first = None
    with tempfile.TemporaryDirectory() as folder:
        for combine in ("sum", "ties", "orthogonal"):
            bench.use(merged(options, combine, Path(folder) / f"{combine}.safetensors"), FEW)
            passed = bench.one_shot().ravel()
            first = passed if first is None else first
            low, high = interval(passed - first)
            difference = (passed - first).mean()
            print(
                f"{combine:<11} passes {passed.mean():.3f} of {len(passed)} briefs, to the sum {difference:+.3f} [{low:+.3f}, {high:+.3f}]",
                flush=True,
            )


if __name__ == "__main__":
    main()
