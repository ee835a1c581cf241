"""A run goes on where it was: under a larger budget, after a cancel, after a restart of the server."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from clvr_core.folder import BEST, RunFolder, trajectory_from
from tests.comfy.server import Comfy, error_of
from tests.comfy.test_generate import graph, runs

pytestmark = pytest.mark.weights
BRIEF = (
    "a large yellow circle, two small green triangles, a small red square, two blue diamonds and a purple cross. the red square is left "
    "of the yellow circle. the purple cross is above the red square. the purple cross is right of the yellow circle"
)
"""One picture of it fails, and the loop takes several rounds."""


def strokes(**inputs) -> dict:
    """Painted in sub-scenes, so that it needs several rounds."""
    return graph(**{"prompt": BRIEF, "strategy": "strokes", "patience": 50} | inputs)


def drawn(folder: Path) -> dict[str, int]:
    """Each canvas with the moment at which it was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("canvas-*.png")}


def go(comfy: Comfy, prompt: dict) -> Path:
    """The folder of the run that the prompt began or went on with."""
    entry = comfy.run(prompt)
    assert entry["status"]["status_str"] == "success", error_of(entry)
    return max(runs(comfy), key=lambda path: (path / BEST).stat().st_mtime_ns if (path / BEST).exists() else 0)


def cancelled_after_a_round(comfy: Comfy, prompt: dict) -> Path:
    before = runs(comfy)
    queued = comfy.queue(prompt)
    while not (fresh := [path for path in runs(comfy) if path not in before]) or not (fresh[0] / "canvas-001.png").exists():
        time.sleep(0.05)
    comfy.interrupt()
    entry = comfy.wait(queued)
    assert any(kind == "execution_interrupted" for kind, _ in entry["status"]["messages"]), entry["status"]
    return fresh[0]


def test_with_a_larger_budget_the_earlier_rounds_are_not_drawn_again(comfy):
    short = go(comfy, strokes(seed=21, rounds=1))
    before = drawn(short)
    assert len(before) == 1
    assert go(comfy, strokes(seed=21, rounds=3)) == short
    after = drawn(short)
    assert before.items() < after.items() and trajectory_from(RunFolder.open(short).lines).brief.budget.rounds == 3


def test_with_a_smaller_budget_the_longer_run_is_left_alone(comfy):
    long = go(comfy, strokes(seed=22, rounds=2))
    before = drawn(long)
    short = go(comfy, strokes(seed=22, rounds=1))
    assert short != long and drawn(long) == before and len(drawn(short)) == 1
    assert (short / "canvas-000.png").read_bytes() == (long / "canvas-000.png").read_bytes()


def test_after_a_cancel_it_goes_on(comfy):
    folder = cancelled_after_a_round(comfy, strokes(seed=23, rounds=50))
    assert not (folder / BEST).exists() and trajectory_from(RunFolder.open(folder).lines).goals
    before = drawn(folder)
    rounds = len(before) + 1
    assert go(comfy, strokes(seed=23, rounds=50)) == folder
    kept = list(before)[:1]
    assert {name: drawn(folder)[name] for name in kept} == {name: before[name] for name in kept} and len(drawn(folder)) >= rounds - 1


def test_after_a_restart_of_the_server_it_goes_on(comfy):
    folder = go(comfy, strokes(seed=24, rounds=1))
    before = drawn(folder)
    with Comfy(comfy.base) as again:
        assert go(again, strokes(seed=24, rounds=2)) == folder
        after = drawn(folder)
        assert before.items() < after.items() and len(after) == 2
        assert go(again, strokes(seed=24, rounds=2)) == folder and drawn(folder) == after
