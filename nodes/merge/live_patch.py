"""The merge as patches on a loaded model, which ComfyUI evaluates when it loads the weights.

One of the four implementations of the contract that clvr_core/merge/formula.py lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

import comfy.lora
import comfy.lora_convert
import comfy.utils
import torch
from comfy.model_patcher import get_key_weight
from comfy.quant_ops import QuantizedTensor

from ...clvr_core.errors import BadInput
from ...clvr_core.merge.presets import ALL, preset_blocks
from ...clvr_core.merge.recipe import Block, Lora, factors, matches
from ...clvr_core.weights.layout import block_of
from .files import in_widgets

PREFIX = "diffusion_model."
SIDECARS = (
    ".comfy_quant",
    ".weight_scale",
    ".weight_scale_2",
    ".input_scale",
    ".scale_weight",
    ".scale_input",
    ".scaled_fp8",
)
"""Endings of tensors that belong to a quantised weight and are not weights themselves."""
LISTED = 5
"""Names of each kind that an error lists."""


def live_model(
    base: Any,
    aligned: Any,
    distilled: Any,
    alpha: float,
    beta: float,
    blocks: str,
    fp8: str,
    loras: Sequence[Lora] = (),
    preset: str = ALL,
) -> Any:
    """Return a clone of the base's ModelPatcher with all deltas as patches.

    Per weight: base + alpha * a * (aligned - base) + beta * d * (distilled - base) + the sum of strength * a * B A over
    the LoRAs, with the factors a, d of its block. Raises BadInput for models of different architectures, for quantised
    weights unless `fp8` is dequantise, for a malformed `blocks`, and for a LoRA that fits nowhere.
    """
    others = {role: model for role, model in (("aligned", aligned), ("distilled", distilled)) if model is not None}
    if not others and not loras:
        raise BadInput("there is nothing to merge into the base; link distilled or aligned, or choose a LoRA")
    shapes = shapes_of(base)
    for role, model in others.items():
        require_same_shapes(role, shapes, shapes_of(model))
    for role, model in {"base": base, **others}.items():
        if fp8 != "dequantise" and any(is_quantised(model, key) for key in shapes):
            raise BadInput(
                f"{role} has quantised weights, which have lost most of what a small delta changes, and a merge into them is rounded "
                "again; load the bf16 file with weight_dtype default, or set fp8 to dequantise to merge their values"
            )
    strengths = (*preset_of(preset, shapes), *parse_blocks(blocks, list(shapes)))
    patches: dict[float, dict[str, list[Any]]] = {}
    for key in shapes:
        align, distil = factors(strengths, (key.removeprefix(PREFIX),))
        given = {"aligned": alpha * align, "distilled": beta * distil}
        deltas = [(difference(others[role], base, key), given[role]) for role in others if given[role]]
        if len(deltas) == 2:
            (first, one), (second, other) = deltas
            # A list is a sum; an entry is (its strength, its value, strength of the sum so far, offset, function).
            deltas = [([*first, (other, second, one, None, None)], 1.0)]
        for patch, strength in deltas:
            patches.setdefault(strength, {})[key] = patch
    merged = base.clone()
    for strength, each in patches.items():
        merged.add_patches(each, strength)
    for lora in loras:
        for strength, each in lora_patches(base, lora, strengths).items():
            merged.add_patches(each, strength)
    return merged


def lora_patches(base: Any, lora: Lora, strengths: tuple[Block, ...]) -> dict[float, dict[Any, Any]]:
    """Read a LoRA as ComfyUI's Load LoRA does. Return its patches by their strength, the factor of the block included.

    Raises BadInput for a file of which ComfyUI finds nothing to load into this model.
    """
    read = comfy.lora_convert.convert_lora(comfy.utils.load_torch_file(str(lora.path), safe_load=True))
    found = comfy.lora.load_lora(read, comfy.lora.model_lora_keys_unet(base.model, {}), log_missing=False)
    if not found:
        raise BadInput(
            f"{lora.path.name} has nothing that ComfyUI can load into base; use a LoRA that was trained on this model"
        )
    patches: dict[float, dict[Any, Any]] = {}
    for key, patch in found.items():
        name = key if isinstance(key, str) else key[0]  # a part of a fused weight has (name, place)
        align, _ = factors(strengths, (name.removeprefix(PREFIX),))
        if lora.strength * align:
            patches.setdefault(lora.strength * align, {})[key] = patch
    return patches


def difference(model: Any, base: Any, key: str) -> list[Any]:
    """Make a patch whose value is model - base. ComfyUI evaluates it in fp32, so that the merge is rounded once, as a
    whole.
    """
    return [*weight_of(model, key), (-1.0, weight_of(base, key), 1.0, None, None)]


def weight_of(model: Any, key: str) -> list[Any]:
    """Return the weight as it was loaded, then the model's own patches, in the form of ModelPatcher.get_key_patches,
    which fails on scaled fp8.
    """
    weight, _, convert = get_key_weight(model.model, key)
    if key in model.backup:
        weight = model.backup[key].weight
    if key in model.hook_backup:
        weight = model.hook_backup[key][0]
    return [(weight, convert or (lambda values, **_: values)), *model.patches.get(key, [])]


def shapes_of(model: Any) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight of the diffusion model by name."""
    state = model.model_state_dict(PREFIX)
    return {key: tuple(value.shape) for key, value in state.items() if not key.endswith(SIDECARS)}


def is_quantised(model: Any, key: str) -> bool:
    weight, *_ = weight_of(model, key)[0]
    return isinstance(weight, QuantizedTensor) or weight.dtype in (torch.float8_e4m3fn, torch.float8_e5m2)


def require_same_shapes(role: str, base: dict[str, tuple[int, ...]], other: dict[str, tuple[int, ...]]) -> None:
    """Raise BadInput unless names and shapes are the base's. ComfyUI would skip a patch that does not fit with a line
    in its log.
    """
    missing, extra = (
        [key.removeprefix(PREFIX) for key in one if key not in two] for one, two in ((base, other), (other, base))
    )
    wrong = [
        f"{key.removeprefix(PREFIX)} {list(other[key])} for {list(base[key])}"
        for key in base
        if other.get(key, base[key]) != base[key]
    ]
    named = [f"-{name}" for name in missing[:LISTED]] + [f"+{name}" for name in extra[:LISTED]] + wrong[:LISTED]
    if named:
        raise BadInput(
            f"{role} is not a model of the base's kind: {len(missing)} weights missing (-), {len(extra)} too many (+), "
            f"{len(wrong)} of another shape: {', '.join(named)}; link models of one family and size"
        )


def preset_of(preset: str, keys: Iterable[str]) -> tuple[Block, ...]:
    """Return the blocks of a preset. Raises BadInput for a model that is no FLUX.2."""
    try:
        return preset_blocks(preset, {block_of(key.removeprefix(PREFIX), "plain") for key in keys})
    except BadInput as error:
        raise BadInput(in_widgets(str(error))) from error


def parse_blocks(text: str, keys: list[str]) -> tuple[Block, ...]:
    """Parse the strengths by block. Raises BadInput for a malformed line and for a pattern that matches none of these
    weights.
    """
    try:
        blocks = Block.parse_lines(text)
    except BadInput as error:
        raise BadInput(in_widgets(str(error))) from error
    names = [key.removeprefix(PREFIX) for key in keys]
    for block in blocks:
        if not any(matches(block.pattern, (name,)) for name in names):
            kinds = list(dict.fromkeys(block_of(name, "plain") for name in names))
            near = get_close_matches(block.pattern, kinds, 3, 0)
            raise BadInput(
                f"blocks: the pattern {block.pattern!r} matches nothing in base; its blocks are like {', '.join(near)}"
            )
    return blocks
