"""Conversion between fp32 and the dtypes of checkpoints (bf16, fp16, fp32, fp8 e4m3), in numpy."""

from __future__ import annotations

from functools import cache

import numpy as np

FLOATS = {"F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1}
"""Bytes of an element, for the dtypes that can be merged."""
LARGEST = {"F32": float(np.finfo(np.float32).max), "BF16": 3.3895313892515355e38, "F16": 65504.0, "F8_E4M3": 448.0}


def decode(raw: np.ndarray, dtype: str, scale: float | None = None) -> np.ndarray:
    """Convert raw bytes, uint8 [n * size], to fp32 values [n].

    The conversion is exact; with `scale` (of scaled fp8), value times scale is rounded once to fp32.
    """
    if dtype == "BF16":
        values = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    elif dtype == "F8_E4M3":
        values = e4m3()[raw]
    else:
        values = raw.view(np.float32 if dtype == "F32" else np.float16).astype(np.float32)
    return values if scale is None else values * np.float32(scale)


def encode(values: np.ndarray, dtype: str, scale: float | None = None) -> np.ndarray:
    """Round finite fp32 values [n] to nearest even, and return their bytes, uint8 [n * size].

    fp8 is divided by `scale` first and saturates at 448.
    """
    if dtype == "BF16":
        bits = values.view(np.uint32)
        return ((bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16).astype(np.uint16).view(np.uint8)
    if dtype == "F8_E4M3":
        return _to_e4m3(values if scale is None else values / np.float32(scale))
    if dtype == "F16":
        with np.errstate(over="ignore"):  # the caller finds it in the result and can name the tensor
            return values.astype(np.float16).view(np.uint8)
    return np.ascontiguousarray(values).view(np.uint8)


@cache
def e4m3() -> np.ndarray:
    """Return the 256 values of fp8 e4m3 by code (no infinities; 0x7f and 0xff are NaN), arXiv:2209.05433."""
    code = np.arange(256)
    exponent, mantissa = (code >> 3) & 15, code & 7
    size = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7))
    size[(code & 127) == 127] = np.nan
    return np.where(code < 128, size, -size).astype(np.float32)


@cache
def e5m2() -> np.ndarray:
    """Return the 256 values of fp8 e5m2 by code: the upper half of an fp16."""
    return (np.arange(256, dtype=np.uint16) << 8).view(np.float16).astype(np.float32)


def _to_e4m3(values: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(values).view(np.uint32)
    sign, size = (bits >> 24).astype(np.uint8) & 0x80, np.minimum(np.abs(values), np.float32(448))
    bits = size.view(np.uint32)
    normal = ((bits + (((bits >> 20) & 1) + np.uint32(0x7FFFF))) >> 20).astype(np.int32) - (120 << 3)
    subnormal = np.rint(size * np.float32(512)).astype(np.int32)  # rint rounds to even; 8 is the least normal code
    return np.where(size < np.float32(2.0**-6), subnormal, normal).astype(np.uint8) | sign


_GRID = {"BF16": (16, None, None), "F16": (13, -14, 24), "F8_E4M3": (20, -6, 9)}
"""By dtype: bits of fp32 that rounding drops, the exponent below which values are subnormal, and the fractional bits of
subnormals."""


def dither(values: np.ndarray, dtype: str, key: int, start: int) -> np.ndarray:
    """Round stochastically: each value goes up or down to a neighbour in `dtype`, with the probability that makes the
    mean exact.

    values: fp32 [n].
    key: seed of this tensor, 64 bits.
    start: place of values[0] in its tensor.

    Returns fp32 [n] of values that `dtype` holds exactly. Element i is rounded by a hash of (key, start + i), so the
    result does not depend on block sizes, threads or the machine. Subnormals of bf16 are rounded like its other values.
    """
    if dtype == "F32":
        return values
    drop, exponent, point = _GRID[dtype]
    random = _hash(key, start, len(values)) >> np.uint32(32 - drop)
    mask = np.uint32((1 << drop) - 1)
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = ((bits + random) & ~mask).view(np.float32)
    if exponent is not None:
        size = np.abs(values).astype(np.float64)
        small = np.floor(size * 2.0**point + random * 2.0**-drop) * 2.0**-point
        rounded = np.where(size < 2.0**exponent, np.copysign(small, values).astype(np.float32), rounded)
    # The largest value has no neighbour above it.
    return np.where(np.abs(values) >= np.float32(LARGEST[dtype]), values, rounded)


def _hash(key: int, start: int, count: int) -> np.ndarray:
    """Return uniform uint32 [count] that depend on key and place only (finaliser of splitmix64,
    doi:10.1145/2660193.2660195)."""
    with np.errstate(over="ignore"):
        x = np.arange(start, start + count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return ((x ^ (x >> np.uint64(31))) >> np.uint64(32)).astype(np.uint32)
