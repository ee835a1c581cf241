"""A run on disk: `trajectory.jsonl`, one event a line, and one PNG for each canvas, beside it the latent it was decoded
from if the executor takes latents back."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..brief import Budget
from ..errors import BadInput
from ..protocols import Drawing, Picture
from ..records import to_json
from ..report import write_report
from ..storage.atomic import write_bytes
from ..storage.png import read_png, save_png
from ..trajectory import SCHEMA, Step, Trajectory
from .lines import REWIND, canvases_of, standing, trajectory_from
from .store import digest_of

__all__ = ["BEST", "JOURNAL", "REPORT", "RunFolder", "digest_of", "read_trajectory", "trajectory_from"]

JOURNAL = "trajectory.jsonl"
BEST = "best.png"
REPORT = "report.html"


class RunFolder:
    """A `RunStore` on disk, made empty by `create` and opened again by `open`.

    The file of the journal is only ever appended to; `lines` are those that no rewind took back.
    """

    def __init__(self, path: Path, lines: list[dict[str, Any]]) -> None:
        self.path, self.lines = path, lines
        self.texts: Mapping[str, str] = {}
        self._unsynced = False
        self._step_texts: dict[int, tuple[Step, str]] = {}

    @property
    def where(self) -> str:
        return str(self.path)

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Make the folder if it is missing. Raises BadInput if it cannot be written or is not empty."""
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
        """Open the run, or begin a new one if there is no folder or its writer was killed before the first line was
        whole."""
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
        """Read the run to continue it: a last line that was cut and files that were half written are removed.

        Raises BadInput if the folder holds no run or a damaged one.
        """
        journal = path / JOURNAL
        try:
            raw = journal.read_bytes()
        except OSError as error:
            raise BadInput(f"{path} holds no run: {JOURNAL} cannot be read ({error.strerror})") from error
        lines, kept = [], 0
        # Split at newlines only: splitlines would also split at a stray carriage return.
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
                f"{path} holds no run to go on with: {JOURNAL} has no complete first line; "
                "start anew in an empty folder"
            )
        schema = lines[0].get("schema", SCHEMA)
        if not isinstance(schema, int) or schema < 1:
            raise BadInput(
                f"{journal} line 1 is damaged (its schema version is {schema!r:.40}); "
                "restore the file or start a new run"
            )
        if schema > SCHEMA:
            raise BadInput(f"{journal} has schema version {schema}; this version reads up to {SCHEMA}; update clvr")
        try:
            lines, gone = standing(lines)
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
        """Turn an OSError into a BadInput that says how to continue the run."""
        try:
            yield
        except OSError as error:
            raise BadInput(
                f"{self.path} cannot be written: {error.strerror}; mend that and go on with: clvr resume {self.path}"
            ) from error

    def append(self, line: dict[str, Any]) -> None:
        # Half of a surrogate pair has no UTF-8 form; JSON has an escape for it.
        data = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode(errors="backslashreplace") + b"\n"
        with self.writing(), (self.path / JOURNAL).open("ab") as file:
            file.write(data)
        self.lines.append(line)
        self._unsynced = True

    def sync(self) -> None:
        if not self._unsynced:
            return
        with self.writing(), (self.path / JOURNAL).open("ab") as file:
            os.fsync(file.fileno())
        self._unsynced = False

    def rewind(self, keep: int, budget: Budget) -> None:
        # The line is on disk before any picture that only the dropped lines name is deleted.
        self.append({"event": REWIND, "keep": keep, "budget": to_json(budget)})
        self.sync()
        self.lines, gone = standing(self.lines)
        with self.writing():
            self._clear(gone)

    def fork(self, path: Path, keep: int, budget: Budget) -> RunFolder:
        """Copy the first `keep` lines and their pictures into another folder, under this budget, to continue in another
        way there."""
        first = {**self.lines[0], "brief": {**self.lines[0]["brief"], "budget": to_json(budget)}}
        other = RunFolder.reopen(path)
        with other.writing():
            for canvas in canvases_of(self.lines[:keep]):
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

    def save_canvas(self, canvas: int, drawing: Drawing, trajectory: Trajectory) -> str:
        path = self.canvas_path(canvas)
        with self.writing():
            save_png(path, drawing.picture, trajectory, canvas, self._step_texts, self.texts)
            if drawing.latent is not None:
                write_bytes(self.latent_path(canvas), save({"latent": np.ascontiguousarray(drawing.latent)}))
        return path.name

    def finish(self, trajectory: Trajectory, best: Picture | None) -> None:
        """Save the best picture once more with the whole run in its metadata, and the report."""
        with self.writing():
            if best is not None and trajectory.best is not None:
                save_png(self.path / BEST, best, trajectory, trajectory.best, self._step_texts, self.texts)
            write_report(trajectory, self.canvas_path, self.path / REPORT)

    def save_mask(self, name: str, mask: Picture) -> None:
        data = io.BytesIO()
        Image.fromarray(mask).save(data, "PNG")
        with self.writing():
            write_bytes(self.path / name, data.getvalue())

    def mask(self, name: str, sha256: str) -> Picture:
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
        """A safetensors file with one tensor, float32 channels x rows x columns."""
        return self.path / f"canvas-{canvas:03d}.latent"

    def latent(self, canvas: int, sha256: str) -> np.ndarray:
        path = self.latent_path(canvas)
        try:
            latent = load(path.read_bytes())["latent"]
            if digest_of(latent) != sha256:
                raise ValueError("it is not what the run drew")
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise BadInput(f"{path} is missing or damaged, and the run needs it to go on ({error})") from error
        return latent

    def picture(self, canvas: int, sha256: str | None = None) -> Picture:
        path = self.canvas_path(canvas)
        try:
            picture, _ = read_png(path)
            if sha256 is not None and digest_of(picture) != sha256:
                raise BadInput("it is not the picture that the run drew")
        except BadInput as error:
            raise BadInput(f"{path} is missing or damaged, and the run needs it to go on ({error})") from error
        return picture


def read_trajectory(path: Path) -> Trajectory:
    """Read the run in the folder `path` as far as its complete lines tell it. Writes nothing, so another process may
    continue the run.

    Raises BadInput if there is no run that can be read.
    """
    try:
        whole = (path / JOURNAL).read_bytes().split(b"\n")[:-1]
        lines = [json.loads(line) for line in whole]
        return trajectory_from(standing(lines)[0])
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise BadInput(f"{path} holds no run that can be read ({error})") from error
