"""One resumable training loop: accelerate places it, diffusers' EMA averages it, a JSONL curve records it."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers.training_utils import EMAModel

STATE, FRESH, COMPLETE = "state", "state-new", "complete"
CURVE = "curve.jsonl"


@dataclass(frozen=True)
class Schedule:
    steps: int
    lr: float
    warmup: int = 50
    floor: float = 0.02
    weight_decay: float = 0.01
    ema: float = 0.999
    log_every: int = 50
    save_every: int = 250

    def factor(self, step: int) -> float:
        """Linear warm-up, then a cosine down to `floor` of the learning rate."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.floor + (1 - self.floor) * (0.5 + 0.5 * math.cos(math.pi * min(1.0, progress)))


class Progress:
    """What a resumed run must know besides weights and optimiser."""

    def __init__(self) -> None:
        self.step, self.seconds = 0, 0.0

    def state_dict(self) -> dict:
        return {"step": self.step, "seconds": self.seconds}

    def load_state_dict(self, state: dict) -> None:
        self.step, self.seconds = state["step"], state["seconds"]


def fit(
    model: torch.nn.Module,
    loss_of: Callable[[torch.nn.Module, int], torch.Tensor],
    schedule: Schedule,
    folder: Path,
    *,
    seed: int,
    accelerator: Accelerator,
    report: Callable[[str], None] = print,
) -> torch.nn.Module:
    """Trains `model` in place and leaves it with its averaged weights.

    `loss_of(model, step)` draws its own batch; it is given the wrapped model and must draw differently for each process.
    Goes on from `folder/state` when that exists, and appends to `folder/curve.jsonl`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    set_seed(seed, device_specific=True)
    optimizer = torch.optim.AdamW(
        (p for p in model.parameters() if p.requires_grad), schedule.lr, betas=(0.9, 0.98), weight_decay=schedule.weight_decay
    )
    ema = EMAModel(model.parameters(), decay=schedule.ema)
    progress = Progress()
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    ema.to(accelerator.device)
    accelerator.register_for_checkpointing(progress, ema)
    _settle(folder, accelerator)
    if (folder / STATE / COMPLETE).exists():
        accelerator.load_state(str(folder / STATE))
        report(f"resuming {folder.name} at step {progress.step}")
    if accelerator.is_main_process:
        _trim(folder / CURVE, progress.step)
    started, losses = time.monotonic() - progress.seconds, []
    wrapped.train()
    while progress.step < schedule.steps:
        for group in optimizer.param_groups:
            group["lr"] = schedule.lr * schedule.factor(progress.step)
        loss = loss_of(wrapped, progress.step)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(wrapped.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        ema.step(model.parameters())
        losses.append(loss.item())
        progress.step += 1
        progress.seconds = time.monotonic() - started
        last = progress.step == schedule.steps
        if accelerator.is_main_process and (last or progress.step % schedule.log_every == 0):
            mean = sum(losses) / len(losses)
            losses.clear()
            with (folder / CURVE).open("a") as curve:
                curve.write(json.dumps({"step": progress.step, "loss": round(mean, 6), "seconds": round(progress.seconds, 1)}) + "\n")
            report(f"{folder.name} {progress.step}/{schedule.steps} loss {mean:.4f} {progress.seconds:.0f} s")
        if last or progress.step % schedule.save_every == 0:
            accelerator.save_state(str(folder / FRESH))
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                (folder / FRESH / COMPLETE).touch()
            _settle(folder, accelerator)
    ema.copy_to(model.parameters())
    return model.eval()


def _settle(folder: Path, accelerator: Accelerator) -> None:
    """Puts a complete new state in the place of the old one. Killed at any moment, one of the two is whole."""
    fresh, state = folder / FRESH, folder / STATE
    if accelerator.is_main_process and (fresh / COMPLETE).exists():
        (state / COMPLETE).unlink(missing_ok=True)
        shutil.rmtree(state, ignore_errors=True)
        fresh.rename(state)
    accelerator.wait_for_everyone()


def _trim(curve: Path, step: int) -> None:
    """Takes back what was written after the state that is gone on from; the last line may have been cut."""
    lines = curve.read_text().splitlines(keepends=True) if curve.exists() else []
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    if kept != lines:
        curve.write_text("".join(kept))
