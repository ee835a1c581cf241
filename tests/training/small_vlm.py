"""The embedded vision-language model with fewer and narrower layers and random weights, as a folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from clvr_core.stickers.neural import FOLDER


def small_config() -> Any:
    config: Any = Qwen3VLConfig.from_pretrained(FOLDER)
    text, vision = config.text_config, config.vision_config
    text.hidden_size, text.intermediate_size, text.num_hidden_layers = 64, 64, 2
    text.num_attention_heads, text.num_key_value_heads, text.head_dim = 2, 1, 64
    vision.hidden_size, vision.intermediate_size, vision.depth, vision.num_heads = 48, 64, 2, 2
    vision.out_hidden_size, vision.deepstack_visual_indexes = 64, [0]
    text.layer_types = ["full_attention"] * 2
    return config


def save_small(folder: Path, seed: int = 0) -> Path:
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("*.safetensors*"))
    torch.manual_seed(seed)
    Qwen3VLForConditionalGeneration(small_config()).save_pretrained(folder)
    return folder
