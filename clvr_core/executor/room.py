"""What to do where a device is too small, said in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from ..errors import BadInput
from ..protocols import DrawRequest


@contextmanager
def room_for(requests: Sequence[DrawRequest]) -> Iterator[None]:
    """Raises BadInput if the device runs out of memory within."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        first, what = requests[0], f"{len(requests)} pictures" if len(requests) > 1 else "a picture"
        raise BadInput(
            f"the device ran out of memory drawing {what} of {first.width} x {first.height}; choose fewer candidates, a smaller canvas, or "
            'memory = "offloaded" in clvr.toml, then go on with the run'
        ) from error
