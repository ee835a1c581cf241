"""What a session needs of the place where its run is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from ..brief import Budget
from ..protocols import Drawing, Picture
from ..trajectory import Trajectory


def digest_of(values: Picture | np.ndarray) -> str:
    """SHA-256 of the values in row order, as 64 hexadecimal digits."""
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()


class RunStore(Protocol):
    """Keeps the journal, the pictures, the latents and the masks of one run: `RunFolder` on disk, `MemoryFolder` in
    memory.

    lines: the journal's lines that no rewind took back, oldest first.
    texts: further texts that each picture saved from now on carries, by key.
    """

    lines: list[dict[str, Any]]
    texts: Mapping[str, str]

    @property
    def where(self) -> str:
        """The place, for sentences to the artist."""
        ...

    def append(self, line: dict[str, Any]) -> None:
        """Add a line to the journal; `sync` makes it durable."""
        ...

    def sync(self) -> None:
        """Return once every line is durable."""
        ...

    def rewind(self, keep: int, budget: Budget) -> None:
        """Keep the first `keep` lines, drop the others with the pictures that only they name, and give the run this
        budget."""
        ...

    def file_of(self, canvas: int) -> str:
        """Name of the canvas's file; "" if it has none."""
        ...

    def save_canvas(self, canvas: int, drawing: Drawing, trajectory: Trajectory, seed: int | None) -> str:
        """Save picture and latent, the picture with the run so far in its metadata, and return the file's name ("" if
        it has none).

        seed: of the picture, for its `parameters`; None for a picture that the run was given.
        """
        ...

    def picture(self, canvas: int, sha256: str | None = None) -> Picture:
        """Read a picture. Raises BadInput if it is missing or damaged, or if its digest is not `sha256`."""
        ...

    def latent(self, canvas: int, sha256: str) -> np.ndarray:
        """Read a latent. Raises BadInput if it is missing or damaged, or if its digest is not `sha256`."""
        ...

    def save_mask(self, name: str, mask: Picture) -> None:
        """Save a mask, uint8 H x W; durable when this returns, since a journal line will name it."""
        ...

    def mask(self, name: str, sha256: str) -> Picture:
        """Read a mask, uint8 H x W. Raises BadInput if it is missing, or if its digest is not `sha256`."""
        ...

    def save_reference(self, name: str, picture: Picture) -> None:
        """Save a reference of the brief, uint8 H x W x 3; durable when this returns, since a journal line will name
        it."""
        ...

    def reference(self, name: str, sha256: str) -> Picture:
        """Read a reference. Raises BadInput if it is missing, or if its digest is not `sha256`."""
        ...

    def finish(self, trajectory: Trajectory, best: Picture | None) -> None:
        """Save the results of an ended run. `best`: its best picture, None if it drew none."""
        ...

    def close(self) -> None:
        """Let others write to the place. Writing again is possible as long as nobody has."""
        ...
