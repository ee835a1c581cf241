"""What an encoder made, remembered within bounds."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import torch

from ..protocols import Picture


def digest(picture: Picture) -> str:
    """A key for the pixels of a picture."""
    return f"{picture.shape} {hashlib.sha256(np.ascontiguousarray(picture)).hexdigest()}"


class Memo:
    """Rows of tensors by key, the most recently used ones up to so many bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held: OrderedDict[Hashable, torch.Tensor] = OrderedDict()

    def rows(self, items: Sequence[tuple[Hashable, Any]], encode: Callable[[list[Any]], torch.Tensor]) -> torch.Tensor:
        """A row for each (key, value), in order. `encode` is called once, with the values of the keys that are not remembered."""
        found = {key: self._held[key] for key, _ in items if key in self._held}
        fresh = {key: value for key, value in items if key not in found}
        if fresh:
            made = encode(list(fresh.values()))
            # Copies, since a slice would keep the whole batch alive.
            found |= {key: made[index : index + 1].clone() for index, key in enumerate(fresh)}
        for key in dict.fromkeys(key for key, _ in items):
            self._held[key] = found[key]
            self._held.move_to_end(key)
        while len(self._held) > 1 and sum(row.nbytes for row in self._held.values()) > self.limit:
            self._held.popitem(last=False)
        return torch.cat([found[key] for key, _ in items])

    def forget(self) -> None:
        self._held.clear()
