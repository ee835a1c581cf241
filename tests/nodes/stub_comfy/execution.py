from __future__ import annotations

from _missing import missing

__getattr__ = missing(__name__)


class PromptQueue:
    """`running`: items (number, prompt id, prompt, extra data, ...)."""

    def __init__(self) -> None:
        self.running: list[tuple] = []

    def get_current_queue_volatile(self) -> tuple[list, list]:
        return self.running, []
