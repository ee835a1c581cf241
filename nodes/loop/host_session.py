"""Sessions of the core inside ComfyUI: a whole run in one node, and the beginning of a run whose rounds are nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import comfy.model_management

from ...clvr_core import __version__
from ...clvr_core.brief import Brief, Budget
from ...clvr_core.errors import BadInput
from ...clvr_core.protocols import Picture, Vlm
from ...clvr_core.records import to_json
from ...clvr_core.run.loop import DraftGoals
from ...clvr_core.run.run_folder import RunFolder, trajectory_from
from ...clvr_core.run.run_models import RunModels
from ...clvr_core.trajectory import Trajectory
from ...clvr_core.witness.judge import without_witnesses
from ..host.progress import announce_run, interruptible, show_round, show_text
from ..host.run_folders import AGAIN, folder_for, key_of, note_used
from ..host.sockets import ExecutorHandle, Run
from ..host.stops import forget_stop, is_stopping, say_stop
from ..host.summaries import summary_of

if TYPE_CHECKING:
    from ...clvr_core.run.session import Listener, Reviewer, Session


def session_for(
    led_by: str,
    brief: Brief,
    vlm: Vlm,
    executor: ExecutorHandle,
    picture: Picture | None = None,
    listener: Listener | None = None,
    reviewer: Reviewer | None = None,
    opened: Callable[[RunFolder], object] = lambda folder: None,
    references: Mapping[str, Picture] = MappingProxyType({}),
) -> Session:
    """Start the run of this brief by these models, or continue it if its folder exists. Raises BadInput if it cannot.

    The budget is not part of the run's key, so that a run continues under a larger one.

    led_by: "one node" or "nodes"; the two keep separate runs.
    picture: what the run starts from, None for nothing.
    opened: called with the run's folder before anything is drawn in it.
    references: pictures of the brief's references by name.
    """
    from ...clvr_core.run.session import Session, go_on

    key = key_of(
        [
            led_by,
            __version__,
            to_json(replace(brief, budget=Budget())),
            vlm.name,
            executor.executor.name,
            executor.weights,
        ]
    )
    folder = RunFolder.reopen(folder_for(key, brief.budget), AGAIN)
    opened(folder)
    note_used(folder.path)
    forget_stop(folder.path)
    models = RunModels(without_witnesses(vlm), executor.executor, judge=vlm)
    if not folder.lines:
        return Session(
            brief, models, folder, listener=listener, reviewer=reviewer, picture=picture, references=references
        )
    try:
        return go_on(folder, models, brief.budget, listener, reviewer=reviewer)
    except BadInput as error:
        raise BadInput(
            f"{error}; to draw the whole run anew delete {folder.path.name} in the output folder under clvr"
        ) from error


def generate(
    brief: Brief,
    vlm: Vlm,
    executor: ExecutorHandle,
    picture: Picture | None = None,
    ask: Callable[[Trajectory, str], tuple] | None = None,
    opened: Callable[[RunFolder], object] = lambda folder: None,
    references: Mapping[str, Picture] = MappingProxyType({}),
) -> tuple[Run, Picture, str]:
    """Run the loop to its end; return the run, its best picture and its summary. Raises BadInput without a picture.

    picture: what the run starts from, None for nothing.
    ask: called after each step with trajectory and name of the run's folder; returns the artist's remark and mask.
    opened: called with the run's folder before anything is drawn in it.
    """
    from ...clvr_core.run.session import drive

    session: Session

    def listen(event: str, line: dict) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        if event != "start":
            announce_run(session.folder.path)
        if event == "step" and is_stopping(session.folder.path):
            session.reviewer = say_stop
        if event == "step":
            trajectory = session.trajectory
            show_round(trajectory, None if trajectory.best is None else session.picture(trajectory.best))

    reviewer = (lambda trajectory: ask(trajectory, session.folder.path.name)) if ask else None
    session = session_for("one node", brief, vlm, executor, picture, listen, reviewer, opened, references)
    announce_run(session.folder.path)
    with interruptible(executor.executor):
        trajectory = drive(session)
    if trajectory.best is None:
        raise BadInput(f"no picture was drawn: {trajectory.outcome.reason}; raise that limit")
    summary = summary_of(trajectory)
    show_text(summary)
    run = Run(trajectory, session.folder.path, session.position, executor.executor)
    return run, session.picture(trajectory.best), summary


def begin(
    brief: Brief,
    vlm: Vlm,
    executor: ExecutorHandle,
    picture: Picture | None = None,
    opened: Callable[[RunFolder], object] = lambda folder: None,
    references: Mapping[str, Picture] = MappingProxyType({}),
) -> Run:
    """Start a run and plan it; return it as of its plan. If it was recorded further, the nodes of the body read the
    rest from its journal.
    """
    session = session_for("nodes", brief, vlm, executor, picture, opened=opened, references=references)
    call = session.advance()
    if isinstance(call, DraftGoals):
        comfy.model_management.throw_exception_if_processing_interrupted()
        result = session.perform(call)
        session.note(call, result)
        session.advance(result)
    session.folder.close()
    announce_run(session.folder.path)
    planned = [line["event"] for line in session.folder.lines].index("planned") + 1
    return Run(trajectory_from(session.folder.lines[:planned]), session.folder.path, planned, executor.executor)
