"""Thin ComfyUI adapters over clvr_core. None has been written yet: ComfyUI reports a pack as failed unless its entry point returns an
extension, so there is one, and its list is empty."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io


class ClvrExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return []
