"""A vision-language model in a folder, as training takes it: loaded with gradients, all weights or a LoRA, and written as a
folder again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..storage.atomic import write_bytes, writing
from ..vlm.local import Local, load_local
from ..weights.manifest import write_manifest
from .adapter import Lora
from .stage import RECORD
from .vlm_rollouts import SamplingVlm

TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""The linear layers of the text part."""
WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.pt")


def load_trainable(settings: Local, lora: Lora) -> tuple[SamplingVlm, Any]:
    """Load a model to be trained, with all weights or, by a rank above 0, a LoRA of its text part. Returns it, and
    peft's model around it, None without a LoRA.

    Raises BadInput for a folder that holds no weights or cannot be loaded.
    """
    if not any(Path(settings.folder).glob("*.safetensors")):
        raise BadInput(
            f"there are no weights in {settings.folder}; name a model's folder with --start (those of the sticker world are "
            "made by `clvr train stickers vlm`)"
        )
    loaded = load_local(settings)
    model, around = loaded.model, None
    if lora.rank:
        from peft import LoraConfig, get_peft_model

        around = get_peft_model(model, LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=TARGETS))
        for parameter in (each for each in model.parameters() if each.requires_grad):
            parameter.data = parameter.data.float()  # a step is lost in the rounding of bfloat16
    else:
        model.requires_grad_(True)
    return SamplingVlm(model, loaded.processor, settings), around


def save_tuned(out: Path, start: Path, model: Any, around: Any, record: Mapping[str, Any]) -> Path:
    """Write `out/weights`, a folder like the one that training began from, whole or not at all; of a LoRA also
    `out/lora`, in peft's layout. Returns the former."""
    folder, fresh = out / "weights", out / "weights-new"
    shutil.rmtree(fresh, ignore_errors=True)
    with writing(out):
        if around is not None:
            around.save_pretrained(out / "lora")
            model = around.merge_and_unload()
        shutil.copytree(start, fresh, ignore=shutil.ignore_patterns(*WEIGHTS, "training", "curve.jsonl", "run.json"))
        model.save_pretrained(fresh)
        write_bytes(fresh / RECORD, json.dumps(record, indent=1).encode())
        write_manifest(fresh)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    return folder
