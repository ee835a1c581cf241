"""Workers in processes of this machine."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection, get_context
from typing import Any

from ..models.memory_plan import GPU_SHARE
from .crew import Crew, Done, Piece, Task
from .pool import Dead, Link, Pool
from .worker import Report, Worker

DEVICES = "CUDA_VISIBLE_DEVICES"
PATIENCE = 30.0
"""Seconds that a process has to leave its work in before it is killed."""


class Processes:
    """An `Engine` of processes.

    workers: processes, at least 1.
    concurrency: pieces in all at the same time.
    gpus: of this machine that one process gets, as a share or a number; 0 leaves it all of them.
    """

    def __init__(self, workers: int, concurrency: int, gpus: float = 0.0) -> None:
        self.workers, self.each, self.gpus = workers, max(1, -(-concurrency // workers)), gpus

    @contextmanager
    def crew(self, task: Task[Piece, Done]) -> Iterator[Crew[Piece, Done]]:
        pool = Pool(_Processes(task, self.each, self.gpus), self.workers, self.each)
        try:
            yield pool
        finally:
            pool.close()


def devices_of(number: int, gpus: float, given: str | None) -> str | None:
    """Return what CUDA_VISIBLE_DEVICES is for the worker of this number, from 0; None to leave it as it is.

    gpus: for each worker, a share of one or a whole number.
    given: the variable as it is for this process; None if it is not set.
    """
    if gpus <= 0:
        return None
    count = max(1, round(gpus))
    first = number // on_one(gpus) if gpus < 1 else number * count
    listed = given.split(",") if given else None
    wanted = range(first, first + count)
    return ",".join(listed[each % len(listed)] if listed else str(each) for each in wanted)


def on_one(gpus: float) -> int:
    """Return how many workers with this share of a GPU, more than 0 and at most 1, one GPU holds."""
    return int(1 / gpus + 1e-9)


def share_of(gpus: float) -> dict[str, str]:
    """Return the variables by which a worker's models plan with its share of a GPU alone."""
    return {GPU_SHARE: f"{gpus:g}"} if 0 < gpus < 1 else {}


class _Processes:
    def __init__(self, task: Any, threads: int, gpus: float) -> None:
        self.task, self.threads, self.gpus = task, threads, gpus
        self.context = get_context("spawn")
        self.used: dict[int, _Process] = {}

    def start(self) -> Link:
        number = next(n for n in range(len(self.used) + 1) if n not in self.used or self.used[n].gone)
        mine, theirs = self.context.Pipe()
        devices = devices_of(number, self.gpus, os.environ.get(DEVICES))
        set_there = share_of(self.gpus) | ({} if devices is None else {DEVICES: devices})
        process = self.context.Process(
            target=_serve, args=(theirs, self.task, self.threads, set_there), name=f"clvr-worker-{number}", daemon=False
        )
        process.start()
        theirs.close()
        self.used[number] = _Process(process, mine)
        return self.used[number]

    def wait(self, links: list[Link], seconds: float) -> None:
        connection.wait([link.pipe for link in links if isinstance(link, _Process)], seconds)


class _Process:
    def __init__(self, process: Any, pipe: connection.Connection) -> None:
        self.process, self.pipe, self.gone = process, pipe, False

    def begin(self, number: int, piece: Any) -> None:
        with suppress(OSError):
            self.pipe.send((number, piece))

    def reports(self) -> list[Report]:
        found: list[Report] = []
        try:
            while self.pipe.poll():
                found.append(self.pipe.recv())
        except (EOFError, OSError):
            if not found:
                self.kill()
                raise Dead(_how(self.process.exitcode)) from None
        return found

    def stop(self) -> None:
        with suppress(OSError):
            self.pipe.send(None)

    def kill(self) -> None:
        if self.gone:
            return
        self.stop()
        self.pipe.close()
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.gone = True


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"ended by {signal.Signals(-code).name}"
    return f"exit code {code}"


def _serve(pipe: connection.Connection, task: Any, threads: int, variables: dict[str, str]) -> None:
    """Work until the other end of the pipe says so or is gone."""
    os.environ.update(variables)  # before anything of CUDA is loaded
    # Ctrl-C reaches every process of a terminal; the first one tells the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    turn = threading.Lock()

    def send(report: Report) -> None:
        with turn, suppress(OSError):  # nobody is there any more, and the loop below ends
            pipe.send(report)

    worker = Worker(task, threads, send)
    with suppress(EOFError, OSError):
        while (message := pipe.recv()) is not None:
            worker.begin(*message)
    worker.stop.set()
    worker.close()
    pipe.close()
    sys.stdout.flush()
