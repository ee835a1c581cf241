"""The smallest models of further classes of transformers, with random weights, as folders like those on the hub.

Each of their processors lays a picture out in its own way: in several runs of tokens, in parts of a picture whose number its size
decides, or padded to the largest picture beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers

from tests.vlm.tiny import HIDDEN, MARKS, TEMPLATE, _rope, _still, _text, outspoken, tokenizer

SIDE = 32
"""Pixels of the sides of a part of a picture."""


def _encoder(**more: Any) -> dict[str, Any]:
    """A small ViT in patches of 8 pixels."""
    return {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": SIDE,
        "patch_size": 8,
    } | more


def _internvl(folder: Path) -> Any:
    marks = [*MARKS[:3], "<img>", "</img>", "<IMG_CONTEXT>", "<video>"]
    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    words = tokenizer(marks, extra_special_tokens=named | {"video_token": "<video>"})
    words.chat_template = _template("<IMG_CONTEXT>")
    pixels = _still("GotOcr2ImageProcessor")(size={"height": SIDE, "width": SIDE})
    config = transformers.InternVLConfig(
        text_config={"model_type": "qwen2", **_text(words)},
        vision_config=_encoder(),
        image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    _save(folder, "InternVLProcessor", words, pixels, "InternVLVideoProcessor", image_seq_length=4)
    return transformers.InternVLForConditionalGeneration(config), words


def _idefics3(folder: Path) -> Any:
    return _idefics(folder, "Idefics3")


def _smolvlm(folder: Path) -> Any:
    return _idefics(folder, "SmolVLM", "SmolVLMVideoProcessor")


def _idefics(folder: Path, name: str, video: str = "") -> Any:
    rows = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    marks = [*MARKS[:3], "<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *rows]
    words = tokenizer(marks)
    words.chat_template = _template("<image>")
    pixels = _still(f"{name}ImageProcessor")(size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE})
    config = getattr(transformers, f"{name}Config")(
        text_config={"model_type": "llama", **_text(words)},
        vision_config=_encoder(),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        tie_word_embeddings=False,
    )
    _save(folder, f"{name}Processor", words, pixels, video, image_seq_len=4)
    return getattr(transformers, f"{name}ForConditionalGeneration")(config), words


def _glm46v(folder: Path) -> Any:
    return _glm(folder, "Glm46V")


def _glm4v(folder: Path) -> Any:
    return _glm(folder, "Glm4v")


def _glm(folder: Path, name: str) -> Any:
    names = {
        "image_token_id": "<|image|>",
        "video_token_id": "<|video|>",
        "image_start_token_id": "<|begin_of_image|>",
        "image_end_token_id": "<|end_of_image|>",
        "video_start_token_id": "<|begin_of_video|>",
        "video_end_token_id": "<|end_of_video|>",
    }
    words = tokenizer([*MARKS[:3], *names.values()])
    words.chat_template = _template("<|begin_of_image|><|image|><|end_of_image|>")
    size = {"shortest_edge": 32 * 32, "longest_edge": 96 * 96}
    pixels = _still(f"{name}ImageProcessor")(patch_size=16, merge_size=2, temporal_patch_size=2, size=size)
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 4,
        "image_size": 64,
        "patch_size": 16,
        "out_hidden_size": HIDDEN,
    }
    rope = _rope(1e4, mrope_section=[2, 1, 1], partial_rotary_factor=0.5)
    config = getattr(transformers, f"{name}Config")(
        text_config=_text(words, **rope),
        vision_config=vision,
        **{name: words.convert_tokens_to_ids(mark) for name, mark in names.items()},
        tie_word_embeddings=False,
    )
    _save(folder, f"{name}Processor", words, pixels, f"{name}VideoProcessor")
    return getattr(transformers, f"{name}ForConditionalGeneration")(config), words


def _minicpm(folder: Path) -> Any:
    names = {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "image_start_token": "<image>",
        "image_end_token": "</image>",
        "slice_start_token": "<slice>",
        "slice_end_token": "</slice>",
        "image_id_start_token": "<image_id>",
        "image_id_end_token": "</image_id>",
    }
    words = tokenizer([*MARKS[:3], *names.values()], extra_special_tokens=names)
    words.chat_template = _template("<|image_pad|>")
    pixels = _still("MiniCPMV4_6ImageProcessor")(patch_size=8, scale_resolution=32, max_slice_nums=4)
    rope = _rope(1e6, partial_rotary_factor=0.5)
    linear = {
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "layer_types": ["linear_attention"] * 3 + ["full_attention"],
    }
    config = transformers.MiniCPMV4_6Config(
        text_config={"model_type": "qwen3_5_text", **_text(words, **rope, **linear)},
        vision_config=_encoder(image_size=64),
        insert_layer_id=0,
        image_token_id=words.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=words.convert_tokens_to_ids("<|video_pad|>"),
        tie_word_embeddings=False,
    )
    _save(folder, "MiniCPMV4_6Processor", words, pixels, "MiniCPMV4_6VideoProcessor")
    return transformers.MiniCPMV4_6ForConditionalGeneration(config), words


def _mistral3(folder: Path) -> Any:
    marks = ["[IMG]", "[IMG_BREAK]", "[IMG_END]"]
    words = tokenizer([*MARKS[:3], *marks])
    words.chat_template = _template("[IMG]")
    pixels = _still("PixtralImageProcessor")(size={"longest_edge": 64}, patch_size={"height": 16, "width": 16})
    config = transformers.Mistral3Config(
        text_config={"model_type": "mistral", "sliding_window": None, **_text(words)},
        vision_config={"model_type": "pixtral", "head_dim": 8, **_encoder(image_size=64)},
        image_token_index=words.convert_tokens_to_ids("[IMG]"),
        tie_word_embeddings=False,
    )
    _save(folder, "PixtralProcessor", words, pixels, patch_size=8, spatial_merge_size=2)
    return transformers.Mistral3ForConditionalGeneration(config), words


def _lfm2_vl(folder: Path) -> Any:
    tiles = [f"<|img_row_{row}_col_{column}|>" for row in range(1, 5) for column in range(1, 5)]
    words = tokenizer([*MARKS[:3], "<image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>", *tiles])
    words.chat_template = _template("<image>")
    settings = {
        "encoder_patch_size": 8,
        "tile_size": 32,
        "min_image_tokens": 4,
        "max_image_tokens": 8,
        "max_tiles": 4,
        "do_image_splitting": True,
    }
    vision = _encoder(num_patches=16, model_type="siglip2_vision_model")
    del vision["image_size"]
    kinds = ["conv", "full_attention"] * 2
    config = transformers.Lfm2VlConfig(
        text_config={"model_type": "lfm2", "layer_types": kinds, **_text(words), "block_auto_adjust_ff_dim": False},
        vision_config=vision,
        image_token_id=words.convert_tokens_to_ids("<image>"),
        projector_hidden_size=64,
        tie_word_embeddings=False,
    )
    words.save_pretrained(folder)
    named = {"image_processor_type": "Lfm2VlImageProcessor", "processor_class": "Lfm2VlProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(named | settings))
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": "Lfm2VlProcessor"}))
    return transformers.Lfm2VlForConditionalGeneration(config), words


def _template(picture: str) -> str:
    return TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", picture)


def _save(folder: Path, kind: str, words: Any, pixels: Any, video: str = "", **settings: Any) -> None:
    """As published: the processor's own part in processor_config.json. video: the class of its video part, which is read
    where torchvision is installed.
    """
    words.save_pretrained(folder)
    pixels.save_pretrained(folder)
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": kind, **settings}))
    if video:
        (folder / "video_preprocessor_config.json").write_text(json.dumps({"video_processor_type": video}))


class Kind(NamedTuple):
    """make: saves the processor and returns the model and its tokenizer. seed: with which the answers hang on pictures and
    questions. needs: a package without which transformers gives no processor."""

    make: Callable[[Path], Any]
    seed: int = 0
    needs: str = ""


KINDS = {
    "internvl": Kind(_internvl),
    "idefics3": Kind(_idefics3, seed=3),
    "smolvlm": Kind(_smolvlm, seed=3, needs="num2words"),
    "glm4v": Kind(_glm4v),
    "glm46v": Kind(_glm46v),
    "minicpm": Kind(_minicpm),
    "mistral3": Kind(_mistral3, needs="torchvision"),
    "lfm2-vl": Kind(_lfm2_vl, needs="torchvision"),
}


def save(folder: Path, kind: str) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(KINDS[kind].seed)
        model, words = KINDS[kind].make(folder)
        outspoken(model, words).eval().save_pretrained(folder)
    return folder
