"""What travels along CLVR's own links."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from comfy_api.latest import io

from ...clvr_core.protocols import Executor
from ...clvr_core.trajectory import Trajectory

VLM = io.Custom("CLVR_VLM")
EXECUTOR = io.Custom("CLVR_EXECUTOR")
TRAJECTORY = io.Custom("CLVR_TRAJECTORY")
BENCH_ITEM = io.Custom("CLVR_BENCH_ITEM")


@dataclass(frozen=True)
class ExecutorHandle:
    """An executor with the size of canvas, in pixels, that it draws. `check` raises BadInput for a brief it cannot read. `weights`: what
    tells them from others of the same name. `step`: the canvas may have any sides that are multiples of it, 0 if it has this size only."""

    executor: Executor
    width: int
    height: int
    check: Callable[[str], object]
    weights: str = ""
    step: int = 0


@dataclass(frozen=True)
class Run:
    """A run as far as the first `position` lines of its journal tell it, and the folder with its pictures.

    `executor`: what it is drawn by, where the nodes between Loop Start and Loop End say what is done.
    """

    trajectory: Trajectory
    folder: Path
    position: int
    executor: Executor | None = None
