"""Reading the journal of a run folder. Nothing here writes, so another process may continue the run meanwhile."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..reading import json_of
from ..text import shown
from ..trajectory import SCHEMA, Trajectory
from .lines import standing, trajectory_from

JOURNAL = "trajectory.jsonl"


class NoRun(BadInput):
    """A folder holds no run that can be read. why: without the path of the folder, for those who are not to know it."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} holds no run: {why}")
        self.why = why


@dataclass(frozen=True, slots=True)
class Read:
    """
    lines: those that no rewind took back, oldest first.
    gone: the canvases that only the other lines name.
    size: bytes of the whole lines; behind them there may be one that was cut.
    """

    lines: list[dict[str, Any]]
    gone: set[int]
    size: int


def read_journal(path: Path) -> Read:
    """Read the run in the folder `path`. Raises BadInput if the folder holds no run or a damaged one."""
    journal, raw = path / JOURNAL, _bytes_of(path)
    lines, kept = [], 0
    # Split at newlines only: splitlines would also split at a stray carriage return.
    for number, line in enumerate(raw.split(b"\n")[:-1], 1):
        try:
            value = json_of(line)
            if not isinstance(value, dict) or not isinstance(value.get("event"), str):
                raise ValueError("not an event")
        except ValueError as error:
            if kept + len(line) + 1 == len(raw):
                break
            raise BadInput(
                f"{journal} line {number} is damaged ({error}); restore the file or start a new run"
            ) from error
        lines.append(value)
        kept += len(line) + 1
    if not lines or lines[0]["event"] != "start":
        raise BadInput(
            f"{path} holds no run to go on with: {JOURNAL} has no complete first line; start anew in an empty folder"
        )
    schema = lines[0].get("schema", SCHEMA)
    if not isinstance(schema, int) or schema < 1:
        raise BadInput(
            f"{journal} line 1 is damaged (its schema version is {shown(schema, 40)}); restore the file or start a new run"
        )
    if schema > SCHEMA:
        raise BadInput(f"{journal} has schema version {schema}; this version reads up to {SCHEMA}; update clvr")
    try:
        lines, gone = standing(lines)
    except ValueError as error:
        raise BadInput(f"{journal} is damaged ({error}); restore the file or start a new run") from error
    return Read(lines, gone, kept)


def is_begun(path: Path) -> bool:
    """Whether the folder holds a journal whose first line is whole."""
    return os.path.lexists(path / JOURNAL) and b"\n" in _bytes_of(path)


def read_trajectory(path: Path) -> Trajectory:
    """Read the run in the folder `path` as far as its complete lines tell it.

    Raises NoRun if there is none.
    """
    whole = _bytes_of(path).split(b"\n")[:-1]
    try:
        lines = [json_of(line) for line in whole]
        return trajectory_from(standing(lines)[0])
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise NoRun(path, f"{JOURNAL} cannot be read ({error})") from error


def _bytes_of(path: Path) -> bytes:
    journal = path / JOURNAL
    try:
        if journal.exists() and not journal.is_file():
            raise NoRun(path, f"{JOURNAL} is no file")
        return journal.read_bytes()
    except OSError as error:
        raise NoRun(path, f"{JOURNAL} cannot be read ({error.strerror})") from error
