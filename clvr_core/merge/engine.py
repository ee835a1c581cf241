"""The arithmetic of `numerics` on blocks in fixed buffers: in torch, or, where it was built and fits, in the compiled kernel.

Both give the bits of `numerics`. A worker thread owns one engine; nothing is allocated between blocks.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .numerics import FLOATS

if TYPE_CHECKING:
    import torch

BLOCK = 1 << 18
"""Elements merged at a time: their inputs and fp32 values stay in a core's second-level cache."""
ROW = BLOCK * max(FLOATS.values())
WINDOW = 4 << 20
"""Bytes of the output written at a time."""
Form = tuple[str, float | None]
"""A dtype and the scale of fp8."""


class Engine(Protocol):
    rows: tuple[memoryview, ...]
    """Where the bytes of up to three sources go: base, then those deltas' sources that there are."""
    window: memoryview

    def combine(self, forms: Sequence[Form], strengths: Sequence[float], low: np.ndarray | None, count: int) -> bool:
        """Merges `count` elements of the rows into fp32. False if a value may not be finite (a sum overflowed, or is NaN)."""
        ...

    def merged(self, count: int) -> np.ndarray:
        """The fp32 values of the last `combine`."""
        ...

    def store(self, offset: int, dtype: str, count: int) -> None:
        """Rounds those values to nearest even into the window, from byte `offset` on. Not for fp8."""
        ...


class TorchEngine:
    """One stacked operation for all sources where they have one dtype, 6 calls a block."""

    def __init__(self) -> None:
        import torch

        rows, window = mmap.mmap(-1, 3 * ROW), mmap.mmap(-1, WINDOW)  # pages of their own, as direct writes need them
        self.window = memoryview(window)
        view = memoryview(rows)
        self.rows = tuple(view[index * ROW : (index + 1) * ROW] for index in range(3))
        self._values = torch.empty(3, BLOCK)
        self._numpy = self._values[0].numpy()
        types = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F8_E4M3": torch.float8_e4m3fn}
        self._in = {name: torch.frombuffer(rows, dtype=dtype).view(3, -1) for name, dtype in types.items()}
        self._out = {name: torch.frombuffer(window, dtype=dtype) for name, dtype in types.items()}
        self._strengths: dict[tuple[float, ...], torch.Tensor] = {}

    def combine(self, forms: Sequence[Form], strengths: Sequence[float], low: np.ndarray | None, count: int) -> bool:
        import torch

        many = len(forms)
        values = self._values[:many, :count]
        if len(set(forms)) == 1 and forms[0][1] is None:
            values.copy_(self._in[forms[0][0]][:many, :count])
        else:
            for index, (dtype, scale) in enumerate(forms):
                values[index].copy_(self._in[dtype][index, :count])
                if scale is not None:
                    values[index].mul_(float(np.float32(scale)))
        base = values[0]
        if many > 1:
            deltas = values[1:]
            deltas.sub_(base)
            if any(strength != 1.0 for strength in strengths):  # times 1 changes no bit
                deltas.mul_(self._column(tuple(strengths)))
            delta = deltas[0]
            if many > 2:
                delta.add_(deltas[1])
            if low is not None:
                delta.add_(torch.from_numpy(low))
            base.add_(delta)
        elif low is not None:
            base.add_(torch.from_numpy(low))
        return math.isfinite(base.sum().item())

    def _column(self, strengths: tuple[float, ...]) -> torch.Tensor:
        import torch

        if strengths not in self._strengths:
            self._strengths[strengths] = torch.tensor(strengths, dtype=torch.float32)[:, None]
        return self._strengths[strengths]

    def merged(self, count: int) -> np.ndarray:
        return self._numpy[:count]

    def store(self, offset: int, dtype: str, count: int) -> None:
        first = offset // FLOATS[dtype]
        self._out[dtype][first : first + count].copy_(self._values[0, :count])


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
