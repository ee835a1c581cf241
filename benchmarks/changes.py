"""What measuring an edit without a model costs: processor milliseconds by side of the picture.

The later picture has a square that was not meant, noise everywhere, and is moved and grown a little, so that every part
of the measure has work to do.

python benchmarks/changes.py [--repeat 20] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
from PIL import Image

from clvr_core.protocols import Picture
from clvr_core.verifier.changes import measure

SIDES = (96, 512, 1024, 2048)
BAR = 25.0
"""Milliseconds at 1024 pixels, the median."""


def pictures(side: int) -> tuple[Picture, Picture]:
    rng = np.random.default_rng(0)
    dots = rng.integers(40, 215, (max(side // 8, 12),) * 2 + (3,), dtype=np.uint8)
    before = Image.fromarray(dots).resize((side, side), Image.Resampling.BICUBIC)
    grown = before.resize((side + side // 48, side + side // 48), Image.Resampling.BICUBIC).crop(
        (2, 2, side + 2, side + 2)
    )
    after = np.asarray(grown) + rng.normal(0, 3, (side, side, 3))
    after[: side // 8, : side // 8] = 255
    return np.asarray(before), np.clip(after, 0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = {}
    for side in SIDES:
        before, after = pictures(side)
        spans = []
        for _ in range(options.repeat):
            started = time.process_time()
            measure(before, after, ((0.5, 0.5, 0.75, 0.75),))
            spans.append(1000 * (time.process_time() - started))
        result[side] = {"min": min(spans), "median": statistics.median(spans), "max": max(spans)}
    print("| side | min | median | max |\n|---|---|---|---|")
    for side, row in result.items():
        print(f"| {side} | " + " | ".join(f"{value:.1f}" for value in row.values()) + " |")
    print(f"bar {BAR:g} ms at 1024: {'met' if result[1024]['median'] <= BAR else 'NOT MET'}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
