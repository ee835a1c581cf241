"""The run folder: `trajectory.jsonl`, one event a line, on disk before the next call begins, and one PNG for each canvas, with the latents
it was decoded from beside it if the executor takes those back.

A line `rewind` takes back the lines that a run which goes on under another budget would not have written.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..brief import Brief, Budget, Goal
from ..errors import BadInput
from ..protocols import Picture
from ..records import from_json, to_json
from ..storage.atomic import write_bytes
from ..storage.png import read_png
from ..trajectory import SCHEMA, Cost, Outcome, Remark, Step, Trajectory

JOURNAL = "trajectory.jsonl"
BEST = "best.png"
REPORT = "report.html"
REWIND = "rewind"


def digest_of(values: Picture | np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values)).hexdigest()


class RunFolder:
    """Created empty by `create`, opened again by `open`. Lines are only ever appended to the file; `lines` are those that stand.

    `texts`: what each picture that is drawn from now on carries beside the trajectory, by key.
    """

    def __init__(self, path: Path, lines: list[dict[str, Any]]) -> None:
        self.path, self.lines = path, lines
        self.texts: Mapping[str, str] = {}
        self._unsynced = False

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Makes the folder if need be. Raises BadInput if it cannot be written or already holds something."""
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise BadInput(
                    f"output folder {path} is not empty; choose a new one, or go on with: clvr resume {path}"
                )
            (path / JOURNAL).touch()
        except OSError as error:
            raise BadInput(
                f"output folder {path} cannot be written: {error.strerror}; choose another with --out"
            ) from error
        return cls(path, [])

    @classmethod
    def reopen(cls, path: Path) -> RunFolder:
        """What `open` gives, or a new run where there is no folder, or one whose writer was killed before its first line was whole."""
        journal = path / JOURNAL
        try:
            if journal.exists() and b"\n" in journal.read_bytes():
                return cls.open(path)
            path.mkdir(parents=True, exist_ok=True)
            journal.write_bytes(b"")
        except OSError as error:
            raise BadInput(f"run folder {path} cannot be used: {error.strerror}") from error
        return cls(path, [])

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Reads what is there; a last line that was cut is dropped, as it was never acted on. Raises BadInput if there is no run.

        For the one who goes on with the run: what a killed writer left half done is cleared away.
        """
        journal = path / JOURNAL
        try:
            raw = journal.read_bytes()
        except OSError as error:
            raise BadInput(f"{path} holds no run: {JOURNAL} cannot be read ({error.strerror})") from error
        lines, kept = [], 0
        # Only at "\n": splitlines would take a stray carriage return for the end of a line.
        for number, line in enumerate(raw.split(b"\n")[:-1], 1):
            try:
                value = json.loads(line)
                if not isinstance(value, dict) or not isinstance(value.get("event"), str):
                    raise ValueError("not an event")
            except (ValueError, RecursionError) as error:
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
                f"{journal} line 1 is damaged (its schema version is {schema!r:.40}); restore the file or start a new run"
            )
        if schema > SCHEMA:
            raise BadInput(f"{journal} has schema version {schema}; this version reads up to {SCHEMA}; update clvr")
        try:
            lines, gone = _standing(lines)
        except ValueError as error:
            raise BadInput(f"{journal} is damaged ({error}); restore the file or start a new run") from error
        folder = cls(path, lines)
        with folder.writing():
            folder._clear(gone)
            for part in path.glob(".*.part"):
                part.unlink()
            if kept < len(raw):
                with journal.open("r+b") as file:
                    file.truncate(kept)
                    os.fsync(file.fileno())
        return folder

    @contextmanager
    def writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BadInput(
                f"{self.path} cannot be written: {error.strerror}; mend that and go on with: clvr resume {self.path}"
            ) from error

    def append(self, line: dict[str, Any]) -> None:
        """Writes the line; `sync` puts it on disk."""
        # Half of a surrogate pair, which UTF-8 cannot hold, becomes the escape that JSON has for it.
        data = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode(errors="backslashreplace") + b"\n"
        with self.writing(), (self.path / JOURNAL).open("ab") as file:
            file.write(data)
        self.lines.append(line)
        self._unsynced = True

    def sync(self) -> None:
        """Returns once every line is on disk."""
        if not self._unsynced:
            return
        with self.writing(), (self.path / JOURNAL).open("ab") as file:
            os.fsync(file.fileno())
        self._unsynced = False

    def rewind(self, keep: int, budget: Budget) -> None:
        """Of the lines that stand only the first `keep` do from here on, and the run has this budget. On disk before a picture goes."""
        self.append({"event": REWIND, "keep": keep, "budget": to_json(budget)})
        self.sync()
        self.lines, gone = _standing(self.lines)
        with self.writing():
            self._clear(gone)

    def fork(self, path: Path, keep: int, budget: Budget) -> RunFolder:
        """Another folder with the first `keep` lines and their pictures, under this budget, to go on from there in another way."""
        first = {**self.lines[0], "brief": {**self.lines[0]["brief"], "budget": to_json(budget)}}
        other = RunFolder.reopen(path)
        with other.writing():
            for canvas in _canvases(self.lines[:keep]):
                shutil.copyfile(self.canvas_path(canvas), other.canvas_path(canvas))
                if self.latent_path(canvas).exists():
                    shutil.copyfile(self.latent_path(canvas), other.latent_path(canvas))
        for line in (first, *self.lines[1:keep]):
            other.append(line)
        other.sync()
        return other

    def _clear(self, canvases: Iterable[int]) -> None:
        for canvas in canvases:
            self.canvas_path(canvas).unlink(missing_ok=True)
            self.latent_path(canvas).unlink(missing_ok=True)

    @staticmethod
    def file_of(canvas: int) -> str:
        return f"canvas-{canvas:03d}.png"

    def canvas_path(self, canvas: int) -> Path:
        return self.path / self.file_of(canvas)

    def keep_mask(self, name: str, mask: Picture) -> None:
        """uint8 H x W. On disk when it returns, since a line will speak of it."""
        data = io.BytesIO()
        Image.fromarray(mask).save(data, "PNG")
        with self.writing():
            write_bytes(self.path / name, data.getvalue())

    def mask(self, name: str, sha256: str) -> Picture:
        """Raises BadInput if the file is missing, or its pixels are not those that were recorded."""
        path = self.path / name
        try:
            if path.parent != self.path or not re.fullmatch(r"mask-\d+\.png", name):
                raise ValueError("it is not the name of a mask")
            with Image.open(path) as image:
                mask = np.asarray(image.convert("L"))
            if digest_of(mask) != sha256:
                raise ValueError("it is not the mask that was painted")
        except (OSError, ValueError) as error:
            raise BadInput(f"{path} is missing or damaged, and the run needs it to go on ({error})") from error
        return mask

    def latent_path(self, canvas: int) -> Path:
        return self.path / f"canvas-{canvas:03d}.latent"

    def save_latent(self, canvas: int, latent: np.ndarray) -> None:
        """Writes float32 channels x rows x columns as a safetensors file."""
        write_bytes(self.latent_path(canvas), save({"latent": np.ascontiguousarray(latent)}))

    def latent(self, canvas: int, sha256: str) -> np.ndarray:
        """Raises BadInput if the file is missing or damaged, or if it is not what was recorded."""
        path = self.latent_path(canvas)
        try:
            latent = load(path.read_bytes())["latent"]
            if digest_of(latent) != sha256:
                raise ValueError("it is not what the run drew")
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise BadInput(f"{path} is missing or damaged, and the run needs it to go on ({error})") from error
        return latent

    def picture(self, canvas: int, sha256: str | None = None) -> Picture:
        """Raises BadInput if the file is missing or damaged, or if its pixels are not those that were recorded."""
        path = self.canvas_path(canvas)
        try:
            picture, _ = read_png(path)
            if sha256 is not None and digest_of(picture) != sha256:
                raise BadInput("it is not the picture that the run drew")
        except BadInput as error:
            raise BadInput(f"{path} is missing or damaged, and the run needs it to go on ({error})") from error
        return picture


def read_trajectory(path: Path) -> Trajectory:
    """The run as far as the whole lines of its folder tell it. Only reads, so that one may look while another goes on with the run.

    Raises BadInput.
    """
    try:
        whole = (path / JOURNAL).read_bytes().split(b"\n")[:-1]
        lines = [json.loads(line) for line in whole]
        return trajectory_from(_standing(lines)[0])
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise BadInput(f"{path} holds no run that can be read ({error})") from error


def _standing(lines: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], set[int]]:
    """The lines that no later rewind took back, and the canvases that only the others speak of. Raises ValueError for a rewind that
    cannot be."""
    standing: list[dict[str, Any]] = []
    gone: set[int] = set()
    for number, line in enumerate(lines, 1):
        if line["event"] != REWIND:
            standing.append(line)
            continue
        keep = line.get("keep")
        if not isinstance(keep, int) or not 1 <= keep <= len(standing):
            raise ValueError(f"line {number} keeps {keep!r:.40} of {len(standing)} lines")
        gone |= _canvases(standing[keep:])
        del standing[keep:]
        if "budget" in line and isinstance(brief := standing[0].get("brief"), dict):
            standing[0] = {**standing[0], "brief": {**brief, "budget": line["budget"]}}
    return standing, gone - _canvases(standing)


def _canvases(lines: list[dict[str, Any]]) -> set[int]:
    given = {
        0
        for line in lines
        if line["event"] == "start" and isinstance(line.get("brief"), dict) and line["brief"].get("picture")
    }
    drawn = (
        line["result"].get("candidates")
        for line in lines
        if line["event"] == "drawn" and isinstance(line.get("result"), dict)
    )
    listed = (
        candidate.get("canvas")
        for each in drawn
        if isinstance(each, list)
        for candidate in each
        if isinstance(candidate, dict)
    )
    return given | {canvas for canvas in listed if isinstance(canvas, int) and canvas >= 0}


@dataclass(frozen=True, slots=True)
class _Line:
    """What a line of a decision says: `planned` the goals, `step` what is new or changed, `remarked` both, `end` the outcome as well."""

    goals: tuple[Goal, ...] = ()
    plan: tuple[tuple[str, ...], ...] = ()
    gate: str = ""
    steps: tuple[Step, ...] = ()
    current: int | None = None
    best: int | None = None
    outcome: Outcome | None = None
    overhead: Cost = field(default_factory=Cost)
    warnings: tuple[str, ...] = ()
    remarks: tuple[Remark, ...] = ()


def trajectory_from(lines: list[dict[str, Any]]) -> Trajectory:
    """The trajectory as far as the lines tell it. Raises ValueError naming the line and the field that cannot be read."""
    first = lines[0]
    brief = from_json(Brief, first.get("brief"), "line 1: brief")
    trajectory = Trajectory(brief, models=first.get("models", {}), prompts=first.get("prompts", {}))
    for number, line in enumerate(lines[1:], 2):
        if line["event"] not in ("planned", "step", "remarked", "end"):
            continue
        said = from_json(_Line, line, f"line {number}")
        trajectory = replace(trajectory, overhead=said.overhead, warnings=said.warnings)
        if line["event"] == "planned":
            trajectory = replace(trajectory, goals=said.goals, plan=said.plan, gate=said.gate)
        else:
            fresh = {step.index: step for step in said.steps}
            kept = [fresh.pop(step.index, step) for step in trajectory.steps]
            steps = (*kept, *fresh.values())
            trajectory = replace(trajectory, steps=steps, current=said.current, best=said.best, outcome=said.outcome)
        if line["event"] == "remarked":
            trajectory = replace(trajectory, goals=said.goals, remarks=said.remarks)
    return trajectory
