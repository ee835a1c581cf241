"""What to do where a device is too small for a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..errors import BadInput
from ..protocols import Drawing, DrawRequest


def drawn(
    pipe: Any, requests: Sequence[DrawRequest], draw: Callable[[Sequence[DrawRequest]], list[Drawing]]
) -> list[Drawing]:
    """As `draw` draws them in one batch, or where the device runs out of memory in halves of it, down to one by one. pipe: the one whose
    parts diffusers brings to the device. Raises BadInput if the device is too small for one."""
    try:
        return draw(requests)
    except BaseException as error:
        offload(pipe)
        if not isinstance(error, torch.OutOfMemoryError):
            raise
    # Out of the block above, with whose error goes all that was computed.
    give_back(getattr(pipe, "_execution_device", "cpu"))
    if len(requests) == 1:
        raise BadInput(_full(requests[0]))
    half = -(-len(requests) // 2)
    return [*drawn(pipe, requests[:half], draw), *drawn(pipe, requests[half:], draw)]


def offload(pipe: Any) -> None:
    """Takes back to the CPU the parts that diffusers has brought to the device one by one, as it does only after a call that succeeds."""
    if hasattr(pipe, "maybe_free_model_hooks"):
        pipe.maybe_free_model_hooks()


def fits(move: Callable[[str], object], device: str) -> bool:
    """Whether the model could be moved to the device; else all of it is on the CPU again."""
    try:
        move(device)
        return True
    except torch.OutOfMemoryError:
        pass
    move("cpu")
    give_back(device)
    return False


def give_back(device: str | torch.device) -> None:
    """Frees what torch holds there for later, which something else may need now."""
    kind = torch.device(device).type
    if kind in ("cuda", "xpu", "mps"):
        getattr(torch, kind).empty_cache()


def _full(request: DrawRequest) -> str:
    shown = len(request.references)
    beside = f" from {shown} {'pictures' if shown > 1 else 'picture'}" if shown else ""
    return (
        f"the device ran out of memory drawing one picture of {request.width} x {request.height}{beside}; close what else uses the device, "
        'or name the same models in a clvr.toml with memory = "streamed", then go on with the run; or begin one with a smaller canvas or '
        "smaller models"
    )
