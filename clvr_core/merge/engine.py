"""The arithmetic of `formula` on blocks in fixed buffers: in torch, or, for bf16 and where it was built, in the compiled kernel.

Both give the bits of `formula`. A worker thread owns one engine; nothing is allocated between blocks.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from types import ModuleType

import numpy as np

from ..weights import dtypes
from ..weights.dtypes import FLOATS
from . import formula

BLOCK = 1 << 18
"""Elements merged at a time: their inputs and fp32 values stay in a core's second-level cache."""
ROW = BLOCK * max(FLOATS.values())
WINDOW = 4 << 20
"""Bytes of the output written at a time."""
Form = tuple[str, float | None]
"""A dtype and the scale of fp8."""


class Engine:
    """`rows` for the bytes of base and one or two others, `window` for those of the output, on pages of their own for direct writes."""

    def __init__(self) -> None:
        self._rows, self._window = mmap.mmap(-1, 3 * ROW), mmap.mmap(-1, WINDOW)
        rows, self.window = memoryview(self._rows), memoryview(self._window)
        self.rows = tuple(rows[index * ROW : (index + 1) * ROW] for index in range(3))

    def merge(
        self,
        forms: Sequence[Form],
        strengths: Sequence[float],
        low: np.ndarray | None,
        count: int,
        offset: int,
        dtype: str,
    ) -> bool:
        """Merges `count` elements of the rows, rounds them to nearest even and puts them into the window from byte `offset` on.

        `low` is the sum of the low-rank deltas, fp32 [count]. False if a value is not finite. With dtype "" nothing is put anywhere.
        """
        raise NotImplementedError

    def merged(self, count: int) -> np.ndarray:
        """The fp32 values of the last `merge`, before rounding. Only of an engine that is not `fused`."""
        raise NotImplementedError


class TorchEngine(Engine):
    """One stacked operation for all sources where they have one dtype, a handful of calls a block."""

    def __init__(self) -> None:
        import torch

        super().__init__()
        self._values = torch.empty(3, BLOCK)
        self._numpy = self._values[0].numpy()
        types = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F8_E4M3": torch.float8_e4m3fn}
        self._in = {name: torch.frombuffer(self._rows, dtype=dtype).view(3, -1) for name, dtype in types.items()}
        self._out = {name: torch.frombuffer(self._window, dtype=dtype) for name, dtype in types.items()}

    def merge(
        self,
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
        if len(set(forms)) == 1 and forms[0][1] is None:
            values.copy_(self._in[forms[0][0]][:many, :count])
        else:
            for index, (source, scale) in enumerate(forms):
                values[index].copy_(self._in[source][index, :count])
                if scale is not None:
                    values[index].mul_(float(np.float32(scale)))
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
        # A sum finds what is not finite at a tenth of the price of looking at each; if it is no usual one, or fp16 may overflow, each
        # is looked at.
        if dtype != "F16" and abs(base.sum().item()) < 1e37:
            return True
        return bool(result.isfinite().all())

    def merged(self, count: int) -> np.ndarray:
        return self._numpy[:count]


class KernelEngine(Engine):
    """bf16 in and out, in one pass over each element."""

    def merge(
        self,
        forms: Sequence[Form],
        strengths: Sequence[float],
        low: np.ndarray | None,
        count: int,
        offset: int,
        dtype: str,
    ) -> bool:
        rows = [row[: 2 * count] for row in self.rows[: len(forms)]] + [None] * (3 - len(forms))
        alpha, beta = (*strengths, 1.0, 1.0)[:2]
        return kernel().merge(self.window[offset : offset + 2 * count], *rows, alpha, beta, low, count)


@cache
def kernel() -> ModuleType | None:
    """The compiled kernel, if it was built and gives the right bits here."""
    try:
        from . import _kernel
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
    """The maker of engines and a context to use them in. `fused`: all is bf16, and the values before rounding are not asked for."""
    if fused and kernel():
        return KernelEngine, nullcontext()
    return TorchEngine, single_threaded()


@contextmanager
def single_threaded() -> Iterator[None]:
    """Keeps torch's own threads out of the workers' blocks, and gives them back."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
