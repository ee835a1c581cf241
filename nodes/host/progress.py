"""Progress of a run: text, previews and events that ComfyUI sends to open tabs, and Cancel on its way back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import comfy.model_management
import comfy.utils
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from execution import PromptQueue
from PIL import Image
from server import PromptServer

from ...clvr_core.protocols import Executor, Interruptible, Picture
from ...clvr_core.trajectory import Trajectory
from .run_folders import name_of
from .summaries import goals_met

PREVIEW_SIDE = 512
"""Pixels of the longer side of a preview."""


def show_text(text: str) -> None:
    """Show the text on the node that is executing; do nothing outside a prompt or without a server."""
    if (node := display_node_id()) and getattr(PromptServer, "instance", None):
        PromptServer.instance.send_progress_text(text, node)


def show_round(trajectory: Trajectory, picture: Picture | None) -> None:
    """Show the best picture so far, the number of rounds drawn and the goals met on the node that is executing."""
    rounds, drawn = trajectory.brief.budget.rounds, sum(step.action.draws for step in trajectory.steps)
    preview = None if picture is None else ("JPEG", preview_of(picture), PREVIEW_SIDE)
    comfy.utils.ProgressBar(rounds).update_absolute(min(drawn, rounds), rounds, preview)
    show_text(f"round {drawn} of {rounds}, {goals_met(trajectory)}")


def preview_of(picture: Picture) -> Image.Image:
    """Shrink the picture by a whole factor, to no less than PREVIEW_SIDE."""
    image, factor = Image.fromarray(picture), max(picture.shape[:2]) // PREVIEW_SIDE
    return image.reduce(factor) if factor > 1 else image


def display_node_id() -> str:
    """Return the executing node's id as the artist sees it, for a clone its original's; empty outside a prompt."""
    context = get_executing_context()
    return get_progress_state().dynprompt.get_display_node_id(context.node_id) if context else ""


def announce_run(folder: Path) -> None:
    """Send the name of a run that has new lines: viewers fetch them, and the executing node's face shows the run."""
    server = getattr(PromptServer, "instance", None)
    if server is None:
        return
    name = name_of(folder)
    server.send_sync("clvr.run", {"run": name})
    if server.client_id is not None:
        event = {"run": name, "node": server.last_node_id, "workflow": _workflow_id(server.prompt_queue)}
        server.send_sync("clvr.node", event, server.client_id)


def _workflow_id(queue: PromptQueue) -> str:
    """Return the executing workflow's id, so that other open workflows ignore the event; empty if there is none."""
    context = get_executing_context()
    running, _ = queue.get_current_queue_volatile()
    extra = next((item[3] for item in running if context and item[1] == context.prompt_id), {})
    workflow = (extra.get("extra_pnginfo") or {}).get("workflow")
    return str(workflow.get("id") or "") if isinstance(workflow, dict) else ""


@contextmanager
def interruptible(executor: Executor) -> Iterator[None]:
    """Let Cancel end a drawing between two denoising steps, if the executor is Interruptible."""
    if not isinstance(executor, Interruptible):
        yield
        return
    before, executor.check = executor.check, comfy.model_management.throw_exception_if_processing_interrupted
    try:
        yield
    finally:
        executor.check = before
