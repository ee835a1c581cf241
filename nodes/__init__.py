"""Thin ComfyUI adapters over clvr_core: a node is its schema and a few lines."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .generate import Generate
from .shapes import ShapesModels


class ClvrExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [ShapesModels, Generate]
