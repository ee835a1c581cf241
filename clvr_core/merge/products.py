"""The deltas that files of LoRAs hold, each computed by rows from its factors; no whole delta is held in memory.

LoRA: B A, arXiv:2106.09685; with a Tucker core for convolutions, and LoHa (an elementwise product of two LoRAs),
arXiv:2108.06098; LoKr: kron(w1, w2), arXiv:2309.14859; DoRA: magnitude (W + B A) / |W + B A| - W, arXiv:2402.09353; or the
difference itself. All but the last two steps of LoHa and DoRA are exact (see `formula.on_grid`), and these are of single
elements in a fixed order, so that no BLAS can change a bit.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from math import prod
from typing import Any, Protocol

import numpy as np

from ..errors import BadInput
from ..weights import dtypes
from ..weights.checkpoint import Tensor
from ..weights.dtypes import FLOATS
from . import formula

CACHE = 64 << 20
"""Bytes of fp64 factors kept in memory; the factors of the tensor in use are kept even if they are larger."""
CHUNK = 1 << 20
"""Elements of a weight taken at a time for the norms of a DoRA."""


class Product(Protocol):
    """A delta [rows, columns] given by its factors.

    scale: factor on the product, strength included.
    """

    rows: int
    columns: int
    scale: float

    def delta(self, first: int, last: int, factor: float) -> np.ndarray:
        """Return the rows `first` to `last` of the delta times scale and `factor`, fp32 [last - first, columns]."""
        ...


class FactorCache:
    """The fp64 factors of the products used most recently, up to CACHE bytes. Threads share it."""

    def __init__(self) -> None:
        self._held: OrderedDict[int, tuple[np.ndarray, ...]] = OrderedDict()
        self._lock = threading.RLock()  # the factors of a DoRA are made from those of its LoRA

    def get(self, owner: Any) -> tuple[np.ndarray, ...]:
        with self._lock:
            factors = self._held.pop(id(owner), None) or owner.load()
            self._held[id(owner)] = factors
            while len(self._held) > 1 and sum(each.nbytes for held in self._held.values() for each in held) > CACHE:
                self._held.popitem(last=False)
            return factors


class LoraProduct:
    """The delta B A of one LoRA module."""

    def __init__(self, cache: FactorCache, down: Tensor, up: Tensor, scale: float) -> None:
        self._cache, self._down, self._up, self.scale = cache, down, up, scale
        self.rank, self.rows, self.columns = down.shape[0], up.shape[0], prod(down.shape[1:])

    def raw(self) -> tuple[np.ndarray, np.ndarray]:
        """Return A [r, columns] and B [rows, r] in fp32 as the file has them.

        Raises BadInput for values that are not finite.
        """
        return matrix(self._down, self.rank), matrix(self._up, self.rows)

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        down, up = self.raw()
        return formula.on_grid(down.astype(np.float64), up.astype(np.float64))

    def delta(self, first: int, last: int, factor: float) -> np.ndarray:
        down, up = self._cache.get(self)
        product = formula.product(up[first:last], down)
        product *= self.scale * factor
        return product.astype(np.float32)


class Pair:
    """A matrix [rows, columns] stored as a product of two factors, with a Tucker core between them or without.

    With the core [i, j, h, w] of a convolution, left is [i, rows] (turned: [rows, i]) and right [j, columns / (h w)], and
    the matrix is einsum("ijhw, jc, ir -> rchw").
    """

    def __init__(self, where: str, left: Tensor, right: Tensor, core: Tensor | None, turned: bool = False) -> None:
        """Raises BadInput for shapes that do not multiply."""
        self._left, self._right, self._core, self._turned = left, right, core, turned
        shape = (left.shape[0], prod(left.shape[1:]))
        self.rows, inner = shape if core is None or turned else shape[::-1]
        self.rank, size = right.shape[0], () if core is None else core.shape[2:]
        self.columns = prod((*right.shape[1:], *size))
        fits = len(left.shape) > 1 and len(right.shape) > 1
        if not (fits and (inner == self.rank if core is None else core.shape[:2] == (inner, self.rank))):
            middle = f", {core.name} {list(core.shape)}" if core is not None else ""
            raise BadInput(
                f"{where}: {left.name} {list(left.shape)}{middle} and {right.name} {list(right.shape)} do not multiply; get the file anew"
            )

    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the right and the left factor, fp64, whose product is exact."""
        left, right = (matrix(each, each.shape[0]).astype(np.float64) for each in (self._left, self._right))
        if self._core is not None:
            one, two = self._core.shape[:2]
            core = matrix(self._core, one).astype(np.float64).reshape(one, two, -1).transpose(0, 2, 1)
            right, core = formula.on_grid(right, np.ascontiguousarray(core).reshape(-1, two))
            right = formula.product(core, right).reshape(one, -1, right.shape[1])
            right = np.ascontiguousarray(right.transpose(0, 2, 1)).reshape(one, -1)
            left = left if self._turned else np.ascontiguousarray(left.T)
        return formula.on_grid(right, left)

    def whole(self) -> np.ndarray:
        right, left = self.factors()
        return formula.product(left, right)


class _Stored:
    """A matrix that is stored as it is."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self.rows, self.columns = tensor, tensor.shape[0], prod(tensor.shape[1:])

    def whole(self) -> np.ndarray:
        return matrix(self._tensor, self.rows).astype(np.float64)


class PairsProduct:
    """The elementwise product of one matrix (a LoRA with a Tucker core) or of two (LoHa), each stored as a pair."""

    def __init__(self, cache: FactorCache, where: str, pairs: tuple[Pair, ...], scale: float) -> None:
        """Raises BadInput if the two have different shapes."""
        self._cache, self._pairs, self.scale = cache, pairs, scale
        self.rows, self.columns = pairs[0].rows, pairs[0].columns
        if len({(pair.rows, pair.columns) for pair in pairs}) > 1:
            raise BadInput(f"{where}: its two products have different shapes; get the file anew")

    def load(self) -> tuple[np.ndarray, ...]:
        return tuple(factor for pair in self._pairs for factor in pair.factors())

    def delta(self, first: int, last: int, factor: float) -> np.ndarray:
        factors = self._cache.get(self)
        found = formula.product(factors[1][first:last], factors[0])
        if len(factors) > 2:
            found *= formula.product(factors[3][first:last], factors[2])
        found *= self.scale * factor
        return found.astype(np.float32)


class LokrProduct:
    """The delta kron(w1, w2) of one LoKr module, where w1 or w2 may itself be stored as a product of two factors."""

    def __init__(
        self,
        cache: FactorCache,
        factors: dict[str, Tensor],
        where: str,
        scale: Callable[[int | None], float],
        strength: float,
    ) -> None:
        self._cache, parts, rank = cache, [], None
        for name in ("lokr_w1", "lokr_w2"):
            if name in factors:
                parts.append(_Stored(factors[name]))
            elif {f"{name}_a", f"{name}_b"} <= factors.keys():
                pair = Pair(where, factors[f"{name}_a"], factors[f"{name}_b"], factors.get(name.replace("w", "t")))
                parts.append(pair)
                rank = pair.rank
            else:
                raise BadInput(f"{where} lacks {name}; get the file anew")
        self._one, self._two = parts
        self.rows, self.columns = self._one.rows * self._two.rows, self._one.columns * self._two.columns
        self.scale = strength * scale(rank)

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        return self._one.whole(), self._two.whole()

    def delta(self, first: int, last: int, factor: float) -> np.ndarray:
        w1, w2 = self._cache.get(self)
        rows = np.arange(first, last)
        product = w1[rows // len(w2)][:, :, None] * w2[rows % len(w2)][:, None, :]
        product *= self.scale * factor
        return product.reshape(last - first, self.columns).astype(np.float32)


class DifferenceProduct:
    """A delta that is stored as it is: of a weight, a bias or a norm."""

    def __init__(self, tensor: Tensor, scale: float) -> None:
        self._tensor, self.scale = tensor, scale
        self.rows, self.columns = tensor.shape[0], prod(tensor.shape[1:])

    def delta(self, first: int, last: int, factor: float) -> np.ndarray:
        size = self.columns * FLOATS[self._tensor.dtype]
        raw = self._tensor.file.read(self._tensor.start + first * size, (last - first) * size)
        found = _finite(self._tensor, raw).astype(np.float64) * (self.scale * factor)
        return found.astype(np.float32).reshape(last - first, self.columns)


class DoraProduct:
    """What a DoRA makes of the base's weight W and the delta D of its LoRA: magnitude (W + D) / |W + D| - W.

    The norms are those of rows, or of the columns of an input channel, whichever the magnitudes are for.
    """

    def __init__(
        self,
        cache: FactorCache,
        where: str,
        inner: Product,
        magnitude: Tensor,
        weights: Callable[[int, int], np.ndarray],
        strength: float,
    ) -> None:
        """inner: D, without the strength. weights: returns rows of W, fp32 [last - first, columns].

        Raises BadInput if there is not one magnitude for each row or each input channel.
        """
        self._cache, self._inner, self._magnitude, self._weights = cache, inner, magnitude, weights
        self.rows, self.columns, self.scale = inner.rows, inner.columns, strength
        self._by_row = prod(magnitude.shape) == magnitude.shape[0] == self.rows
        channels = prod(magnitude.shape[:2])
        if not self._by_row and (len(magnitude.shape) < 2 or magnitude.shape[0] != 1 or self.columns % channels):
            raise BadInput(
                f"{where}: {magnitude.name} {list(magnitude.shape)} is no magnitude for each of {self.rows} rows or of the columns; "
                "get the file anew"
            )

    def load(self) -> tuple[np.ndarray]:
        """Return the magnitudes divided by the norms: [rows, 1], or [1, columns]."""
        magnitude = matrix(self._magnitude, 1)[0].astype(np.float64)
        step = max(CHUNK // self.columns, 1)
        squares = np.zeros(len(magnitude))
        for first in range(0, self.rows, step):
            moved = np.square(self._moved(first, min(first + step, self.rows)))
            # One after the other: the order in which numpy sums a whole axis depends on the processor.
            if self._by_row:
                for column in np.ascontiguousarray(moved.T):
                    squares[first : first + step] += column
            else:
                for row in moved.reshape(-1, len(magnitude), self.columns // len(magnitude)):
                    for place in range(row.shape[1]):
                        squares += row[:, place]
        norms = np.sqrt(squares)
        factor = np.divide(magnitude, norms, out=np.zeros_like(norms), where=norms > 0)
        return (factor[:, None] if self._by_row else np.repeat(factor, self.columns // len(factor))[None],)

    def _moved(self, first: int, last: int) -> np.ndarray:
        return self._weights(first, last).astype(np.float64) + self._inner.delta(first, last, 1.0)

    def delta(self, first: int, last: int, factor: float) -> np.ndarray:
        (turned,) = self._cache.get(self)
        moved = self._moved(first, last) * (turned[first:last] if self._by_row else turned)
        moved -= self._weights(first, last)
        moved *= self.scale * factor
        return moved.astype(np.float32)


def matrix(tensor: Tensor, rows: int) -> np.ndarray:
    """Return the values of a factor, fp32 [rows, columns]. Raises BadInput for values that are not finite."""
    return _finite(tensor, tensor.read()).reshape(rows, -1)


def _finite(tensor: Tensor, raw: bytearray) -> np.ndarray:
    values = dtypes.decode(np.frombuffer(raw, np.uint8), tensor.dtype)
    if not np.isfinite(values).all():
        count = int(np.count_nonzero(~np.isfinite(values)))
        raise BadInput(
            f"{tensor.file.path}: {tensor.name} holds {count} values that are NaN or infinite; get the file anew"
        )
    return values
