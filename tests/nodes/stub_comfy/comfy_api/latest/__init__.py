from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from _missing import missing

from . import io, ui

__all__ = ["ComfyAPI", "ComfyExtension", "io", "ui"]
__getattr__ = missing(__name__)

replaced: list[Any] = []
"""What was registered as a replacement of a node."""


async def _register(node: Any) -> None:
    replaced.append(node)


class ComfyAPI:
    node_replacement = SimpleNamespace(register=_register)


class ComfyExtension:
    pass
