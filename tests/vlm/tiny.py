"""The smallest vision-language models of transformers' own classes, with random weights, as folders like those on the hub."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Qwen2TokenizerFast,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

NEW = int(transformers.__version__.split(".")[0]) >= 5
"""Since 5 a config holds its rotary settings in one place, and processors of pictures that need no torchvision have names of their own."""

MARKS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
]
"""Those of Qwen's models, then those of Gemma's."""
TEMPLATE = (
    "{%- for message in messages -%}{{ '<|im_start|>' + message.role + '\n' }}"
    "{%- if message.content is string -%}{{ message.content }}{%- else -%}{%- for part in message.content -%}"
    "{{ '<|vision_start|><|image_pad|><|vision_end|>' if part.type == 'image' else part.text }}"
    "{%- endfor -%}{%- endif -%}{{ '<|im_end|>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
"""As Qwen3-VL's in all that matters here."""
GEMMA_TEMPLATE = TEMPLATE.replace(f"{MARKS[3]}{MARKS[5]}{MARKS[4]}", MARKS[7])
"""As Gemma 3's: the prompt has only the token that begins a picture."""
HIDDEN = 64


def tokenizer(marks: list[str] = MARKS, more: Iterable[str] = (), **named: Any) -> Qwen2TokenizerFast:
    """A token for each byte, so that any text can be written, and those for Yes and No.

    marks: control tokens, of which Qwen's first three are used whatever the model is.
    more: words that are to be tokens as well, with the space before them as the vocabulary writes it.
    """
    vocabulary = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = []
    for whole in ("Yes", "No", "yes", "no", '{"', '":', "red", *more):
        for end in range(2, len(whole) + 1):
            if whole[:end] not in vocabulary:
                merges.append((whole[: end - 1], whole[end - 1]))
                vocabulary[whole[:end]] = len(vocabulary)
    words = Tokenizer(models.BPE(vocabulary, merges))
    words.pre_tokenizer, words.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    words.add_special_tokens([AddedToken(mark, special=True) for mark in marks])
    made = Qwen2TokenizerFast(
        tokenizer_object=words,
        additional_special_tokens=marks,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        bos_token=None,
        **named,
    )
    made.add_tokens(["<think>", "</think>"])
    made.chat_template = TEMPLATE
    return made


def _vision(**more: Any) -> dict[str, Any]:
    return {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 4,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": HIDDEN,
        "num_position_embeddings": 64,
    } | more


def _text(words: Qwen2TokenizerFast, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(words) + 7,  # published models have more logits than tokens
        "hidden_size": HIDDEN,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 4096,
        "pad_token_id": words.pad_token_id,
        "eos_token_id": words.eos_token_id,
    } | more


def _marks(words: Qwen2TokenizerFast) -> dict[str, int]:
    names = {"image_token_id": 5, "video_token_id": 6, "vision_start_token_id": 3, "vision_end_token_id": 4}
    return {name: words.convert_tokens_to_ids(MARKS[index]) for name, index in names.items()}


def _rope(theta: float, **settings: Any) -> dict[str, Any]:
    settings = {"rope_type": "default", **settings}
    return (
        {"rope_parameters": settings | {"rope_theta": theta}}
        if NEW
        else {"rope_scaling": settings, "rope_theta": theta}
    )


def qwen3_vl(words: Qwen2TokenizerFast) -> Qwen3VLForConditionalGeneration:
    config = Qwen3VLConfig(
        text_config=_text(words, **_rope(5e6, mrope_section=[4, 2, 2], mrope_interleaved=True)),
        vision_config=_vision(deepstack_visual_indexes=[0, 1]),
        **_marks(words),
        tie_word_embeddings=False,
    )
    return Qwen3VLForConditionalGeneration(config)


def qwen3_5(words: Qwen2TokenizerFast) -> Any:
    """Three of its four layers keep a state in place of keys and values, which cannot be cut back."""
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    rope = _rope(1e6, partial_rotary_factor=0.5, mrope_section=[2, 1, 1], mrope_interleaved=True)
    linear = {
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
    }
    kinds = ["linear_attention"] * 3 + ["full_attention"]
    config = Qwen3_5Config(
        text_config=_text(words, layer_types=kinds, **rope, **linear),
        vision_config=_vision(),
        **_marks(words),
        tie_word_embeddings=False,
    )
    return Qwen3_5ForConditionalGeneration(config)


def gemma3(words: Qwen2TokenizerFast) -> Gemma3ForConditionalGeneration:
    """Every other layer sees only the last tokens, and a picture's tokens see each other."""
    kinds = ["sliding_attention", "full_attention"] * 2
    text = _text(words, layer_types=kinds, sliding_window=24, query_pre_attn_scalar=16)
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 64,
        "patch_size": 16,
    }
    marks = {
        f"{name}_token_index": words.convert_tokens_to_ids(MARKS[index])
        for name, index in (("boi", 7), ("eoi", 8), ("image", 9))
    }
    config = Gemma3Config(
        text_config=text, vision_config=vision, mm_tokens_per_image=4, **marks, tie_word_embeddings=False
    )
    model = Gemma3ForConditionalGeneration(config)
    # It begins with zeros: pictures would not matter.
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.2)
    return model


MODELS: dict[str, Callable[[Qwen2TokenizerFast], Any]] = {"qwen3-vl": qwen3_vl, "qwen3.5": qwen3_5, "gemma3": gemma3}
SEEDS = {qwen3_vl: 8, qwen3_5: 7, gemma3: 5 if NEW else 10}
"""With which the answers hang on pictures and questions clearly."""
HERE = [name for name in MODELS if name != "qwen3.5" or hasattr(transformers, "Qwen3_5Config")]
"""Those that this version of transformers has."""


def outspoken(model: Any, words: Qwen2TokenizerFast) -> Any:
    """Makes Yes and No the likeliest first words; which of them is left to the pictures and the question.

    One channel of the stream is kept the same for every token of text, and the rows of the two words in the head answer to it.
    """
    table, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and weight is not table and weight is not head:
                weight.mul_(4)
            if "language_model" in name and name.endswith(
                ("o_proj.weight", "down_proj.weight", "out_proj.weight", "w2.weight")
            ):
                weight[0] = 0
        table.mul_(10)
        table[:, 0], head[:, 0] = 1, 0
        for word in ("Yes", "No", "yes", "no"):
            row = head[words.convert_tokens_to_ids(word)]
            row.mul_(16)
            row[0] = 9
    return model


def save(folder: Path, make: Callable[[Qwen2TokenizerFast], Any]) -> Path:
    words = tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(SEEDS[make])
        outspoken(make(words), words).eval().save_pretrained(folder)
    if make is gemma3:
        return _gemma_processor(folder)
    return save_processor(folder, words)


def save_processor(folder: Path, words: Qwen2TokenizerFast) -> Path:
    """Write what prepares words and pictures for Qwen's models; pictures are scaled to 32..128 pixels square."""
    words.save_pretrained(folder)
    pixels = {
        "patch_size": 16,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    size = {"shortest_edge": 32 * 32, "longest_edge": 128 * 128}
    pixels |= {"size": size} if NEW else {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}
    _still("Qwen2VLImageProcessor")(**pixels).save_pretrained(folder)
    # As published: read where torchvision is installed.
    video = pixels | {"video_processor_type": "Qwen3VLVideoProcessor", "processor_class": "Qwen3VLProcessor"}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(video))
    return folder


def _still(name: str) -> Any:
    """A processor of pictures that needs no torchvision."""
    return getattr(transformers, f"{name}Pil" if NEW else name)


def _gemma_processor(folder: Path) -> Path:
    words = tokenizer(extra_special_tokens={"boi_token": MARKS[7], "eoi_token": MARKS[8], "image_token": MARKS[9]})
    words.save_pretrained(folder)
    pixels = _still("Gemma3ImageProcessor")(size={"height": 64, "width": 64}, image_seq_length=4)
    transformers.Gemma3Processor(pixels, words, chat_template=GEMMA_TEMPLATE, image_seq_length=4).save_pretrained(
        folder
    )
    return folder
