"""A run on disk: `trajectory.jsonl`, one event a line, and one PNG for each canvas, beside it the latent it was decoded
from if the executor takes latents back."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..brief import Budget
from ..errors import BadInput, CannotWrite
from ..protocols import Drawing, Picture
from ..records import to_json
from ..storage.atomic import OF_DISK, PART, write_bytes, writing
from ..storage.lock import LOCK, FolderLock
from ..storage.parameters import PARAMETERS_KEY, parameters, parameters_of_best
from ..storage.pictures import DECODING_ERRORS, opened, pixels
from ..storage.png import read_png, save_png
from ..trajectory import Step, Trajectory
from .lines import REWIND, canvases_of, standing, trajectory_from
from .reading import JOURNAL, is_begun, read_journal, read_trajectory
from .store import digest_of

__all__ = ["BEST", "JOURNAL", "REPORT", "RunFolder", "digest_of", "read_trajectory", "trajectory_from"]

BEST = "best.png"
REPORT = "report.html"
MASK = re.compile(r"mask-\d+\.png")
REFERENCE = re.compile(r"reference-[A-Za-z0-9_-]{1,40}\.png")
"""Names of the masks that the artist painted."""
FIRST = b'{"event":"start",'
"""How the file of every journal begins."""


def reference_file(name: str) -> str:
    """Name of the file of a reference in a run's folder."""
    return f"reference-{name}.png"


class RunFolder:
    """A `RunStore` on disk, made empty by `create` and opened again by `open`.

    The file of the journal is only ever appended to; `lines` are those that no rewind took back. While a run is written
    its folder is locked, so that no other process goes on with it; `close` and the end of the object release it. A
    later RunFolder of the same process takes the lock over, and this one then writes nothing more.
    """

    def __init__(self, path: Path, lines: list[dict[str, Any]], size: int | None = None, again: str = "") -> None:
        """
        size: bytes of the journal as it was read; None if that was not for writing.
        again: the command that continues the run, for sentences; `clvr resume` if empty.
        """
        self.path, self.lines = path, lines
        self._again = again
        self.texts: Mapping[str, str] = {}
        self._size = size
        self._lock = FolderLock(path)
        self._unsynced = False
        self._step_texts: dict[int, tuple[Step, str]] = {}
        weakref.finalize(self, self._lock.release)

    @property
    def where(self) -> str:
        return str(self.path)

    @property
    def again(self) -> str:
        """The command that continues the run, for sentences."""
        return self._again or f"clvr resume {self.path}"

    @classmethod
    def create(cls, path: Path) -> RunFolder:
        """Make the folder if it is missing. Raises BadInput if it cannot be written or is not empty."""
        folder = cls(path, [], 0)
        try:
            path.mkdir(parents=True, exist_ok=True)
            folder._require_empty()
            folder._lock.acquire()
            folder._require_empty()
            (path / JOURNAL).touch()
        except OSError as error:
            raise CannotWrite(
                f"output folder {path} cannot be written: {error.strerror}; choose another with --out"
            ) from error
        return folder

    def _require_empty(self) -> None:
        if any(path.name != LOCK for path in self.path.iterdir()):
            raise BadInput(
                f"output folder {self.path} is not empty; choose a new one, or go on with: clvr resume {self.path}"
            )

    @classmethod
    def reopen(cls, path: Path, again: str = "") -> RunFolder:
        """Open the run, or begin a new one if there is no folder or its writer was killed before the first line was
        whole. Raises BadInput as `open` does, and for a journal that is not one of a run."""
        if is_begun(path):
            return cls.open(path, again)
        folder, journal = cls(path, [], 0, again), path / JOURNAL
        try:
            path.mkdir(parents=True, exist_ok=True)
            folder._lock.acquire(take_over=True)
            if is_begun(path):
                return cls.open(path, again)
            if os.path.lexists(journal):
                folder._require_own(journal)
                if not FIRST.startswith(journal.read_bytes()[: len(FIRST)].rstrip(b"\0")):
                    raise BadInput(f"{journal} is not one of clvr; move it away or choose another folder")
            journal.write_bytes(b"")
        except OSError as error:
            raise CannotWrite(
                f"run folder {path} cannot be used: {error.strerror}; mend that and go on with: {folder.again}",
                error.errno in OF_DISK,
            ) from error
        return folder

    @classmethod
    def open(cls, path: Path, again: str = "") -> RunFolder:
        """Read the run to continue it: a last line that was cut and files that were half written are removed.

        Raises BadInput if the folder holds no run or a damaged one, or if another process writes it.
        """
        if not (path / JOURNAL).is_file():
            read_journal(path)  # raises, and nothing is locked
        folder = cls(path, [], None, again)
        with folder.writing():
            folder._require_own(path / JOURNAL)
            read = read_journal(path)
            folder.lines, folder._size = read.lines, read.size
            folder._clear(read.gone)
            for part in path.glob(PART):
                part.unlink()
            if read.size < (path / JOURNAL).stat().st_size:
                folder._cut()
        return folder

    @staticmethod
    def _require_own(journal: Path) -> None:
        if not stat.S_ISREG(journal.lstat().st_mode):
            raise BadInput(f"{journal} is a link, and what it leads to is not written; put the file itself there")

    def _cut(self) -> None:
        """Remove what lies behind the last whole line."""
        with (self.path / JOURNAL).open("r+b") as file:
            file.truncate(self._size)
            os.fsync(file.fileno())

    def hold(self) -> None:
        """Lock the folder if it is not locked. Raises BadInput if it is another's, if another has written to the journal
        meanwhile, and if it cannot be written."""
        with self.writing():
            pass

    def _hold(self) -> None:
        if self._lock.lost:
            raise BadInput(f"{self.path} is gone on with by a later session of this process; this one has ended")
        if self._lock.held:
            return
        self._lock.acquire(take_over=True)
        size = (self.path / JOURNAL).stat().st_size
        if self._size is None:
            self._size = size
        elif self._size != size:
            self._lock.release()
            raise BadInput(f"{self.path} was gone on with by another session meanwhile; go on with: {self.again}")

    def close(self) -> None:
        """Release the folder to others. Writing locks it again."""
        self._lock.release()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Lock the folder, and turn an OSError into a CannotWrite that says how to continue the run."""
        with writing(self.path, self.again), self._lock.turn:
            self._hold()
            yield

    def append(self, line: dict[str, Any]) -> None:
        # Half of a surrogate pair has no UTF-8 form; JSON has an escape for it.
        data = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode(errors="backslashreplace") + b"\n"
        with self.writing():
            try:
                with (self.path / JOURNAL).open("ab") as file:
                    file.write(data)
            except OSError:
                with suppress(OSError):  # what was written of it would stand before the next line
                    self._cut()
                raise
            self._size = (self._size or 0) + len(data)
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
        """Copy the first `keep` lines, their pictures and masks into another folder, under this budget, to continue in
        another way there."""
        first = {**self.lines[0], "brief": {**self.lines[0]["brief"], "budget": to_json(budget)}}
        other = RunFolder.reopen(path, self._again)
        with other.writing():
            for canvas in canvases_of(self.lines[:keep]):
                write_bytes(other.canvas_path(canvas), self.canvas_path(canvas).read_bytes())
                if self.latent_path(canvas).exists():
                    write_bytes(other.latent_path(canvas), self.latent_path(canvas).read_bytes())
            for reference in self.lines[0]["brief"].get("references", ()):
                file = reference_file(str(reference.get("name")))
                if REFERENCE.fullmatch(file):
                    write_bytes(path / file, (self.path / file).read_bytes())
            for line in self.lines[:keep]:
                mask = line["result"].get("mask", "") if line["event"] == "review" else ""
                if MASK.fullmatch(mask):
                    write_bytes(path / mask, (self.path / mask).read_bytes())
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

    def save_canvas(self, canvas: int, drawing: Drawing, trajectory: Trajectory, seed: int | None) -> str:
        path = self.canvas_path(canvas)
        texts = dict(self.texts)
        if seed is not None:
            texts[PARAMETERS_KEY] = parameters(trajectory, seed, drawing.nfe)
        with self.writing():
            save_png(path, drawing.picture, trajectory, canvas, self._step_texts, texts)
            if drawing.latent is not None:
                write_bytes(self.latent_path(canvas), save({"latent": np.ascontiguousarray(drawing.latent)}))
        return path.name

    def finish(self, trajectory: Trajectory, best: Picture | None) -> None:
        """Save the best picture once more with the whole run in its metadata, and the report."""
        from ..report import write_report

        with self.writing():
            if best is not None and trajectory.best is not None:
                texts = {**self.texts, **parameters_of_best(trajectory)}
                made = self.canvas_path(trajectory.best)
                save_png(self.path / BEST, best, trajectory, trajectory.best, self._step_texts, texts, made)
            write_report(trajectory, self.canvas_path, self.path / REPORT)

    def save_mask(self, name: str, mask: Picture) -> None:
        self._save_plain(name, mask)

    def mask(self, name: str, sha256: str) -> Picture:
        return self._read_plain(name, MASK, "L", sha256, "the mask that was painted")

    def save_reference(self, name: str, picture: Picture) -> None:
        self._save_plain(reference_file(name), picture)

    def reference(self, name: str, sha256: str) -> Picture:
        return self._read_plain(reference_file(name), REFERENCE, "RGB", sha256, "the reference that was given")

    def _save_plain(self, name: str, values: Picture) -> None:
        """Save a picture without metadata."""
        data = io.BytesIO()
        Image.fromarray(values).save(data, "PNG")
        with self.writing():
            write_bytes(self.path / name, data.getvalue())

    def _read_plain(
        self, name: str, form: re.Pattern[str], mode: Literal["RGB", "L"], sha256: str, what: str
    ) -> Picture:
        """Read a picture without metadata. Raises BadInput if its name has not this form, or its digest is another."""
        path = self.path / name
        try:
            if path.parent != self.path or not form.fullmatch(name):
                raise ValueError("it is not the name of such a file")
            with opened(path.read_bytes(), ("PNG",)) as image:
                values = pixels(image, mode)
            if digest_of(values) != sha256:
                raise ValueError(f"it is not {what}")
        except DECODING_ERRORS as error:
            raise BadInput(f"{path} is missing or damaged, and the run needs it to go on ({error})") from error
        return values

    def latent_path(self, canvas: int) -> Path:
        """A safetensors file with one tensor, float32 channels x rows x columns."""
        return self.path / f"canvas-{canvas:03d}.latent"

    def latent(self, canvas: int, sha256: str) -> np.ndarray:
        from ..weights.checkpoint import File

        path = self.latent_path(canvas)
        try:
            File(path).close()  # refuses a header that no latent has, before safetensors reads it
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
