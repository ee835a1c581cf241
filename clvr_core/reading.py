"""Reads what others wrote within bounds: in time that grows with its size at most, and in memory that a small file
cannot make large.
"""

from __future__ import annotations

import json
from typing import Any

MAX_VALUES = 1_500_000
"""Values of one JSON text. Each takes up to 160 bytes in memory, and as little as two characters of text."""
MAX_DEPTH = 100
"""Lists and objects of one JSON text inside each other. Whatever walks the values later recurses as deep."""


def json_of(text: str | bytes, **hooks: Any) -> Any:
    """Parse JSON. hooks: passed on to `json.loads`.

    Raises ValueError for what is no JSON, for more than MAX_VALUES values, and for more than MAX_DEPTH levels.
    """
    comma, bracket, brace = (",", "[", "{") if isinstance(text, str) else (b",", b"[", b"{")
    nested = text.count(bracket) + text.count(brace)  # pyright: ignore[reportArgumentType]  # both str, or both bytes
    if nested + text.count(comma) > MAX_VALUES:  # pyright: ignore[reportArgumentType]
        raise ValueError(f"it holds more than {MAX_VALUES:,} values")
    try:
        value = json.loads(text, **hooks)
    except RecursionError:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep") from None
    if nested > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
    return value


def _depth(value: Any) -> int:
    """Return how many lists and objects lie inside each other, counted up to one more than MAX_DEPTH."""
    depth, level = 0, [value]
    while depth <= MAX_DEPTH and (level := [item for item in level if isinstance(item, (dict, list))]):
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth
