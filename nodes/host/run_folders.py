"""The folders of runs: ComfyUI's output folder, below clvr."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import folder_paths

from ...clvr_core.brief import Budget
from ...clvr_core.errors import BadInput
from ...clvr_core.records import from_json
from ...clvr_core.run.journal import result_line
from ...clvr_core.run.loop import Review
from ...clvr_core.run.reading import JOURNAL, is_begun, read_journal
from ...clvr_core.run.run_folder import RunFolder, trajectory_from
from ...clvr_core.storage.lock import FolderLock
from ...clvr_core.trajectory import Remark

AGAIN = "queue the prompt once more"
"""How a run continues, for sentences."""
SAVED = "saved"
"""Folder, below that of the runs, of the runs that Save Trajectory keeps."""
LISTED = 200
"""Runs that the list of a widget shows at most."""
TRASH = "clvr-trash"
"""Folder in ComfyUI's output folder that deleted runs are moved to."""
ARTIST = "the artist"
"""Who makes the result of a review, in the journal of a run whose rounds are nodes."""
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


def list_runs(most: int = LISTED) -> list[str]:
    """Return the names of at most so many runs, relative to the folder of runs: saved runs first, newest first."""
    base = runs_folder()
    found = [path for folder in (base / SAVED, base) for path in _newest(folder) if (path / JOURNAL).is_file()]
    return [path.relative_to(base).as_posix() for path in found[:most]]


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
    other = _next_to(name)
    folder.fork(other, said[-1], trajectory_from(folder.lines[:1]).brief.budget).close()
    start_anew(name)
    return name_of(other)


def pick(name: str, canvas: int) -> str:
    """Set the run aside, and copy it up to the step that drew this canvas, with the word of the artist to continue from
    this canvas; return the copy's name. Raises BadInput if there is no such run or canvas.
    """
    path = _own(name)
    folder = RunFolder(path, read_journal(path).lines)
    run = trajectory_from(folder.lines)
    step = run.step_with(canvas)
    drawn = [
        position
        for position, line in enumerate(folder.lines)
        if line["event"] == "step" and step and any(each["index"] == step.index for each in line["steps"])
    ]
    if step is None or not drawn:
        raise BadInput(f"canvas {canvas} is not one that a step of the run {name} has drawn and judged")
    other = _next_to(name)
    copy = folder.fork(other, drawn[0] + 1, run.brief.budget)
    try:
        copy.append(result_line(Review(run), Remark(step.index, back_to=canvas), ARTIST))
        copy.sync()
    finally:
        copy.close()
    start_anew(name)
    return name_of(other)


def _next_to(name: str) -> Path:
    """Return the folder, which is not there yet, of a further run with the key of this one."""
    key, number = name.rpartition("-")[0], 1
    while (other := runs_folder() / f"{key}-{number}").exists():
        number += 1
    return other


def move_to_trash(name: str) -> str:
    """Move the run's folder to TRASH; return its path there, relative to ComfyUI's output folder.

    Raises BadInput if there is no such run, if another program writes into it, or if the folder cannot be moved.
    """
    path, trash = listed_run(name), Path(folder_paths.get_output_directory()) / TRASH
    lock = FolderLock(path)
    try:
        lock.acquire()
        lock.release()
        trash.mkdir(exist_ok=True)
        number = 1
        while (goal := trash / (path.name if number == 1 else f"{path.name} ({number})")).exists():
            number += 1
        path.rename(goal)
    except OSError as error:
        raise BadInput(f"{name} cannot be moved to {TRASH} in the output folder: {error.strerror}") from error
    return f"{TRASH}/{goal.name}"


def listed_run(name: str) -> Path:
    """Return the folder of a run or of a saved run. Raises BadInput for any other name."""
    path = require_inside(runs_folder() / name)
    if path.parent not in (runs_folder(), runs_folder() / SAVED) or not (path / JOURNAL).is_file():
        raise BadInput(f"{name!r:.80} is no run in the output folder under clvr; pick one of the list")
    return path


def _says_something(remark: Remark) -> bool:
    return remark.steers or remark.say != "go on"


def _own(name: str) -> Path:
    """Return the folder of a run that a prompt may continue; a saved one is none."""
    path = require_inside(runs_folder() / name)
    if path.parent != runs_folder() or not (path / JOURNAL).is_file():
        raise BadInput(f"{name!r:.80} is no run that a prompt continues; pick one of the output folder under clvr")
    return path
