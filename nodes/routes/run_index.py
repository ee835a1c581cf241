"""What the list of runs says of each run, kept from one start of ComfyUI to the next, so that a list of hundreds of runs
reads the journals that changed and no others.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from ...clvr_core.reading import json_of
from ...clvr_core.records import from_json, to_json
from ...clvr_core.run.reading import read_trajectory
from ...clvr_core.storage.atomic import write_bytes

INDEX = ".clvr-index.json"
"""The file, in the folder of runs. It may be deleted at any time."""
VERSION = 1
"""Of the file; one of another version counts as none."""
NEW = 16
"""Journals read since the file was written, from which on it is written again."""
LARGEST = 16 << 20
"""Bytes of a file that is read."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What the list says of a readable run.

    prompt: its first 400 characters.
    steps: their number.
    met: whether the brief is met; None for a run that has not ended.
    first: digest of the first canvas, empty without one.
    seed: digits, since JavaScript has no integers of that size.
    goals, goals_met: counted on the best canvas.
    best: that canvas, or None.
    """

    prompt: str
    steps: int
    met: bool | None
    first: str
    seed: str
    strategy: str
    goals: int
    goals_met: int
    best: int | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A run whose journal had this time of change, in nanoseconds, and this size, in bytes, when it was read."""

    modified: int
    size: int
    summary: RunSummary


class RunIndex:
    """The summaries of the runs in one folder; safe to use from several threads.

    limit: runs that are remembered at most.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self._limit, self._lock = folder, limit, Lock()
        self._entries = _read(folder / INDEX)
        self._unsaved = 0

    def summary(self, name: str, modified: int, size: int) -> RunSummary:
        """Return the summary of the run `name`, whose journal has this time of change and this size now.

        Raises NoRun if the journal has to be read and cannot be.
        """
        held = self._entries.get(name)
        if held is None or (held.modified, held.size) != (modified, size):
            held = Entry(modified, size, _summary(self.folder / name))
            with self._lock:
                self._entries[name] = held
                self._unsaved += 1
        return held.summary

    def keep(self, names: list[str]) -> None:
        """Forget all runs but these, and write the file if NEW journals or more were read since it was written.

        A folder that cannot be written is no error: the next start then reads the journals again.
        """
        with self._lock:
            held = ((name, self._entries.get(name)) for name in names[: self._limit])
            self._entries = {name: entry for name, entry in held if entry}
            if self._unsaved < NEW:
                return
            self._unsaved = 0
            runs = {name: to_json(entry) for name, entry in self._entries.items()}
            with suppress(OSError):
                write_bytes(self.folder / INDEX, json.dumps({"version": VERSION, "runs": runs}).encode())


def _read(file: Path) -> dict[str, Entry]:
    """Read the file. One that is missing, too large, damaged or of another version counts as empty."""
    try:
        if file.is_symlink() or not file.is_file() or file.stat().st_size > LARGEST:
            return {}
        held = json_of(file.read_bytes())
        if not isinstance(held, dict) or held.get("version") != VERSION:
            return {}
        return {str(name): from_json(Entry, entry, "entry") for name, entry in held["runs"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _summary(path: Path) -> RunSummary:
    run = read_trajectory(path)
    best = run.outcome.canvas if run.outcome else run.best
    step = None if best is None else run.step_of(best)
    return RunSummary(
        prompt=run.brief.prompt[:400],
        steps=len(run.steps),
        met=run.outcome.met if run.outcome else None,
        first=next((candidate.sha256 for step in run.steps for candidate in step.candidates), ""),
        seed=str(run.brief.seed),
        strategy=run.brief.strategy,
        goals=len(run.goals),
        goals_met=sum(verdict.state == "met" for verdict in step.verdicts) if step else 0,
        best=best,
    )
