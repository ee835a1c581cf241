"""Types of CLVR's own links, and the values that travel along them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from comfy_api.latest import io

from ...clvr_core.protocols import Executor
from ...clvr_core.trajectory import Trajectory

if TYPE_CHECKING:
    from ...clvr_core.evaluation.benchmarks.base import Benchmark, Item

VLM = io.Custom("CLVR_VLM")
EXECUTOR = io.Custom("CLVR_EXECUTOR")
TRAJECTORY = io.Custom("CLVR_TRAJECTORY")
BENCH_ITEM = io.Custom("CLVR_BENCH_ITEM")


@runtime_checkable
class ExecutorLike(Protocol):
    """What a value of an EXECUTOR link must have; another pack may make one by a class of its own. See ExecutorHandle."""

    executor: Executor
    width: int
    height: int
    check: Callable[[str], object]


@dataclass(frozen=True)
class ExecutorHandle:
    """Value of an EXECUTOR link, as the nodes of this pack make it.

    executor: draws and edits.
    width, height: size of its canvas, in pixels.
    check: called with a prompt, raises BadInput if the executor cannot read it.
    weights: digest of its weights and settings, part of the run's key.
    step: other sizes it can draw have sides that are multiples of this; 0 if it draws only its own size.
    """

    executor: Executor
    width: int
    height: int
    check: Callable[[str], object]
    weights: str = ""
    step: int = 0


@dataclass(frozen=True)
class Run:
    """Value of a TRAJECTORY link: a run up to a line of its journal.

    trajectory: the run after the first `position` lines.
    folder: the run's folder, with journal and pictures.
    position: number of journal lines.
    executor: the executor of the run, so that each node between Loop Start and Loop End knows its cost and limits.
    """

    trajectory: Trajectory
    folder: Path
    position: int
    executor: Executor | None = None


@dataclass(frozen=True)
class BenchTask:
    """Value of a BENCH_ITEM link: one picture of a benchmark.

    bench: the benchmark.
    data: folder with the benchmark's own files.
    items: all items, from which the score is computed.
    item: the item that the picture is for.
    k: number of the picture, from 0.
    """

    bench: Benchmark
    data: Path
    items: tuple[Item, ...]
    item: Item
    k: int
