"""Runs that the artist asked to stop after the round that is at work. The request ends the run as a review would."""

from __future__ import annotations

from pathlib import Path

from ...clvr_core.errors import BadInput
from ...clvr_core.protocols import Picture
from ...clvr_core.run.reading import read_trajectory
from ...clvr_core.trajectory import Remark, Trajectory
from .run_folders import listed_run

_wanted: set[Path] = set()


def stop_after_round(name: str) -> None:
    """Ask the run to stop after its round. Raises BadInput if there is no such run, or it has ended."""
    path = listed_run(name)
    if read_trajectory(path).outcome is not None:
        raise BadInput(f"the run {name} has ended already")
    _wanted.add(path)


def is_stopping(folder: Path) -> bool:
    return folder in _wanted


def forget_stop(folder: Path) -> None:
    """Drop a request of an earlier prompt, or one that was carried out."""
    _wanted.discard(folder)


def say_stop(trajectory: Trajectory) -> tuple[Remark, Picture | None]:
    """Answer a session's review in place of the artist."""
    return Remark(0, "stop"), None
