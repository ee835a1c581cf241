from __future__ import annotations

from typing import Any

from _missing import missing

__getattr__ = missing(__name__)


class ModelSamplingAuraFlow:
    def patch_aura(self, model: Any, shift: float) -> tuple[Any]:
        return (model.patched(f"AuraFlow {shift:g}"),)
