"""The smallest vision-language models of transformers' own classes, with random weights, as folders like those on the hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import Qwen2Tokenizer, Qwen3_5Config, Qwen3_5ForConditionalGeneration, Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

MARKS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
TEMPLATE = (
    "{%- for message in messages -%}{{ '<|im_start|>' + message.role + '\n' }}"
    "{%- if message.content is string -%}{{ message.content }}{%- else -%}{%- for part in message.content -%}"
    "{{ '<|vision_start|><|image_pad|><|vision_end|>' if part.type == 'image' else part.text }}"
    "{%- endfor -%}{%- endif -%}{{ '<|im_end|>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)
"""As Qwen3-VL's in all that matters here."""
HIDDEN = 64


def tokenizer() -> Qwen2Tokenizer:
    """A token for each byte, so that any text can be written, and those for Yes and No."""
    vocabulary = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = []
    for whole in ("Yes", "No", "yes", "no", '{"', '":', "red"):
        for end in range(2, len(whole) + 1):
            merges.append((whole[: end - 1], whole[end - 1]))
            vocabulary[whole[:end]] = len(vocabulary)
    made = Qwen2Tokenizer(
        vocab=vocabulary, merges=merges, additional_special_tokens=MARKS, eos_token="<|im_end|>", pad_token="<|endoftext|>"
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


def _text(words: Qwen2Tokenizer, **more: Any) -> dict[str, Any]:
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


def _marks(words: Qwen2Tokenizer) -> dict[str, int]:
    names = {"image_token_id": 5, "video_token_id": 6, "vision_start_token_id": 3, "vision_end_token_id": 4}
    return {name: words.convert_tokens_to_ids(MARKS[index]) for name, index in names.items()}


def qwen3_vl(words: Qwen2Tokenizer) -> Qwen3VLForConditionalGeneration:
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    config = Qwen3VLConfig(
        text_config=_text(words, rope_parameters=rope),
        vision_config=_vision(deepstack_visual_indexes=[0, 1]),
        **_marks(words),
        tie_word_embeddings=False,
    )
    return Qwen3VLForConditionalGeneration(config)


def qwen3_5(words: Qwen2Tokenizer) -> Qwen3_5ForConditionalGeneration:
    """Three of its four layers keep a state in place of keys and values, which cannot be cut back."""
    rope = {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 0.5, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    linear = {"linear_key_head_dim": 16, "linear_value_head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4}
    kinds = ["linear_attention"] * 3 + ["full_attention"]
    config = Qwen3_5Config(
        text_config=_text(words, rope_parameters=rope, layer_types=kinds, **linear),
        vision_config=_vision(),
        **_marks(words),
        tie_word_embeddings=False,
    )
    return Qwen3_5ForConditionalGeneration(config)


def outspoken(model: Any, words: Qwen2Tokenizer) -> Any:
    """Makes Yes and No the likeliest first words; which of them is left to the pictures and the question.

    One channel of the stream is kept the same for every token of text, and the rows of the two words in the head answer to it.
    """
    table, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and weight is not table and weight is not head:
                weight.mul_(4)
            if "language_model" in name and name.endswith(("o_proj.weight", "down_proj.weight", "out_proj.weight")):
                weight[0] = 0
        table.mul_(10)
        table[:, 0], head[:, 0] = 1, 0
        for word in ("Yes", "No", "yes", "no"):
            row = head[words.convert_tokens_to_ids(word)]
            row.mul_(16)
            row[0] = 3
    return model


def save(folder: Path, make: Callable[[Qwen2Tokenizer], Any]) -> Path:
    words = tokenizer()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        outspoken(make(words), words).eval().save_pretrained(folder)
    words.save_pretrained(folder)
    pixels = {"patch_size": 16, "merge_size": 2, "temporal_patch_size": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    pixels["size"] = {"shortest_edge": 32 * 32, "longest_edge": 128 * 128}
    Qwen2VLImageProcessorPil(**pixels).save_pretrained(folder)
    # As published: read where torchvision is installed.
    video = pixels | {"video_processor_type": "Qwen3VLVideoProcessor", "processor_class": "Qwen3VLProcessor"}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(video))
    return folder
