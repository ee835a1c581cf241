"""The compiled kernel of _kernel.c, called by ctypes: where it is looked for, when it is used, and how it is built where
it is missing."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import itertools
import os
import platform
import secrets
import shutil
import struct
import subprocess
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..storage.cache import cache_folder
from ..weights import dtypes
from . import formula

VERSION = 4
"""Of `Job` and the functions. A library of another version, left by an earlier build, is not used."""
ROWS = 8
"""Inputs of a merge, the base included, that the kernel takes."""
KINDS = {"F32": 0, "BF16": 1, "F16": 2, "F8_E4M3": 3}
SIZES = {kind: dtypes.FLOATS[name] for name, kind in KINDS.items()}
SOURCE = Path(__file__).with_name("_kernel.c")
NAMES = ("_kernel.abi3.so", "_kernel.pyd", "_kernel.so")
"""What the package's own build calls the library."""
FLAGS = ("-O3", "-ffp-contract=off", "-shared", "-fPIC")
PATIENCE = 300
"""Seconds for the compiler."""


class Job(ctypes.Structure):
    """What `clvr_merge` computes; the same as `struct job` of _kernel.c.

    rows: addresses of the inputs, the base first.
    low: address of the sum of the low-rank deltas, fp32; None without them.
    out: address of the output; None to store nothing.
    merged: address for the fp32 values before rounding, or None.
    sums: address for the SUMS sums of the measures, to which they are added; None to measure nothing.
    count: elements.
    kinds, scales, strengths: of the rows: dtype, factor on the stored values (1 for none), strength of the delta.
    sides: the side, from 0, of the delta of each row after the first, and in the last place that of the low-rank one.
        Deltas of one side are added before they are compared with those of another.
    inputs: rows in use.
    copy: the row whose values are stored as they are, -1 to merge.
    ties: 1 to add only the deltas that have the sign of the sum of all.
    out_kind, out_scale: dtype of the output, and for fp8 the scale.
    peak: with `merged`, set to the largest size of a merged value.
    """

    _fields_ = (
        ("rows", ctypes.c_void_p * ROWS),
        ("low", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("merged", ctypes.c_void_p),
        ("sums", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("kinds", ctypes.c_int32 * ROWS),
        ("sides", ctypes.c_int32 * (ROWS + 1)),
        ("scales", ctypes.c_float * ROWS),
        ("strengths", ctypes.c_float * ROWS),
        ("inputs", ctypes.c_int32),
        ("copy", ctypes.c_int32),
        ("ties", ctypes.c_int32),
        ("out_kind", ctypes.c_int32),
        ("out_scale", ctypes.c_float),
        ("peak", ctypes.c_float),
    )


TERM, SIDE = 1, 1 + 4 * (ROWS + 1)
PAIR = SIDE + ROWS
SUMS = PAIR + 3 * ROWS * ROWS
"""Places of the sums: base^2; from TERM on four for each delta (the low-rank one last): delta^2, rounding error * scaled
delta, largest size, its place; from SIDE on the square of each side; from PAIR on three for each two sides, `one * ROWS +
two`: their product, the elements that both change, and those that they change alike."""


_TENSOR = tuple(struct.Struct("=q4i" + "qiiff" * rows) for rows in range(ROWS + 1))
_TENSOR_SIZE = _TENSOR[ROWS].size
"""Of `struct tensor` of _kernel.c, by the rows in use."""


class Kernel:
    """A loaded library.

    reads: it reads files by itself, which `merge_files` and `sample` need.
    """

    def __init__(self, path: Path) -> None:
        """Load a library. Raises OSError or AttributeError for one that is none of ours."""
        library = ctypes.CDLL(str(path))
        library.clvr_size.restype = ctypes.c_int64
        self.path, self.version, self.size = path, library.clvr_version(), library.clvr_size()
        self._merge = library.clvr_merge
        self._merge.argtypes = (ctypes.POINTER(Job),)
        self.reads = bool(library.clvr_reads())
        self._merge_files, self._sample = library.clvr_merge_files, library.clvr_sample
        self._merge_files.argtypes = (ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
        self._sample.argtypes = (ctypes.c_void_p, *[ctypes.c_int64] * 3, *[ctypes.c_void_p] * 4)
        self._sample.restype = None

    def merge(self, job: Job) -> bool:
        """Do the job. Returns False if a merged or stored value is not finite."""
        return bool(self._merge(ctypes.byref(job)))

    def merge_files(self, tensor: Sequence[Any], out: int, memory: int, piece: int) -> bool | None:
        """Read a tensor, merge it and store it at the address `out`.

        tensor: the fields of `struct tensor`: elements, rows, dtype of the output, ties, 0, and of each row its first
            byte, descriptor, dtype, scale and strength.
        memory: address of room for `piece` elements of each row, which are read at a time.

        Returns False if a merged or stored value is not finite, None if a file could not be read.
        """
        found = self._merge_files(_TENSOR[tensor[1]].pack(*tensor).ljust(_TENSOR_SIZE, b"\0"), out, memory, piece)
        return None if found < 0 else bool(found)

    def sample(
        self, tensors: Sequence[Sequence[Any]], slice: int, slices: int, memory: np.ndarray
    ) -> tuple[np.ndarray, list[int]]:
        """Read samples of tensors, merge and measure them.

        tensors: as for `merge_files`.
        slice, slices: elements at each place, and the number of places, place i from element
            i * (count - slice) // (slices - 1) on; a tensor of at most slice * slices elements is read whole.
        memory: fp32 [ROWS + 1, slice * slices], which is overwritten.

        Returns the sums of the measures, fp64 [tensors, SUMS], and for each tensor -1 if a file could not be read, 0 if
        a value is not finite, else 1 and bit `row` for each row after the first whose bytes equal those of the base.
        """
        packed = bytearray(len(tensors) * _TENSOR_SIZE)
        for number, each in enumerate(tensors):
            _TENSOR[each[1]].pack_into(packed, number * _TENSOR_SIZE, *each)
        sums, found = np.zeros((len(tensors), SUMS)), np.zeros(len(tensors), np.int32)
        places = (each.ctypes.data for each in (sums, found, memory, memory[ROWS]))
        self._sample(address(packed), len(tensors), slice, slices, *places)
        return sums, found.tolist()


@cache
def kernel() -> Kernel | None:
    """Return the kernel that was built for this version, or None if there is none, or none that gives the bits of the
    contract on this machine."""
    return next((found for path in places() if (found := load(path))), None)


_forget = kernel.cache_clear


def places() -> list[Path]:
    """Return the paths where a library may be, the preferred first: beside the source, and in the cache folder."""
    return [*(SOURCE.with_name(name) for name in NAMES), own_place()]


def own_place() -> Path:
    """Return the path in the cache folder of the library that is built here from this source for this machine."""
    source = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    suffix = ".dll" if os.name == "nt" else ".so"
    return cache_folder() / f"merge-kernel-{source}-{platform.system()}-{platform.machine()}{suffix}".lower()


def compiler() -> str | None:
    """Return the path of a C compiler that takes the flags of `build`, or None."""
    return next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


def build() -> bool:
    """Compile the kernel into the cache folder. Returns whether it can be used; nothing is raised, and nothing is left
    behind if not."""
    if not (program := compiler()):
        return False
    to = own_place()
    part = to.with_name(f".{secrets.token_hex(8)}{to.suffix}")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        command = [program, *FLAGS, str(SOURCE), "-o", str(part)]
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=PATIENCE)
        if not load(part):
            return False
        os.replace(part, to)
    except (OSError, subprocess.SubprocessError):
        return False
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    _forget()
    return True


@cache
def build_in_background() -> threading.Thread | None:
    """Start to build the kernel, once in a process, where there is none and a compiler is. Merges use torch until it is
    there. Returns the thread, or None."""
    if kernel() or not compiler():
        return None
    thread = threading.Thread(target=build, name="merge kernel", daemon=True)
    thread.start()
    return thread


def engine_in_words() -> str:
    """Say which engine merges."""
    if found := kernel():
        return "the compiled kernel" + (", built here" if found.path == own_place() else "")
    return f"torch ({'the kernel was not built' if compiler() else 'there is no C compiler for the kernel'})"


def load(path: Path) -> Kernel | None:
    """Return the kernel at this path if there is one of this version that gives the bits of the contract."""
    if not path.is_file():
        return None
    try:
        found = Kernel(path)
    except (OSError, AttributeError):  # another machine's library, or of a version before `Job`
        return None
    right = (found.version, found.size) == (VERSION, ctypes.sizeof(Job))
    kinds = [*itertools.product(KINDS, (False, True), (False, True), (False,)), ("BF16", False, False, True)]
    return found if right and all(_right_bits(found, *kind) for kind in kinds) else None


def address(buffer: Any) -> int:
    """Return the address of a writable buffer, which the caller keeps alive."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


def _right_bits(found: Kernel, dtype: str, ties: bool, low_rank: bool, measured: bool) -> bool:
    count = 4999
    # Like chance, without the import of a generator of it, which every start would wait for.
    values = (3 * np.sin(np.arange(1, 4 * count + 1) ** 2.0)).astype(np.float32).reshape(4, count)
    rows = [dtypes.encode(each, dtype) for each in values[:3]]
    low = values[3] if low_rank else None
    out, sums = np.empty(count * dtypes.FLOATS[dtype], np.uint8), np.zeros(SUMS)
    job = Job(
        inputs=3,
        copy=-1,
        ties=ties,
        count=count,
        out_kind=KINDS[dtype],
        out_scale=0.3,
        low=None if low is None else low.ctypes.data,
        out=address(out),
        sums=sums.ctypes.data if measured else None,
    )
    job.sides[1] = 1
    for index, row in enumerate(rows):
        job.rows[index], job.kinds[index], job.scales[index] = address(row), KINDS[dtype], 1.0
    job.strengths[1:3] = 0.7, 0.85
    scale = 0.3 if dtype == "F8_E4M3" else None
    base, first, second = (dtypes.decode(row, dtype) for row in rows)
    merged = formula.combine(base, first, second, 0.7, 0.85, low, ties=ties)
    return found.merge(job) and out.tobytes() == dtypes.encode(merged, dtype, scale).tobytes()
