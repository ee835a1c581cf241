"""Pictures that carry their scene in their bytes, and the eyes that read them: for what is about words and plans, not about pixels."""

from __future__ import annotations

from benchmarks.sticker_planning import UNCLEAR, perceive, picture_of

__all__ = ["UNCLEAR", "perceive", "picture_of"]
