"""Checkpoints on disk: safetensors headers, fully checked, and tensors as byte ranges.

The format: eight bytes with the length of the header, a JSON header, and the bytes of the tensors without gaps
(https://github.com/huggingface/safetensors#format). No size that a file states is trusted before it is checked.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
import threading
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import BadInput
from ..reading import json_of
from ..text import shown

HEADER_LIMIT = 16 << 20
"""Bytes of a header.

The format allows 100 MB, but real headers stay below 2 MB, and parsed JSON takes many times its length.
"""
BRACKETS_LIMIT = 1_000_000
"""Brackets and braces in a header: a limit on the memory that parsing it can take."""
BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    **{"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6},
}
"""Bits of an element by dtype, as the format names it."""
_SHARD = re.compile(r"-(\d{4,5})-of-(\d{4,5})\.safetensors$")


_PREADV = getattr(os, "preadv", None)
"""Reads at a place without moving the file's own; Windows has no such call."""


class File:
    """One open safetensors file.

    path: as given.
    size: bytes of the file when it was opened.
    data: byte where the tensors' data begins.
    metadata: the texts of the header by key.
    tensors: the tensors by name, in the order of their bytes.
    """

    def __init__(self, path: Path) -> None:
        """Open the file and check its whole header.

        Raises BadInput for a file that cannot be read or is no sound safetensors file.
        """
        self.path = path
        self._lock = threading.Lock()
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise BadInput(f"{path} is not a file; give a .safetensors file, its .index.json or a diffusers folder")
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115 (open until `close`)
        except OSError as error:
            reason = "its symbolic links lead in a circle" if error.errno == errno.ELOOP else error.strerror
            raise BadInput(f"{path} cannot be read: {reason}; check the path") from error
        try:
            self.stamp = self._stamp()
            self.size = self.stamp[0]
            header, self.data = self._header()
            self.metadata = _metadata(path, header.pop("__metadata__", {}))
            self.tensors = self._tensors(header)
        except BaseException:
            self.close()
            raise

    def _stamp(self) -> tuple[int, int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns, status.st_ino

    @property
    def changed(self) -> bool:
        """Whether size, modification time or inode differ from those at the time of opening."""
        return self._stamp() != self.stamp

    @property
    def modified(self) -> int:
        """Modification time at the time of opening, in nanoseconds by the clock of the file's own disk."""
        return self.stamp[1]

    @property
    def handle(self) -> int:
        """The descriptor of the open file."""
        return self._file.fileno()

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` with the bytes from `offset` on. Safe to call from several threads.

        Raises BadInput if the file has become shorter or cannot be read.
        """
        handle = self._file.fileno()
        while view.nbytes:
            try:
                if _PREADV:
                    got = _PREADV(handle, (view,), offset)
                else:
                    with self._lock:
                        self._file.seek(offset)
                        got = self._file.readinto(view)
            except OSError as error:
                raise BadInput(
                    f"{self.path} cannot be read at byte {offset}: {error.strerror}; copy it anew"
                ) from error
            if not got:
                raise BadInput(
                    f"{self.path} became shorter while it was read: it ends before byte {offset + view.nbytes}; copy it anew"
                )
            view, offset = view[got:], offset + got

    def read(self, offset: int, size: int) -> bytearray:
        """Read `size` bytes from `offset` on. Raises BadInput as `read_into` does."""
        data = bytearray(size)
        self.read_into(memoryview(data), offset)
        return data

    def close(self) -> None:
        self._file.close()

    def _header(self) -> tuple[dict[str, Any], int]:
        path, size = self.path, self.size
        head = bytes(self.read(0, min(8, size)))
        if head[:4] == b"GGUF":
            raise BadInput(
                f"{path} is a GGUF file, whose quantised weights cannot be merged; use the bf16 safetensors of the same model"
            )
        if head[:2] == b"PK" or (head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5")):
            raise BadInput(
                f"{path} is a PyTorch pickle, not a safetensors file; get the .safetensors of this model or convert it"
            )
        if size >= 8 and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head):
            raise BadInput(f"{path} is {self._text()}")
        if size < 8:
            raise BadInput(
                f"{path} is truncated: it has {size} bytes, a safetensors file has more than 8; copy it anew"
            )
        (length,) = struct.unpack("<Q", head)
        if length > size - 8:
            raise BadInput(
                f"{path} is truncated or not a safetensors file: its header should have {length} bytes, the file has {size}; copy it anew"
            )
        if not 2 <= length <= HEADER_LIMIT:
            raise BadInput(
                f"{path} has a header of {length} bytes; at most {HEADER_LIMIT} are read; save the checkpoint again with safetensors"
            )
        text = bytes(self.read(8, length))
        if text.count(b"[") + text.count(b"{") > BRACKETS_LIMIT:
            raise BadInput(
                f"{path} has a header of more than {BRACKETS_LIMIT} brackets, as no checkpoint has; get it from a source you trust"
            )
        try:
            header = json_of(text.decode(), object_pairs_hook=_object, parse_constant=_constant)
        except ValueError as error:
            raise BadInput(f"{path} has a damaged header ({str(error)[:100]}); copy it anew") from error
        if not isinstance(header, dict):
            raise BadInput(f"{path} has a damaged header (it is no JSON object); copy it anew")
        return header, 8 + length

    def _text(self) -> str:
        """Return what a file of text is that should have been weights. As a length, eight letters would be exabytes."""
        start = bytes(self.read(0, min(200, self.size))).decode(errors="replace").strip()
        if start.startswith("version ") and "git-lfs" in start:
            return (
                "a pointer of git-lfs and not the weights, which are still on the server; get them with: git lfs pull"
            )
        if start.startswith("<"):
            return "a web page and not weights: the server asked for a login, a consent or a payment; download the file anew"
        line = start.splitlines()[0] if start else ""
        return f"a text ({line!r:.60}) and not weights; download the file anew"

    def _tensors(self, header: dict[str, Any]) -> dict[str, Tensor]:
        tensors = [self._tensor(name, entry) for name, entry in header.items()]
        tensors.sort(key=lambda tensor: (tensor.start, tensor.start + tensor.nbytes))
        end = self.data
        for tensor in tensors:
            if tensor.start != end:
                problem = "overlaps the one before it" if tensor.start < end else "leaves a gap before it"
                place = f"(byte {tensor.start - self.data}, due {end - self.data})"
                raise BadInput(f"{self.path}: tensor {tensor.name} {problem} {place}; copy it anew")
            end += tensor.nbytes
        if end != self.size:
            problem = f"{end - self.size} bytes are missing" if end > self.size else f"{self.size - end} bytes too many"
            raise BadInput(f"{self.path} does not fit its header, {problem} at the end; copy it anew")
        return {tensor.name: tensor for tensor in tensors}

    def _tensor(self, name: str, entry: Any) -> Tensor:
        where = f"{self.path}: tensor {name[:100]!r}"
        if not name.isprintable() or len(name) > 512:
            raise BadInput(f"{where} has a name that no model has; get the file from a source you trust")
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise BadInput(f"{where} is not described by dtype, shape and data_offsets; copy it anew")
        dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str) or dtype not in BITS:
            raise BadInput(
                f"{where} has the unknown dtype {shown(dtype, 40)}; save the checkpoint as bf16, fp16 or fp32"
            )
        if not _sizes(shape) or not _sizes(offsets) or len(offsets) != 2:
            raise BadInput(
                f"{where} has shape {shown(shape, 60)} and offsets {shown(offsets, 60)}, which are not lists of sizes; copy it anew"
            )
        begin, end = offsets
        if not begin <= end <= self.size - self.data:
            raise BadInput(
                f"{where} has offsets {begin} to {end} in {self.size - self.data} bytes of data: the file is truncated; copy it anew"
            )
        if (bits := prod(shape) * BITS[dtype]) != 8 * (end - begin):
            raise BadInput(
                f"{where} has shape {shown(shape, 60)} in {dtype}, {bits // 8} bytes, but {end - begin} bytes of data; copy it anew"
            )
        return Tensor(name, dtype, tuple(shape), self, self.data + begin, end - begin)


class Codec(Protocol):
    """Reads the values of a quantised tensor whose elements are not all the same multiple of what is stored."""

    def values(self, first: int, count: int) -> np.ndarray:
        """Return the elements from `first` on, fp32 [count]."""
        ...

    def steps(self, first: int, count: int) -> np.ndarray:
        """Return the distance between the neighbouring values around each element, fp32 [count]."""
        ...


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor is in a file.

    dtype: by the format's name, such as BF16.
    shape: of its values; in the file a tensor with a codec may have another.
    start: byte in the file where it begins.
    nbytes: its size in bytes.
    scale: factor on the stored values of scaled fp8, None for other tensors.
    codec: reads the values where one scale for all of them does not; None for other tensors.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: File = field(repr=False)
    start: int
    nbytes: int
    scale: float | None = None
    codec: Codec | None = None

    def read(self) -> bytearray:
        return self.file.read(self.start, self.nbytes)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        double = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"the key {double[:80]!r} stands in it twice")
    return found


def _constant(text: str):
    raise ValueError(f"{text} is no JSON")


def _sizes(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) <= 16 and all(type(item) is int and 0 <= item < 2**63 for item in value)
    )


def _metadata(path: Path, found: Any) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise BadInput(
            f"{path} has damaged metadata (texts by name are allowed, nothing else); save the checkpoint again with safetensors"
        )
    return found


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tensors of one model, in one file or in shards.

    path: the file, or the index of the shards.
    files: the open files.
    tensors: the tensors of all files by name.
    """

    path: Path
    files: tuple[File, ...]
    tensors: dict[str, Tensor]

    @property
    def metadata(self) -> dict[str, str]:
        return self.files[0].metadata

    @property
    def nbytes(self) -> int:
        return sum(file.size for file in self.files)

    def close(self) -> None:
        for file in self.files:
            file.close()

    def with_tensors(self, tensors: dict[str, Tensor]) -> Checkpoint:
        return replace(self, tensors=tensors)


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a .safetensors file, an .index.json with its shards, or a diffusers folder (of a pipeline or of its
    transformer).

    Raises BadInput for a file that is missing or unsound.
    """
    try:
        folder = path.is_dir()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}; check the path") from error
    if folder:
        path = _in_folder(path)
    if not path.name.endswith(".index.json"):
        if (shard := _SHARD.search(path.name)) and int(shard[2]) > 1:
            index = path.with_name(f"{path.name[: shard.start()]}.safetensors.index.json")
            there = index.name if index.exists() else "the .index.json beside it, or the folder with all of them"
            raise BadInput(f"{path} is one shard of {int(shard[2])} and not the whole model; give {there}")
        file = File(path)
        return Checkpoint(path, (file,), file.tensors)
    shards = _shards(path)
    files: list[File] = []
    try:
        for name in sorted(set(shards.values())):
            files.append(File(path.parent / name))
        tensors: dict[str, Tensor] = {}
        for file in files:
            for name, tensor in file.tensors.items():
                if shards.get(name) != file.path.name:
                    due = shards.get(name, "nowhere")
                    raise BadInput(
                        f"{file.path} holds {name}, which by {path.name} belongs {due}; get all shards from one source"
                    )
                tensors[name] = tensor
        missing = sorted(shards.keys() - tensors.keys())
        if missing:
            raise BadInput(
                f"{path.parent / shards[missing[0]]} lacks {missing[0]}, which {path.name} promises; get all shards from one source"
            )
    except BaseException:
        for file in files:
            file.close()
        raise
    return Checkpoint(path, tuple(files), tensors)


def _in_folder(folder: Path) -> Path:
    for place in (folder, folder / "transformer", folder / "unet"):
        for pattern in ("*.index.json", "*.safetensors"):
            # Variants of the weights are beside them as NAME.VARIANT.safetensors.
            found = [item for item in sorted(place.glob(pattern)) if item.name != "model_index.json"]
            if len(found) == 1:
                return found[0]
            if found:
                names = ", ".join(item.name for item in found[:4])
                raise BadInput(f"{place} holds {len(found)} candidates ({names}); give one of them")
    raise BadInput(f"{folder} holds no .safetensors, nor do transformer/ and unet/ in it; give the file itself")


def _shards(path: Path) -> dict[str, str]:
    try:
        if path.stat().st_size > HEADER_LIMIT:
            raise BadInput(
                f"{path} is larger than {HEADER_LIMIT} bytes, as no index is; get it from a source you trust"
            )
        found = json_of(path.read_text(), object_pairs_hook=_object, parse_constant=_constant)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}; check the path") from error
    except ValueError as error:
        raise BadInput(f"{path} is damaged ({str(error)[:100]}); copy it anew") from error
    names = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(names, dict) or not names:
        raise BadInput(f"{path} has no weight_map; give the index of sharded safetensors")
    for name in names.values():
        if (
            not isinstance(name, str)
            or name != os.path.basename(name)
            or "\\" in name
            or not name.endswith(".safetensors")
        ):
            raise BadInput(
                f"{path} names the shard {name!r:.80}, which is no .safetensors in its own folder; get it from a source you trust"
            )
    return names
