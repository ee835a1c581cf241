"""Tensor names of FLUX.2 in two layouts: diffusers', and Black Forest Labs' (`bfl`), which ComfyUI uses too.

The layouts fuse weights differently. An *atom* is a run of whole rows that no layout divides further; it has
diffusers' name. A fused qkv is three atoms. The last modulation is two, shift and scale, which the two layouts store in
opposite order. A model of another family is `plain`: each tensor is one atom with the name of the tensor, without
prefix.

Sources: diffusers' `convert_flux2_transformer_checkpoint_to_diffusers`, ComfyUI's `flux_to_diffusers` and
    `model_detection`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Literal

Layout = Literal["bfl", "diffusers", "plain"]

PREFIXES = ("model.diffusion_model.", "diffusion_model.", "transformer.", "unet.")
BESIDE = (
    *("first_stage_model.", "vae.", "cond_stage_model.", "conditioner.", "text_encoders.", "text_encoder."),
    *("text_encoder_2.", "text_encoder_3.", "model_ema.", "clip_l.", "clip_g.", "t5xxl."),
)
"""Beginnings of the tensor names that whole checkpoints have beside the diffusion model."""
NUMBERED = ("double_blocks", "single_blocks", "transformer_blocks", "single_transformer_blocks")

_DOUBLE = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "img_attn.proj": ("attn.to_out.0",),
    "txt_attn.proj": ("attn.to_add_out",),
    "img_attn.norm.query_norm": ("attn.norm_q",),
    "img_attn.norm.key_norm": ("attn.norm_k",),
    "txt_attn.norm.query_norm": ("attn.norm_added_q",),
    "txt_attn.norm.key_norm": ("attn.norm_added_k",),
    "img_mlp.0": ("ff.linear_in",),
    "img_mlp.2": ("ff.linear_out",),
    "txt_mlp.0": ("ff_context.linear_in",),
    "txt_mlp.2": ("ff_context.linear_out",),
}
_SINGLE = {
    "linear1": ("attn.to_qkv_mlp_proj",),
    "linear2": ("attn.to_out",),
    "norm.query_norm": ("attn.norm_q",),
    "norm.key_norm": ("attn.norm_k",),
}
_BFL: dict[str, tuple[str, ...]] = {
    "img_in": ("x_embedder",),
    "txt_in": ("context_embedder",),
    "time_in.in_layer": ("time_guidance_embed.timestep_embedder.linear_1",),
    "time_in.out_layer": ("time_guidance_embed.timestep_embedder.linear_2",),
    "guidance_in.in_layer": ("time_guidance_embed.guidance_embedder.linear_1",),
    "guidance_in.out_layer": ("time_guidance_embed.guidance_embedder.linear_2",),
    "double_stream_modulation_img.lin": ("double_stream_modulation_img.linear",),
    "double_stream_modulation_txt.lin": ("double_stream_modulation_txt.linear",),
    "single_stream_modulation.lin": ("single_stream_modulation.linear",),
    "final_layer.adaLN_modulation.1": ("norm_out.linear/shift", "norm_out.linear/scale"),
    "final_layer.linear": ("proj_out",),
    **{
        f"double_blocks.#.{module}": tuple(f"transformer_blocks.#.{atom}" for atom in atoms)
        for module, atoms in _DOUBLE.items()
    },
    **{
        f"single_blocks.#.{module}": tuple(f"single_transformer_blocks.#.{atom}" for atom in atoms)
        for module, atoms in _SINGLE.items()
    },
}
_DIFFUSERS: dict[str, tuple[str, ...]] = {atom: (atom,) for atoms in _BFL.values() for atom in atoms if "/" not in atom}
_DIFFUSERS["norm_out.linear"] = ("norm_out.linear/scale", "norm_out.linear/shift")
TABLES: dict[str, dict[str, tuple[str, ...]]] = {"bfl": _BFL, "diffusers": _DIFFUSERS}
_HOME: dict[str, dict[str, str]] = {
    layout: {atom: module for module, atoms in table.items() for atom in atoms} for layout, table in TABLES.items()
}
# The names after diffusers has fused the projections, as in LoKr files.
_DIFFUSERS["transformer_blocks.#.attn.to_qkv"] = _BFL["double_blocks.#.img_attn.qkv"]
_DIFFUSERS["transformer_blocks.#.attn.to_added_qkv"] = _BFL["double_blocks.#.txt_attn.qkv"]


def prefix_of(names: Iterable[str]) -> str:
    """Return the prefix of the diffusion model's tensor names, "" if they have none."""
    names = list(names)
    return next((prefix for prefix in PREFIXES if any(name.startswith(prefix) for name in names)), "")


def in_diffusion_model(name: str, prefix: str) -> bool:
    """Say whether a tensor belongs to the diffusion model of its file, not to a text encoder, VAE or copy beside it.

    prefix: of the file's diffusion model, as `prefix_of` returns it.
    """
    return name.startswith(prefix) if prefix else not name.startswith(BESIDE)


def kind_of(names: Collection[str]) -> str:
    """Return "a VAE" or "a text encoder" for the tensor names of one that stands alone, "" for other models."""
    if "decoder.conv_in.weight" in names or "decoder.conv1.weight" in names:
        return "a VAE"
    alone = ("model.embed_tokens.weight", "shared.weight", "text_model.embeddings.token_embedding.weight")
    return "a text encoder" if any(name in names for name in alone) else ""


def layout_of(names: Iterable[str]) -> Layout:
    """Return the layout of these tensor names (without prefix), by the stream modulations, which only FLUX.2 has."""
    names = set(names)
    if "double_stream_modulation_img.lin.weight" in names:
        return "bfl"
    return "diffusers" if "double_stream_modulation_img.linear.weight" in names else "plain"


def atoms_of(name: str, layout: Layout) -> tuple[str, ...]:
    """Return the atoms of the tensor `name` (without prefix), top to bottom; each has an equal share of its rows."""
    if layout != "plain":
        module, parameter = _split(name)
        generic, number = _generic(module)
        if generic in TABLES[layout]:
            return tuple(f"{atom}.{parameter}".replace("#", number) for atom in TABLES[layout][generic])
    return (name,)


def tensor_of(atom: str, layout: Layout) -> str:
    """Return the name, without prefix, of the tensor that contains the atom in this layout."""
    if layout == "plain":
        return atom
    module, _, parameter = atom.rpartition(".")
    generic, number = _generic(module)
    if generic not in _HOME[layout]:
        return atom
    module = _HOME[layout][generic].replace("#", number)
    return f"{module}.{'scale' if layout == 'bfl' and module.endswith('_norm') else parameter}"


def block_of(atom: str, layout: Layout) -> str:
    """Return the block of an atom: for FLUX.2 by BFL's names (double_blocks.3, txt_in), for other models the name up to
    its first number."""
    parts = tensor_of(atom, "plain" if layout == "plain" else "bfl").split(".")
    number = next((index for index, part in enumerate(parts) if part.isdecimal()), None)
    if parts[0] not in NUMBERED and layout != "plain":
        return parts[0]
    return ".".join(parts[: number + 1]) if number is not None else parts[0]


def _split(name: str) -> tuple[str, str]:
    module, _, parameter = name.rpartition(".")
    # BFL's files call the weight of a norm `scale`; newer files of ComfyUI call it `weight`.
    return module, "weight" if parameter == "scale" and module.endswith("_norm") else parameter


def _generic(module: str) -> tuple[str, str]:
    """Return the module with # in place of the number of its block, and that number; the module and "" if it is in no
    numbered block."""
    found = re.fullmatch(r"(\w+)\.(\d+)\.(.+)", module)
    if found and found[1] in NUMBERED:
        return f"{found[1]}.#.{found[3]}", found[2]
    return module, ""
