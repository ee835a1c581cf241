"""The folders of runs: ComfyUI's output folder, below clvr."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import folder_paths

from ...clvr_core.brief import Budget
from ...clvr_core.errors import BadInput
from ...clvr_core.run.reading import JOURNAL, is_begun, read_journal
from ...clvr_core.run.run_folder import trajectory_from

AGAIN = "queue the prompt once more"
"""How a run continues, for sentences."""
SAVED = "saved"
"""Folder, below that of the runs, of the runs that Save Trajectory keeps."""
LISTED = 200
"""Runs that a list shows at most."""

_used: set[Path] = set()
_deleted: list[Path] = []


def runs_folder() -> Path:
    return Path(folder_paths.get_output_directory()) / "clvr"


def name_of(folder: Path) -> str:
    """Return the run's name: its folder, relative to the folder of runs."""
    return folder.relative_to(runs_folder()).as_posix()


def require_inside(path: Path) -> Path:
    """Return the path of a run's folder or file. Raises BadInput unless it lies in the folder of runs with symbolic
    links resolved.

    The path may come from a workflow that somebody else made.
    """
    if not folder_paths.is_within_directory(str(runs_folder()), str(path)) or path == runs_folder():
        raise BadInput(
            f"run is {path.name!r:.80}, which does not lie in the output folder under clvr; pick one of the list"
        )
    return path


def changed_run(folder: Path) -> BadInput:
    """Make the error for a journal that no longer holds the lines that a link refers to."""
    return BadInput(f"{folder.name} in the output folder under clvr is not the run that it was; run the graph anew")


def list_runs() -> list[str]:
    """Return the names of at most LISTED runs, relative to the folder of runs: saved runs first, newest first."""
    base = runs_folder()
    found = [path for folder in (base / SAVED, base) for path in _newest(folder) if (path / JOURNAL).is_file()]
    return [path.relative_to(base).as_posix() for path in found[:LISTED]]


def _newest(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda path: -path.stat().st_mtime_ns) if folder.is_dir() else []


def key_of(values: list) -> str:
    """Return 16 hexadecimal digits that identify these JSON values: the first part of a run folder's name."""
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def folder_for(key: str, budget: Budget) -> Path:
    """Return the folder of the run with this key that can continue under this budget, else a path that does not exist
    yet.

    Of several runs that fit, the one with the most rounds. A run recorded under a larger budget does not fit.
    """
    budgets: dict[Path, Budget] = {}
    number = 1
    while (path := runs_folder() / f"{key}-{number}").exists() and is_begun(path):
        budgets[path] = trajectory_from(read_journal(path).lines[:1]).brief.budget
        number += 1
    fitting = [path for path, recorded in budgets.items() if budget.covers(recorded)]
    return max(fitting, key=lambda path: budgets[path].rounds, default=path)


def note_used(folder: Path) -> None:
    """Remember that a node of this process made or continued the run in this folder."""
    _used.add(folder)


def count_deleted() -> int:
    """Return how many folders passed to `note_used` have been deleted since the process started.

    A node that makes runs returns this as its fingerprint, so that ComfyUI executes it again instead of serving a
    cached run that is gone.
    """
    gone = [folder for folder in _used if not folder.exists()]
    _used.difference_update(gone)
    _deleted.extend(gone)
    return len(_deleted)
