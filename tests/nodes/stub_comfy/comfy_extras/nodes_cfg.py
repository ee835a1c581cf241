from __future__ import annotations

from typing import Any

from _missing import missing
from comfy_api.latest import io

__getattr__ = missing(__name__)


class CFGNorm:
    @classmethod
    def execute(cls, model: Any, strength: float) -> io.NodeOutput:
        return io.NodeOutput(model.patched(f"CFGNorm {strength:g}"))
