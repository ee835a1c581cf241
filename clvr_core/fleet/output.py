"""Where the runs of many briefs are kept: a folder, or an object store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..run.run_folder import RunFolder
from ..run.store import RunStore
from ..storage.atomic import AGAIN, write_bytes, writing
from .shard import Shard, alone


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

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all."""
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

    def write(self, name: str, data: bytes) -> None:
        with writing(self.path):
            write_bytes(self.path / name, data)

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

    def write(self, name: str, data: bytes) -> None:
        from ..run.object_run import Objects

        Objects(self.url).put(name, data)

    @contextmanager
    def alone(self, shard: Shard) -> Iterator[None]:
        yield


def output_of(place: Path | str) -> Output:
    """Return the output of a path, or of a url such as s3://bucket/folder."""
    if isinstance(place, str) and "://" in place:
        return Disk(Path(place.removeprefix("file://"))) if place.startswith("file://") else Store(place)
    return Disk(Path(place))


def folder_or_url(text: str) -> Path | str:
    """Parse `--out`: a path would lose one of the slashes of a url."""
    return text if "://" in text else Path(text)
