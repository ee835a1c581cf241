"""A run of the loop inside ComfyUI: its folder, its progress on the node, its cancel."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context
from execution import PromptQueue
from PIL import Image
from server import PromptServer

from ...clvr_core import __version__
from ...clvr_core.brief import Brief, Budget
from ...clvr_core.errors import BadInput
from ...clvr_core.protocols import Executor, Interruptible, Picture, Vlm
from ...clvr_core.records import to_json
from ...clvr_core.run.loop import DraftGoals
from ...clvr_core.run.run_folder import BEST, RunFolder, trajectory_from
from ...clvr_core.run.session import Listener, Reviewer, Session, drive, go_on
from ...clvr_core.run.start_image import beginning_with, crop_to_size, fit_to_canvas
from ...clvr_core.trajectory import Trajectory
from ..host.pictures import as_pictures
from ..host.sockets import ExecutorHandle, Run

PREVIEW_SIDE = 512
MAX_ROUNDS = 50
_HANDED: set[Path] = set()
_LOST: list[Path] = []


def runs() -> Path:
    return Path(folder_paths.get_output_directory()) / "clvr"


def inside(path: Path) -> Path:
    """A workflow is a stranger's: whatever it names must lie where runs lie, links followed."""
    if not folder_paths.is_within_directory(str(runs()), str(path)) or path == runs():
        raise BadInput(
            f"run is {path.name!r:.80}, which does not lie in the output folder under clvr; pick one of the list"
        )
    return path


def lost() -> int:
    """How many folders of runs that nodes of this process made or went on with are gone. It is what such a node's fingerprint says: ComfyUI
    holds what the node made, and is to have it made again when that was deleted."""
    gone = [folder for folder in _HANDED if not folder.exists()]
    _HANDED.difference_update(gone)
    _LOST.extend(gone)
    return len(_LOST)


def key_of(named: list) -> str:
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()[:16]


def folder_for(key: str, budget: Budget) -> Path:
    """The run of this key that can be gone on with under this budget, the longest of several, or one that is yet to be made.

    A run that had a larger budget is left as it is.
    """
    held: dict[Path, Budget] = {}
    number = 1
    while (path := runs() / f"{key}-{number}").exists() and (lines := RunFolder.reopen(path).lines):
        held[path] = trajectory_from(lines[:1]).brief.budget
        number += 1
    fitting = [path for path, had in held.items() if budget.covers(had)]
    return max(fitting, key=lambda path: held[path].rounds, default=path)


def session_for(
    led_by: str,
    brief: Brief,
    vlm: Vlm,
    hand: ExecutorHandle,
    picture: Picture | None = None,
    listener: Listener | None = None,
    reviewer: Reviewer | None = None,
    opened: Callable[[RunFolder], object] = lambda folder: None,
) -> Session:
    """The run of this brief by these models, begun or gone on with: the budget is no part of what it is known by. `opened` is given its
    folder before anything is drawn in it."""
    known_by = [
        led_by,
        __version__,
        to_json(replace(brief, budget=Budget())),
        vlm.name,
        hand.executor.name,
        hand.weights,
    ]
    folder = RunFolder.reopen(folder_for(key_of(known_by), brief.budget))
    opened(folder)
    _HANDED.add(folder.path)
    if not folder.lines:
        return Session(brief, vlm, hand.executor, folder, listener=listener, reviewer=reviewer, picture=picture)
    try:
        return go_on(folder, vlm, hand.executor, brief.budget, listener, reviewer=reviewer)
    except BadInput as error:
        raise BadInput(
            f"{error}; to draw the whole run anew delete {folder.path.name} in the output folder under clvr"
        ) from error


def generate(
    brief: Brief,
    vlm: Vlm,
    hand: ExecutorHandle,
    picture: Picture | None = None,
    ask: Callable[[Trajectory, str], tuple] | None = None,
    opened: Callable[[RunFolder], object] = lambda folder: None,
) -> tuple[Run, Picture, str]:
    """The finished run, its best picture and a sentence. `picture`: what it begins from. `ask` is given the run so far and the name of its
    folder after each step; `opened` its folder, first of all."""
    session: Session

    def listen(event: str, line: dict) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if event != "start":
            tell(session.folder.path)
        if event == "step":
            told = session.trajectory
            show(told, None if told.best is None else session.picture(told.best))

    reviewer = (lambda told: ask(told, session.folder.path.name)) if ask else None
    session = session_for("one node", brief, vlm, hand, picture, listen, reviewer, opened)
    tell(session.folder.path)
    with cancellable(hand.executor):
        trajectory = drive(session)
    if trajectory.best is None:
        raise BadInput(f"no picture was drawn: {trajectory.outcome.reason}; raise that limit")
    summary = summary_of(trajectory)
    say(summary)
    run = Run(trajectory, session.folder.path, session.position, hand.executor)
    return run, session.picture(trajectory.best), summary


def begin(
    brief: Brief,
    vlm: Vlm,
    hand: ExecutorHandle,
    picture: Picture | None = None,
    opened: Callable[[RunFolder], object] = lambda folder: None,
) -> Run:
    """The run as far as its plan. Whatever more is on record stands for the nodes of the body to read."""
    session = session_for("nodes", brief, vlm, hand, picture, opened=opened)
    call = session.advance()
    if isinstance(call, DraftGoals):
        comfy.model_management.throw_exception_if_processing_interrupted()
        result = session.perform(call)
        session.note(call, result)
        session.advance(result)
    tell(session.folder.path)
    planned = [line["event"] for line in session.folder.lines].index("planned") + 1
    return Run(trajectory_from(session.folder.lines[:planned]), session.folder.path, planned, hand.executor)


def shown(run: Run, under: str = "clvr") -> dict[str, list[dict[str, str]]]:
    """For the node's face and the history of the queue: the best picture, then what each round proposed."""
    trajectory = run.trajectory
    canvases = [step.chosen for step in trajectory.steps if step.chosen is not None and step.chosen != trajectory.best]
    listed = canvases if trajectory.best is None else [trajectory.best, *canvases]
    files = [RunFolder(run.folder, []).canvas_path(canvas).name for canvas in listed]
    if trajectory.outcome and trajectory.best is not None and (run.folder / BEST).is_file():
        files[0] = BEST  # the same picture, with the workflow in it
    return {
        "images": [{"filename": file, "subfolder": f"{under}/{run.folder.name}", "type": "output"} for file in files]
    }


@contextmanager
def cancellable(executor: Executor) -> Iterator[None]:
    """Cancel takes effect between two denoising steps, where the executor asks for it there."""
    if not isinstance(executor, Interruptible):
        yield
        return
    before, executor.check = executor.check, comfy.model_management.throw_exception_if_processing_interrupted
    try:
        yield
    finally:
        executor.check = before


def show(trajectory: Trajectory, picture: Picture | None) -> None:
    """The canvas, the round and the goals met, on the node that is at work."""
    rounds, drawn = trajectory.brief.budget.rounds, sum(step.action.draws for step in trajectory.steps)
    preview = None if picture is None else ("JPEG", smaller(picture), PREVIEW_SIDE)
    comfy.utils.ProgressBar(rounds).update_absolute(min(drawn, rounds), rounds, preview)
    say(f"round {drawn} of {rounds}, {met_in(trajectory)}")


def smaller(picture: Picture) -> Image.Image:
    """By a whole number, and still no smaller than the preview."""
    image, times = Image.fromarray(picture), max(picture.shape[:2]) // PREVIEW_SIDE
    return image.reduce(times) if times > 1 else image


def say(text: str) -> None:
    """Shown on the node that is at work."""
    if (node := visible_node()) and getattr(PromptServer, "instance", None):
        PromptServer.instance.send_progress_text(text, node)


def visible_node() -> str:
    """The node at work, as the artist sees it: of a clone its original. Empty where none is."""
    context = get_executing_context()
    return get_progress_state().dynprompt.get_display_node_id(context.node_id) if context else ""


def tell(run: Path) -> None:
    """Whoever shows this run has more to ask for; the node at work, and those that it feeds, are to show it."""
    server = getattr(PromptServer, "instance", None)
    if server is None:
        return
    name = run.relative_to(runs()).as_posix()
    server.send_sync("clvr.run", {"run": name})
    if server.client_id is not None:
        told = {"run": name, "node": server.last_node_id, "workflow": _workflow(server.prompt_queue)}
        server.send_sync("clvr.node", told, server.client_id)


def _workflow(queue: PromptQueue) -> str:
    """The id of the workflow at work, which other workflows that are open have not; empty for a prompt that came from none."""
    context = get_executing_context()
    running, _ = queue.get_current_queue_volatile()
    told = next((item[3] for item in running if context and item[1] == context.prompt_id), {})
    workflow = (told.get("extra_pnginfo") or {}).get("workflow")
    return str(workflow.get("id") or "") if isinstance(workflow, dict) else ""


def met_in(trajectory: Trajectory) -> str:
    best = trajectory.best_step
    met = sum(verdict.state == "met" for verdict in best.verdicts) if best else 0
    return f"{met} of {len(trajectory.goals)} goals met"


def summary_of(trajectory: Trajectory) -> str:
    ended = trajectory.outcome.reason if trajectory.outcome else "the run has not ended"
    line = (
        f"{met_in(trajectory)} in {len(trajectory.steps)} steps and {trajectory.cost.evaluations} evaluations: {ended}"
    )
    return "\n".join([line, *(f"warning: {warning}" for warning in (*trajectory.warnings, *unanswered(trajectory)))])


def unanswered(trajectory: Trajectory) -> list[str]:
    """What is to be said of a judge that failed: its silence is no verdict, and the artist should know."""
    asked = [verdict for step in trajectory.steps for verdict in step.verdicts]
    silent = [verdict.evidence for verdict in asked if verdict.state == "error"]
    return [f"the judge gave no answer to {len(silent)} of {len(asked)} questions: {silent[-1]}"] if silent else []


def start_from_image(image: torch.Tensor | None, brief: Brief, hand: ExecutorHandle) -> tuple[Brief, Picture | None]:
    """The brief of a run that begins from the first picture of this IMAGE, and the picture: scaled down to what the hand draws, its sides
    cut to what the hand can draw; as it is where it fits."""
    if image is None:
        return brief, None
    picture, size = as_pictures(image[:1])[0], (hand.width, hand.height)
    picture = fit_to_canvas(picture, *size, hand.step) if hand.step else crop_to_size(picture, *size)
    return beginning_with(brief, picture), picture
