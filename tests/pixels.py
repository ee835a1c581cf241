"""How far apart two pictures may be that are promised to be the same, but not to the bit: docs/models.md, "What is the same to the bit"."""

from __future__ import annotations

import numpy as np

from clvr_core.protocols import Picture

CLOSE = 1
"""Of 255. The place of a tensor in memory, the batch it is in and the CPU decide which kernel sums it, and so its last bits."""


def apart(one: Picture, other: Picture) -> int:
    """The largest difference of a value."""
    return int(abs(one.astype(int) - other.astype(int)).max())


def close(one: Picture, other: Picture) -> bool:
    return one.shape == other.shape and apart(one, np.asarray(other)) <= CLOSE
