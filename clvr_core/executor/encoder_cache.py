"""A bounded cache of what an encoder computed: text embeddings, reference latents."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import torch

from ..protocols import Picture


def digest(picture: Picture) -> str:
    """Return a key for the size and the pixels of a picture."""
    return f"{picture.shape} {hashlib.sha256(np.ascontiguousarray(picture).data).hexdigest()}"


class EncoderCache:
    """Rows of tensors by key. limit: bytes; beyond it the least recently used rows are dropped, but the
    last one stays.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._rows: OrderedDict[Hashable, torch.Tensor] = OrderedDict()

    def rows(self, items: Sequence[tuple[Hashable, Any]], encode: Callable[[list[Any]], torch.Tensor]) -> torch.Tensor:
        """Return one row for each (key, value), in order, stacked along the first axis.

        `encode` is called at most once, with the values whose keys are not cached; it returns one row for each of them.
        """
        found = {key: self._rows[key] for key, _ in items if key in self._rows}
        fresh = {key: value for key, value in items if key not in found}
        if fresh:
            encoded = encode(list(fresh.values()))
            # Copies, since a slice would keep the whole batch alive.
            found |= {key: encoded[index : index + 1].clone() for index, key in enumerate(fresh)}
        for key in dict.fromkeys(key for key, _ in items):
            self._rows[key] = found[key]
            self._rows.move_to_end(key)
        while len(self._rows) > 1 and sum(row.nbytes for row in self._rows.values()) > self.limit:
            self._rows.popitem(last=False)
        return torch.cat([found[key] for key, _ in items])

    def forget(self) -> None:
        self._rows.clear()
