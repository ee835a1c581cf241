"""Writes a folder of a Qwen3-VL as the two files that llama.cpp reads: the language model, and its vision part (mmproj).

python gguf_files.py FOLDER
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file

TEXT, EYE = "model.language_model.", "model.visual."
OF_TEXT = {
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
OF_EYE = {
    "norm1": "ln1",
    "norm2": "ln2",
    "attn.qkv": "attn_qkv",
    "attn.proj": "attn_out",
    "mlp.linear_fc1": "ffn_up",
    "mlp.linear_fc2": "ffn_down",
    "merger.norm": "v.post_ln",
    "merger.linear_fc1": "mm.0",
    "merger.linear_fc2": "mm.2",
    "norm": "norm",
    "linear_fc1": "fc1",
    "linear_fc2": "fc2",
}
"""Names in transformers, and in GGUF."""


def write(folder: Path) -> tuple[Path, Path]:
    """Write both files beside the weights, and return their paths."""
    settings = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    return _text(folder, settings["text_config"], weights), _eye(folder, settings["vision_config"], weights)


def _text(folder: Path, settings: dict[str, Any], weights: dict[str, np.ndarray]) -> Path:
    path, rope = folder / "model.gguf", settings["rope_parameters"]
    writer = gguf.GGUFWriter(path, "qwen3vl")
    writer.add_name("plain eyes")
    writer.add_context_length(settings["max_position_embeddings"])
    writer.add_embedding_length(settings["hidden_size"])
    writer.add_block_count(settings["num_hidden_layers"])
    writer.add_feed_forward_length(settings["intermediate_size"])
    writer.add_head_count(settings["num_attention_heads"])
    writer.add_head_count_kv(settings["num_key_value_heads"])
    writer.add_key_length(settings["head_dim"])
    writer.add_value_length(settings["head_dim"])
    writer.add_layer_norm_rms_eps(settings["rms_norm_eps"])
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_sections([*rope["mrope_section"], 0])
    writer.add_num_deepstack_layers(1)
    _words(writer, folder, settings["vocab_size"])
    for name, data in weights.items():
        if name.startswith((TEXT, "lm_head")):
            writer.add_tensor(_text_name(name), data.astype(np.float32))
    return _written(writer, path)


def _text_name(name: str) -> str:
    if name.startswith("lm_head"):
        return "output.weight"
    part, _, kind = name.removeprefix(TEXT).rpartition(".")
    if not part.startswith("layers."):
        return f"{OF_TEXT[part]}.{kind}"
    _, layer, part = part.split(".", 2)
    return f"blk.{layer}.{OF_TEXT[part]}.{kind}"


def _words(writer: gguf.GGUFWriter, folder: Path, size: int) -> None:
    words = json.loads((folder / "tokenizer.json").read_text())
    tokens = {index: token for token, index in words["model"]["vocab"].items()}
    added = {token["id"]: token for token in words["added_tokens"]}
    kinds = []
    for index in range(size):
        if index in added:
            kinds.append(gguf.TokenType.CONTROL if added[index]["special"] else gguf.TokenType.USER_DEFINED)
        else:
            kinds.append(gguf.TokenType.NORMAL if index in tokens else gguf.TokenType.UNUSED)
    tokens |= {index: token["content"] for index, token in added.items()}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([tokens.get(index, f"[unused{index}]") for index in range(size)])
    writer.add_token_types(kinds)
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in words["model"]["merges"]])
    ids = {token["content"]: index for index, token in added.items()}
    writer.add_eos_token_id(ids["<|im_end|>"])
    writer.add_pad_token_id(ids["<|endoftext|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template((folder / "chat_template.jinja").read_text())


def _eye(folder: Path, settings: dict[str, Any], weights: dict[str, np.ndarray]) -> Path:
    path, size = folder / "mmproj.gguf", json.loads((folder / "preprocessor_config.json").read_text())["size"]
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "qwen3vl_merger")
    writer.add_bool("clip.use_gelu", True)
    side = int(settings["num_position_embeddings"] ** 0.5)
    for name, number in {
        "embedding_length": settings["hidden_size"],
        "feed_forward_length": settings["intermediate_size"],
        "block_count": settings["depth"],
        "projection_dim": settings["out_hidden_size"],
        "attention.head_count": settings["num_heads"],
        "image_size": side * settings["patch_size"],
        "patch_size": settings["patch_size"],
        "spatial_merge_size": settings["spatial_merge_size"],
        "image_min_pixels": size.get("shortest_edge", 32 * 32),
        "image_max_pixels": size.get("longest_edge", 128 * 128),
    }.items():
        writer.add_uint32(f"clip.vision.{name}", number)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    writer.add_array("clip.vision.image_mean", [0.5] * 3)
    writer.add_array("clip.vision.image_std", [0.5] * 3)
    deep = settings["deepstack_visual_indexes"]
    writer.add_array("clip.vision.is_deepstack_layers", [layer in deep for layer in range(settings["depth"])])
    for name, data in weights.items():
        if name.startswith(EYE):
            for tensor in _eye_tensors(name.removeprefix(EYE), data.astype(np.float32), deep):
                writer.add_tensor(*tensor)
    return _written(writer, path)


def _eye_tensors(name: str, data: np.ndarray, deep: list[int]) -> Iterator[tuple[str, np.ndarray]]:
    part, _, kind = name.rpartition(".")
    if name == "patch_embed.proj.weight":
        # One kernel for each of two frames, which are the same picture here.
        yield "v.patch_embd.weight", np.ascontiguousarray(data[:, :, 0])
        yield "v.patch_embd.weight.1", np.ascontiguousarray(data[:, :, 1])
    elif name == "patch_embed.proj.bias":
        yield "v.patch_embd.bias", data
    elif name == "pos_embed.weight":
        yield "v.position_embd.weight", data
    elif part.startswith(("blocks.", "deepstack_merger_list.")):
        _, number, part = part.split(".", 2)
        place = f"blk.{number}" if name.startswith("blocks.") else f"deepstack.{deep[int(number)]}"
        yield f"v.{place}.{OF_EYE[part]}.{kind}", data
    else:
        yield f"{OF_EYE[part]}.{kind}", data


def _written(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


if __name__ == "__main__":
    print(*write(Path(sys.argv[1])))
