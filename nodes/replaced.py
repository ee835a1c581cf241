"""Nodes whose id has changed. Workflows saved with the old id open with the new one."""

from __future__ import annotations

from comfy_api.latest import io

REPLACED: tuple[io.NodeReplace, ...] = ()
"""One for each id that tests/comfy/schemas.json marks as gone. `old_widget_ids`: the widgets of the old node, in
order.
"""
