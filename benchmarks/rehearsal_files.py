"""The files of rehearsal.py: tensors by the published names, shapes and dtypes, with random values.

Names and shapes come from the published configurations, through the classes of diffusers and transformers without
weights, and from Black Forest Labs' layout; ComfyUI's own classes are not asked, since they are what is rehearsed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import torch
from gpu_models import SIZES, vlm_config

from tests.executor.test_single_file import comfy_vae
from tests.merge.klein import shapes

SCALE = 2e-4
"""Of the 8-bit weights: their values, about 100 wide, stand for weights of 0.02."""
BYTES = {"BF16": 2, "F32": 4, "F8_E4M3": 1, "U8": 1, "I64": 8}
POOL = 1 << 22
"""Random numbers that are made once and written again and again: no two rows of a matrix are alike, and it is fast."""


@dataclass(frozen=True)
class Tensor:
    """dtype: as safetensors names it. value: what all its elements are; None for random ones, `bytes` for these."""

    shape: tuple[int, ...]
    dtype: str = "BF16"
    value: float | bytes | None = None

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * BYTES[self.dtype]


@dataclass(frozen=True)
class File:
    """folder: ComfyUI's kind of model. loader: the stock node that reads it, with its widgets."""

    folder: str
    name: str
    loader: tuple[str, dict[str, str]]
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @property
    def parameters(self) -> int:
        return sum(
            prod(each.shape)
            for each in self.tensors.values()
            if each.dtype in ("BF16", "F32", "F8_E4M3") and each.shape
        )


def _plain(named: Mapping[str, tuple[int, ...]], dtype: str = "BF16") -> dict[str, Tensor]:
    """Matrices and kernels at random, norms at one, biases and means at zero."""
    found = {}
    for name, shape in named.items():
        scales = len(shape) == 1 and not name.endswith(("bias", "running_mean"))
        fixed = 1.0 if scales else 0.0 if len(shape) <= 1 else None
        found[name] = Tensor(shape, "I64" if name.endswith("num_batches_tracked") else dtype, fixed)
    return found


def _scaled(tensors: dict[str, Tensor], layers: Any) -> tuple[dict[str, Tensor], list[str]]:
    """Store these matrices in fp8 with one scale each; also return the names of their layers."""
    found, chosen = {}, []
    for name, tensor in tensors.items():
        if len(tensor.shape) == 2 and layers(name):
            layer = name.removesuffix(".weight")
            chosen.append(layer)
            found[name] = Tensor(tensor.shape, "F8_E4M3")
            found[f"{layer}.weight_scale"] = Tensor((), "F32", SCALE)
        else:
            found[name] = tensor
    return found, chosen


def _marked(tensors: dict[str, Tensor], layers: list[str]) -> dict[str, Tensor]:
    """The mark of each 8-bit layer as ComfyUI writes it: a tensor beside the weight."""
    mark = json.dumps({"format": "float8_e4m3fn"}).encode()
    return tensors | {f"{layer}.comfy_quant": Tensor((len(mark),), "U8", mark) for layer in layers}


def klein(scaled: bool, width: Width | None) -> File:
    size = width.klein | {"text": 3 * width.text["hidden_size"]} if width else KLEIN_4B
    tensors = _plain(shapes(**size, channels=128, head=128))
    name, metadata = "flux-2-klein-4b", {}
    if scaled:
        tensors, layers = _scaled(tensors, lambda name: "_blocks." in name)
        marks = {"format_version": "1.0", "layers": {layer: {"format": "float8_e4m3fn"} for layer in layers}}
        name, metadata = f"{name}-fp8", {"_quantization_metadata": json.dumps(marks)}
    loader = "UNETLoader", {"unet_name": f"{name}.safetensors", "weight_dtype": "default"}
    return File("diffusion_models", f"{name}.safetensors", loader, tensors, metadata)


KLEIN_4B = {"hidden": 3072, "text": 7680, "double": 5, "single": 20}


@dataclass(frozen=True)
class Width:
    """Of narrow models in place of the published ones; rehearsal_nodes.py tells ComfyUI.

    text: of both language models, of which Klein reads its own after layer 27. heads: of the vision model.
    """

    klein: Mapping[str, int]
    text: Mapping[str, int]
    vision: Mapping[str, Any]
    heads: int


def _language(width: int, inner: int, heads: int, keys: int) -> dict[str, int]:
    sizes = {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": 28}
    return sizes | {"num_attention_heads": heads, "num_key_value_heads": keys}


WIDTHS: dict[str, Width | None] = {
    "real": None,
    "middle": Width(
        {"hidden": 1536, "double": 3, "single": 8},
        _language(1024, 3072, 16, 8),
        {"hidden_size": 1024, "intermediate_size": 4096, "depth": 24, "deepstack_visual_indexes": [5, 11, 17]},
        16,
    ),
    "tiny": Width(
        {"hidden": 256, "double": 1, "single": 1},
        _language(128, 128, 1, 1),
        {"hidden_size": 64, "intermediate_size": 64, "depth": 3, "deepstack_visual_indexes": [0, 1, 2]},
        2,
    ),
}
"""middle: language models of the sizes of Qwen3 0.6B, the published vision model, and a seventh of Klein 4B."""


def _named(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items() if name != "lm_head.weight"}


def text_encoder(scaled: bool, width: Width | None) -> File:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    size = SIZES["4b"]
    with torch.device("meta"):
        config = size.encoder | dict(width.text if width else {})
        model = Qwen3ForCausalLM(Qwen3Config(vocab_size=size.vocabulary, **config, tie_word_embeddings=True))
    tensors, name = _plain(_named(model)), "qwen_3_narrow" if width else "qwen_3_4b"
    if scaled:
        tensors, name = _marked(*_scaled(tensors, lambda name: "_proj." in name)), f"{name}_fp8_mixed"
    loader = "CLIPLoader", {"clip_name": f"{name}.safetensors", "type": "flux2", "device": "default"}
    return File("text_encoders", f"{name}.safetensors", loader, tensors)


def vision(scaled: bool, width: Width | None) -> File:
    from transformers import Qwen3VLForConditionalGeneration

    config = vlm_config(SIZES["4b"])
    if width:
        # ComfyUI takes any other width for the 8B model, whose head is a matrix of its own.
        config.text_config.update(dict(width.text) | {"tie_word_embeddings": False})
        out = {"num_heads": width.heads, "out_hidden_size": width.text["hidden_size"]}
        config.vision_config.update(dict(width.vision) | out)
        config.tie_word_embeddings = False
    with torch.device("meta"):
        model = Qwen3VLForConditionalGeneration(config)
    named = _named(model)
    if width:
        named["lm_head.weight"] = tuple(model.lm_head.weight.shape)
    tensors, name = _plain(named), "qwen3vl_narrow" if width else "qwen3vl_4b"
    if scaled:
        kept = lambda name: "language_model.layers." in name and "_proj." in name  # noqa: E731
        tensors, name = _marked(*_scaled(tensors, kept)), f"{name}_fp8_scaled"
    loader = "CLIPLoader", {"clip_name": f"{name}.safetensors", "type": "stable_diffusion", "device": "default"}
    return File("text_encoders", f"{name}.safetensors", loader, tensors)


def vae() -> File:
    from diffusers import AutoencoderKLFlux2

    with torch.device("meta"):
        model = AutoencoderKLFlux2()
    tensors = _plain({name: tuple(value.shape) for name, value in comfy_vae(model.state_dict()).items()}, "F32")
    loader = "VAELoader", {"vae_name": "flux2-vae.safetensors"}
    return File("vae", "flux2-vae.safetensors", loader, tensors)


def files(scaled: bool, size: str = "real") -> dict[str, File]:
    """The four models of workflow 2. size: one of WIDTHS; the VAE has but one."""
    width = WIDTHS[size]
    encoder = text_encoder(scaled, width)
    return {"DiT": klein(scaled, width), "text encoder": encoder, "VLM": vision(scaled, width), "VAE": vae()}


def write(file: File, path: Path) -> None:
    """Write the file, whole or not at all."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **file.metadata}}
    at = 0
    for name, tensor in file.tensors.items():
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (at, at + tensor.nbytes)}
        at += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as into:
        into.write(len(text).to_bytes(8, "little") + text)
        for data in _data(file.tensors.values()):
            into.write(data)
    part.replace(path)


def _data(tensors: Any) -> Iterator[bytes | memoryview]:
    normal = torch.randn(POOL, generator=torch.Generator().manual_seed(0))
    pools = {
        "F32": memoryview((normal * 0.02).view(torch.uint8).numpy()),
        "BF16": memoryview((normal * 0.02).bfloat16().view(torch.uint8).numpy()),
        "F8_E4M3": memoryview((normal * 0.02 / SCALE).to(torch.float8_e4m3fn).view(torch.uint8).numpy()),
    }
    start = 0
    for tensor in tensors:
        if isinstance(tensor.value, bytes):
            yield tensor.value
        elif tensor.value is not None:
            dtype = {"BF16": torch.bfloat16, "F32": torch.float32, "I64": torch.int64}[tensor.dtype]
            full = torch.full((prod(tensor.shape),), tensor.value, dtype=dtype)
            yield memoryview(full.view(torch.uint8).numpy())
        else:
            pool, left, size = pools[tensor.dtype], tensor.nbytes, BYTES[tensor.dtype]
            start = (start + 7919 * size) % (len(pool) // 2 // size * size)
            while left:
                piece = pool[start : start + left]
                yield piece
                left, start = left - len(piece), 0
