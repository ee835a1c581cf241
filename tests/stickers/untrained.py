"""The embedded vision-language model with random weights, for what does not depend on what it has learnt."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from clvr_core.stickers.neural import FOLDER


def save_untrained(folder: Path, seed: int = 0, small: bool = False) -> Path:
    """Write the embedded folder with random weights in place of its own, and return it. small: narrow, and two layers of each
    part."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("*.safetensors*"))
    config = Qwen3VLConfig.from_pretrained(FOLDER)
    if small:
        text, vision = config.text_config, config.vision_config
        text.hidden_size = vision.out_hidden_size = text.intermediate_size = vision.intermediate_size = 64
        text.num_hidden_layers = vision.depth = vision.num_heads = 2
        vision.hidden_size, vision.deepstack_visual_indexes = 48, [0]
    torch.manual_seed(seed)
    Qwen3VLForConditionalGeneration(config).save_pretrained(folder)
    return folder
