"""The programs in examples/ run as they are, each in a folder of its own: one as a process, the others in this one, which has
imported already what takes each of them seconds."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from clvr_core.models import registry
from clvr_core.models.registry import Models
from clvr_core.policy import POLICIES
from clvr_core.run.run_folder import BEST, JOURNAL, REPORT, read_trajectory
from clvr_core.world import EMBEDDED
from tests.stickers.oracle import CANVAS, OracleExecutor, load_vlm

from .syntax import tree_of

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def example(name: str, *arguments: object) -> list[str]:
    """Lines that the program prints."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as said:
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        patch.setitem(POLICIES, "clvr", POLICIES["clvr"])  # which one of them replaces for its process
        runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    return said.getvalue().splitlines()


def as_a_process(name: str, *arguments: object) -> list[str]:
    command = [sys.executable, ROOT / "examples" / name, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short_and_says_how_to_run_it(path):
    text = path.read_text("utf-8")
    assert f"python examples/{path.name}" in ast.get_docstring(tree_of(text))
    assert text.count("\n") <= 60


def test_the_page_of_the_examples_lists_them_all():
    page = (ROOT / "examples" / "README.md").read_text("utf-8")
    assert [path.name for path in EXAMPLES if f"`{path.name}`" not in page] == []


@pytest.fixture(scope="module")
def flat_run(tmp_path_factory) -> tuple[Path, list[str]]:
    """A run of the example's own executor, without weights."""
    out = tmp_path_factory.mktemp("flat") / "run"
    return out, as_a_process("own_executor.py", out)


def test_an_executor_of_ones_own_draws_for_the_loop(flat_run):
    out, lines = flat_run
    assert lines[-1].endswith("met: False")
    trajectory = read_trajectory(out)
    assert trajectory.models["executor"] == "flat-colours"
    assert len(trajectory.steps) == len(lines) - 1 == 3
    with Image.open(out / "canvas-000.png") as image:
        assert len(image.getcolors()) == 1


def test_a_trajectory_is_read(flat_run):
    lines = example("read_a_trajectory.py", flat_run[0])
    assert lines[0] == "clvr: a red cat"
    assert lines[-2].startswith("3 pictures, 3 evaluations, ")
    assert read_trajectory(flat_run[0]).outcome.reason in lines[-1]


def test_one_picture_is_judged(flat_run):
    lines = example("judge_one_picture.py", flat_run[0] / "canvas-000.png", "a red cat")
    assert [line.split()[0] for line in lines] == ["unmet"]


def test_weights_are_merged(tmp_path):
    example("merge_weights.py", tmp_path / "new")
    merged = load_file(tmp_path / "new" / "merged.safetensors")["block.weight"]
    assert np.array_equal(merged, np.ones((2, 3), np.float32))


@pytest.mark.weights
def test_a_brief_is_painted(tmp_path):
    lines = example("generate.py", "a red cat", tmp_path / "run")
    assert lines[0].startswith("met ") and lines[-1].startswith("every goal is met")
    assert {BEST, JOURNAL, REPORT} <= {path.name for path in (tmp_path / "run").iterdir()}


class Clumsy(OracleExecutor):
    """Its first drawing leaves out the umbrella, and the edits of its first round lose a cat."""

    def _scene(self, request):
        scene = super()._scene(request)
        if not request.references:
            return scene.without([thing.cell for thing in scene.things if thing.noun == "umbrella"])
        edits = sum(bool(each.references) for each in self.requests)
        cat = next(thing.cell for thing in scene.things if thing.noun == "cat")
        return scene.without([cat]) if edits <= 3 else scene


def test_a_strategy_of_ones_own_decides(tmp_path, monkeypatch):
    vlm, executor = load_vlm(), Clumsy()
    models = Models(vlm, executor, CANVAS, CANVAS, vlm.require_readable)
    monkeypatch.setitem(registry.MODELS, EMBEDDED, lambda: models)
    lines = example("own_strategy.py", tmp_path / "run")
    assert lines[-1] == "every goal is met"
    assert lines[0].startswith("GENERATE, 1 drawn: ")
    assert any(line.startswith("EDIT, 3 drawn: ") for line in lines)
    rulings = [step.ruling for step in read_trajectory(tmp_path / "run").steps]
    assert rulings == ["first canvas", "goals lost", "goals gained"]
