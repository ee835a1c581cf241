"""Quantised weights: the public 8-bit and 4-bit formats that ComfyUI loads are read with their scales, others are refused
by name.

A layer X is described by the text `X.comfy_quant` beside its weight or by `_quantization_metadata` in the header, and
scaled by `X.weight_scale`. Older files have `X.scale_weight` and the marker tensor `scaled_fp8`; DeepSeek's have
`X.weight_scale_inv`, one scale for a block of the matrix. fp8 without a scale has scale 1. A merge writes the first form,
the only one that ComfyUI reads from names with a prefix as well.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadInput
from ..reading import json_of
from . import dtypes
from .checkpoint import Checkpoint, Tensor
from .dtypes import FLOATS

FP8 = "float8_e4m3fn"
FP8_MARK = json.dumps({"format": FP8}).encode()
REMEDY = "use the bf16, fp16 or scaled fp8 safetensors of the same model"
INTEGERS = ("BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64")
_SCALES = ("weight_scale", "scale_weight", "weight_scale_inv")
_CALIBRATED = ("input_scale", "scale_input")
_BESIDE = ("weight", "bias", "comfy_quant", "running_mean", "running_var", "num_batches_tracked", *_CALIBRATED)
"""What may stand beside an 8-bit weight without changing its values."""
_EIGHT = ("F8_E4M3", "F8_E5M2", "I8", "U8")
_QUANTISERS = {
    **dict.fromkeys(("SCB", "weight_format", "absmax", "quant_map", "nested_absmax"), "bitsandbytes"),
    **dict.fromkeys(("quant_state", "bitsandbytes__nf4", "bitsandbytes__fp4"), "bitsandbytes"),
    **dict.fromkeys(("_data", "_scale", "_shift"), "optimum-quanto"),
    **dict.fromkeys(("wscales", "smooth_factor", "smooth", "lora_down", "proj_down"), "nunchaku (SVDQuant)"),
    **dict.fromkeys(("qweight", "qzeros", "g_idx"), "GPTQ or AWQ"),
    **dict.fromkeys(("scale", "zero_point", "svd_up", "svd_down"), "SDNQ"),
    **dict.fromkeys(("weight_zero_point", "weight_packed", "weight_shape"), "compressed-tensors"),
    **dict.fromkeys(("weight_s_rel", "weight_s_channel", "weight_codebook"), "comfy-kitchen (asym_w4a8_int8)"),
    **dict.fromkeys(("weight_scale_2", "pre_quant_scale"), "ModelOpt (nvfp4)"),
}
"""The program that writes a tensor of this last name beside a weight."""


@dataclass(frozen=True)
class Quantised:
    """The values of a quantised matrix: a table by code, times one scale for each block of rows and columns.

    stored: the tensor as the file has it.
    columns: elements of a row.
    block: rows and columns that share a scale.
    load: reads the scales, fp32 [row blocks, column blocks].
    packed: two codes of four bits in a byte, the first in the upper half.
    rotation: columns of a group that was multiplied by a Hadamard matrix (ConvRot), 0 for none.
    """

    stored: Tensor
    columns: int
    block: tuple[int, int]
    load: Callable[[], np.ndarray]
    packed: bool = False
    rotation: int = 0

    @cached_property
    def _scales(self) -> np.ndarray:
        return self.load()

    def values(self, first: int, count: int) -> np.ndarray:
        """Return the elements from `first` on, fp32 [count]. Raises BadInput for scales that are damaged."""
        tables = _tables("F4" if self.packed else self.stored.dtype)
        if not self.rotation:
            return tables[0][self._codes(first, count)] * self._scale(first, count)
        start = first - first % self.rotation
        stop = -(-(first + count) // self.rotation) * self.rotation
        codes = _turned_back(tables[0][self._codes(start, stop - start)], self.rotation)
        return (codes * self._scale(start, stop - start))[first - start : first - start + count]

    def steps(self, first: int, count: int) -> np.ndarray:
        """Return the distance between neighbouring values around each element, fp32 [count]: values are rounded by up to
        half of it."""
        tables = _tables("F4" if self.packed else self.stored.dtype)
        return tables[1][self._codes(first, count)] * self._scale(first, count)

    def _codes(self, first: int, count: int) -> np.ndarray:
        if not self.packed:
            return np.frombuffer(self.stored.file.read(self.stored.start + first, count), np.uint8)
        start, stop = first // 2, -(-(first + count) // 2)
        raw = np.frombuffer(self.stored.file.read(self.stored.start + start, stop - start), np.uint8)
        return np.stack([raw >> 4, raw & 15], 1).reshape(-1)[first - 2 * start : first - 2 * start + count]

    def _scale(self, first: int, count: int) -> np.ndarray:
        rows, columns = self.block
        row, last = first // self.columns, -(-(first + count) // self.columns)
        found = self._scales[np.arange(row, last) // rows]
        found = np.repeat(found, columns, 1)[:, : self.columns] if found.shape[1] > 1 else found
        found = np.broadcast_to(found, (last - row, self.columns)).reshape(-1)
        return found[first - row * self.columns :][:count]


def is_quantised(tensor: Tensor) -> bool:
    """Say whether the values of a weight were rounded to 8 bits or fewer."""
    return tensor.codec is not None or tensor.dtype == "F8_E4M3"


def steps_of(tensor: Tensor, first: int, count: int) -> np.ndarray | None:
    """Return the distance between the neighbouring values around each element, fp32 [count]; None for a tensor that is
    not quantised."""
    if tensor.codec is not None:
        return tensor.codec.steps(first, count)
    if tensor.dtype != "F8_E4M3":
        return None
    codes = np.frombuffer(tensor.file.read(tensor.start + first, count), np.uint8)
    return _tables("F8_E4M3")[1][codes] * np.float32(1.0 if tensor.scale is None else tensor.scale)


def dequantised(checkpoint: Checkpoint) -> tuple[Checkpoint, bool]:
    """Attach scales to the quantised tensors, and drop the tensors that hold scales and marks.

    Returns the checkpoint, and whether it had calibrated input scales. Raises BadInput, naming file, tensor, dtype and
    format, for weights whose values are not known here.
    """
    there, marks = checkpoint.tensors, _marks(checkpoint)
    beside: dict[str, list[str]] = defaultdict(list)
    for name in there:
        parent, _, leaf = name.rpartition(".")
        beside[parent].append(leaf)
    tensors, dropped = dict(there), set()
    for name, tensor in there.items():
        layer, _, leaf = name.rpartition(".")
        if leaf == "qweight" or leaf.startswith("bitsandbytes__"):
            _refuse(tensor, _named(beside[layer]) or _named([leaf]))
        if tensor.dtype not in (*FLOATS, *INTEGERS, "F8_E5M2", "F8_E8M0"):
            raise BadInput(f"{tensor.file.path}: {name} is {tensor.dtype}, which cannot be merged; {REMEDY}")
        if leaf not in ("weight", "_data") or (tensor.dtype not in _EIGHT and not _marked(beside[layer], layer, marks)):
            if tensor.dtype == "F8_E5M2":
                tensors[name] = _scaled(tensor, None)
            continue
        scale = next((there[f"{layer}.{each}"] for each in _SCALES if f"{layer}.{each}" in there), None)
        tensors[name], used = _read(tensor, scale, marks.get(layer), there.get(f"{layer}.weight_scale_2"))
        dropped |= used
        known = {*_BESIDE, *(each.rpartition(".")[2] for each in used)}
        unknown = [f"{layer}.{each}" for each in beside[layer] if each not in known and each != leaf]
        unknown += [f"{name}.{each}" for each in beside[name]]
        if unknown:
            more = there[unknown[0]]
            maker = _named([each.rpartition(".")[2] for each in unknown]) or "an unknown quantiser"
            raise BadInput(
                f"{tensor.file.path}: {name} is {tensor.dtype} of {maker}, with {unknown[0]} ({more.dtype} {list(more.shape)}) "
                f"beside it, which cannot be merged; {REMEDY}"
            )
    calibrated = any(name.rpartition(".")[2] in _CALIBRATED for name in there)
    leaves = (*_SCALES, *_CALIBRATED, "comfy_quant", "scaled_fp8")
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if name not in dropped and name.rpartition(".")[2] not in leaves
    }
    if left := next((tensor for tensor in kept.values() if tensor.dtype == "F8_E8M0"), None):
        _refuse(left, "")
    return checkpoint.with_tensors(kept), calibrated


def _marked(beside: list[str], layer: str, marks: Mapping[str, Any]) -> bool:
    return layer in marks or any(each in (*_SCALES, "weight_scale_2", "pre_quant_scale") for each in beside)


def _named(leaves: list[str]) -> str:
    """Return the program that writes tensors of these last names; of several, the one that is named first."""
    found = [maker for leaf, maker in _QUANTISERS.items() if leaf in leaves]
    return found[0] if found else ""


def _refuse(tensor: Tensor, maker: str) -> None:
    raise BadInput(
        f"{tensor.file.path}: {tensor.name} is {tensor.dtype} of {maker or 'an unknown quantiser'}, which cannot be merged; {REMEDY}"
    )


def _read(
    tensor: Tensor, scale: Tensor | None, mark: dict[str, Any] | None, second: Tensor | None
) -> tuple[Tensor, set[str]]:
    """Return the weight with its scales, and the names of the tensors that hold them.

    scale: its scales. mark: what the file says about its format. second: the scale of the whole tensor of nvfp4.
    """
    format_ = str(mark.get("format")) if mark is not None else ""
    used = {each.name for each in (scale, second) if each is not None}
    if not mark and scale is None and second is None and tensor.dtype in INTEGERS:
        return tensor, used
    if format_ == "nvfp4" and tensor.dtype == "U8" and scale is not None and second is not None:
        return _nvfp4(tensor, scale, second), used
    if second is None and scale is not None:
        if format_ == "mxfp8" and tensor.dtype == "F8_E4M3":
            return _mxfp8(tensor, scale), used
        if format_ == "int8_tensorwise" and mark and tensor.dtype == "I8":
            return _int8(tensor, scale, mark), used
    known = tensor.dtype in ("F8_E4M3", "F8_E5M2") and (scale is None or scale.dtype in FLOATS)
    if format_ in ("", FP8, "float8_e5m2") and known and second is None:
        return _scaled(tensor, scale), used
    layer = tensor.name.rpartition(".")[0]
    said = f"{layer} is quantised as {format_!r:.40}" if format_ else f"{tensor.name} has scales of no public format"
    names = ", ".join(sorted(used)) or "no scale"
    raise BadInput(f"{tensor.file.path}: {said} ({tensor.dtype} with {names}), which cannot be merged; {REMEDY}")


def _int8(tensor: Tensor, scale: Tensor, mark: Mapping[str, Any]) -> Tensor:
    """Return an int8 tensor of ComfyUI, whose rows may be rotated in groups (ConvRot, arXiv:2512.03673)."""
    codec = _codec(tensor, scale)
    settings = mark.get("params")
    settings = {**(settings if isinstance(settings, dict) else {}), **mark}
    if not settings.get("convrot", False):
        return replace(tensor, codec=codec)
    group = settings.get("convrot_groupsize", 256)
    if group not in (4, 16, 64, 256, 1024) or codec.columns % group or codec.block[1] != codec.columns:
        raise BadInput(
            f"{tensor.file.path}: {tensor.name} is rotated in groups of {group!r:.20}, which do not fit its rows of {codec.columns} and "
            f"its scales; {REMEDY}"
        )
    return replace(tensor, codec=replace(codec, rotation=group))


def _mxfp8(tensor: Tensor, scale: Tensor) -> Tensor:
    """Return an fp8 tensor with a power of two for each 32 elements of a row (OCP microscaling)."""
    rows, columns = _matrix(tensor, tensor.shape, 32)
    load = _tiled(scale, ("F8_E8M0", "U8"), (rows, columns // 32), lambda codes: np.exp2(codes - 127.0))
    return replace(tensor, codec=Quantised(tensor, columns, (1, 32), load))


def _nvfp4(tensor: Tensor, scale: Tensor, second: Tensor) -> Tensor:
    """Return a tensor of four bits with an fp8 scale for each 16 elements of a row and one of the whole tensor."""
    shape = (*tensor.shape[:-1], 2 * tensor.shape[-1]) if tensor.shape else ()
    rows, columns = _matrix(tensor, shape, 16)
    whole = np.float32(_one(second))
    load = _tiled(scale, ("F8_E4M3", "U8"), (rows, columns // 16), lambda codes: dtypes.e4m3()[codes] * whole)
    return replace(tensor, shape=shape, codec=Quantised(tensor, columns, (1, 16), load, packed=True))


def _matrix(tensor: Tensor, shape: tuple[int, ...], group: int) -> tuple[int, int]:
    if len(shape) != 2 or shape[1] % group or not shape[1]:
        raise BadInput(f"{tensor.file.path}: {tensor.name} has no rows of {group} elements each; {REMEDY}")
    return shape[0], shape[1]


def _tiled(
    scale: Tensor, kinds: tuple[str, ...], grid: tuple[int, int], decode: Callable[[np.ndarray], np.ndarray]
) -> Callable[[], np.ndarray]:
    """Return a function that reads scales of one byte from the order that NVIDIA's tensor cores want.

    They are stored in tiles of 128 rows and 4 columns; a tile holds, for r from 0 to 31, the rows r, r + 32, r + 64 and
    r + 96 one after the other. grid: rows and columns of scales; both are filled up to whole tiles.
    """
    down, across = -(-grid[0] // 128), -(-grid[1] // 4)
    if scale.dtype not in kinds or prod(scale.shape) != down * across * 512:
        raise BadInput(
            f"{scale.file.path}: {scale.name} is {scale.dtype} {list(scale.shape)}, and ComfyUI's scales for it are {kinds[0]} in "
            f"{down * across} tiles of 512; {REMEDY}"
        )

    def load() -> np.ndarray:
        codes = np.frombuffer(scale.read(), np.uint8).reshape(down, across, 32, 4, 4)
        codes = codes.transpose(0, 3, 2, 1, 4).reshape(down * 128, across * 4)[: grid[0], : grid[1]]
        return _sound(decode(codes).astype(np.float32), scale)

    return load


def _scaled(tensor: Tensor, scale: Tensor | None) -> Tensor:
    if tensor.dtype == "F8_E4M3" and (scale is None or prod(scale.shape) == 1):
        return tensor if scale is None else replace(tensor, scale=_one(scale))
    return replace(tensor, codec=_codec(tensor, scale))


def _codec(tensor: Tensor, scale: Tensor | None) -> Quantised:
    """Return how an 8-bit tensor is read with its scale: one number, one for each row, or one for each block."""
    rows, columns = (tensor.shape[0] if tensor.shape else 1), prod(tensor.shape[1:])
    if scale is None or prod(scale.shape) == 1:
        number = np.full((1, 1), 1.0 if scale is None else _one(scale), np.float32)
        return Quantised(tensor, columns, (rows, columns), lambda: number)
    grid = list(scale.shape)
    while len(grid) > 1 and grid[-1] == 1:
        grid.pop()
    grid = [*grid, 1] if len(grid) == 1 else grid
    if len(grid) != 2 or not all(grid) or not (block := _block((rows, columns), grid)):
        raise BadInput(
            f"{scale.file.path}: {scale.name} has the shape {list(scale.shape)}, which is no scale for the whole tensor, its rows or "
            f"its blocks ({tensor.name} is {list(tensor.shape)}); {REMEDY}"
        )
    return Quantised(tensor, columns, block, lambda: _grid(scale).reshape(grid))


def _block(sizes: tuple[int, int], grid: list[int]) -> tuple[int, int] | None:
    """Return the rows and columns of a block; None if blocks of one size do not give this grid."""
    found = []
    for size, parts in zip(sizes, grid):
        # The last block may be cut off; 128 is the size in use.
        fits = [each for each in (128 if parts > 1 else size, -(-size // parts)) if -(-size // each) == parts]
        if not fits:
            return None
        found.append(fits[0])
    return found[0], found[1]


def _grid(scale: Tensor) -> np.ndarray:
    return _sound(dtypes.decode(np.frombuffer(scale.read(), np.uint8), scale.dtype), scale)


def _sound(values: np.ndarray, scale: Tensor) -> np.ndarray:
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise BadInput(f"{scale.file.path}: {scale.name} holds scales that are no positive numbers; copy the file anew")
    return values


def _one(scale: Tensor) -> float:
    where = f"{scale.file.path}: {scale.name}"
    if scale.dtype not in FLOATS:
        raise BadInput(f"{where} is {scale.dtype} {list(scale.shape)}, not a scale in fp32, bf16 or fp16; {REMEDY}")
    found = float(dtypes.decode(np.frombuffer(scale.read(), np.uint8), scale.dtype)[0])
    if not (np.isfinite(found) and found > 0):
        raise BadInput(f"{where} is {found}, and a scale is a positive number; copy the file anew")
    return found


@cache
def _tables(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Return by code its value, and the distance between the values around it, fp32 [256] each (four bits: [16])."""
    code = np.arange(256)
    if dtype == "F4":
        size = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
        step = np.array([0.5, 0.5, 0.5, 0.5, 1, 1, 2, 2], np.float32)
        return np.concatenate([size, -size]), np.concatenate([step, step])
    if dtype == "I8":
        return code.astype(np.uint8).view(np.int8).astype(np.float32), np.ones(256, np.float32)
    if dtype == "F8_E5M2":
        return dtypes.e5m2(), np.exp2(np.maximum((code >> 2) & 31, 1) - 17.0).astype(np.float32)
    return dtypes.e4m3(), np.exp2(np.maximum((code >> 3) & 15, 1) - 10.0).astype(np.float32)


def _turned_back(values: np.ndarray, group: int) -> np.ndarray:
    """Multiply each group by the Hadamard matrix of ConvRot, which is its own inverse: the Kronecker power of the matrix
    [4, 4] with -1/2 on its second diagonal and 1/2 elsewhere. Of whole numbers of 8 bits this is exact in fp32."""
    size = 1
    while size < group:
        digits = values.reshape(-1, 4, size)
        values = digits.sum(1, keepdims=True) / 2 - digits[:, ::-1]
        size *= 4
    return values.reshape(-1)


def _marks(checkpoint: Checkpoint) -> dict[str, dict[str, Any]]:
    """Return by layer what the file says about its format."""
    found: dict[str, Any] = {}
    for file in checkpoint.files:
        if text := file.metadata.get("_quantization_metadata"):
            layers = _json(file.path, "_quantization_metadata", text).get("layers")
            found |= layers if isinstance(layers, dict) else {}
    for name, tensor in checkpoint.tensors.items():
        if name.endswith(".comfy_quant") and tensor.nbytes <= 1 << 16:
            found[name.removesuffix(".comfy_quant")] = _json(tensor.file.path, name, bytes(tensor.read()))
    return {layer: entry if isinstance(entry, dict) else {"format": entry} for layer, entry in found.items()}


def _json(path: Path, name: str, text: str | bytes) -> dict[str, Any]:
    try:
        found = json_of(text)
    except ValueError as error:
        raise BadInput(f"{path}: {name} is damaged ({str(error)[:80]}); copy it anew") from error
    return found if isinstance(found, dict) else {}
