from __future__ import annotations

from typing import Any

from _missing import missing

__getattr__ = missing(__name__)


def conditioning_set_values(conditioning: list, values: dict[str, Any], append: bool = False) -> list:
    made = []
    for tensor, options in conditioning:
        changed = {key: options[key] + value if append and key in options else value for key, value in values.items()}
        made.append([tensor, {**options, **changed}])
    return made
