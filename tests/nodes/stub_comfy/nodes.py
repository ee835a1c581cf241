"""ComfyUI's own `nodes`, of which the pack reads the titles and takes classes by their names."""

from __future__ import annotations

from _missing import missing
from comfy_extras.nodes_flux import FluxKVCache
from comfy_extras.nodes_qwen import TextEncodeQwenImageEditPlus

__getattr__ = missing(__name__)

NODE_DISPLAY_NAME_MAPPINGS = {"CLIPLoader": "Load CLIP", "UNETLoader": "Load Diffusion Model"}
NODE_CLASS_MAPPINGS = {"FluxKVCache": FluxKVCache, "TextEncodeQwenImageEditPlus": TextEncodeQwenImageEditPlus}


class CLIPLoader:
    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {"required": {"clip_name": ([],), "type": (["stable_diffusion", "lumina2", "qwen_image", "flux2"],)}}
