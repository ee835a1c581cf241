"""The embedded weights as choices in lists of model files, beside those in ComfyUI's model folders."""

from __future__ import annotations

from pathlib import Path

from ...clvr_core.world import ALIGNED, KINDS, world_named

BASE, DISTILLED, MERGED = "stickers base (embedded)", "stickers distilled (embedded)", "stickers merged (embedded)"
LORA = "stickers aligned LoRA (embedded)"
TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"
STICKERS = {
    "diffusion_models": {
        BASE: f"{KINDS['-base']}/{TRANSFORMER}",
        DISTILLED: f"{KINDS['-distilled']}/{TRANSFORMER}",
        MERGED: f"{KINDS['']}/{TRANSFORMER}",
    },
    "loras": {LORA: ALIGNED},
}
"""ComfyUI's kind of model folder -> choice -> file, in the folder of the embedded world."""


def sticker_file(kind: str, name: str) -> Path | None:
    """Return the file of a choice of STICKERS; None for any other name, such as that of a file of ComfyUI's."""
    inside = STICKERS.get(kind, {}).get(name)
    return world_named().folder / inside if inside else None
