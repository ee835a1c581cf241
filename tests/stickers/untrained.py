"""The embedded vision-language model with random weights, for what does not depend on what it has learnt."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from clvr_core.stickers.neural import FOLDER


def save_untrained(folder: Path, seed: int = 0) -> Path:
    """Write the embedded folder with random weights in place of its own, and return it."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("*.safetensors*"))
    torch.manual_seed(seed)
    Qwen3VLForConditionalGeneration(Qwen3VLConfig.from_pretrained(FOLDER)).save_pretrained(folder)
    return folder
