"""Divides a list of work between processes that know nothing of each other, as the tasks of a job scheduler's array."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..errors import BadInput
from ..storage.lock import locked

Work = TypeVar("Work")
MOST = 100_000
"""Shards at most."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a list: every `count`-th piece, from the `number`-th on. `number`: 1 to `count`.

    Raises BadInput for numbers out of range.
    """

    number: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count <= MOST:
            raise BadInput(
                f"shard {self.number}/{self.count} is none; write i/n with i from 1 to n, n at most {MOST:,}"
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read i/n. Raises BadInput for anything else."""
        if not (found := re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)):
            raise BadInput(f"shard {text!r:.40} is none; write i/n, such as 2/8 for the second of eight")
        return cls(int(found[1]), int(found[2]))

    @property
    def suffix(self) -> str:
        """Tells files of this shard from those of others; empty if it is the whole."""
        return "" if self.count == 1 else f"-{self.number}-of-{self.count}"

    def of(self, work: Sequence[Work]) -> list[Work]:
        return list(work[self.number - 1 :: self.count])


WHOLE = Shard()


@contextmanager
def alone(out: Path, shard: Shard) -> Iterator[None]:
    """Hold a folder, or this shard of it. Raises BadInput if another process holds that."""
    if not shard.suffix:
        with locked(out):
            yield
        return
    mark = out / f".shard{shard.suffix}"  # nothing of ours has a name that begins with a dot
    with locked(mark):
        yield
    with suppress(OSError):
        mark.rmdir()
