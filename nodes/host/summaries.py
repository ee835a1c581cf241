"""A run in words and files, for outputs and the faces of nodes."""

from __future__ import annotations

from ...clvr_core.run.run_folder import BEST, RunFolder
from ...clvr_core.trajectory import Trajectory
from .run_folders import name_of
from .sockets import Run


def goals_met(trajectory: Trajectory) -> str:
    """Return "2 of 3 goals met", counted on the best canvas."""
    best = trajectory.best_step
    met = sum(verdict.state == "met" for verdict in best.verdicts) if best else 0
    return f"{met} of {len(trajectory.goals)} goals met"


def summary_of(trajectory: Trajectory) -> str:
    """Return a sentence on how the run ended and what it cost, then one line for each warning."""
    ended = trajectory.outcome.reason if trajectory.outcome else "the run has not ended"
    line = (
        f"{goals_met(trajectory)} in {len(trajectory.steps)} steps and {trajectory.cost.evaluations} evaluations: "
        f"{ended}"
    )
    warnings = (*trajectory.warnings, *_judge_failures(trajectory))
    return "\n".join([line, *(f"warning: {warning}" for warning in warnings)])


def _judge_failures(trajectory: Trajectory) -> list[str]:
    """Return a warning if the judge left questions unanswered: no answer is not a verdict."""
    asked = [verdict for step in trajectory.steps for verdict in step.verdicts]
    silent = [verdict.evidence for verdict in asked if verdict.state == "error"]
    return [f"the judge gave no answer to {len(silent)} of {len(asked)} questions: {silent[-1]}"] if silent else []


def name_in_ui(run: Run) -> dict[str, list[str]]:
    """Return what a node's `ui` has for web/comfy/node.js: the run's name, which ComfyUI also sends of a cached node."""
    return {"clvr_run": [name_of(run.folder)]}


def preview_images(run: Run) -> dict[str, list]:
    """Return a node's `ui`: the run's name; best picture, then the other rounds' chosen canvases."""
    trajectory = run.trajectory
    canvases = [step.chosen for step in trajectory.steps if step.chosen is not None and step.chosen != trajectory.best]
    listed = canvases if trajectory.best is None else [trajectory.best, *canvases]
    files = [RunFolder.file_of(canvas) for canvas in listed]
    if trajectory.outcome and trajectory.best is not None and (run.folder / BEST).is_file():
        files[0] = BEST  # the same picture, with the workflow embedded
    subfolder = f"clvr/{name_of(run.folder)}"
    return {
        "images": [{"filename": file, "subfolder": subfolder, "type": "output"} for file in files],
        **name_in_ui(run),
    }
