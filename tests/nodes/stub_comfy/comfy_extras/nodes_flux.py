from __future__ import annotations

from typing import Any

import torch
from _missing import missing
from comfy_api.latest import io

__getattr__ = missing(__name__)


class Flux2Scheduler:
    @classmethod
    def execute(cls, steps: int, width: int, height: int) -> io.NodeOutput:
        """From 2 to 0, to be told from those of other schedulers."""
        return io.NodeOutput(torch.linspace(2, 0, steps + 1))


class FluxKVCache:
    @classmethod
    def execute(cls, model: Any) -> io.NodeOutput:
        return io.NodeOutput(model.patched("FluxKVCache"))
