"""What the loop costs inside a real ComfyUI: time in a round that is neither model's, the first picture from a cold start, memory.

The models are scripted ones that answer at once (tests/comfy/stubs); what they take is subtracted. Their pictures have the grain of a
photograph, since flat ones are packed in no time. Rounds are timed from drawing to drawing; what comes before the first one and after the
last answer, as the report does, stands apart. Beside the time stands what the processor worked in it, on all cores, which a busy machine
changes less.

COMFYUI_DIR=... COMFYUI_PYTHON=... python benchmarks/comfy_loop.py [--side 1024] [--only rounds|cold|memory] [--json FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.comfy.graphs import in_one, looped, runs
from tests.comfy.server import ROOT, Comfy, error_of

FORMS = {"by hand": looped, "in one node": in_one}
ROUND_BAR, COLD_BAR, MEMORY_BAR = 60.0, 40.0, 300.0
"""Milliseconds a round, seconds, megabytes."""
GRAIN = 8
COLUMNS = {
    "time": "ms a round",
    "work": "processor, ms a round",
    "models": "models, ms a round",
    "around": "before and after, ms",
}
SEEDS = itertools.count(int(time.time()))


@dataclass(frozen=True)
class Moment:
    """Seconds of the clock, and what the processor had worked by then."""

    time: float
    work: float

    def __sub__(self, other: Moment) -> Moment:
        return Moment(self.time - other.time, self.work - other.work)


@dataclass(frozen=True)
class Spent:
    """Milliseconds: a round without the models, of the clock and of the processor, the models in a round, and the rest of the run."""

    time: float
    work: float
    models: float
    around: float


def run(comfy: Comfy, form: str, rounds: int, side: int) -> Spent | None:
    """None for a single round. Half a goal is gained in each round, none is rolled back."""
    said = len(comfy.log.read_text())
    script = {"goals": 30, "halves": 1, "width": side, "height": side, "grain": GRAIN}
    entry = comfy.run(FORMS[form](next(SEEDS), script=script, strategy="director", rounds=rounds, patience=50))
    assert entry["status"]["status_str"] == "success", error_of(entry)
    found = [line.split()[2:] for line in comfy.log.read_text()[said:].splitlines() if line.startswith("stub: busy ")]
    calls = [(what, *itertools.starmap(Moment, batched_by_two(map(float, numbers)))) for what, *numbers in found]
    draws = [place for place, (what, *_) in enumerate(calls) if what == "draw"]
    assert len(draws) == rounds
    if rounds == 1:
        return None
    first, last = draws[0], draws[-1]
    whole, busy = calls[last][1] - calls[first][1], [end - begin for _, begin, end in calls[first:last]]
    models, worked = sum(each.time for each in busy), sum(each.work for each in busy)
    at = {kind: body["timestamp"] / 1000 for kind, body in entry["status"]["messages"]}
    before, after = calls[first][1].time - at["execution_start"], at["execution_success"] - calls[-1][2].time
    return Spent(
        *(1000 * each / (rounds - 1) for each in (whole.time - models, whole.work - worked, models)),
        1000 * (before + after),
    )


def batched_by_two(values: Iterable[float]) -> Iterator[tuple[float, float]]:
    values = iter(values)
    return zip(values, values)


def a_round(comfy: Comfy, form: str, rounds: int, side: int, repeat: int) -> dict:
    each = [run(comfy, form, rounds, side) for _ in range(repeat)]
    found = {"loop": form, "side": side, "rounds": rounds}
    return found | {words: statistics.median(getattr(spent, name) for spent in each) for name, words in COLUMNS.items()}


def resident(comfy: Comfy, field: str = "VmRSS") -> float:
    """Megabytes."""
    lines = Path(f"/proc/{comfy.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1000


def memory(comfy: Comfy, form: str, rounds: int, side: int) -> dict:
    run(comfy, form, 2, side)
    Path(f"/proc/{comfy.process.pid}/clear_refs").write_text("5")  # the peak counts from here
    before = resident(comfy)
    run(comfy, form, rounds, side)
    grown, peak = resident(comfy) - before, resident(comfy, "VmHWM") - before
    return {"loop": form, "side": side, "rounds": rounds, "MB more after": grown, "MB more at the peak": peak}


def cold(base: Path) -> dict:
    """Seconds from the start of the server's process to its answer, the first canvas and the end of workflow 1."""
    started = time.perf_counter()
    with Comfy(base) as comfy:
        up = time.perf_counter() - started
        prompt = comfy.queue(json.loads((ROOT / "workflows" / "api" / "1-quick-try.json").read_text()))
        while not any((path / "canvas-000.png").exists() for path in runs(comfy)):
            time.sleep(0.02)
        first = time.perf_counter() - started
        entry = comfy.wait(prompt)
        assert entry["status"]["status_str"] == "success", error_of(entry)
        return {"server up, s": up, "first picture, s": first, "finished, s": time.perf_counter() - started}


def table(rows: list[dict]) -> str:
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    cells = ([f"{value:.1f}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows)
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in cells)]) + "\n"


def verdict(what: str, worst: float, bar: float) -> str:
    return f"{what}: {worst:.1f}, bar {bar:g}: {'met' if worst <= bar else 'NOT MET'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, nargs="+", default=[96, 1024], help="sides of the canvas in pixels")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", choices=("rounds", "cold", "memory"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, list[dict]] = {}
    with tempfile.TemporaryDirectory() as folder:
        if options.only in (None, "cold"):
            (Path(folder) / "cold").mkdir()
            found["cold"] = [cold(Path(folder) / "cold")]
            print(
                table(found["cold"]),
                verdict("first picture, s", found["cold"][0]["first picture, s"], COLD_BAR),
                "",
                sep="\n",
            )
        for only, measure in (("rounds", 20), ("memory", 50)):
            if options.only not in (None, only):
                continue
            (Path(folder) / only).mkdir()
            with Comfy(Path(folder) / only) as comfy:
                if only == "rounds":
                    for form in FORMS:
                        run(comfy, form, 2, options.side[0])
                    forms = [
                        (form, rounds, side) for form in FORMS for side in options.side for rounds in (5, 10, measure)
                    ]
                    found[only] = [a_round(comfy, form, rounds, side, options.repeat) for form, rounds, side in forms]
                    worst = verdict("ms a round", max(row["ms a round"] for row in found[only]), ROUND_BAR)
                else:
                    found[only] = [memory(comfy, form, measure, 1024) for form in FORMS]
                    worst = verdict("MB more after", max(row["MB more after"] for row in found[only]), MEMORY_BAR)
            print(table(found[only]), worst, "", sep="\n")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
