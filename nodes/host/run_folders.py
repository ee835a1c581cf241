"""The folders of runs: ComfyUI's output folder, below clvr."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import folder_paths

from ...clvr_core.brief import Budget
from ...clvr_core.errors import BadInput
from ...clvr_core.records import from_json
from ...clvr_core.run.reading import JOURNAL, is_begun, read_journal
from ...clvr_core.run.run_folder import RunFolder, trajectory_from
from ...clvr_core.trajectory import Remark

AGAIN = "queue the prompt once more"
"""How a run continues, for sentences."""
SAVED = "saved"
"""Folder, below that of the runs, of the runs that Save Trajectory keeps."""
LISTED = 200
"""Runs that a list shows at most."""
ASIDE = "set-aside"
"""Empty file in the folder of a run that the artist does not continue: the same brief begins another run."""

_used: set[Path] = set()
_gone: list[Path] = []


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

    Of several runs that fit, the one with the most rounds. A run recorded under a larger budget does not fit, nor does
    one that was set aside.
    """
    budgets: dict[Path, Budget] = {}
    number = 1
    while (path := runs_folder() / f"{key}-{number}").exists() and is_begun(path):
        if not (path / ASIDE).exists():
            budgets[path] = trajectory_from(read_journal(path).lines[:1]).brief.budget
        number += 1
    fitting = [path for path, recorded in budgets.items() if budget.covers(recorded)]
    return max(fitting, key=lambda path: budgets[path].rounds, default=path)


def note_used(folder: Path) -> None:
    """Remember that a node of this process made or continued the run in this folder."""
    _used.add(folder)


def count_gone() -> int:
    """Return how many folders passed to `note_used` have been deleted or set aside since the process started.

    A node that makes runs returns this as its fingerprint, so that ComfyUI executes it again instead of serving a
    cached run that is gone.
    """
    gone = [folder for folder in _used if not folder.exists() or (folder / ASIDE).exists()]
    _used.difference_update(gone)
    _gone.extend(gone)
    return len(_gone)


def start_anew(name: str) -> None:
    """Set the run aside: the next prompt with its brief begins another one. Raises BadInput if there is no such run."""
    (_own(name) / ASIDE).touch()


def take_back(name: str) -> str:
    """Set the run aside, and copy it as far as before the artist's last word, so that the next prompt with its brief
    continues there; return the copy's name. Raises BadInput if there is no such run, or the artist said nothing in it.
    """
    path = _own(name)
    folder = RunFolder(path, read_journal(path).lines)
    said = [
        position
        for position, line in enumerate(folder.lines)
        if line["event"] == "review" and _says_something(from_json(Remark, line["result"]))
    ]
    if not said:
        raise BadInput(f"you have said nothing in the run {name} that could be taken back")
    key, number = name.rpartition("-")[0], 1
    while (other := runs_folder() / f"{key}-{number}").exists():
        number += 1
    folder.fork(other, said[-1], trajectory_from(folder.lines[:1]).brief.budget).close()
    start_anew(name)
    return name_of(other)


def _says_something(remark: Remark) -> bool:
    return remark.steers or remark.say != "go on"


def _own(name: str) -> Path:
    """Return the folder of a run that a prompt may continue; a saved one is none."""
    path = require_inside(runs_folder() / name)
    if path.parent != runs_folder() or not (path / JOURNAL).is_file():
        raise BadInput(f"{name!r:.80} is no run that a prompt continues; pick one of the output folder under clvr")
    return path
