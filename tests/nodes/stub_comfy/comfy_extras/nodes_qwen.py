from __future__ import annotations

from typing import Any

from _missing import missing
from comfy_api.latest import io

__getattr__ = missing(__name__)


class TextEncodeQwenImageEditPlus:
    @classmethod
    def execute(cls, clip: Any, prompt: str, vae: Any, **images: Any) -> io.NodeOutput:
        return io.NodeOutput(
            [[f"qwen: {prompt}", {"reference_latents": [vae.encode(images[name]) for name in images]}]]
        )
