"""Run folders, pictures and merges of earlier versions stay readable, and keep their bytes where bytes were promised."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from clvr_core import cli
from clvr_core.errors import BadInput
from clvr_core.run.run_folder import BEST, JOURNAL, RunFolder, trajectory_from
from clvr_core.run.run_models import RunModels
from clvr_core.run.session import drive, resume
from clvr_core.storage.png import trajectory_of
from tests.fakes import FakeExecutor, FakeVlm
from tests.run.recorded import models_of, whole_lines

DATA = Path(__file__).parent / "data" / "before_the_move"
RUNS = {"clvr": (5, True, 3), "director": (1, True, 2), "strokes": (6, True, 5), "embedded": (1, True, 0)}
"""Of each finished run: how many steps it has, whether the goals were met, the canvas that was handed over."""


def copy(name: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(DATA / "runs" / name, tmp_path / name))


def digests(folder: Path) -> list[str]:
    """SHA-256 of the pixels of each picture that the journal says was drawn."""
    lines = [json.loads(line) for line in (folder / JOURNAL).read_bytes().splitlines()]
    return [
        candidate["sha256"] for line in lines if line["event"] == "drawn" for candidate in line["result"]["candidates"]
    ]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_folder_is_read(name, tmp_path):
    steps, met, canvas = RUNS[name]
    run = trajectory_from(RunFolder.open(copy(name, tmp_path)).lines)
    assert (len(run.steps), run.outcome.met, run.outcome.canvas) == (steps, met, canvas)
    assert run.goals and all(step.verdicts for step in run.steps if step.candidates)


@pytest.mark.parametrize("name", RUNS)
def test_its_picture_tells_the_same_run(name, tmp_path):
    folder = copy(name, tmp_path)
    told, run = trajectory_of(folder / BEST), trajectory_from(RunFolder.open(folder).lines)
    assert (told.brief, told.goals, told.outcome) == (run.brief, run.goals, run.outcome)
    assert [(step.action, step.verdicts) for step in told.steps] == [(step.action, step.verdicts) for step in run.steps]


@pytest.mark.parametrize("name", ["clvr", "director", "strokes"])
def test_a_finished_run_is_replayed_without_a_call(name, tmp_path):
    folder = copy(name, tmp_path)
    models = models_of(folder, whole_lines(folder))
    run = drive(resume(RunFolder.open(folder), models))
    assert run.outcome.canvas == RUNS[name][2]
    assert (models.executor.requests, models.vlm.chats, models.vlm.decides) == ([], [], [])
    assert (folder / JOURNAL).read_bytes() == (DATA / "runs" / name / JOURNAL).read_bytes()


def test_a_run_of_the_world_before_is_not_gone_on_with(tmp_path):
    folder = RunFolder.open(copy("embedded", tmp_path))
    with pytest.raises(BadInput, match=r"made in the shapes world.*its pictures, journal and report stay readable"):
        resume(folder, RunModels(FakeVlm(), FakeExecutor()))


def test_a_run_that_was_killed_goes_on_to_the_same_pictures(tmp_path):
    whole = DATA / "runs" / "clvr"
    folder = copy("half", tmp_path)
    models = models_of(whole, whole_lines(folder))
    run = drive(resume(RunFolder.open(folder), models))
    recorded = trajectory_from(RunFolder.open(whole).lines)
    asked = [(request.prompt, request.seed) for request in models.executor.requests]
    assert len(asked) == 2, "three of its five pictures are on the disk"
    told = [(step.action.edit_prompt or step.action.scene_prompt, step.candidates[0].seed) for step in recorded.steps]
    assert asked == told[3:] and run.outcome == recorded.outcome and not models.vlm._replies
    pictures = {path.name for path in whole.glob("canvas-*.png")}
    assert {path.name for path in folder.glob("canvas-*.png")} == pictures
    assert digests(folder) == digests(whole)


def test_a_merge_is_verified_and_made_again_to_the_same_bytes(tmp_path, capsys):
    folder = shutil.copytree(DATA / "merge", tmp_path / "merge")
    assert cli.main(["merge", "--verify", str(folder / "merged.safetensors")]) == cli.DONE, capsys.readouterr().err
    words = [
        word for role in ("base", "aligned", "distilled") for word in (f"--{role}", str(folder / f"{role}.safetensors"))
    ]
    (folder / "again").mkdir()
    again = folder / "again" / "merged.safetensors"
    assert cli.main(["merge", *words, "--alpha", "0.7", "--beta", "0.85", "--out", str(again)]) == cli.DONE
    assert again.read_bytes() == (folder / "merged.safetensors").read_bytes()
