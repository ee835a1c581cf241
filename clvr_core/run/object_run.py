"""A run in an object store, such as S3: one object a line of the journal, and one for each picture.

An object appears whole or not at all, and a line's object is written only if there is none yet: so of two writers one is
told that it came too late, and a journal never holds lines of both. Files are worked on in a folder of this machine, which
is only a copy and goes with the run.
"""

from __future__ import annotations

import json
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal

import fsspec
import numpy as np

from ..brief import Budget
from ..errors import BadInput, CannotWrite
from ..protocols import Drawing, Picture
from ..records import to_json
from ..storage.atomic import AGAIN
from ..trajectory import Trajectory
from .lines import REWIND, canvases_of
from .run_folder import BEST, JOURNAL, REPORT, RunFolder, reference_file

EVENTS = "events"
"""Folder of the lines: 000000.json and so on."""
NAME = re.compile(r"(\d{6})\.json")


class Objects:
    """The objects under a url, `s3://bucket/folder` or of another of fsspec's stores.

    Raises BadInput for a url of no store, or of one whose package is missing.
    """

    def __init__(self, url: str, again: str = AGAIN) -> None:
        self.url, self.again = url.rstrip("/"), again
        try:
            self.store, self.root = fsspec.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise BadInput(f"{url} cannot be used: {error}") from error

    def place(self, name: str) -> str:
        return f"{self.root}/{name}"

    @contextmanager
    def talking(self) -> Iterator[None]:
        """Turn what a store raises, which each does in its own way, into a CannotWrite that says how to go on."""
        try:
            yield
        except (BadInput, FileExistsError):
            raise
        except Exception as error:
            why = " ".join(str(error).split()) or type(error).__name__
            raise CannotWrite(
                f"{self.url} cannot be used: {why[:300]}; mend that and go on with: {self.again}", True
            ) from error

    def put(self, name: str, data: bytes) -> None:
        with self.talking():
            self.store.pipe_file(self.place(name), data)

    def create(self, name: str, data: bytes) -> None:
        """Write an object that is not there. Raises FileExistsError if it is, BadInput for a store that cannot tell."""
        require_fence(self)
        with self.talking():
            self.store.pipe_file(self.place(name), data, mode="create")

    def get(self, name: str) -> bytes | None:
        """Return an object, None if there is none."""
        with self.talking():
            try:
                return self.store.cat_file(self.place(name))
            except FileNotFoundError:
                return None

    def has(self, name: str) -> bool:
        with self.talking():
            self.store.invalidate_cache()
            return self.store.exists(self.place(name))

    def under(self, folder: str) -> dict[str, bytes]:
        """Return all objects of a folder by their names in it."""
        with self.talking():
            self.store.invalidate_cache()
            try:
                there = self.store.ls(self.place(folder), detail=True)
            except FileNotFoundError:
                return {}
            listed = [each["name"] for each in there if each["type"] == "file"]
            found = self.store.cat(listed) if listed else {}
            return {path.rpartition("/")[2]: data for path, data in found.items()}

    def names(self, folder: str) -> list[str]:
        """Return the names of all objects under a folder, at whatever depth."""
        with self.talking():
            self.store.invalidate_cache()
            return [path[len(self.root) + 1 :] for path in self.store.find(self.place(folder))]

    def inside(self, folder: str, kind: Literal["file", "directory"]) -> list[str]:
        """Return the names of what lies in a folder itself."""
        with self.talking():
            self.store.invalidate_cache()
            with suppress(FileNotFoundError):
                there = self.store.ls(self.place(folder), detail=True)
                return sorted(each["name"].rpartition("/")[2] for each in there if each["type"] == kind)
            return []

    def remove(self, folder: str) -> None:
        """Remove a folder, if it is there."""
        with self.talking(), suppress(FileNotFoundError):
            self.store.rm(self.place(folder), recursive=True)


@cache
def _holds_the_fence(kind: type, root: str) -> list[bool]:
    return []


def require_fence(objects: Objects) -> None:
    """Raises BadInput if the store writes over an object that it was to write only where there is none. Tried once a
    process and bucket."""
    known = _holds_the_fence(type(objects.store), objects.root.partition("/")[0])
    if not known:
        name = objects.place(f".clvr-{secrets.token_hex(8)}")
        with objects.talking():
            objects.store.pipe_file(name, b"1", mode="create")
            try:
                objects.store.pipe_file(name, b"2", mode="create")
                known.append(False)
            except FileExistsError:
                known.append(True)
            finally:
                objects.store.rm_file(name)
    if not known[0]:
        raise BadInput(
            f"{objects.url} lies in a store that cannot write an object only where there is none, so two writers would not "
            "notice each other; choose a store with conditional writes (S3, GCS), or a shared folder"
        )


class ObjectRun:
    """A `RunStore` of objects, made by `reopen`."""

    def __init__(self, objects: Objects, folder: tempfile.TemporaryDirectory[str]) -> None:
        self._objects, self._folder = objects, folder
        self._here = RunFolder.reopen(Path(folder.name), objects.again)
        self.lines: list[dict[str, Any]] = self._here.lines
        self.texts: Mapping[str, str] = {}
        self._count = 0
        """Lines in the store."""

    @classmethod
    def reopen(cls, url: str, again: str = AGAIN) -> ObjectRun:
        """Open the run, or begin a new one if there is none. Raises BadInput for a damaged one."""
        objects = Objects(url, again)
        held = objects.under(EVENTS)
        if odd := [name for number, name in enumerate(sorted(held)) if name != f"{number:06}.json"]:
            raise BadInput(f"{url}/{EVENTS} is damaged: {odd[0]} stands where another line belongs; restore it")
        folder = tempfile.TemporaryDirectory(prefix="clvr-run-")
        lines = b"".join(held[name].rstrip(b"\n") + b"\n" for name in sorted(held))
        Path(folder.name, JOURNAL).write_bytes(lines)
        run = cls(objects, folder)
        run._count = len(held)
        return run

    @property
    def where(self) -> str:
        return self._objects.url

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Name the store in place of the copy in what is raised."""
        try:
            yield
        except BadInput as error:
            if self._folder.name not in str(error):
                raise
            raise BadInput(str(error).replace(self._folder.name, self.where)) from error

    def _line(self, line: dict[str, Any]) -> None:
        data = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode(errors="backslashreplace")
        try:
            self._objects.create(f"{EVENTS}/{self._count:06}.json", data + b"\n")
        except FileExistsError:
            raise BadInput(
                f"{self.where} was gone on with by another process meanwhile; go on with: {self._objects.again}"
            ) from None
        self._count += 1

    def append(self, line: dict[str, Any]) -> None:
        self._line(line)
        self._here.append(line)

    def sync(self) -> None:
        """Nothing is left to do: a line is in the store once it is appended."""

    def rewind(self, keep: int, budget: Budget) -> None:
        self._line({"event": REWIND, "keep": keep, "budget": to_json(budget)})
        self._here.rewind(keep, budget)
        self.lines = self._here.lines

    def file_of(self, canvas: int) -> str:
        return self._here.file_of(canvas)

    def _upload(self, *paths: Path) -> None:
        for path in paths:
            if path.exists():
                self._objects.put(path.name, path.read_bytes())

    def _fetch(self, *paths: Path) -> None:
        for path in paths:
            if not path.exists() and (data := self._objects.get(path.name)) is not None:
                path.write_bytes(data)

    def save_canvas(self, canvas: int, drawing: Drawing, trajectory: Trajectory, seed: int | None) -> str:
        self._here.texts = self.texts
        name = self._here.save_canvas(canvas, drawing, trajectory, seed)
        self._upload(self._here.canvas_path(canvas), self._here.latent_path(canvas))
        return name

    def picture(self, canvas: int, sha256: str | None = None) -> Picture:
        self._fetch(self._here.canvas_path(canvas))
        with self._named():
            return self._here.picture(canvas, sha256)

    def latent(self, canvas: int, sha256: str) -> np.ndarray:
        self._fetch(self._here.latent_path(canvas))
        with self._named():
            return self._here.latent(canvas, sha256)

    def save_mask(self, name: str, mask: Picture) -> None:
        self._here.save_mask(name, mask)
        self._upload(self._here.path / name)

    def mask(self, name: str, sha256: str) -> Picture:
        self._fetch(self._here.path / Path(name).name)
        with self._named():
            return self._here.mask(name, sha256)

    def save_reference(self, name: str, picture: Picture) -> None:
        self._here.save_reference(name, picture)
        self._upload(self._here.path / reference_file(name))

    def reference(self, name: str, sha256: str) -> Picture:
        self._fetch(self._here.path / Path(reference_file(name)).name)
        with self._named():
            return self._here.reference(name, sha256)

    def finish(self, trajectory: Trajectory, best: Picture | None) -> None:
        """Save the results as a run folder has them, with the journal as one file."""
        self._fetch(*map(self._here.canvas_path, canvases_of(self.lines)))
        self._here.texts = self.texts
        with self._named():
            self._here.finish(trajectory, best)
        self._upload(*(self._here.path / name for name in (BEST, REPORT)))

    def close(self) -> None:
        """Write the journal as one file too, for whoever reads runs."""
        self._here.close()
        if self.lines:
            self._upload(self._here.path / JOURNAL)
