from __future__ import annotations

from typing import Any

from _missing import missing

__getattr__ = missing(__name__)


class PreviewImage:
    """Saves nothing."""

    def __init__(self, image: Any, cls: Any = None) -> None:
        self.image = image

    def as_dict(self) -> dict[str, Any]:
        return {"images": []}
