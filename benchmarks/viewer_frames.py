"""How long a frame takes while a long run is scrolled in Chromium: report.html with pictures of 512 x 512 pixels, 100 pixels a frame.

By the clock, in which all that the machine does beside it counts; and as processor time of the page's main thread, each frame with the
empty one that follows it.

    python benchmarks/viewer_frames.py [--steps 10 50 200]

Needs node, `npm ci --ignore-scripts` in tests/web, and Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from clvr_core.brief import Brief, Goal
from clvr_core.report import write_report
from clvr_core.storage.png import write_png
from clvr_core.trajectory import Action, Candidate, Cost, Step, Trajectory, Verdict

WEB = Path(__file__).parents[1] / "tests" / "web"
GOALS = tuple(Goal(f"g{number}", f"goal number {number} of this brief, in some words") for number in range(12))


def run(count: int) -> Trajectory:
    steps, kept = [], None
    for index in range(count):
        verdicts = tuple(
            Verdict(goal.id, "met" if (index + place) % 3 else "unmet", "seen in the upper half")
            for place, goal in enumerate(GOALS)
        )
        action = Action(
            "EDIT" if index else "GENERATE",
            "what is right and what is missing",
            "the scene as it should be",
            "the instruction",
            (index - 1,) if index else (),
        )
        candidate = Candidate(index, f"canvas-{index:03d}.png", index, "", 4)
        accepted = index % 5 != 4
        steps.append(
            Step(
                index,
                action,
                kept,
                (candidate,),
                index,
                verdicts,
                0.6,
                accepted=accepted,
                reason="kept",
                cost=Cost({"draw": 1.0}, 100, 2, 4, 1),
            )
        )
        kept = index if accepted else kept
    brief = replace(Brief("a long brief of twelve goals"), width=512, height=512)
    return Trajectory(brief, GOALS, steps=tuple(steps), current=kept, best=kept)


def measure(count: int, folder: Path, browser: str) -> dict:
    noise = np.random.default_rng(0)
    for canvas in range(count):
        blocks = noise.integers(0, 256, (16, 16, 3), np.uint8)
        write_png(folder / f"{canvas}.png", np.kron(blocks, np.ones((32, 32, 1), np.uint8)), {})
    page = folder / f"{count}.html"
    write_report(run(count), lambda canvas: folder / f"{canvas}.png", page)
    environment = os.environ | {"PAGE": page.as_uri(), "CHROMIUM": browser}
    done = subprocess.run(
        ["node", "e2e/frames.js"], cwd=WEB, env=environment, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1]) | {"megabytes": page.stat().st_size / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 50, 200])
    options = parser.parse_args()
    browser = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        sys.exit("no Chromium is installed, nor named by CHROMIUM")
    heads = (
        "steps",
        "page, MB",
        "shown after, ms",
        "frames",
        "median, ms",
        "95th percentile",
        "longest",
        "work, median",
        "95th percentile",
        "most",
    )
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for count in options.steps:
        with tempfile.TemporaryDirectory() as folder:
            measured = measure(count, Path(folder), browser)
        cells = [measured["megabytes"], measured["loaded"], len(measured["frames"])]
        for times in map(np.array, (measured["frames"], measured["work"])):
            cells += [np.median(times), np.percentile(times, 95), times.max()]
        print(
            f"| {count} | "
            + " | ".join(f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in cells)
            + " |",
            flush=True,
        )


if __name__ == "__main__":
    main()
