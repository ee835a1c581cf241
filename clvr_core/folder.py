"""The run folder: `trajectory.jsonl`, one event a line, on disk before the next call begins, and one PNG for each canvas."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .brief import Brief, Goal
from .errors import BadInput
from .protocols import Picture
from .records import from_json
from .trajectory import SCHEMA, Cost, Outcome, Step, Trajectory

JOURNAL = "trajectory.jsonl"
BEST = "best.png"
REPORT = "report.html"


class RunFolder:
    """Created empty by `create`, opened again by `open`. Lines are only ever appended."""

    def __init__(self, path: Path, lines: list[dict[str, Any]]) -> None:
        self.path, self.lines = path, lines

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Makes the folder if need be. Raises BadInput if it cannot be written or already holds something."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise BadInput(f"output folder {path} is not empty; choose a new one, or go on with: clvr resume {path}")
            (path / JOURNAL).touch()
        except OSError as error:
            raise BadInput(f"output folder {path} cannot be written: {error.strerror}; choose another with --out") from error
        return cls(path, [])

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Reads what is there; a last line that was cut is dropped, as it was never acted on. Raises BadInput if there is no run."""
        journal = path / JOURNAL
        try:
            raw = journal.read_bytes()
        except OSError as error:
            raise BadInput(f"{path} holds no run: {JOURNAL} cannot be read ({error.strerror})") from error
        lines, kept = [], 0
        for number, line in enumerate(raw.splitlines(keepends=True), 1):
            try:
                if not line.endswith(b"\n"):
                    break
                value = json.loads(line)
                if not isinstance(value, dict) or "event" not in value:
                    raise ValueError("not an event")
            except ValueError as error:
                if kept + len(line) == len(raw):
                    break
                raise BadInput(f"{journal} line {number} is damaged ({error}); restore the file or start a new run") from error
            lines.append(value)
            kept += len(line)
        if not lines or lines[0]["event"] != "start":
            raise BadInput(f"{path} holds no run to go on with: {JOURNAL} has no complete first line; start anew in an empty folder")
        if lines[0].get("schema", 0) > SCHEMA:
            raise BadInput(f"{journal} has schema version {lines[0]['schema']}; this version reads up to {SCHEMA}; update clvr")
        if kept < len(raw):
            with journal.open("r+b") as file:
                file.truncate(kept)
                os.fsync(file.fileno())
        return cls(path, lines)

    def append(self, line: dict[str, Any]) -> None:
        """Returns once the line is on disk."""
        with (self.path / JOURNAL).open("ab") as file:
            file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.lines.append(line)

    def canvas_path(self, canvas: int) -> Path:
        return self.path / f"canvas-{canvas:03d}.png"

    def picture(self, canvas: int) -> Picture:
        """Raises BadInput if the file is missing or damaged."""
        from PIL import Image, UnidentifiedImageError

        path = self.canvas_path(canvas)
        try:
            with Image.open(path) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, UnidentifiedImageError, SyntaxError) as error:
            raise BadInput(f"{path} is missing or damaged, and the run needs it to go on ({error})") from error


def trajectory_from(lines: list[dict[str, Any]]) -> Trajectory:
    """The trajectory as far as the lines tell it. Raises ValueError naming the field that cannot be read."""
    trajectory = Trajectory(from_json(Brief, lines[0]["brief"]), models=lines[0].get("models", {}))
    for line in lines[1:]:
        if line["event"] == "planned":
            trajectory = replace(
                trajectory,
                goals=tuple(from_json(Goal, goal) for goal in line["goals"]),
                plan=tuple(tuple(batch) for batch in line["plan"]),
                gate=line["gate"],
                warnings=tuple(line["warnings"]),
            )
        elif line["event"] in ("step", "end"):
            fresh = {index: from_json(Step, step) for index, step in ((step["index"], step) for step in line["steps"])}
            kept = [fresh.pop(step.index, step) for step in trajectory.steps]
            trajectory = replace(
                trajectory,
                steps=(*kept, *fresh.values()),
                current=line["current"],
                best=line["best"],
                warnings=tuple(line["warnings"]),
                outcome=from_json(Outcome, line["outcome"]) if line.get("outcome") else None,
            )
        if "overhead" in line:
            trajectory = replace(trajectory, overhead=from_json(Cost, line["overhead"]))
    return trajectory
