"""Quantised weights: scaled fp8 as ComfyUI stores it is read with its scales, other formats are refused by name.

ComfyUI has three conventions: `X.weight_scale` with `X.comfy_quant` beside it, `X.weight_scale` with
`_quantization_metadata` in the header, and the older `X.scale_weight` with the marker tensor `scaled_fp8`. fp8 without
a scale has scale 1. A merge writes the first, the only one that ComfyUI reads from names with a prefix as well.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadInput
from ..reading import json_of
from .checkpoint import Checkpoint, Tensor
from .dtypes import FLOATS

FP8 = "float8_e4m3fn"
FP8_MARK = json.dumps({"format": FP8}).encode()
REMEDY = "use the bf16, fp16 or scaled fp8 (e4m3) safetensors of the same model"
INTEGERS = ("BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64")
_SIDECARS = (
    ".comfy_quant",
    ".weight_scale",
    ".input_scale",
    ".scale_weight",
    ".scale_input",
    ".weight_scale_2",
    ".pre_quant_scale",
)
_FOREIGN = (
    ".absmax",
    ".quant_map",
    ".quant_state.bitsandbytes__nf4",
    ".quant_state.bitsandbytes__fp4",
    ".qweight",
    ".qzeros",
)


def dequantised(checkpoint: Checkpoint) -> tuple[Checkpoint, bool]:
    """Attach the scales to the fp8 tensors and drop the scale and marker tensors.

    Returns the checkpoint, and whether it had calibrated input scales. Raises BadInput, naming file, tensor and format,
    for weights that cannot be dequantised here.
    """
    tensors = dict(checkpoint.tensors)
    for layer, format_ in _formats(checkpoint).items():
        if format_ != FP8:
            raise BadInput(
                f"{checkpoint.path}: {layer} is quantised as {format_!r:.40}, which cannot be merged; {REMEDY}"
            )
    for name, tensor in checkpoint.tensors.items():
        if name.endswith(_FOREIGN):
            raise BadInput(
                f"{tensor.file.path}: {name} is of bitsandbytes, GPTQ or AWQ, which cannot be merged; {REMEDY}"
            )
        if name.endswith((".weight_scale_2", ".pre_quant_scale")):
            raise BadInput(
                f"{tensor.file.path}: {name} is of nvfp4 or of scales by block, which cannot be merged; {REMEDY}"
            )
        if tensor.dtype not in FLOATS and tensor.dtype not in INTEGERS:
            raise BadInput(f"{tensor.file.path}: {name} is {tensor.dtype}, which cannot be merged; {REMEDY}")
    calibrated = any(name.endswith((".input_scale", ".scale_input")) for name in tensors)
    for name, tensor in checkpoint.tensors.items():
        if name.endswith((".weight_scale", ".scale_weight")):
            weight = name.rpartition(".")[0] + ".weight"
            if weight in tensors and tensors[weight].dtype == "F8_E4M3":
                tensors[weight] = replace(tensors[weight], scale=_scale(tensor))
            elif weight in tensors:
                raise BadInput(
                    f"{tensor.file.path}: {name} scales {weight} of dtype {tensors[weight].dtype}, which is no scaled fp8 (e4m3); {REMEDY}"
                )
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if not (name.rpartition(".")[2] == "scaled_fp8" or name.endswith(_SIDECARS))
    }
    return checkpoint.with_tensors(kept), calibrated


def _formats(checkpoint: Checkpoint) -> dict[str, str]:
    found: dict[str, Any] = {}
    for file in checkpoint.files:
        if text := file.metadata.get("_quantization_metadata"):
            layers = _json(file.path, "_quantization_metadata", text).get("layers")
            found |= layers if isinstance(layers, dict) else {}
    for name, tensor in checkpoint.tensors.items():
        if name.endswith(".comfy_quant") and tensor.nbytes <= 1 << 16:
            found[name.removesuffix(".comfy_quant")] = _json(tensor.file.path, name, bytes(tensor.read()))
    return {
        layer: str(entry.get("format")) if isinstance(entry, dict) else str(entry) for layer, entry in found.items()
    }


def _json(path: Path, name: str, text: str | bytes) -> dict[str, Any]:
    try:
        found = json_of(text)
    except ValueError as error:
        raise BadInput(f"{path}: {name} is damaged ({str(error)[:80]}); copy it anew") from error
    return found if isinstance(found, dict) else {}


def _scale(tensor: Tensor) -> float:
    where = f"{tensor.file.path}: {tensor.name}"
    if tensor.dtype != "F32" or tensor.nbytes != 4:
        raise BadInput(
            f"{where} is {tensor.dtype} {list(tensor.shape)}, not one fp32 scale for the whole tensor; {REMEDY}"
        )
    scale = float(np.frombuffer(tensor.read(), np.float32)[0])
    if not (np.isfinite(scale) and scale > 0):
        raise BadInput(f"{where} is {scale}, and a scale is a positive number; copy the file anew")
    return scale
