"""SHA-256 of the inputs from the buffers that a merge reads anyway.

A sum needs the bytes of a file in their order; the workers read them out of order, each its window of the output. So a
worker gives its buffers and goes on. When it needs their memory back, it hashes whatever comes next in any file, from
the buffers of any worker, until its own are done. It cannot wait in vain: the windows are begun in their order, and the
worker of the earliest one holds what comes next.
"""

from __future__ import annotations

import hashlib
import mmap
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ..weights.checkpoint import File
from .plan import MergePlan, Segment

HASHED = 1 << 20
"""Bytes of a file read and hashed at a time where no worker reads them."""
ALIGNED = 64


class Pool:
    """Memory of one worker for the raw inputs of its blocks.

    pending: buffers that are still to be hashed.
    """

    def __init__(self, size: int) -> None:
        self._view, self._used, self.pending = memoryview(mmap.mmap(-1, size)), 0, 0

    def has(self, sizes: Iterable[int]) -> bool:
        return self._used + sum(-(-size // ALIGNED) * ALIGNED for size in sizes) <= len(self._view)

    def take(self, size: int) -> memoryview:
        start = self._used
        self._used += -(-size // ALIGNED) * ALIGNED
        return self._view[start : start + size]

    def clear(self) -> None:
        self._used = 0


@dataclass(slots=True)
class _Front:
    """How far a file is hashed.

    given: the byte ranges that workers still give, in their order.
    buffers: those that were given and wait, by their first byte.
    busy: a thread is hashing what comes next.
    """

    file: File
    given: deque[tuple[int, int]]
    digest: Any = field(default_factory=hashlib.sha256)
    place: int = 0
    buffers: dict[int, tuple[Pool, memoryview]] = field(default_factory=dict)
    busy: bool = False

    def next(self) -> tuple[Pool | None, memoryview | None, int] | None:
        """Return what comes next: a buffer and the pool it is from, or the number of bytes that no worker gives. None
        if that is still to be given, or all is done."""
        while self.given and self.given[0][1] <= self.place:
            self.given.popleft()
        if self.given and self.given[0][0] <= self.place:
            found = self.buffers.pop(self.place, None)
            return found and (*found, len(found[1]))
        end = self.given[0][0] if self.given else self.file.size
        return (None, None, min(HASHED, end - self.place)) if self.place < end else None


class Hasher:
    """The sums of some files, computed by all workers together."""

    def __init__(
        self, given: Mapping[File, list[tuple[int, int]]], stop: threading.Event, progress: Callable[[int], None]
    ) -> None:
        """given: for each file to hash the byte ranges that workers will give, as `in_order` returns them.
        stop: set if the merge is stopped.
        progress: called with the number of bytes hashed since the last call.
        """
        self._fronts = {file: _Front(file, deque(ranges)) for file, ranges in given.items()}
        self._stop, self._progress, self._changed = stop, progress, threading.Condition()

    def give(self, pool: Pool, file: File, start: int, buffer: memoryview) -> None:
        """Take a buffer of the pool with the bytes of the file from `start` on, to be hashed in its turn."""
        if buffer.nbytes and (front := self._fronts.get(file)):
            with self._changed:
                pool.pending += 1
                front.buffers[start] = pool, buffer
                self._changed.notify_all()

    def help_until(self, done: Callable[[], bool]) -> None:
        """Hash what comes next in any file, and wait where nothing can be hashed, until `done` or until the stop."""
        while not self._stop.is_set() and not done():
            if not self._step():
                with self._changed:
                    self._changed.wait(0.05)

    def complete(self) -> bool:
        """Say whether all files are hashed."""
        return all(front.place == front.file.size for front in self._fronts.values())

    def sums(self) -> dict[File, str]:
        return {file: front.digest.hexdigest() for file, front in self._fronts.items()}

    def _step(self) -> bool:
        with self._changed:
            front, job = next(
                ((front, job) for front in self._fronts.values() if not front.busy and (job := front.next())),
                (None, None),
            )
            if front is None or job is None:
                return False
            front.busy = True
        pool, buffer, size = job
        try:
            front.digest.update(front.file.read(front.place, size) if buffer is None else buffer)
        finally:
            with self._changed:
                front.place, front.busy = front.place + size, False
                if pool:
                    pool.pending -= 1
                self._changed.notify_all()
        self._progress(size)
        return True


def in_order(plan: MergePlan, measured: bool) -> dict[File, list[tuple[int, int]]]:
    """Return, for each input file, the byte ranges that the windows of the output read, in the order of the output.

    Left out are files whose bytes are read in another order, as where the layouts differ, and files that are read less
    than by half: hashing these from their beginning to their end is simpler and as fast.
    """
    ranges: dict[File, list[tuple[int, int]]] = {}
    for segment in sorted(plan.segments, key=_start):
        for part in segment.reads(measured).values() if segment.merged else ():
            if part.tensor.codec is not None:  # read as values, not as the bytes of the file
                continue
            ranges.setdefault(part.tensor.file, []).append((part.start, part.start + part.count * part.itemsize))
    return {
        file: found
        for file, found in ranges.items()
        if all(left[1] <= right[0] for left, right in pairwise(found))
        and 2 * sum(stop - start for start, stop in found) >= file.size
    }


def _start(segment: Segment) -> int:
    return segment.start
