"""What goes wrong in training leaves the last good checkpoint whole and says what to do."""

from __future__ import annotations

import errno
from contextlib import nullcontext

import pytest
import torch
from accelerate import Accelerator
from torch.nn import Linear

from clvr_core.errors import BadInput, CannotWrite
from clvr_core.storage.lock import FolderHeld
from clvr_core.training.distil import distil
from clvr_core.training.fit import Schedule, TrainingFailed, fit
from clvr_core.training.pprl import pprl
from clvr_core.training.sft import sft
from clvr_core.training.stage import settle, stage
from clvr_core.training.state import TrainingState
from clvr_core.training.sticker_base import train_stickers
from tests.faults import largest_file
from tests.storage.test_lock import Elsewhere

PLAN = Schedule(steps=6, lr=0.1, warmup=1, log_every=1, save_every=2)


def run(folder, loss=None, size: int = 3):
    torch.manual_seed(0)
    model = Linear(size, 1)

    def loss_of(wrapped, step):
        value = wrapped(torch.ones(2, size)).square().mean()
        return value * (loss or (lambda step: 1.0))(step)

    fit(model, loss_of, PLAN, folder, seed=0, accelerator=Accelerator(cpu=True), report=lambda line: None)
    return model.weight.detach().clone()


def test_a_loss_that_is_not_a_number_stops_before_it_touches_the_weights(tmp_path):
    whole = run(tmp_path / "whole")
    with pytest.raises(TrainingFailed, match="at step 3 is not a finite number"):
        run(tmp_path / "run", lambda step: float("nan") if step == 3 else 1.0)
    assert torch.equal(run(tmp_path / "run"), whole)


def test_a_full_disk_leaves_the_save_before(tmp_path, monkeypatch):
    whole, real = run(tmp_path / "whole"), TrainingState.save
    calls = []

    def full(self, folder):
        calls.append(folder)
        real(self, folder)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TrainingState, "save", full)
    with pytest.raises(TrainingFailed, match="is full; free some space"):
        run(tmp_path / "run")
    assert not (tmp_path / "run" / "state-new").exists()
    monkeypatch.undo()
    assert torch.equal(run(tmp_path / "run"), whole)


@stage
def a_stage(out, fault=None):
    with fault or nullcontext():
        run(out / "fit")
    return out


def test_a_file_that_may_not_grow_ends_a_stage_with_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingState, "save", lambda self, folder: None)
    with pytest.raises(
        CannotWrite, match=f"{tmp_path} cannot be written: .*; mend that and go on with: the same command"
    ):
        a_stage(tmp_path, largest_file(20))


def test_a_stage_that_another_process_trains_is_told_by_the_first_of_its_own(tmp_path, monkeypatch):
    other = Elsewhere(tmp_path)
    for train in (a_stage, train_stickers, distil, sft, pprl):
        with pytest.raises(FolderHeld, match="in use by another process"):
            train(tmp_path)
    monkeypatch.setenv("RANK", "1")
    assert a_stage(tmp_path) == tmp_path, "of several processes the first has the lock"
    other.ends()


def test_settings_that_a_kill_left_empty_are_none(tmp_path):
    settle(tmp_path, Schedule, tiny(tmp_path), {"seed": 1})
    said = (tmp_path / "config.json").read_bytes()
    (tmp_path / "config.json").write_bytes(b"")
    settle(tmp_path, Schedule, tiny(tmp_path), {"seed": 1})
    assert (tmp_path / "config.json").read_bytes() == said
    with pytest.raises(BadInput, match="with other settings"):
        settle(tmp_path, Schedule, tiny(tmp_path), {"seed": 2})


@pytest.mark.parametrize("text", ["", "{", "[]", '{"steps": "many"}', '{"legs": 4}', None])
def test_a_config_that_cannot_be_read_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "bad.json").write_text(text)
    with pytest.raises(BadInput, match="--config"):
        settle(tmp_path / "run", Schedule, tmp_path / "bad.json", {"seed": 1})


def tiny(folder):
    (folder / "tiny.json").write_text('{"steps": 1, "lr": 0.1}')
    return folder / "tiny.json"


@pytest.mark.parametrize("harm", ["cut", "gone", "other"])
def test_a_damaged_checkpoint_is_named_and_not_gone_on_from(tmp_path, harm):
    run(tmp_path, size=4 if harm == "other" else 3)
    file = next((tmp_path / "state").glob("weights*.safetensors"))
    if harm == "cut":
        file.write_bytes(file.read_bytes()[:40])
    elif harm == "gone":
        file.unlink()
    with pytest.raises(TrainingFailed, match="cannot be gone on from"):
        run(tmp_path)
    assert (tmp_path / "state" / "complete").exists()
