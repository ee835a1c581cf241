"""A run that is kept in memory only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..brief import Budget
from ..errors import BadInput
from ..protocols import Drawing, Picture
from ..records import to_json
from ..trajectory import Trajectory
from .lines import REWIND, standing
from .store import digest_of


class MemoryFolder:
    """A `RunStore` without files: all its pictures stay in memory, and an ended run has no best picture file and no
    report."""

    where = "the run in memory"

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.texts: Mapping[str, str] = {}
        self._drawings: dict[int, Drawing] = {}
        self._masks: dict[str, Picture] = {}
        self._references: dict[str, Picture] = {}

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

    def save_canvas(self, canvas: int, drawing: Drawing, trajectory: Trajectory, seed: int | None) -> str:
        self._drawings[canvas] = drawing
        return ""

    def picture(self, canvas: int, sha256: str | None = None) -> Picture:
        drawing = self._drawings.get(canvas)
        return self._kept(f"canvas {canvas}", None if drawing is None else drawing.picture, sha256)

    def latent(self, canvas: int, sha256: str) -> np.ndarray:
        drawing = self._drawings.get(canvas)
        return self._kept(f"the latent of canvas {canvas}", None if drawing is None else drawing.latent, sha256)

    def save_mask(self, name: str, mask: Picture) -> None:
        self._masks[name] = mask

    def mask(self, name: str, sha256: str) -> Picture:
        return self._kept(f"the mask {name}", self._masks.get(name), sha256)

    def save_reference(self, name: str, picture: Picture) -> None:
        self._references[name] = picture

    def reference(self, name: str, sha256: str) -> Picture:
        return self._kept(f"the reference {name}", self._references.get(name), sha256)

    def _kept(self, what: str, values: np.ndarray | None, sha256: str | None) -> np.ndarray:
        if values is None or (sha256 is not None and digest_of(values) != sha256):
            found = "is not there" if values is None else "is another than the run had"
            raise BadInput(f"{what} of {self.where} {found}, and the run needs it to go on; start a new run")
        return values

    def finish(self, trajectory: Trajectory, best: Picture | None) -> None:
        pass

    def close(self) -> None:
        pass
