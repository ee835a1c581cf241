"""The arithmetic of a merge on blocks in fixed buffers: in torch, or, for bf16, in the C kernel if it was built.

Both give the bits of the contract in formula.py, which lists the four implementations. Each worker thread owns one
engine. An engine allocates its buffers once and reuses them for every block.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from importlib import import_module
from types import ModuleType

import numpy as np

from ..weights import dtypes
from ..weights.dtypes import FLOATS
from . import formula

BLOCK = 1 << 18
"""Elements merged at a time: their inputs and fp32 values fit into the second-level cache of a core."""
ROW = BLOCK * max(FLOATS.values())
"""Bytes of a block of one input, at most."""
WINDOW = 4 << 20
"""Bytes of the output written at a time."""
Form = tuple[str, float | None]
"""How an input is stored: its dtype by safetensors' name, and the scale of scaled fp8 (None for other dtypes)."""


class Engine:
    """A buffer for a window of the output, and the arithmetic between blocks of inputs and the window.

    window: a buffer of WINDOW bytes for the output. It starts on a memory page, as direct writes need.
    """

    def __init__(self) -> None:
        self._window = mmap.mmap(-1, WINDOW)
        self.window = memoryview(self._window)

    def merge(
        self,
        rows: Sequence[memoryview],
        forms: Sequence[Form],
        strengths: Sequence[float],
        low: np.ndarray | None,
        count: int,
        offset: int,
        dtype: str,
    ) -> bool:
        """Merge `count` elements, round them to nearest even and write them into `window`.

        rows: the raw bytes of the inputs, the base first; 1 to 3 of them.
        forms: how each row is stored.
        strengths: the strength of each row after the first.
        low: the sum of the low-rank deltas, fp32 [count], or None.
        count: elements, at most BLOCK.
        offset: first byte in `window`.
        dtype: dtype of the output by safetensors' name; "" only computes the values that `merged` returns.

        Returns False if a value of the result is not finite.
        """
        raise NotImplementedError

    def merged(self, count: int) -> np.ndarray:
        """Return the fp32 values [count] of the last `merge`, before rounding. Only TorchEngine has them."""
        raise NotImplementedError


class TorchEngine(Engine):
    """For all dtypes."""

    def __init__(self) -> None:
        import torch

        super().__init__()
        self._values = torch.empty(3, BLOCK)
        self._numpy = self._values[0].numpy()
        types = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F8_E4M3": torch.float8_e4m3fn}
        self._types = types
        self._out = {name: torch.frombuffer(self._window, dtype=dtype) for name, dtype in types.items()}

    def merge(
        self,
        rows: Sequence[memoryview],
        forms: Sequence[Form],
        strengths: Sequence[float],
        low: np.ndarray | None,
        count: int,
        offset: int,
        dtype: str,
    ) -> bool:
        import torch

        many = len(forms)
        values = self._values[:many, :count]
        for value, row, (source, scale) in zip(values, rows, forms):
            value.copy_(torch.frombuffer(row, dtype=self._types[source], count=count))
            if scale is not None:
                value.mul_(float(np.float32(scale)))
        base = values[0]
        if many > 1:
            deltas = values[1:]
            deltas.sub_(base)
            for delta, strength in zip(deltas, strengths):
                if strength != 1.0:  # times 1 changes no bit
                    delta.mul_(float(np.float32(strength)))
            delta = deltas[0]
            if many > 2:
                delta.add_(deltas[1])
            if low is not None:
                delta.add_(torch.from_numpy(low))
            base.add_(delta)
        elif low is not None:
            base.add_(torch.from_numpy(low))
        result = base
        if dtype:
            first = offset // FLOATS[dtype]
            result = self._out[dtype][first : first + count]
            result.copy_(base)
        # A finite sum proves that all values are finite, at a tenth of the cost of testing each. Where the sum is huge
        # or not finite, or where fp16 may have overflowed, each value is tested.
        if dtype != "F16" and abs(base.sum().item()) < 1e37:
            return True
        return bool(result.isfinite().all())

    def merged(self, count: int) -> np.ndarray:
        return self._numpy[:count]


class KernelEngine(Engine):
    """The compiled kernel of _kernel.c: bf16 in and out, in one pass over each element."""

    def __init__(self, kernel: ModuleType) -> None:
        super().__init__()
        self._kernel = kernel

    def merge(
        self,
        rows: Sequence[memoryview],
        forms: Sequence[Form],
        strengths: Sequence[float],
        low: np.ndarray | None,
        count: int,
        offset: int,
        dtype: str,
    ) -> bool:
        alpha, beta = (*strengths, 1.0, 1.0)[:2]
        buffers = (*rows, None, None)[:3]
        return self._kernel.merge(self.window[offset : offset + 2 * count], *buffers, alpha, beta, low, count)


@cache
def kernel() -> ModuleType | None:
    """Return the compiled kernel, or None if it was not built or does not give the bits of the contract on this
    machine."""
    try:
        _kernel = import_module("._kernel", __package__)
    except ImportError:
        return None
    random = np.random.default_rng(0)
    values = [dtypes.encode(random.standard_normal(4999).astype(np.float32), "BF16") for _ in range(3)]
    base, first, second = (dtypes.decode(each, "BF16") for each in values)
    low = random.standard_normal(4999).astype(np.float32)
    out = np.empty_like(values[0])
    _kernel.merge(out, *values, 0.7, 0.85, low, 4999)
    return (
        _kernel if (out == dtypes.encode(formula.combine(base, first, second, 0.7, 0.85, low), "BF16")).all() else None
    )


def engine_for(fused: bool) -> tuple[Callable[[], Engine], AbstractContextManager[None]]:
    """Return a function that makes an engine, and a context manager to use the engines in.

    fused: all inputs and outputs are bf16 and nobody needs the values before rounding, so the kernel can be used.
    """
    if fused and (built := kernel()):
        return partial(KernelEngine, built), nullcontext()
    return TorchEngine, single_threaded()


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
