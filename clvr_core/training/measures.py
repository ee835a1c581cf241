"""What a run of reinforcement learning measures, a line for each time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from accelerate import Accelerator

from ..storage.atomic import writing
from .fit import trim

MEASURES = "measures.jsonl"


class Measures:
    """Writes measures.jsonl, and TensorBoard's files if it is installed. Only the first of several processes writes."""

    def __init__(self, out: Path, accelerator: Accelerator) -> None:
        self.path, self.main = out / MEASURES, accelerator.is_main_process
        self.board: Callable | None = None
        if self.main:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return
            self.board = SummaryWriter(str(out / "tensorboard")).add_scalar

    def resume(self, step: int) -> None:
        """Remove the measures at and after the step that is continued; they are made again."""
        if self.main:
            trim(self.path, step - 1)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        if not self.main or not values:
            return
        with writing(self.path.parent), self.path.open("a") as file:
            file.write(json.dumps({"step": step, **{name: round(value, 5) for name, value in values.items()}}) + "\n")
        if self.board:
            for name, value in values.items():
                self.board(name, value, step)
