"""A run goes on where it was under a larger budget; after a cancel: test_while_it_runs.py; after a restart of the server: test_bare.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from clvr_core.run.run_folder import BEST, RunFolder, trajectory_from
from tests.comfy.graphs import BRIEF, drawn, graph, in_one, runs
from tests.comfy.server import Comfy, error_of

pytestmark = pytest.mark.weights


def strokes(**inputs) -> dict:
    """Painted in sub-scenes, so that it needs several rounds."""
    return graph(**{"prompt": BRIEF, "strategy": "strokes", "patience": 50} | inputs)


def go(comfy: Comfy, prompt: dict) -> Path:
    """The folder of the run that the prompt began or went on with."""
    entry = comfy.run(prompt)
    assert entry["status"]["status_str"] == "success", error_of(entry)
    return max(runs(comfy), key=lambda path: (path / BEST).stat().st_mtime_ns if (path / BEST).exists() else 0)


def test_with_a_larger_budget_the_earlier_rounds_are_not_drawn_again(comfy):
    short = go(comfy, strokes(seed=21, rounds=1))
    before = drawn(short)
    assert len(before) == 1
    assert go(comfy, strokes(seed=21, rounds=3)) == short
    after = drawn(short)
    assert before.items() < after.items() and trajectory_from(RunFolder.open(short).lines).brief.budget.rounds == 3


def test_with_a_smaller_budget_the_longer_run_is_left_alone(comfy):
    long = go(comfy, in_one(22, rounds=2))
    before = drawn(long)
    short = go(comfy, in_one(22, rounds=1))
    assert short != long and drawn(long) == before and len(drawn(short)) == 1
    assert (short / "canvas-000.png").read_bytes() == (long / "canvas-000.png").read_bytes()
