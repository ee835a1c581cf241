"""Pictures that carry their scene in their bytes, and the eyes that read them: for what is about words and plans, not about pixels."""

from __future__ import annotations

from clvr_core.stickers.simulated import perceive, picture_of

__all__ = ["perceive", "picture_of"]
