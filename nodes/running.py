"""A run of the loop inside ComfyUI: its folder, its progress on the node, its cancel."""

from __future__ import annotations

from pathlib import Path

import comfy.model_management
import comfy.utils
import folder_paths
import numpy as np
import torch
from comfy_execution.utils import get_executing_context
from PIL import Image
from server import PromptServer

from ..clvr_core.brief import Brief
from ..clvr_core.folder import RunFolder
from ..clvr_core.protocols import Executor, Picture, Vlm
from ..clvr_core.session import Session, drive
from .sockets import Run

PREVIEW_SIDE = 512


def new_folder() -> Path:
    """The first of output/clvr/00001, 00002, ... that is not there yet; made here, so that no other run takes it."""
    base = Path(folder_paths.get_output_directory()) / "clvr"
    base.mkdir(parents=True, exist_ok=True)
    taken = [int(path.name) for path in base.iterdir() if path.name.isdecimal()]
    number = max(taken, default=0) + 1
    while True:
        folder = base / f"{number:05d}"
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def run(brief: Brief, vlm: Vlm, executor: Executor, folder: Path) -> tuple[Run, Picture, str]:
    """The finished run, its best picture and a sentence. Cancel takes effect within a call of the models or a denoising step."""
    context = get_executing_context()
    bar = comfy.utils.ProgressBar(brief.budget.rounds)
    session: Session

    def listen(event: str, line: dict) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if event != "step":
            return
        trajectory = session.trajectory
        drawn = sum(step.action.draws for step in trajectory.steps)
        preview = None
        if trajectory.best is not None:
            preview = ("JPEG", Image.fromarray(session.picture(trajectory.best)), PREVIEW_SIDE)
        bar.update_absolute(drawn, brief.budget.rounds, preview)
        _say(f"round {drawn} of {brief.budget.rounds}, {_met(session)}", context)

    session = Session(brief, vlm, executor, RunFolder.create(folder), listener=listen)
    checked = hasattr(executor, "check")
    if checked:
        before, executor.check = executor.check, comfy.model_management.throw_exception_if_processing_interrupted
    try:
        trajectory = drive(session)
    finally:
        if checked:
            executor.check = before
    bar.update_absolute(brief.budget.rounds, brief.budget.rounds)
    summary = f"{_met(session)} in {len(trajectory.steps)} steps and {trajectory.cost.evaluations} evaluations: {trajectory.outcome.reason}"
    summary = "\n".join([summary, *(f"warning: {warning}" for warning in trajectory.warnings)])
    _say(summary, context)
    return Run(trajectory, folder), session.picture(trajectory.best), summary


def as_image(picture: Picture) -> torch.Tensor:
    """uint8 H x W x 3 -> ComfyUI's IMAGE, float32 1 x H x W x 3 in 0..1."""
    return torch.from_numpy(picture.astype(np.float32) / 255)[None]


def _met(session: Session) -> str:
    best = session.trajectory.best_step
    met = sum(verdict.state == "met" for verdict in best.verdicts) if best else 0
    return f"{met} of {len(session.trajectory.goals)} goals met"


def _say(text: str, context) -> None:
    if context is not None and getattr(PromptServer, "instance", None):
        PromptServer.instance.send_progress_text(text, context.node_id)
