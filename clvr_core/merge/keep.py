"""Writing the low-rank deltas beside the merged file instead of into it, as one LoRA of strength 1."""

from __future__ import annotations

import json
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path

import numpy as np

from .. import __version__
from ..weights.dtypes import FLOATS
from .plan import Kept, MergePlan, Output
from .products import LoraProduct
from .target import Target


@contextmanager
def kept_lora(plan: MergePlan, path: Path, overwrite: bool) -> Iterator[Target]:
    """Write the LoRA of a plan with `keep_lora`, and yield it sealed, to be placed at `path`.

    It holds fp32 A and B of each weight, by the names that ComfyUI reads (in diffusers' layout: those that diffusers
    reads). The factors of several LoRAs on one weight are joined along the rank, with the strengths in B. Raises
    BadInput if the file cannot be written.
    """
    outputs = {output.name: output for output in plan.outputs}
    prefix = "transformer." if plan.layout == "diffusers" else "diffusion_model."
    shapes: dict[str, tuple[str, list[int]]] = {}
    for name, kept in plan.kept.items():
        module = prefix + name.removeprefix(plan.base.prefix if plan.layout == plan.base.layout else "").removesuffix(
            ".weight"
        )
        rank = sum(product.rank for product in _products(kept))
        shapes[f"{module}.lora_A.weight"] = ("F32", [rank, kept[0].product.columns])
        shapes[f"{module}.lora_B.weight"] = ("F32", [outputs[name].shape[0], rank])
    factors = (factor for name, kept in plan.kept.items() for factor in _factors(outputs[name], kept))
    data = (np.ascontiguousarray(factor).reshape(-1).view(np.uint8) for factor in factors)
    with lora_file(path, shapes, {"format": "pt", "dswm.version": __version__}, data, overwrite) as target:
        yield target


EXCHANGED = "final_layer.adaLN_modulation.1"
"""The module of FLUX.2 whose halves diffusers 0.42 exchanges when it reads a LoRA by Black Forest Labs' names."""


def exchanged_warning(names: Collection[str], layout: str) -> str:
    """Return the sentence for a LoRA in this layout that changes the tensors of these names; "" if diffusers reads it
    rightly."""
    if layout != "bfl" or not any(name.removesuffix(".weight").endswith(EXCHANGED) for name in names):
        return ""
    return f"diffusers exchanges the halves of {EXCHANGED} when it reads this LoRA; for it give --layout diffusers"


@contextmanager
def lora_file(
    path: Path,
    shapes: Mapping[str, tuple[str, list[int]]],
    metadata: Mapping[str, str],
    data: Iterable[np.ndarray],
    overwrite: bool = False,
) -> Iterator[Target]:
    """Write a safetensors file, and yield it sealed, to be placed at `path`.

    shapes: dtype and shape of the tensors by name.
    data: the bytes of each, uint8, in the same order.
    overwrite: replace a file that is there.

    Raises BadInput if the file cannot be written.
    """
    entries: dict[str, dict] = {"__metadata__": dict(metadata)}
    end = 0
    for name, (dtype, shape) in shapes.items():
        size = prod(shape) * FLOATS[dtype]
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % 4096)
    with Target(path, len(text) + 8, end, direct=False, overwrite=overwrite) as target:
        place = 0
        for each in data:
            target.write(place, each.data, len(each))
            place += len(each)
        target.seal(struct.pack("<Q", len(text)) + text)
        yield target


def _products(kept: tuple[Kept, ...]) -> list[LoraProduct]:
    return list({id(each.product): each.product for each in kept}.values())


def _factors(output: Output, kept: tuple[Kept, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return A [r, columns] and B [rows, r] of a weight in fp32. B is zero in the rows that a LoRA does not change."""
    downs, ups = [], []
    for product in _products(kept):
        down, up = product.raw()
        downs.append(down)
        ups.append(np.zeros((output.shape[0], product.rank), np.float32))
        for each in kept:
            if each.product is product:
                rows = up[each.source : each.source + each.rows].astype(np.float64)
                ups[-1][each.row : each.row + each.rows] = rows * (product.scale * each.factor)
    return np.concatenate(downs), np.concatenate(ups, axis=1)
