"""ComfyUI's own `nodes`, of which the pack reads the titles."""

from __future__ import annotations

from _missing import missing

__getattr__ = missing(__name__)

NODE_DISPLAY_NAME_MAPPINGS = {"CLIPLoader": "Load CLIP", "UNETLoader": "Load Diffusion Model"}
