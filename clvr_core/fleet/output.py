"""Where the runs of many briefs are kept: a folder, or an object store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..errors import BadInput
from ..run.run_folder import RunFolder
from ..run.store import RunStore
from ..storage.atomic import AGAIN, write_bytes, writing
from .shard import Shard, alone


class Record(Protocol):
    """A file of lines that is only added to.

    lines: those that were there when it was opened, without their ends.
    """

    lines: list[bytes]

    def append(self, lines: Sequence[bytes]) -> None:
        """Add lines; they are kept when this returns. Raises BadInput if another process has added some, as far as that
        can be told."""
        ...


class Output(Protocol):
    """A place with a run under each name. It can be pickled."""

    def require(self) -> None:
        """Raise BadInput if there can be no such place, without asking whether it answers."""
        ...

    def where(self, name: str) -> str:
        """Return the path or url of what has a name there."""
        ...

    def run(self, name: str) -> RunStore:
        """Open a run to go on with it, or begin one. Raises BadInput if that cannot be done."""
        ...

    def has(self, name: str) -> bool: ...

    def read(self, name: str) -> bytes | None:
        """Return a file, None if there is none."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all."""
        ...

    def remove(self, name: str) -> None:
        """Remove what has this name, a run for example, with all that is in it, if it is there."""
        ...

    def record(self, name: str) -> Record:
        """Open a file of lines. A last line that a kill has cut is dropped."""
        ...

    def alone(self, shard: Shard) -> AbstractContextManager[None]:
        """Hold the place, or the shard, as far as that can be done. Raises BadInput if another process holds it."""
        ...


@dataclass(frozen=True, slots=True)
class Disk:
    """A folder that every worker sees under this path."""

    path: Path

    def require(self) -> None:
        """Any path may be a folder; that shows once it is written."""

    def where(self, name: str) -> str:
        return str(self.path / name)

    def run(self, name: str) -> RunStore:
        return RunFolder.reopen(self.path / name, AGAIN)

    def has(self, name: str) -> bool:
        return (self.path / name).exists()

    def read(self, name: str) -> bytes | None:
        with writing(self.path):
            return (self.path / name).read_bytes() if self.has(name) else None

    def write(self, name: str, data: bytes) -> None:
        with writing(self.path):
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            write_bytes(self.path / name, data)

    def remove(self, name: str) -> None:
        shutil.rmtree(self.path / name, ignore_errors=True)

    def record(self, name: str) -> Record:
        return _FileOfLines(self, name)

    def alone(self, shard: Shard) -> AbstractContextManager[None]:
        return alone(self.path, shard)


@dataclass(frozen=True, slots=True)
class Store:
    """A url of an object store. Nobody can hold it: each run tells a second writer of itself."""

    url: str

    def require(self) -> None:
        from ..run.object_run import Objects

        Objects(self.url)

    def where(self, name: str) -> str:
        return f"{self.url.rstrip('/')}/{name}"

    def run(self, name: str) -> RunStore:
        from ..run.object_run import ObjectRun

        return ObjectRun.reopen(self.where(name))

    def has(self, name: str) -> bool:
        from ..run.object_run import Objects

        return Objects(self.url).has(name)

    def read(self, name: str) -> bytes | None:
        from ..run.object_run import Objects

        return Objects(self.url).get(name)

    def write(self, name: str, data: bytes) -> None:
        from ..run.object_run import Objects

        Objects(self.url).put(name, data)

    def remove(self, name: str) -> None:
        from ..run.object_run import Objects

        Objects(self.url).remove(name)

    def record(self, name: str) -> Record:
        return _ObjectsOfLines(self.url, name)

    @contextmanager
    def alone(self, shard: Shard) -> Iterator[None]:
        yield


class _FileOfLines:
    def __init__(self, place: Disk, name: str) -> None:
        self.path = place.path / name
        *self.lines, cut = (place.read(name) or b"").split(b"\n")
        if cut:
            place.write(name, b"".join(line + b"\n" for line in self.lines))

    def append(self, lines: Sequence[bytes]) -> None:
        with writing(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(b"".join(line + b"\n" for line in lines))
                file.flush()
                os.fsync(file.fileno())


class _ObjectsOfLines:
    """One object for what is added at a time, 000000 and so on, each written only where there is none: so one of two
    writers is told."""

    def __init__(self, url: str, name: str) -> None:
        from ..run.object_run import Objects

        self.objects, self.name = Objects(url), name
        held = self.objects.under(name)
        self.lines = [line for key in sorted(held) for line in held[key].splitlines()]
        self.count = len(held)

    def append(self, lines: Sequence[bytes]) -> None:
        try:
            self.objects.create(f"{self.name}/{self.count:06}", b"".join(line + b"\n" for line in lines))
        except FileExistsError:
            raise BadInput(
                f"{self.objects.url} was gone on with by another process meanwhile; go on with: {self.objects.again}"
            ) from None
        self.count += 1


def output_of(place: Path | str) -> Output:
    """Return the output of a path, or of a url such as s3://bucket/folder."""
    if isinstance(place, str) and "://" in place:
        return Disk(Path(place.removeprefix("file://"))) if place.startswith("file://") else Store(place)
    return Disk(Path(place))


def folder_or_url(text: str) -> Path | str:
    """Parse `--out`: a path would lose one of the slashes of a url."""
    return text if "://" in text else Path(text)
