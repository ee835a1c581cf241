from __future__ import annotations

from typing import Any

from _missing import missing

__getattr__ = missing(__name__)


class ProgressBar:
    """`shown`: each (value, total, preview) of all bars, the newest last."""

    shown: list[tuple[int, int, Any]] = []  # noqa: RUF012 - shared by all bars on purpose

    def __init__(self, total: int) -> None:
        self.total = total

    def update_absolute(self, value: int, total: int | None = None, preview: Any = None) -> None:
        self.total = total or self.total
        self.shown.append((value, self.total, preview))
