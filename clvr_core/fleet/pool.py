"""Gives pieces to workers that may die: which one gets what, what is done again, and what is given up."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..errors import BadInput
from .crew import Lost, Told, _ignore
from .worker import Place, Report

TRIES = 3
"""Workers that a piece may lose before it is given up, and that may die one after the other before they did anything."""
SECONDS = 1.0
"""Between two ticks."""
SLOW = 60.0
"""Seconds after which it is said that no worker is ready."""


class Dead(Exception):
    """A worker is gone. The message says how, in words."""


class Link(Protocol):
    """The way to one worker."""

    def begin(self, number: int, piece: Any) -> None:
        """Have the worker do a piece. That it is gone shows in `reports`."""
        ...

    def reports(self) -> list[Report]:
        """Return what it has sent since the last call; no waiting. Raises Dead once it is gone and all was returned."""
        ...

    def stop(self) -> None:
        """Have it leave its work."""
        ...

    def kill(self) -> None:
        """End it, whatever it does. Returns once it is gone."""
        ...


class Links(Protocol):
    """Starts workers."""

    def start(self) -> Link:
        """Begin to start a worker; its first report says that it is ready."""
        ...

    def wait(self, links: list[Link], seconds: float) -> None:
        """Return once one of them has something to report or is gone, or after so many seconds."""
        ...


@dataclass
class _Worker:
    link: Link
    ready: bool = False
    under_way: set[int] = field(default_factory=set)
    served: bool = False
    """Whether it has finished a piece."""


class Pool:
    """A `Crew`.

    workers: to be kept alive.
    each: pieces that one does at the same time.
    warn: takes a sentence about a worker that was lost or cannot be used.
    """

    def __init__(
        self,
        links: Links,
        workers: int,
        each: int,
        warn: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
    ) -> None:
        self.links, self.count, self.each, self.warn = links, workers, each, warn
        self._workers: list[_Worker] = []
        self._deaths = 0
        """One after the other, of workers that had done nothing."""
        self._home: Place | None = None
        self._refused: BadInput | None = None

    def close(self) -> None:
        for worker in self._workers:
            worker.link.stop()
        for worker in self._workers:
            worker.link.kill()
        self._workers.clear()

    def run(
        self, pieces: Iterable[Any], told: Told = _ignore, tick: Callable[[], object] = lambda: None
    ) -> Iterator[tuple[int, Any]]:
        work, begun, patient = _Work(iter(pieces)), time.monotonic(), False
        try:
            while True:
                if work.error is None:
                    self._fill()
                    self._give(work)
                if not work.under_way and (work.error is not None or not work.left):
                    break
                self.links.wait([worker.link for worker in self._workers], SECONDS)
                if not patient and time.monotonic() - begun > SLOW and not any(each.ready for each in self._workers):
                    patient = True
                    self.warn(
                        f"no worker is ready after {SLOW:g} s; they load their models, or there is no room for them: fewer "
                        "--workers or a smaller share by --gpus"
                    )
                for worker in list(self._workers):
                    yield from self._hear(worker, work, told)
                tick()
        except BaseException:
            self._leave()
            raise
        if work.error is not None:
            raise work.error

    def _fill(self) -> None:
        """Start as many workers as are missing. Raises BadInput if none can be had."""
        if self._deaths >= TRIES * self.count and not any(worker.ready for worker in self._workers):
            raise BadInput(
                f"{self._deaths} workers died one after the other before they had done anything; "
                "run one brief with `clvr generate` to see why"
            )
        while len(self._workers) < self.count:
            self._workers.append(_Worker(self.links.start()))
        if not self._workers:
            raise self._refused or BadInput("there is no worker; ask for at least 1")

    def _give(self, work: _Work) -> None:
        for worker in sorted(self._workers, key=lambda each: len(each.under_way)):
            while worker.ready and len(worker.under_way) < self.each:
                alone = any(work.suspect(number) for number in worker.under_way)
                found = None if alone else work.next(idle=not worker.under_way)
                if found is None:
                    break
                number, piece = found
                worker.under_way.add(number)
                worker.link.begin(number, piece)

    def _hear(self, worker: _Worker, work: _Work, told: Told) -> Iterator[tuple[int, Any]]:
        try:
            reports = worker.link.reports()
        except Dead as error:
            self._workers.remove(worker)
            self._deaths = 0 if worker.served else self._deaths + 1
            if work.error is None:
                self.warn(
                    f"a worker is gone ({error}); {len(worker.under_way)} of its pieces are begun again by another"
                )
            for number in sorted(worker.under_way):
                if lost := work.died(number, str(error)):
                    yield number, lost
            return
        for report in reports:
            if report.kind == "ready":
                self._welcome(worker, report.value)
            elif report.kind == "refused":
                self._dismiss(worker, BadInput(str(report.value)))
            elif report.number in worker.under_way:
                if report.kind == "told":
                    told(report.number, report.value)
                    continue
                worker.under_way.discard(report.number)
                work.ended(report.number)
                worker.served = True
                self._deaths = 0
                if report.kind == "done":
                    yield report.number, report.value
                elif work.error is None:
                    work.error = report.value

    def _welcome(self, worker: _Worker, place: Place) -> None:
        self._home = self._home or Place.here()
        if words := self._home.differs(place):
            self._dismiss(worker, BadInput(f"{words}; install the same there"))
        else:
            worker.ready = True

    def _dismiss(self, worker: _Worker, why: BadInput) -> None:
        """Go on without a worker that cannot be used. Raises BadInput if it was the last."""
        self.count -= 1
        self._workers.remove(worker)
        worker.link.kill()
        self._refused = why
        if not self._workers:
            raise why
        self.warn(f"one worker fewer: {why}")

    def _leave(self) -> None:
        """Have all workers leave their work, and wait until they have and are gone; what they still tell is not
        heard."""
        for worker in self._workers:
            worker.link.stop()
        while any(worker.under_way for worker in self._workers):
            self.links.wait([worker.link for worker in self._workers if worker.under_way], SECONDS)
            for worker in list(self._workers):
                try:
                    ended = {report.number for report in worker.link.reports() if report.kind in ("done", "failed")}
                except Dead:
                    self._workers.remove(worker)
                    continue
                worker.under_way -= ended
        self.close()


class _Work:
    """The pieces of one `run`.

    error: of the first piece that raised; none is begun any more.
    """

    def __init__(self, pieces: Iterator[Any]) -> None:
        self._pieces = enumerate(pieces)
        self._again: deque[int] = deque()
        self._deaths: dict[int, int] = {}
        self.under_way: dict[int, Any] = {}
        self._waiting: dict[int, Any] = {}
        self._ahead: tuple[int, Any] | None = None
        self.error: Exception | None = None

    @property
    def left(self) -> bool:
        """Whether there is a piece that nobody does."""
        if not self._again and self._ahead is None:
            self._ahead = next(self._pieces, None)
        return bool(self._again) or self._ahead is not None

    def suspect(self, number: int) -> bool:
        """Whether only a last worker may try the piece, with nothing else beside it."""
        return self._deaths.get(number, 0) >= TRIES - 1

    def next(self, idle: bool) -> tuple[int, Any] | None:
        """Return the next piece, None if there is none. idle: whether the worker does nothing else."""
        for number in self._again:
            if idle or not self.suspect(number):
                self._again.remove(number)
                self.under_way[number] = self._waiting.pop(number)
                return number, self.under_way[number]
        if self._ahead is None:
            self._ahead = next(self._pieces, None)
        found, self._ahead = self._ahead, None
        if found is not None:
            self.under_way[found[0]] = found[1]
        return found

    def ended(self, number: int) -> None:
        del self.under_way[number]

    def died(self, number: int, how: str) -> Lost | None:
        """Note that the worker of a piece is gone. Return what becomes of the piece, None if it is tried again."""
        piece = self.under_way.pop(number)
        self._deaths[number] = self._deaths.get(number, 0) + 1
        if self._deaths[number] >= TRIES:
            return Lost(f"{TRIES} workers died at it, the last one alone with it ({how})")
        self._waiting[number] = piece
        self._again.append(number)
        return None
