"""The pictures of an arm in an object store, such as s3://bucket/folder, under the names that they have in a folder.

What is known of the pictures is read once, into a folder of this machine; every picture and every line goes to the store as
it is made, the picture first. Lines are objects that are written only where there is none, so of two processes that draw the
same pictures one is told.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..fleet.output import Output, Store
from ..protocols import Picture
from ..run.object_run import Objects
from ..storage.atomic import AGAIN
from ..storage.lines import Lines
from .benchmarks.base import Benchmark, Item
from .names import KEPT
from .store import Arm


class StoredArm(Arm):
    """An `Arm` at a url. Its folder is a copy, in which pictures that were there before are empty files."""

    def __init__(self, url: str, name: str) -> None:
        self._here = tempfile.TemporaryDirectory(prefix="clvr-eval-")
        super().__init__(Path(self._here.name), name)
        self.url, self._objects = url.rstrip("/"), Objects(url)
        for path in self._objects.names(name):
            _touch(self.images / path)
        kept = f"{KEPT}/{name}"
        for file in self._objects.inside(kept, "file"):
            _touch(self.kept / file).write_bytes(self._objects.get(f"{kept}/{file}") or b"")
        for folder in self._objects.inside(kept, "directory"):
            if folder.endswith(".jsonl"):
                lines = Store(self.url).record(f"{kept}/{folder}").lines
                _touch(self.kept / folder).write_bytes(b"".join(line + b"\n" for line in lines))

    @property
    def where(self) -> str:
        return f"{self.url}/{self.name}"

    @property
    def runs(self) -> Output:
        return Store(f"{self.url}/{KEPT}/{self.name}/runs")

    def save(self, bench: Benchmark, item: Item, k: int, picture: Picture) -> Path:
        path = super().save(bench, item, k, picture)
        self._send(path)
        return path

    def write(self, name: str, data: bytes) -> None:
        super().write(name, data)
        self._send(self.folder / name)

    def settle(self, settings: dict[str, Any]) -> None:
        super().settle(settings)
        self._send(self.kept / "settings.json")

    def pictures(self, suffix: str = "") -> Lines:
        return _StoredLines(
            self.kept / f"pictures{suffix}.jsonl", self.url, f"{KEPT}/{self.name}/pictures{suffix}.jsonl"
        )

    def _send(self, path: Path) -> None:
        self._objects.put(path.relative_to(self.images).as_posix(), path.read_bytes())


class _StoredLines(Lines):
    def __init__(self, path: Path, url: str, name: str) -> None:
        super().__init__(path)
        self._record = Store(url).record(name)
        if len(self._record.lines) != len(self.lines):
            raise BadInput(f"{url} was gone on with by another process meanwhile; go on with: {AGAIN}")

    def append(self, line: dict[str, Any]) -> None:
        self._record.append([json.dumps(line, separators=(",", ":")).encode()])
        super().append(line)


def _touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def arm_in(images: Path | str, name: str) -> Arm:
    """Return the arm of this name in a folder, or at a url of an object store."""
    return StoredArm(images, name) if isinstance(images, str) else Arm(images, name)
