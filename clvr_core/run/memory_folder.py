"""A run that is kept in memory only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..brief import Budget
from ..protocols import Drawing, Picture
from ..records import to_json
from ..trajectory import Trajectory
from .lines import REWIND, standing


class MemoryFolder:
    """A `RunStore` without files: all its pictures stay in memory, and an ended run has no best picture file and no
    report."""

    where = "the run in memory"

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.texts: Mapping[str, str] = {}
        self._drawings: dict[int, Drawing] = {}
        self._masks: dict[str, Picture] = {}

    def append(self, line: dict[str, Any]) -> None:
        self.lines.append(line)

    def sync(self) -> None:
        pass

    def rewind(self, keep: int, budget: Budget) -> None:
        self.lines, gone = standing([*self.lines, {"event": REWIND, "keep": keep, "budget": to_json(budget)}])
        for canvas in gone:
            self._drawings.pop(canvas, None)

    def file_of(self, canvas: int) -> str:
        return ""

    def save_canvas(self, canvas: int, drawing: Drawing, trajectory: Trajectory) -> str:
        self._drawings[canvas] = drawing
        return ""

    def picture(self, canvas: int, sha256: str | None = None) -> Picture:
        return self._drawings[canvas].picture

    def latent(self, canvas: int, sha256: str) -> np.ndarray:
        latent = self._drawings[canvas].latent
        if latent is None:
            raise KeyError(canvas)
        return latent

    def save_mask(self, name: str, mask: Picture) -> None:
        self._masks[name] = mask

    def mask(self, name: str, sha256: str) -> Picture:
        return self._masks[name]

    def finish(self, trajectory: Trajectory, best: Picture | None) -> None:
        pass

    def close(self) -> None:
        pass
