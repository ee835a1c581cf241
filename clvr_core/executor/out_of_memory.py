"""Drawing on a device that is too small for the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..errors import BadInput
from ..protocols import Drawing, DrawRequest


def draw_in_halves(
    pipe: Any, requests: Sequence[DrawRequest], draw: Callable[[Sequence[DrawRequest]], list[Drawing]]
) -> list[Drawing]:
    """Call `draw` with all requests; if the device runs out of memory, with halves of them, down to single requests.

    pipe: the pipeline that draws; parts that diffusers moved to the device are offloaded after any error.
    Raises BadInput if the device is too small for one picture.
    """
    try:
        return draw(requests)
    except BaseException as error:
        offload(pipe)
        if not isinstance(error, torch.OutOfMemoryError):
            raise
    # Outside the block above: its error holds a reference to everything that was computed.
    give_back(getattr(pipe, "_execution_device", "cpu"))
    if len(requests) == 1:
        raise BadInput(_full(requests[0]))
    half = -(-len(requests) // 2)
    return [*draw_in_halves(pipe, requests[:half], draw), *draw_in_halves(pipe, requests[half:], draw)]


def offload(pipe: Any) -> None:
    """Move the parts that diffusers brought to the device back to the CPU. diffusers does so itself only after a call
    that succeeds.
    """
    if hasattr(pipe, "maybe_free_model_hooks"):
        pipe.maybe_free_model_hooks()


def fits(move: Callable[[str], object], device: str) -> bool:
    """Move a model to the device and return True; if the device is too small, move it back to the CPU
    and return False.
    """
    try:
        move(device)
        return True
    except torch.OutOfMemoryError:
        pass
    move("cpu")
    give_back(device)
    return False


def give_back(device: str | torch.device) -> None:
    """Free the memory that torch keeps cached on the device."""
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
