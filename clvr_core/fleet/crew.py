"""Work that is done by workers, each with models of its own: in processes of this machine or on those of a cluster.

An `Engine` makes a `Crew` for a `Task`; the crew's workers load their models once and do pieces of work as they become
free. What a task, a piece and a result are made of can be pickled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

Piece = TypeVar("Piece")
Done = TypeVar("Done")
PieceIn = TypeVar("PieceIn", contravariant=True)
DoneOut = TypeVar("DoneOut", covariant=True)
Tell = Callable[[Any], None]
"""Called while a piece is done, with what its giver is to know."""
Told = Callable[[int, Any], None]
"""Called with the number of a piece and what its worker told."""


def _ignore(number: int, what: Any) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Lost:
    """What comes of a piece whose workers died: it may be what kills them.

    why: a sentence.
    """

    why: str


class Task(Protocol[PieceIn, DoneOut]):
    """What the workers do."""

    def open(self, stop: threading.Event) -> AbstractContextManager[Callable[[PieceIn, Tell], DoneOut]]:
        """Load what is needed and yield what does a piece; that is called from several threads at once.

        stop: set when the work is to be left; a piece then raises `Stopped` as soon as it can.

        Raises BadInput if a worker cannot be made here.
        """
        ...


class Crew(Protocol[PieceIn, DoneOut]):
    """Workers that are ready, or will be."""

    def run(
        self, pieces: Iterable[PieceIn], told: Told = _ignore, tick: Callable[[], object] = lambda: None
    ) -> Iterator[tuple[int, DoneOut | Lost]]:
        """Yield the number and the result of each piece, as they end.

        pieces: taken one by one, each when a worker is free for it, so that a long list costs no memory here.
        told: called with what a worker tells of a piece, from the caller's thread; of a piece that is begun a second
            time, because its worker died, everything is told again.
        tick: called about once a second while work is waited for.

        A piece that raises is the last that was begun: the others under way are finished and yielded, and then its
        error is raised. An interrupt makes all pieces under way leave their work. Raises BadInput if no worker can be
        had.
        """
        ...


class Engine(Protocol):
    """Where workers live."""

    def crew(self, task: Task[Piece, Done]) -> AbstractContextManager[Crew[Piece, Done]]:
        """Yield a crew for the task; at the end its workers are gone."""
        ...
