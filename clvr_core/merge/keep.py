"""Writing the low-rank deltas beside the merged file instead of into it, as one LoRA of strength 1."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .. import __version__
from .lowrank import LoraProduct
from .plan import Kept, MergePlan, Output
from .target import Target


@contextmanager
def kept_lora(plan: MergePlan, path: Path) -> Iterator[Target]:
    """Write the LoRA of a plan with `keep_lora`, and yield it sealed, to be placed at `path`.

    It holds fp32 A and B of each weight, by the names that ComfyUI reads (in diffusers' layout: those that diffusers
    reads). The factors of several LoRAs on one weight are joined along the rank, with the strengths in B. Raises
    BadInput if the file cannot be written.
    """
    outputs = {output.name: output for output in plan.outputs}
    prefix = "transformer." if plan.layout == "diffusers" else "diffusion_model."
    entries: dict[str, dict] = {}
    end = 0
    for name, kept in plan.kept.items():
        module = prefix + name.removeprefix(plan.base.prefix if plan.layout == plan.base.layout else "").removesuffix(
            ".weight"
        )
        rank = sum(product.rank for product in _products(kept))
        rows, columns = outputs[name].shape[0], kept[0].product.columns
        for part, shape in (("lora_A", [rank, columns]), ("lora_B", [rows, rank])):
            size = 4 * shape[0] * shape[1]
            entries[f"{module}.{part}.weight"] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
            end += size
    text = json.dumps(
        {"__metadata__": {"format": "pt", "dswm.version": __version__}, **entries}, separators=(",", ":")
    ).encode()
    text += b" " * (-(len(text) + 8) % 4096)
    with Target(path, len(text) + 8, end, direct=False) as target:
        place = 0
        for name, kept in plan.kept.items():
            for factor in _factors(outputs[name], kept):
                data = np.ascontiguousarray(factor).reshape(-1).view(np.uint8).data
                target.write(place, data, len(data))
                place += len(data)
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
