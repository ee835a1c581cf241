"""Nodes that go by another id than they once did. Workflows saved with the old one are to open as before."""

from __future__ import annotations

from comfy_api.latest import io

REPLACED: tuple[io.NodeReplace, ...] = ()
"""One for each id that tests/comfy/schemas.json has known and no node has any more. `old_widget_ids`: the old node's widgets in order."""
