"""The pass over the weights: a few threads make the windows of the output in any order.

A window depends only on its place in the output. So the bytes do not depend on the number of threads, and memory does
not grow with the model.
"""

from __future__ import annotations

import hashlib
import os
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count as counter
from typing import Any

import numpy as np

from ..errors import BadInput
from ..weights import dtypes
from ..weights.checkpoint import File
from .engine import BLOCK, ROW, WINDOW, Block, Engine, engine_for, measured
from .hashing import HASHED, Hasher, Pool, in_order
from .inputs import values_of
from .measures import Measures
from .native import engine_in_words
from .plan import MergePlan, Output, Part, Segment
from .sampling import tensor_of
from .survey import Cancel, Cancelled, low_rank, refuse_not_finite, rounded_bytes

Progress = Callable[[int, int], Any]
"""Called in the thread that called `run`, with the bytes done and the bytes in all: of the output, and of the inputs to
hash."""
Sink = Callable[[int, memoryview, int], None]
"""Takes a window: its first byte in the output's data, a buffer of WINDOW bytes, and how many of these are filled."""
HELD = 16 << 20
"""Bytes of inputs that each worker keeps until they are hashed."""


@dataclass
class Streamed:
    """The result of a pass.

    tensors, blocks: measures of every weight by tensor of the output and by block, if they were asked for.
    sha256: of the input files that were to be hashed.
    read: bytes of weights read for the arithmetic.
    engine: what merged, in words.
    """

    tensors: dict[str, Measures] = field(default_factory=dict)
    blocks: dict[str, Measures] = field(default_factory=dict)
    sha256: dict[File, str] = field(default_factory=dict)
    read: int = 0
    engine: str = ""


def default_threads() -> int:
    """Return one more than there are cores, at most 8: one thread usually waits for the disk."""
    return min((os.cpu_count() or 1) + 1, 8)


class Stream:
    """One pass over the weights of a surveyed plan.

    threads: worker threads, `default_threads()` if None.
    hashed: input files to hash as well.
    measured: measure the deltas of every weight as well.
    """

    def __init__(
        self,
        plan: MergePlan,
        *,
        threads: int | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        hashed: Iterable[File] = (),
        measured: bool = False,
    ) -> None:
        self.plan, self.threads, self.measured = plan, threads or default_threads(), measured
        self._progress, self._cancel = progress, cancel
        self._items: list[Segment | Output] = sorted(
            [*plan.segments, *(output for output in plan.outputs if output.scale_of or output.content)],
            key=lambda item: (item.start, item.nbytes),
        )
        self._starts = [item.start for item in self._items]
        self._stochastic = plan.recipe.rounding == "stochastic"
        self._largest: dict[str, float] = {}
        self._scales: dict[str, float] = {}
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._errors: list[BaseException] = []
        self._files = dict.fromkeys(hashed)
        given = {file: ranges for file, ranges in in_order(plan, measured).items() if file in self._files}
        self._hasher = Hasher(given, self._stop, self._add)
        self._alone = [file for file in self._files if file not in given]
        self._done, self._total = 0, plan.nbytes + sum(file.size for file in self._files)
        self.found = Streamed()

    def _add(self, size: int) -> None:
        with self._lock:
            self._done += size

    def run(self, sink: Sink) -> Streamed:
        """Give every window of the output to the sink, which may be called by several threads at once.

        An output with fp8 tensors takes two passes, the first to find the largest value of each. Raises BadInput for
        values that are not finite, Cancelled, and whatever the sink raises, in each case after all threads have ended.
        """
        fp8_names = {output.name for output in self.plan.outputs if output.dtype == "F8_E4M3"}
        self.found.engine = engine_in_words()
        self._engine, context = engine_for()
        with context:
            if fp8_names:
                self._total += self.plan.nbytes
                self._windows(None)
                self._scales = {
                    name: float(np.float32(self._largest.get(name, 0.0)) / np.float32(448)) or 1.0 for name in fp8_names
                }
            self._windows(sink)
        self.found.sha256 |= self._hasher.sums()
        if self._progress:
            self._progress(self._total, self._total)
        return self.found

    def _windows(self, sink: Sink | None) -> None:
        numbers = counter()
        jobs = [lambda: self._work(numbers, sink)] * self.threads
        if sink:
            jobs += [lambda file=file: self._hash(file) for file in self._alone]
        threads = [threading.Thread(target=self._guarded, args=(job,), daemon=True) for job in jobs]
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                for thread in threads:
                    thread.join(0.05)
                    if thread.is_alive():
                        break
                if self._progress and not self._stop.is_set():
                    self._progress(self._done, self._total)
                if self._cancel and self._cancel():
                    raise Cancelled
        finally:
            if any(thread.is_alive() for thread in threads):
                self._stop.set()
            for thread in threads:
                if thread.ident:
                    thread.join()
        if self._errors:
            raise self._errors[0]

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # raised again in the caller's thread
            self._errors.append(error)
            self._stop.set()

    def _hash(self, file: File) -> None:
        digest, buffer = hashlib.sha256(), memoryview(bytearray(HASHED))
        for start in range(0, file.size, HASHED):
            if self._stop.is_set():
                return
            view = buffer[: min(HASHED, file.size - start)]
            file.read_into(view, start)
            digest.update(view)
            self._add(len(view))
        with self._lock:
            self.found.sha256[file] = digest.hexdigest()

    def _work(self, numbers: counter, sink: Sink | None) -> None:
        engine, pool = self._engine(), Pool(max(HELD if sink and self._files else 0, len(self.plan.models) * ROW))
        total = self.plan.nbytes
        while not self._stop.is_set() and (start := next(numbers) * WINDOW) < total:
            size = min(WINDOW, total - start)
            self._fill(engine, pool, start, size, bool(sink))
            if sink:
                sink(start, engine.window, size)
            self._add(size)
        if sink:
            self._hasher.help_until(self._hasher.complete)

    def _fill(self, engine: Engine, pool: Pool, start: int, size: int, last: bool) -> None:
        index = max(bisect_right(self._starts, start) - 1, 0)
        while index < len(self._items) and self._items[index].start < start + size:
            item = self._items[index]
            index += 1
            begin, end = max(item.start, start), min(item.start + item.nbytes, start + size)
            if begin >= end:
                continue
            if isinstance(item, Output):
                if last:
                    content = item.content or np.float32(self._scales[item.scale_of]).tobytes()
                    engine.window[begin - start : end - start] = content[begin - item.start : end - item.start]
            elif not item.merged:
                if last:
                    item.base.tensor.file.read_into(
                        engine.window[begin - start : end - start], item.base.start + begin - item.start
                    )
            elif last or item.output.dtype == "F8_E4M3":
                self._merge(engine, pool, item, begin, end, start, last)

    def _merge(
        self, engine: Engine, pool: Pool, segment: Segment, begin: int, end: int, window: int, last: bool
    ) -> None:
        """Merge the elements in the bytes `begin` to `end` of the output into the window that starts at byte
        `window`."""
        dtype = segment.output.dtype
        size = dtypes.FLOATS[dtype]
        parts = segment.reads(self.measured)
        if last and self._merged_from_files(engine, segment, begin, end, window):
            return
        roles = tuple(parts)[1:]
        forms, strengths = [part.form for part in parts.values()], [segment.strength(role) for role in roles]
        copy = segment.copy if roles else ""
        first, stop = (begin - segment.start) // size, (end - segment.start) // size
        for place in range(first, stop, BLOCK):
            count = min(BLOCK, stop - place)
            rows = self._read(pool, list(parts.values()), place, count, last)
            low = None if segment.copy else low_rank(segment, place, count)
            block = Block(rows, forms, roles, strengths, low, count, copy, self.plan.recipe.combine == "ties")
            offset, scale = segment.start + place * size - window, self._scales.get(segment.output.name)
            to = dtype if last and not self._stochastic else ""
            if not engine.merge(block, to, offset, scale, self.measured and bool(to)):
                self._refuse(segment)
            if not last:
                with self._lock:
                    self._largest[segment.output.name] = max(
                        self._largest.get(segment.output.name, 0.0), engine.peak(count)
                    )
                continue
            if self._stochastic:
                data = rounded_bytes(self.plan, segment, engine.merged(count), place, scale)
                engine.window[offset : offset + len(data)] = data.data
            if self.measured:
                found = (
                    measured(block, segment.atom, place, 1.0, engine.merged(count), dtypes.decode(data, dtype, scale))
                    if self._stochastic
                    else engine.measures(segment.atom, place)
                )
                with self._lock:
                    self.found.tensors.setdefault(segment.output.name, Measures()).add(found)
                    self.found.blocks.setdefault(segment.block, Measures()).add(found)

    def _merged_from_files(self, engine: Engine, segment: Segment, begin: int, end: int, window: int) -> bool:
        """Let the engine read and merge the bytes, if nothing else is to be done with them; say whether it did."""
        if self._files or self.measured or self._stochastic:
            return False
        size = dtypes.FLOATS[segment.output.dtype]
        first, count = (begin - segment.start) // size, (end - begin) // size
        ties = self.plan.recipe.combine == "ties"
        if not (found := tensor_of(segment, ties, first, count)):
            return False
        if (good := engine.merge_files(found[1], begin - window)) is None:
            return False
        if not good:
            self._refuse(segment)
        with self._lock:
            self.found.read += sum(count * part.itemsize for _, part in segment.sources())
        return True

    def _read(self, pool: Pool, parts: Sequence[Part], place: int, count: int, last: bool) -> list[memoryview]:
        """Read `count` elements of each part from element `place` on, and give the bytes to the hasher as well."""
        sizes = [count * dtypes.FLOATS[part.form[0]] for part in parts]
        if not (pool.pending and pool.has(sizes)):
            self._hasher.help_until(lambda: not pool.pending)
            pool.clear()
        rows = []
        for part, size in zip(parts, sizes):
            row, start = pool.take(size), part.start + place * part.itemsize
            if part.tensor.codec is not None:
                row[:] = values_of(part, place, count).data.cast("B")
            else:
                part.tensor.file.read_into(row, start)
                if last:
                    self._hasher.give(pool, part.tensor.file, start, row)
            rows.append(row)
        with self._lock:
            self.found.read += sum(sizes)
        return rows

    def _refuse(self, segment: Segment) -> None:
        for part in segment.reads().values():
            refuse_not_finite(part)
        name, dtype = segment.output.name, segment.output.dtype
        raise BadInput(
            f"{name} holds values that {dtype} cannot, when merged, though its inputs are finite; use --dtype bf16 or fp32"
        )
