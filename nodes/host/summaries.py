"""A run in words and files, for outputs and the faces of nodes."""

from __future__ import annotations

from ...clvr_core.run.run_folder import BEST, RunFolder
from ...clvr_core.trajectory import Trajectory
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


def preview_images(run: Run, under: str = "clvr") -> dict[str, list[dict[str, str]]]:
    """Return a node's `ui`: best picture, then the other rounds' chosen canvases. `under`: in the output folder."""
    trajectory = run.trajectory
    canvases = [step.chosen for step in trajectory.steps if step.chosen is not None and step.chosen != trajectory.best]
    listed = canvases if trajectory.best is None else [trajectory.best, *canvases]
    files = [RunFolder.file_of(canvas) for canvas in listed]
    if trajectory.outcome and trajectory.best is not None and (run.folder / BEST).is_file():
        files[0] = BEST  # the same picture, with the workflow embedded
    return {
        "images": [{"filename": file, "subfolder": f"{under}/{run.folder.name}", "type": "output"} for file in files]
    }
