"""Tasks for workers in processes of their own, which must find them in a module."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from clvr_core.errors import BadInput
from clvr_core.fleet.engine import Stopped
from clvr_core.models.memory_plan import GPU_SHARE
from clvr_core.models.registry import Models
from clvr_core.stickers import CANVAS
from tests.stickers.oracle import OracleExecutor, load_vlm
from tests.waiting import HUNG, until


@dataclass(frozen=True)
class Squares:
    """Squares numbers. refuse: what `open` raises, "" for nothing."""

    refuse: str = ""

    @contextmanager
    def open(self, stop: threading.Event) -> Iterator:
        if self.refuse:
            raise BadInput(self.refuse)

        def do(piece, tell):
            tell(("begun", os.getpid()))
            if piece < 0:
                raise ValueError(f"{piece} has no place here")
            return piece * piece

        yield do


@dataclass(frozen=True)
class TorchThreads:
    """Each piece is answered with the threads that torch has."""

    @contextmanager
    def open(self, stop: threading.Event) -> Iterator:
        import torch

        yield lambda piece, tell: torch.get_num_threads()


@dataclass(frozen=True)
class Gpus:
    """Each piece, when all workers have one, is answered with the process and what it is given of the GPUs. workers: how
    many there are; folder: where they are counted."""

    folder: Path
    workers: int

    @contextmanager
    def open(self, stop: threading.Event) -> Iterator:
        def do(piece, tell):
            (self.folder / str(os.getpid())).touch()
            until(lambda: len(list(self.folder.iterdir())) >= self.workers, "all workers have a piece")
            return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get(GPU_SHARE)

        yield do


@dataclass(frozen=True)
class Killers:
    """Each piece is a pair: a number, and how many workers it kills before it is done. folder: where they are counted."""

    folder: Path

    @contextmanager
    def open(self, stop: threading.Event) -> Iterator:
        def do(piece, tell):
            number, deaths = piece
            (self.folder / f"{number}-{os.getpid()}").touch()
            if len(list(self.folder.glob(f"{number}-*"))) <= deaths:
                os.kill(os.getpid(), signal.SIGKILL)
            return number

        yield do


@dataclass(frozen=True)
class Endless:
    """Pieces that end only when they are told to. What was left leaves a file in `folder`."""

    folder: Path

    @contextmanager
    def open(self, stop: threading.Event) -> Iterator:
        def do(piece, tell):
            tell("begun")
            if not stop.wait(HUNG):
                raise AssertionError("nobody stopped it")
            (self.folder / str(piece)).touch()
            raise Stopped

        yield do


@dataclass(frozen=True)
class Oracle:
    """A `Source` of models that draw what they are told. killing: a folder in which each drawing leaves a file, and as long as there are no
    more than `times` kills the process that drew; None kills nobody. reads: refuse what the vision-language model cannot read."""

    killing: Path | None = None
    times: int = 0
    reads: bool = False

    def load(self) -> Models:
        vlm = load_vlm()
        models = Models(vlm, OracleExecutor(), CANVAS, CANVAS, vlm.require_readable if self.reads else None)
        return models if self.killing is None else replace(models, executor=_Killing(self.killing, self.times))


class _Killing(OracleExecutor):
    def __init__(self, folder: Path, times: int) -> None:
        super().__init__()
        self.folder, self.times = folder, times

    def draw(self, requests):
        drawn = super().draw(requests)
        (self.folder / f"{os.getpid()}-{len(self.requests)}").touch()
        if len(list(self.folder.iterdir())) <= self.times:
            os.kill(os.getpid(), signal.SIGKILL)
        return drawn
