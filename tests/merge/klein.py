"""Small FLUX.2 Klein shaped checkpoints, and the merge written down a second time, for tensors that fit into memory."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

HIDDEN, TEXT, CHANNELS = 16, 24, 8
HEAD = 8


LOADABLE = {"hidden": 256, "text": 384, "channels": 128, "head": 128}
"""The smallest that ComfyUI's loader takes for FLUX.2."""


def shapes(
    hidden: int = HIDDEN,
    text: int = TEXT,
    double: int = 1,
    single: int = 2,
    guidance: bool = False,
    channels: int = CHANNELS,
    head: int = HEAD,
) -> dict[str, tuple[int, ...]]:
    """Black Forest Labs' names and shapes: SwiGLU of ratio 3, no biases, modulations shared by all blocks."""
    found = {
        "img_in.weight": (hidden, channels),
        "txt_in.weight": (hidden, text),
        "time_in.in_layer.weight": (hidden, 256),
        "time_in.out_layer.weight": (hidden, hidden),
        "double_stream_modulation_img.lin.weight": (6 * hidden, hidden),
        "double_stream_modulation_txt.lin.weight": (6 * hidden, hidden),
        "single_stream_modulation.lin.weight": (3 * hidden, hidden),
        "final_layer.adaLN_modulation.1.weight": (2 * hidden, hidden),
        "final_layer.linear.weight": (channels, hidden),
    }
    if guidance:
        found |= {"guidance_in.in_layer.weight": (hidden, 256), "guidance_in.out_layer.weight": (hidden, hidden)}
    for index in range(double):
        for stream in ("img", "txt"):
            block = f"double_blocks.{index}.{stream}_"
            found[f"{block}attn.qkv.weight"] = (3 * hidden, hidden)
            found[f"{block}attn.proj.weight"] = (hidden, hidden)
            found[f"{block}attn.norm.query_norm.scale"] = (head,)
            found[f"{block}attn.norm.key_norm.scale"] = (head,)
            found[f"{block}mlp.0.weight"] = (6 * hidden, hidden)
            found[f"{block}mlp.2.weight"] = (hidden, 3 * hidden)
    for index in range(single):
        block = f"single_blocks.{index}."
        found[f"{block}linear1.weight"] = (9 * hidden, hidden)
        found[f"{block}linear2.weight"] = (hidden, 4 * hidden)
        found[f"{block}norm.query_norm.scale"] = (head,)
        found[f"{block}norm.key_norm.scale"] = (head,)
    return found


def weights(seed: int = 0, dtype: torch.dtype = torch.bfloat16, **more) -> dict[str, torch.Tensor]:
    random = np.random.default_rng(seed)
    return {
        name: torch.from_numpy((random.standard_normal(shape) * 0.02 + (len(shape) == 1)).astype(np.float32)).to(dtype)
        for name, shape in shapes(**more).items()
    }


def moved(base: dict[str, torch.Tensor], seed: int, relative: float) -> dict[str, torch.Tensor]:
    """The weights after a training that changed them by `relative` of their size."""
    random = np.random.default_rng(seed)
    return {
        name: (
            value.float()
            + value.float().std() * relative * torch.from_numpy(random.standard_normal(value.shape).astype(np.float32))
        ).to(value.dtype)
        for name, value in base.items()
    }


def three(dtype: torch.dtype = torch.bfloat16, **more) -> tuple[dict[str, torch.Tensor], ...]:
    """base, aligned, distilled."""
    base = weights(0, dtype, **more)
    return base, moved(base, 1, 0.023), moved(base, 2, 0.028)


def all_in_one(diffusion_model: dict[str, torch.Tensor], seed: int = 9) -> dict[str, torch.Tensor]:
    """A whole checkpoint as ComfyUI saves it: the diffusion model with some of a text encoder and a VAE beside it."""
    random = np.random.default_rng(seed)
    beside = {
        "text_encoders.qwen3_4b.transformer.model.embed_tokens.weight": (20, 16),
        "text_encoders.qwen3_4b.transformer.model.layers.0.mlp.up_proj.weight": (32, 16),
        "vae.decoder.mid.attn_1.q.weight": (16, 16),
        "vae.decoder.conv_in.weight": (4, 4, 3, 3),
    }
    found = {f"model.diffusion_model.{name}": value for name, value in diffusion_model.items()}
    return found | {
        name: torch.from_numpy((random.standard_normal(shape) * 0.02).astype(np.float32)).bfloat16()
        for name, shape in beside.items()
    }


def save(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> Path:
    save_file({name: value.contiguous() for name, value in tensors.items()}, path, metadata)
    return path


def to_diffusers(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """By diffusers' own converter of single files."""
    from diffusers.loaders.single_file_utils import convert_flux2_transformer_checkpoint_to_diffusers

    return {
        name: value.contiguous()
        for name, value in convert_flux2_transformer_checkpoint_to_diffusers(dict(tensors)).items()
    }


def contract(base, aligned=None, distilled=None, alpha=1.0, beta=1.0, low=None, dtype=torch.bfloat16) -> torch.Tensor:
    """clvr-f32-1 in plain torch: one operation, one rounding at a time."""
    start = base.float()
    terms = []
    if aligned is not None:
        terms.append((aligned.float() - start) * torch.tensor(alpha, dtype=torch.float32))
    if distilled is not None:
        terms.append((distilled.float() - start) * torch.tensor(beta, dtype=torch.float32))
    if low is not None:
        terms.append(low)
    delta = terms[0]
    for term in terms[1:]:
        delta = delta + term
    return (start + delta).to(dtype)


def same_bits(left: torch.Tensor, right: torch.Tensor) -> bool:
    return (
        left.dtype == right.dtype
        and left.shape == right.shape
        and torch.equal(*(each.reshape(-1).view(torch.uint8) for each in (left, right)))
    )


def raw_file(path: Path, header, data: bytes = b"\0" * 8, length: int | None = None) -> Path:
    """A safetensors file with any header whatever, a text or something for JSON, and any length said of it."""
    text = header if isinstance(header, bytes) else (header if isinstance(header, str) else json.dumps(header)).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path
