"""The arithmetic of a merge on blocks in fixed buffers: in the C kernel if it was built, else in torch.

All give the bits of the contract in formula.py, which lists the implementations. Each worker thread owns one engine. An
engine allocates its buffers once and reuses them for every block.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from ..weights import dtypes
from ..weights.dtypes import FLOATS
from . import formula, native
from .measures import Delta, Measures, Pair, measure, side_of, sides_of

BLOCK = 1 << 18
"""Elements merged at a time: their inputs and fp32 values fit into the second-level cache of a core."""
PIECE = 1 << 16
"""Elements that the kernel reads at a time where it reads by itself: of three bf16 inputs they fit into that cache."""
ROW = BLOCK * max(FLOATS.values())
"""Bytes of a block of one input, at most."""
WINDOW = 4 << 20
"""Bytes of the output written at a time."""
Form = tuple[str, float | None]
"""How an input is stored: its dtype by safetensors' name, and the scale of scaled fp8 (None for other dtypes)."""


@dataclass(slots=True)
class Block:
    """Elements to merge.

    rows: the raw bytes of the inputs, the base first, at most native.ROWS; writable.
    forms: how each row is stored.
    roles: the role of each row after the first.
    strengths: the strength of each row after the first.
    low: the sum of the low-rank deltas, fp32 [count], or None.
    count: elements, at most BLOCK.
    copy: the row whose values are the result, "" to merge; the other rows are measured only.
    ties: add only the deltas that have the sign of the sum of all.
    """

    rows: Sequence[memoryview]
    forms: Sequence[Form]
    roles: Sequence[str]
    strengths: Sequence[float]
    low: np.ndarray | None
    count: int
    copy: str = ""
    ties: bool = False

    def values(self) -> list[np.ndarray]:
        """Return the values of each row, fp32 [count]."""
        return [
            dtypes.decode(np.frombuffer(row, np.uint8)[: self.count * FLOATS[dtype]], dtype, scale)
            for row, (dtype, scale) in zip(self.rows, self.forms)
        ]

    def copied(self) -> int:
        """Return the number of the row that is copied, -1 to merge."""
        return ["base", *self.roles].index(self.copy) if self.copy else -1


class Engine:
    """A buffer for a window of the output, and the arithmetic between blocks of inputs and the window.

    This class computes in numpy by the reference formula; its subclasses are faster.

    window: a buffer for the output. It starts on a memory page, as direct writes need.
    """

    def __init__(self, size: int | None = None) -> None:
        """size: bytes of the window, WINDOW if None."""
        self._window = mmap.mmap(-1, size or WINDOW)
        self.window = memoryview(self._window)
        self._values = np.empty(0, np.float32)

    def merge(
        self, block: Block, dtype: str, offset: int = 0, scale: float | None = None, measured: bool = False
    ) -> bool:
        """Merge a block, round it to nearest even and write it into `window`.

        dtype: dtype of the output by safetensors' name; "" only computes the values that `merged` returns.
        offset: first byte in `window`.
        scale: of an fp8 output, by which the stored values are multiplied when they are read.
        measured: keep what `measures` returns.

        Returns False if a value of the result is not finite.
        """
        values = block.values()
        more = list(zip(values[1:], block.strengths))
        merged = formula.combine(values[0], low_rank=block.low, more=more, ties=block.ties)
        if block.copy:
            merged = values[block.copied()]
        stored = merged
        if dtype:
            data = dtypes.encode(merged, dtype, scale)
            self.window[offset : offset + len(data)] = data.data
            stored = dtypes.decode(data, dtype, scale)
        self._values, self._last = merged, (block, dtype, offset, scale)
        return bool(np.isfinite(merged).all() and np.isfinite(stored).all())

    def merge_files(self, tensor: Sequence[Any], offset: int) -> bool | None:
        """Read a tensor, merge it and write it into `window` from the byte `offset` on.

        tensor: its fields, by `sampling.tensor_of`.

        Returns False if a value of the result is not finite, None if this engine cannot do it, or a file cannot be read.
        """
        return None

    def merged(self, count: int) -> np.ndarray:
        """Return the fp32 values [count] of the last `merge`, before rounding."""
        return self._values[:count]

    def peak(self, count: int) -> float:
        """Return the largest size of the `count` values of the last `merge`, before rounding."""
        return float(np.abs(self.merged(count)).max(initial=0.0))

    def measures(self, atom: str, start: int, weight: float = 1.0) -> Measures:
        """Return the measures of the last block that was merged with `measured`.

        atom, start, weight: as in `measures.measure`.
        """
        block, dtype, offset, scale = self._last
        raw = np.frombuffer(self.window[offset : offset + block.count * FLOATS[dtype]], np.uint8)
        return measured(block, atom, start, weight, self.merged(block.count), dtypes.decode(raw, dtype, scale))


def measured(block: Block, atom: str, start: int, weight: float, merged: np.ndarray, stored: np.ndarray) -> Measures:
    """Measure a block in numpy. The arguments are those of `measures.measure`."""
    base, *others = block.values()
    deltas = {role: (values - base, strength) for role, values, strength in zip(block.roles, others, block.strengths)}
    if block.low is not None:
        deltas["lora"] = (block.low, 1.0)
    return measure(atom, start, weight, base, deltas, merged, stored)


class TorchEngine(Engine):
    """For all dtypes, where there is no kernel."""

    def __init__(self) -> None:
        import torch

        super().__init__()
        self._tensors = torch.empty(native.ROWS, BLOCK)
        self._values = self._tensors[0].numpy()
        types = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F8_E4M3": torch.float8_e4m3fn}
        self._types = types
        self._out = {name: torch.frombuffer(self._window, dtype=dtype) for name, dtype in types.items()}

    def merge(
        self, block: Block, dtype: str, offset: int = 0, scale: float | None = None, measured: bool = False
    ) -> bool:
        import torch

        many, count, low = len(block.forms), block.count, block.low
        values = self._tensors[:many, :count]
        for value, row, (source, factor) in zip(values, block.rows, block.forms):
            value.copy_(torch.frombuffer(row, dtype=self._types[source], count=count))
            if factor is not None:
                value.mul_(float(np.float32(factor)))
        base = values[0]
        if block.copy:
            base.copy_(values[block.copied()])
        elif many > 1:
            deltas = values[1:]
            deltas.sub_(base)
            for delta, strength in zip(deltas, block.strengths):
                if strength != 1.0:  # times 1 changes no bit
                    delta.mul_(float(np.float32(strength)))
            terms = [*deltas, *([torch.from_numpy(low)] if low is not None else [])]
            if block.ties:
                whole = sum(terms[1:], terms[0])
                kept = torch.zeros_like(whole)
                for term in terms:
                    alike = ((term > 0) & (whole > 0)) | ((term < 0) & (whole < 0))
                    kept.add_(torch.where(alike, term, torch.zeros_like(term)))
                terms = [kept]
            delta = terms[0]
            for term in terms[1:]:
                delta.add_(term)
            base.add_(delta)
        elif low is not None:
            base.add_(torch.from_numpy(low))
        result = base
        if dtype == "F8_E4M3":
            data = dtypes.encode(self.merged(count), dtype, scale)
            self.window[offset : offset + count] = data.data
        elif dtype:
            first = offset // FLOATS[dtype]
            result = self._out[dtype][first : first + count]
            result.copy_(base)
        self._last = block, dtype, offset, scale
        # A finite sum proves that all values are finite, at a tenth of the cost of testing each. Where the sum is huge
        # or not finite, or where fp16 may have overflowed, each value is tested.
        if dtype != "F16" and abs(base.sum().item()) < 1e37:
            return True
        return bool(result.isfinite().all())


class KernelEngine(Engine):
    """The compiled kernel, for all dtypes: one pass over the elements, the measures included."""

    def __init__(self, kernel: native.Kernel, size: int | None = None) -> None:
        super().__init__(size)
        self._kernel, self._job = kernel, native.Job()
        self._start = native.address(self.window)
        self._sums = np.zeros(native.SUMS)
        self._roles: Sequence[str] | None = None
        self._pieces: mmap.mmap | None = None

    def merge(
        self, block: Block, dtype: str, offset: int = 0, scale: float | None = None, measured: bool = False
    ) -> bool:
        job, low, count = self._job, block.low, block.count
        if (
            any(len(row) < count * FLOATS[form[0]] for row, form in zip(block.rows, block.forms))
            or (dtype and len(self.window) < offset + count * FLOATS[dtype])
            or (low is not None and len(low) < count)
        ):
            raise ValueError(f"a buffer is shorter than {count} elements")
        for index, (row, (source, factor)) in enumerate(zip(block.rows, block.forms)):
            job.rows[index], job.kinds[index] = native.address(row), native.KINDS[source]
            job.scales[index] = 1.0 if factor is None else factor
        for index, strength in enumerate(block.strengths, 1):
            job.strengths[index] = strength
        job.inputs, job.copy, job.ties, job.count = len(block.rows), block.copied(), block.ties, count
        job.low = None if low is None else low.ctypes.data
        job.out = self._start + offset if dtype else None
        job.out_kind, job.out_scale = native.KINDS.get(dtype, -1), 1.0 if scale is None else scale
        job.sums = None
        self._last = block, dtype, offset, scale
        if measured:
            if self._roles != block.roles:
                self._roles, self._sides = block.roles, sides_of((*block.roles, "lora"))
                for index, role in [*enumerate(block.roles), (native.ROWS, "lora")]:
                    job.sides[index] = self._sides.index(side_of(role))
            self._sums[:] = 0
            job.sums = self._sums.ctypes.data
        if not dtype and len(self._values) < count:
            self._values = np.empty(count, np.float32)
        job.merged = None if dtype else self._values.ctypes.data
        return self._kernel.merge(job)

    def merge_files(self, tensor: Sequence[Any], offset: int) -> bool | None:
        if not self._kernel.reads:
            return None
        if len(self.window) < offset + int(tensor[0]) * native.SIZES[int(tensor[2])]:
            raise ValueError(f"the window is shorter than {tensor[0]} elements")
        if self._pieces is None:
            self._pieces = mmap.mmap(-1, native.ROWS * PIECE * max(FLOATS.values()))
        return self._kernel.merge_files(tensor, self._start + offset, native.address(self._pieces), PIECE)

    def peak(self, count: int) -> float:
        return self._job.peak

    def measures(self, atom: str, start: int, weight: float = 1.0) -> Measures:
        block, sums = self._last[0], self._sums.tolist()
        found = Measures(weight * block.count, weight * sums[0])
        roles = [*enumerate(block.roles), *([(native.ROWS, "lora")] if block.low is not None else [])]
        for place, role in roles:
            squares, error, peak, element = sums[native.TERM + 4 * place : native.TERM + 4 * place + 4]
            strength = 1.0 if role == "lora" else block.strengths[place]
            found.deltas[role] = Delta(
                weight * squares,
                weight * strength * strength * squares,
                weight * error,
                peak,
                (atom, start + int(element)),
            )
        sides = [(number, side) for number, side in enumerate(self._sides) if side in sides_of(found.deltas)]
        for one, name in sides:
            found.sides[name] = weight * sums[native.SIDE + one]
        for (one, left), (two, right) in combinations(sides, 2):
            first = native.PAIR + 3 * (one * native.ROWS + two)
            product, both, alike = sums[first : first + 3]
            found.pairs[left, right] = Pair(weight * product, weight * both, weight * (both - alike))
        return found


def engine_for() -> tuple[Callable[[], Engine], AbstractContextManager[None]]:
    """Return a function that makes an engine, and a context manager to use the engines in."""
    if built := native.kernel():
        return partial(KernelEngine, built), nullcontext()
    return TorchEngine, single_threaded()


def light_engine(count: int) -> Engine:
    """Return an engine for up to `count` elements: the kernel, or numpy, which needs no import of torch."""
    size = count * max(FLOATS.values())
    return KernelEngine(built, size) if (built := native.kernel()) else Engine(size)


@contextmanager
def single_threaded() -> Iterator[None]:
    """Set torch to one thread, since the worker threads share the cores already, and set it back afterwards."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
