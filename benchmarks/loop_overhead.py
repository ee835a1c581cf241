"""What a round of the loop costs beside the models: prompts, parsing, decisions, the journal, the pictures, each fsynced to disk.

The models are fakes that answer at once; what they take is subtracted. Of ten goals half a goal is gained in every second round, the
other rounds are rolled back.

python benchmarks/loop_overhead.py [--strategy clvr] [--size 96] [--repeat 3] [--processor] [--out DIR] [--json FILE]
python benchmarks/loop_overhead.py --cli    the README's first job from the command line, imports included
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from clvr_core.brief import Brief, Budget
from clvr_core.policy import LOOPS
from clvr_core.protocols import Decision, Drawing, Reply
from clvr_core.run.run_folder import RunFolder
from clvr_core.run.session import RunModels, Session, drive

ROUNDS = (10, 20, 50)
GOALS = 10
BAR = 5.0
"""Milliseconds a round."""
GROWTH = 1.0
"""Milliseconds by which the last five of the longest run's rounds may be dearer than its first five."""
CLI_BAR = 15.0
JOB = (
    "a large yellow umbrella, two small green trees, a small red cat, two blue cars and a purple cake at night. the red cat is left "
    "of the yellow umbrella. the purple cake is above the red cat. the purple cake is right of the yellow umbrella"
)


now = time.perf_counter
"""The clock; `--processor` sets another."""


class Clock:
    """Time spent in what is not the loop."""

    def __init__(self) -> None:
        self.spent = 0.0

    def __enter__(self) -> None:
        self.started = now()

    def __exit__(self, *_: object) -> None:
        self.spent += now() - self.started


class FakeVlm:
    name = "fake-vlm"

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def chat(self, messages, schema) -> Reply:
        with self.clock:
            data = messages[-1].data
            if data["task"] == "goals":
                value = {
                    "goals": [
                        {"text": f"thing number {number} is to be seen", "kind": "local"} for number in range(GOALS)
                    ]
                }
            else:
                kind = "GENERATE" if data["current"] is None else "EDIT"
                words = "put the missing thing in its place and keep everything else exactly as it is"
                value = {
                    "kind": kind,
                    "summary": words,
                    "edit_prompt": words,
                    "scene_prompt": words,
                    "goals": data["focus"][:2],
                }
            return Reply(json.dumps(value), tokens=100)

    def decide(self, images, questions) -> list[Decision]:
        with self.clock:
            if questions[0].data["task"] != "goal":
                return [Decision(0.9)] * len(questions)
            halves = min(int.from_bytes(images[0][0, 0].tobytes(), "big") // 2, 2 * GOALS - 1)
            return [
                Decision(0.95 if halves >= 2 * number + 2 else 0.5 if halves == 2 * number + 1 else 0.05)
                for number in range(len(questions))
            ]


class FakeExecutor:
    """Flat patches, as the embedded world draws them, with the number of the canvas in the first pixel."""

    name = "fake-executor"

    def __init__(self, clock: Clock, size: int) -> None:
        self.clock, self.size, self.drawn = clock, size, 0
        patches = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        self.patches = np.kron(patches, np.ones((-(-size // 6), -(-size // 6), 1), np.uint8))[:size, :size]

    def nfe(self, request) -> int:
        return 4

    def draw(self, requests) -> list[Drawing]:
        with self.clock:
            drawings = []
            for _ in requests:
                picture = np.roll(self.patches, self.drawn, 0)
                picture[0, 0] = tuple(self.drawn.to_bytes(3, "big"))
                drawings.append(Drawing(picture, 4))
                self.drawn += 1
            return drawings


@dataclass(frozen=True)
class Run:
    """Milliseconds beside the models: by round, of which in fsync, and once at the end for the report and the best picture."""

    rounds: tuple[float, ...]
    synced: float
    end: float


def run(strategy: str, rounds: int, size: int, folder: Path | None) -> Run:
    clock, disk, marks = Clock(), Clock(), []
    real = os.fsync

    def fsync(handle: int) -> None:
        with disk:
            real(handle)

    def listen(event: str, line: dict) -> None:
        if event in ("planned", "step"):
            marks.append(now() - clock.spent)

    budget = Budget(rounds=rounds, patience=rounds + 1)
    brief = Brief("ten things", strategy, width=size, height=size, budget=budget, candidates=1, final_ab=False)
    vlm = FakeVlm(clock)
    session = Session(
        brief, RunModels(vlm, FakeExecutor(clock, size)), folder and RunFolder.create(folder), listener=listen
    )
    os.fsync = fsync
    try:
        end = drive(session)
    finally:
        os.fsync = real
    finished = now() - clock.spent
    assert len(end.steps) == rounds, end.outcome
    between = tuple(1000 * (after - before) for before, after in pairwise(marks))
    return Run(between, 1000 * disk.spent / rounds, 1000 * (finished - marks[-1]))


def measure(strategy: str, size: int, repeat: int, out: Path | None) -> list[dict]:
    rows = []
    run(strategy, 3, size, None)
    for rounds in ROUNDS:
        for place in ("memory", "folder"):
            runs = []
            for _ in range(repeat):
                with tempfile.TemporaryDirectory(dir=out) as base:
                    runs.append(run(strategy, rounds, size, Path(base) / "run" if place == "folder" else None))
            by_round = [statistics.median(each) for each in zip(*(each.rounds for each in runs))]
            rows.append(
                {
                    "where": place,
                    "rounds": rounds,
                    "ms a round": statistics.fmean(by_round),
                    "first 5": statistics.fmean(by_round[:5]),
                    "last 5": statistics.fmean(by_round[-5:]),
                    "in fsync": statistics.median(each.synced for each in runs),
                    "end": statistics.median(each.end for each in runs),
                }
            )
    return rows


def table(rows: list[dict]) -> str:
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    lines += [
        "| " + " | ".join(f"{value:.2f}" if isinstance(value, float) else str(value) for value in row.values()) + " |"
        for row in rows
    ]
    return "\n".join(lines)


def verdicts(rows: list[dict]) -> str:
    lines = []
    for place in ("memory", "folder"):
        mine = [row for row in rows if row["where"] == place]
        worst, growth = max(row["ms a round"] for row in mine), mine[-1]["last 5"] - mine[-1]["first 5"]
        lines.append(
            f"{place}: at most {worst:.2f} ms a round, bar {BAR:g}: {'met' if worst <= BAR else 'NOT MET'}; "
            f"{growth:+.2f} ms over {ROUNDS[-1]} rounds, bar {GROWTH:g}: {'met' if growth <= GROWTH else 'NOT MET'}"
        )
    return "\n".join(lines)


def command_line(repeat: int) -> str:
    """Wall seconds of the whole command, a new process each time."""
    seconds = []
    for _ in range(repeat):
        with tempfile.TemporaryDirectory() as base:
            words = [
                sys.executable,
                "-m",
                "clvr_core.cli",
                "generate",
                JOB,
                "--strategy",
                "clvr",
                "--seed",
                "1",
                "--out",
                f"{base}/run",
                "--json",
            ]
            started = time.perf_counter()
            done = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parents[1])
            seconds.append(time.perf_counter() - started)
        if done.returncode not in (0, 3):
            return f"the command failed with {done.returncode}: {done.stderr.strip().splitlines()[-1]}"
    summary = json.loads(done.stdout.splitlines()[-1])
    spread = ", ".join(f"{each:.1f}" for each in seconds)
    return (
        f"{statistics.median(seconds):.1f} s from the command line ({spread}), bar {CLI_BAR:g}: "
        f"{'met' if statistics.median(seconds) <= CLI_BAR else 'NOT MET'}; the run itself {summary['seconds']:.1f} s, "
        f"{summary['steps']} steps, {summary['evaluations']} evaluations, goals met {summary['goals_met']} of {summary['goals']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategy", default="clvr", choices=LOOPS)
    parser.add_argument("--size", type=int, default=96, help="side of the canvas in pixels")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument(
        "--out", type=Path, help="a folder on the disk to be measured (default: the system's temporary one)"
    )
    parser.add_argument(
        "--processor",
        action="store_true",
        help="count the processor's milliseconds, which a busy machine changes less; waiting for the disk is none of them",
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--cli", action="store_true", help="time the README's first job instead")
    options = parser.parse_args()
    if options.cli:
        print(command_line(options.repeat))
        return
    if options.processor:
        global now
        now = time.process_time
    rows = measure(options.strategy, options.size, options.repeat, options.out)
    print(
        f"{options.strategy}, canvases of {options.size} x {options.size}, fsync included, median of {options.repeat}, "
        f"{'processor ' if options.processor else ''}milliseconds"
    )
    print(table(rows))
    print(verdicts(rows))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
