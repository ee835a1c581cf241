"""FLUX.2 Klein from the files that ComfyUI uses: diffusion model, text encoder and VAE, each in one file."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import torch

from ..errors import BadInput
from ..weights.checkpoint import open_checkpoint
from ..weights.manifest import TOKENIZERS
from ..weights.quantised import dequantised

TYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "I64": torch.int64,
}
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n\n</think>\n\n{% endif %}"
)
"""Qwen3's chat template with thinking switched off.

The tokenizer that ComfyUI ships has the template of another model.
"""
SCHEDULE = {
    "shift": 3.0,
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
}
"""Settings of the scheduler as published with FLUX.2 Klein."""


def pipeline(transformer: Any, text_encoder: Any, vae: Any, tokenizer: Any, distilled: bool) -> Any:
    """Build a Flux2KleinPipeline. Raises BadInput for parts whose sizes do not match."""
    from diffusers import FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline

    reads, gives = transformer.config.joint_attention_dim, 3 * text_encoder.config.hidden_size
    if reads != gives:
        raise BadInput(
            f"the diffusion model reads words of width {reads} and the text encoder gives {gives}; "
            "Klein 4B goes with qwen_3_4b, 9B with qwen_3_8b"
        )
    paints, holds = transformer.config.in_channels, 4 * vae.config.latent_channels
    if paints != holds:
        raise BadInput(
            f"the diffusion model paints {paints} channels and the VAE holds {holds}; give the VAE of FLUX.2, flux2-vae"
        )
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**SCHEDULE),
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=transformer,
        is_distilled=distilled,
    )


def load_tokenizer(folder: Path) -> Any:
    """Load Qwen3's tokenizer with the chat template that Klein was trained with.

    Raises BadInput saying where to get one.
    """
    from transformers import AutoTokenizer

    if not folder.is_dir():
        raise BadInput(f"{folder} is not a folder; tokenizer in [executor] is {TOKENIZERS}")
    try:
        words = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        lacks = [
            mark for mark in ("<|im_start|>", "<|im_end|>", "<think>", "</think>") if mark not in words.get_vocab()
        ]
    except Exception as error:  # transformers, tokenizers and json each raise their own kinds for a damaged folder
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise BadInput(f"{folder} holds no tokenizer that can be read ({first[:160]}); give {TOKENIZERS}") from error
    if lacks:
        raise BadInput(f"the tokenizer in {folder} does not know {', '.join(lacks)}; give {TOKENIZERS}")
    words.chat_template, words.padding_side = TEMPLATE, "right"
    return words


def load_encoder(path: Path, dtype: torch.dtype, layers: int) -> Any:
    """Load the first `layers` layers of a Qwen3ForCausalLM, without final norm and head, which Klein does not read.

    Hidden states up to the last layer equal those of the whole model. path: a Qwen3 or a Qwen3-VL, whose vision part is
    left out. Raises BadInput for another model.
    """
    from transformers import Qwen3Config, Qwen3ForCausalLM

    def wanted(name: str) -> str:
        name = re.sub(r"^model\.language_model\.", "model.", name)
        number = re.match(r"model\.layers\.(\d+)\.", name)
        kept = int(number[1]) < layers if number else name == "model.embed_tokens.weight"
        return name if kept else ""

    state = _read(path, dtype, wanted)
    try:
        there = 1 + max(int(found[1]) for name in state if (found := re.match(r"model\.layers\.(\d+)\.", name)))
        if there < layers:
            raise ValueError(f"it has {there} layers, and {layers} are read")
        first = "model.layers.0."
        words, width = state["model.embed_tokens.weight"].shape
        (head,) = state[f"{first}self_attn.q_norm.weight"].shape
        settings: dict[str, Any] = {
            "vocab_size": words,
            "hidden_size": width,
            "intermediate_size": len(state[f"{first}mlp.gate_proj.weight"]),
            "num_hidden_layers": layers,
            "num_attention_heads": len(state[f"{first}self_attn.q_proj.weight"]) // head,
            "num_key_value_heads": len(state[f"{first}self_attn.k_proj.weight"]) // head,
            "head_dim": head,
            "max_position_embeddings": 40_960,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1e6,
            "tie_word_embeddings": True,
        }
        config = Qwen3Config(**settings)
        with torch.device("meta"):
            model: Any = Qwen3ForCausalLM(config)
        model.model.norm = model.lm_head = torch.nn.Identity()
        # The rotary frequencies are not stored in the file; on the meta device they have no values.
        model.model.rotary_emb = type(model.model.rotary_emb)(config=config)
        model.load_state_dict(state, strict=True, assign=True)
    except (KeyError, ValueError, RuntimeError) as error:
        raise BadInput(
            f"{path} is no whole text encoder of FLUX.2 Klein ({_cause(error)}); give qwen_3_4b, qwen_3_8b or a Qwen3-VL of these sizes"
        ) from error
    return model.eval().requires_grad_(False)


def load_vae(path: Path, dtype: torch.dtype) -> Any:
    """Load an AutoencoderKLFlux2 from a file by ComfyUI's, Black Forest Labs' or diffusers' names.

    Its configuration is read from the shapes of the tensors. Raises BadInput for another model.
    """
    from diffusers import AutoencoderKLFlux2

    state = _read(path, dtype, lambda name: name)
    levels = 1 + max((int(found[1]) for name in state if (found := re.match(r"decoder\.up\.(\d+)\.", name))), default=0)
    state = {vae_name(name, levels): _as_linear(name, tensor) for name, tensor in state.items()}
    state.setdefault("bn.num_batches_tracked", torch.tensor(0))
    try:
        model_settings = vae_settings({name: tuple(tensor.shape) for name, tensor in state.items()})
        with torch.device("meta"):
            model = AutoencoderKLFlux2(**model_settings)
        model.load_state_dict(state, strict=True, assign=True)
    except (KeyError, ValueError, RuntimeError) as error:
        raise BadInput(f"{path} is no whole VAE of FLUX.2 ({_cause(error)}); give flux2-vae") from error
    return model.eval().requires_grad_(False)


_VAE = (
    (r"^(?:encoder\.|decoder\.)?(quant_conv|post_quant_conv)\.", r"\1."),
    (r"^encoder\.down\.(\d+)\.block\.(\d+)\.", r"encoder.down_blocks.\1.resnets.\2."),
    (r"^encoder\.down\.(\d+)\.downsample\.", r"encoder.down_blocks.\1.downsamplers.0."),
    (r"^decoder\.up\.(\d+)\.block\.(\d+)\.", r"decoder.up_blocks.\1.resnets.\2."),
    (r"^decoder\.up\.(\d+)\.upsample\.", r"decoder.up_blocks.\1.upsamplers.0."),
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.norm\.", ".mid_block.attentions.0.group_norm."),
    (r"\.mid\.attn_1\.proj_out\.", ".mid_block.attentions.0.to_out.0."),
    (r"\.mid\.attn_1\.([qkv])\.", r".mid_block.attentions.0.to_\1."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"\.norm_out\.", ".conv_norm_out."),
)


def vae_name(name: str, levels: int) -> str:
    """Return diffusers' name of a VAE tensor. levels: of resolution; the decoder counts them from the other end than
    ComfyUI.
    """
    if found := re.match(r"decoder\.up\.(\d+)\.", name):
        name = f"decoder.up.{levels - 1 - int(found[1])}.{name[found.end() :]}"
    for pattern, new in _VAE:
        name = re.sub(pattern, new, name)
    return name


def vae_settings(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """Return the configuration of a VAE. shapes: of its tensors, by diffusers' names.

    Raises KeyError or ValueError for another model.
    """

    def widths(side: str) -> tuple[int, ...]:
        count = 1 + max(int(found[1]) for name in shapes if (found := re.match(rf"{side}\.(\d+)\.", name)))
        return tuple(shapes[f"{side}.{level}.resnets.0.conv1.weight"][0] for level in range(count))

    encoder, decoder = widths("encoder.down_blocks"), widths("decoder.up_blocks")[::-1]
    return {
        "block_out_channels": encoder,
        "decoder_block_out_channels": None if decoder == encoder else decoder,
        "down_block_types": ("DownEncoderBlock2D",) * len(encoder),
        "up_block_types": ("UpDecoderBlock2D",) * len(decoder),
        "layers_per_block": sum(
            re.match(r"encoder\.down_blocks\.0\.resnets\.\d+\.conv1\.weight", name) is not None for name in shapes
        ),
        "latent_channels": shapes["decoder.conv_in.weight"][1],
        "use_quant_conv": "quant_conv.weight" in shapes,
        "use_post_quant_conv": "post_quant_conv.weight" in shapes,
        "mid_block_add_attention": "encoder.mid_block.attentions.0.to_q.weight" in shapes,
    }


def _as_linear(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Drop the last two axes of attention weights, which ComfyUI stores as 1 x 1 convolutions."""
    return (
        tensor.flatten(1)
        if re.search(r"\.mid\.attn_1\.(q|k|v|proj_out)\.weight$", name) and tensor.ndim == 4
        else tensor
    )


def _read(path: Path, dtype: torch.dtype, named: Callable[[str], str]) -> dict[str, torch.Tensor]:
    """Read the tensors that `named` maps to a name that is not empty, as `dtype`; scaled fp8 is multiplied by its
    scale.

    Raises BadInput as `open_checkpoint` and `dequantised` do.
    """
    checkpoint = open_checkpoint(path)
    try:
        found = {}
        for old, tensor in dequantised(checkpoint)[0].tensors.items():
            if not (name := named(old)):
                continue
            if tensor.codec is not None:
                value = torch.from_numpy(tensor.codec.values(0, prod(tensor.shape))).reshape(tensor.shape)
                found[name] = value.to(dtype)
                continue
            if tensor.dtype not in TYPES:
                raise BadInput(
                    f"{path}: {old} is {tensor.dtype}, which cannot be read; give the file in bf16 or in ComfyUI's scaled fp8"
                )
            value = torch.frombuffer(tensor.read(), dtype=torch.uint8).view(TYPES[tensor.dtype]).reshape(tensor.shape)
            if tensor.scale is not None:
                value = value.float() * tensor.scale
            found[name] = value.to(dtype) if value.is_floating_point() else value
        return found
    finally:
        checkpoint.close()


def _cause(error: Exception) -> str:
    """Return the last line of a torch error, which names the cause; the lines before name the class."""
    text = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
    return text.strip().splitlines()[-1].strip()[:200]
