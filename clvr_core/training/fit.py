"""One resumable training loop: accelerate places the model, diffusers' EMA averages it, JSONL records the loss."""

from __future__ import annotations

import errno
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers.training_utils import EMAModel

from ..errors import BadInput
from ..storage.atomic import write_bytes
from .muon import MuonAndAdamW
from .state import TrainingState

STATE, FRESH, COMPLETE = "state", "state-new", "complete"
CURVE = "curve.jsonl"


@dataclass(frozen=True)
class Schedule:
    """How long, how fast and how often.

    muon: rate of Muon for matrices and filters, as a multiple of `lr`, which is AdamW's for everything else; 0 for AdamW
        alone.
    seconds: ends training after this time too, with the learning rate brought down by then; None for no limit. Two runs
        with a limit take different numbers of steps.
    """

    steps: int
    lr: float
    warmup: int = 50
    floor: float = 0.02
    weight_decay: float = 0.01
    ema: float = 0.999
    log_every: int = 50
    save_every: int = 250
    muon: float = 0.0
    seconds: float | None = None

    def factor(self, step: int, elapsed: float = 0.0) -> float:
        """Linear warm-up, then a cosine down to `floor` of the learning rate. elapsed: seconds of training so far."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        if self.seconds:
            progress = max(progress, elapsed / self.seconds)
        return self.floor + (1 - self.floor) * (0.5 + 0.5 * math.cos(math.pi * min(1.0, progress)))


class TrainingFailed(BadInput):
    """Training cannot continue. The last saved state is whole."""


def fit(
    model: torch.nn.Module,
    loss_of: Callable[[torch.nn.Module, int], torch.Tensor],
    schedule: Schedule,
    folder: Path,
    *,
    seed: int,
    accelerator: Accelerator,
    report: Callable[[str], None] = print,
    resumed: Callable[[int], None] = lambda step: None,
    beside: Sequence[torch.Tensor] = (),
) -> torch.nn.Module:
    """Train `model` in place; at the end it has the averaged weights, or the last ones if `schedule.ema` is 0.

    loss_of: called with the wrapped model and the step. It draws its own batch, a different one in each process.
    folder: for the state and `curve.jsonl`. A state that is there is continued.
    report: called with a line about the progress.
    resumed: called with the number of steps done before the first one.
    beside: further tensors that the state holds; those of a state that is continued are loaded in place.

    Raises TrainingFailed for a state that is damaged or of another model, a loss that is not finite, and a full disk.
    The state on disk is then the last good one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    set_seed(seed, device_specific=True)
    trained = [p for p in model.parameters() if p.requires_grad]
    if schedule.muon:
        optimizer = MuonAndAdamW(trained, schedule.lr, muon=schedule.muon, decay=schedule.weight_decay)
    else:
        optimizer = torch.optim.AdamW(trained, schedule.lr, betas=(0.9, 0.98), weight_decay=schedule.weight_decay)
    on_gpu = accelerator.device.type == "cuda"  # many small tensors, each a launch of its own otherwise
    # Without averaging there is no copy either: the weights may be spread over processes that hold a part each.
    ema = EMAModel(trained, decay=schedule.ema, foreach=on_gpu) if schedule.ema else None
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    if ema:
        ema.to(accelerator.device)
    progress = TrainingState(model, optimizer, accelerator, ema, beside)
    _settle(folder, accelerator)
    if (folder / STATE / COMPLETE).exists():
        _load(folder / STATE, progress)
        report(f"resuming {folder.name} at step {progress.step}")
    if accelerator.is_main_process:
        trim(folder / CURVE, progress.step)
    resumed(progress.step)
    started, losses = time.monotonic() - progress.seconds, []
    wrapped.train()

    def late() -> bool:
        if schedule.seconds is None:
            return False
        over = torch.tensor(float(progress.seconds >= schedule.seconds), device=accelerator.device)
        return bool(cast(torch.Tensor, accelerator.reduce(over)).item())  # all processes stop at the same step

    while progress.step < schedule.steps and not late():
        for group in optimizer.param_groups:
            group["lr"] = schedule.lr * schedule.factor(progress.step, progress.seconds)
        loss = loss_of(wrapped, progress.step)
        _require_finite(loss, accelerator, folder, progress.step)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(wrapped.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if ema:
            ema.step([p for p in model.parameters() if p.requires_grad])
        losses.append(loss.item())
        progress.step += 1
        progress.seconds = time.monotonic() - started
        last = progress.step == schedule.steps or late()
        if accelerator.is_main_process and (last or progress.step % schedule.log_every == 0):
            mean = sum(losses) / len(losses)
            losses.clear()
            with (folder / CURVE).open("a") as curve:
                curve.write(
                    json.dumps({"step": progress.step, "loss": round(mean, 6), "seconds": round(progress.seconds, 1)})
                    + "\n"
                )
            report(f"{folder.name} {progress.step}/{schedule.steps} loss {mean:.4f} {progress.seconds:.0f} s")
        if last or progress.step % schedule.save_every == 0:
            _save(folder / FRESH, progress)
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                (folder / FRESH / COMPLETE).touch()
            _settle(folder, accelerator)
    if ema:
        ema.copy_to([p for p in model.parameters() if p.requires_grad])
    return model.eval()


def _load(folder: Path, state: TrainingState) -> None:
    try:
        state.load(folder)
    except Exception as error:  # safetensors, json and torch each raise their own kinds for a damaged file
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TrainingFailed(
            f"the checkpoint {folder} cannot be gone on from: {first[:300]}; restore it, or remove the folder {folder.parent} to begin anew"
        ) from error


def _save(fresh: Path, state: TrainingState) -> None:
    try:
        state.save(fresh)
    except Exception as error:  # torch and safetensors wrap what the disk says in errors of their own
        if not _is_full(error, fresh.parent):
            raise
        shutil.rmtree(fresh, ignore_errors=True)
        raise TrainingFailed(
            f"the disk of {fresh.parent} is full; free some space and give the same command, the last save is whole"
        ) from error


def _is_full(error: BaseException, folder: Path) -> bool:
    said = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in said or "No space left" in str(error) or shutil.disk_usage(folder).free == 0


def _require_finite(loss: torch.Tensor, accelerator: Accelerator, folder: Path, step: int) -> None:
    """Raise TrainingFailed in all processes if the loss of one is not finite: one that stopped alone would leave the
    others waiting."""
    spoilt = cast(torch.Tensor, accelerator.reduce((~torch.isfinite(loss.detach())).float()))
    if spoilt.item():
        raise TrainingFailed(
            f"the loss of {folder.name} at step {step} is not a finite number; the weights saved before it are whole: "
            "go on from them with a lower learning rate, or look at the data"
        )


def _settle(folder: Path, accelerator: Accelerator) -> None:
    """Replace the old state by a complete new one. Killed at any moment, one of the two is whole."""
    fresh, state = folder / FRESH, folder / STATE
    if accelerator.is_main_process and (fresh / COMPLETE).exists():
        (state / COMPLETE).unlink(missing_ok=True)
        shutil.rmtree(state, ignore_errors=True)
        fresh.rename(state)
    accelerator.wait_for_everyone()


def trim(curve: Path, step: int) -> None:
    """Remove the lines of a curve that were written after the state that is continued, and a last line that was cut."""
    lines = curve.read_text().splitlines(keepends=True) if curve.exists() else []
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    if kept != lines:
        write_bytes(curve, "".join(kept).encode())
