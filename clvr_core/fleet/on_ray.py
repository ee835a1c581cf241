"""Workers as actors of a Ray cluster."""

from __future__ import annotations

import importlib.util
import os
import queue
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray  # pyright: ignore[reportMissingImports]
from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]

from ..errors import BadInput
from .crew import Crew, Done, Piece, Task
from .pool import Dead, Link, Pool
from .processes import on_one, share_of
from .worker import Report, Worker

PASSED = ("HF_HUB_OFFLINE", "TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY", "CLVR_MODELS", "CLVR_CACHE")
"""Variables that workers get from here. Keys of servers are not among them: a cluster shows what it is given, so they must be set
on its nodes."""

THREADS = "OMP_NUM_THREADS"
REACHED = 10.0
"""Seconds in which the head of a cluster has to be reached."""


class Ray:
    """An `Engine` of a cluster.

    address: of its head, HOST:PORT; None for RAY_ADDRESS, or else a cluster of this machine that ends with this process.
    workers: actors; None for one for each share of a GPU, or with `gpus` 0 for each node.
    concurrency: pieces in all at the same time.
    gpus: of one worker, a share of one or a whole number.

    Raises BadInput if there is no cluster at the address, or one with another version of Ray or Python.
    """

    def __init__(self, address: str | None, workers: int | None, concurrency: int, gpus: float = 0.0) -> None:
        connect(address)
        self.workers = workers or _usual_workers(gpus)
        self.each, self.gpus = max(1, -(-concurrency // self.workers)), gpus

    @contextmanager
    def crew(self, task: Task[Piece, Done]) -> Iterator[Crew[Piece, Done]]:
        pool = Pool(_Actors(task, self.each, self.gpus), self.workers, self.each)
        try:
            yield pool
        finally:
            pool.close()


def connect(address: str | None) -> None:
    """Connect this process to the cluster, unless it is connected."""
    if ray.is_initialized():
        return
    if address and address.startswith("ray://"):
        raise BadInput(
            f"--address {address} is of Ray's client, which lets no work flow back; run the command on a node of the cluster, or "
            "by `ray job submit`, and leave --address out"
        )
    given = address or os.environ.get("RAY_ADDRESS", "")
    place = given or "of its own"
    if given and given not in ("auto", "local"):
        _require_reachable(given)
    try:
        ray.init(address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError, OSError, RayError) as error:
        why = " ".join(str(error).split())
        hint = "install the same Ray and Python here" if "ersion" in why else "start one there with `ray start --head`"
        raise BadInput(f"the Ray cluster {place} cannot be used: {why[:400]}; {hint}") from error


def _require_reachable(address: str) -> None:
    """Raises BadInput if nobody listens there: Ray would end this process."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal():
        raise BadInput(f"--address is {address!r:.80}; write HOST:PORT, as `ray start --head` says it")
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACHED).close()
    except (OSError, OverflowError) as error:
        raise BadInput(
            f"the Ray cluster {address} cannot be used: nobody listens there ({error}); start one there with `ray start --head`"
        ) from error


def passed(gpus: float, *more: str) -> dict[str, str]:
    """Return the variables of a worker. more: names of others that it gets from here."""
    given = {name: os.environ[name] for name in (*PASSED, *more) if name in os.environ}
    return share_of(gpus) | {THREADS: _threads_here()} | given


def _threads_here() -> str:
    """Return how many threads torch computes with in this process. Ray would give a worker one, and on a CPU the last bits
    of a picture hang on the number."""
    if given := os.environ.get(THREADS):
        return given
    if importlib.util.find_spec("torch") is None:
        return str(os.cpu_count() or 1)
    import torch

    return str(torch.get_num_threads())


def _usual_workers(gpus: float) -> int:
    if gpus <= 0:
        return max(1, sum(bool(node["Alive"]) for node in ray.nodes()))
    alive = (node for node in ray.nodes() if node["Alive"])
    there = [node["Resources"].get("GPU", 0.0) for node in alive]
    # A worker lies on one node, and a share of a GPU on one GPU.
    found = sum(int(count) * on_one(gpus) if gpus < 1 else int(count / gpus) for count in there)
    if not found:
        raise BadInput(
            f"--gpus is {gpus:g}, and no node of the cluster has so many (in all {sum(there):g}); leave it out for models "
            "behind servers"
        )
    return found


class _Actor:
    """What runs on the cluster. Each method yields reports until its piece has ended."""

    def open(self, task: Any, threads: int) -> Iterator[Report]:
        reports: list[Report] = []
        self.worker = Worker(task, threads, reports.append)
        # Not `yield from`: Ray sends into what it iterates, which the iterator of a list does not take.
        for report in reports:  # noqa: UP028
            yield report

    def do(self, number: int, piece: Any) -> Iterator[Report]:
        reports: queue.SimpleQueue[Report] = queue.SimpleQueue()
        self.worker.begin(number, piece, reports.put)
        while (report := reports.get()).kind == "told":
            yield report
        yield report

    def stop(self) -> None:
        self.worker.stop.set()


class _Actors:
    def __init__(self, task: Any, threads: int, gpus: float) -> None:
        self.task, self.threads = ray.put(task), threads
        # One thread for each piece, one to open the task, one to stop.
        self.made = ray.remote(_Actor).options(
            num_gpus=gpus,
            num_cpus=0,
            max_concurrency=threads + 2,
            max_restarts=0,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": passed(gpus)},
        )

    def start(self) -> Link:
        return _Link(self.made.remote(), self.task, self.threads)

    def wait(self, links: list[Link], seconds: float) -> None:
        streams = [stream for link in links if isinstance(link, _Link) for stream in link.streams]
        if streams:
            ray.wait(streams, num_returns=1, timeout=seconds, fetch_local=False)


class _Link:
    """
    streams: of reports, of what is under way.
    """

    def __init__(self, actor: Any, task: Any, threads: int) -> None:
        self.actor = actor
        self.streams: list[Any] = [actor.open.options(num_returns="streaming").remote(task, threads)]

    def begin(self, number: int, piece: Any) -> None:
        self.streams.append(self.actor.do.options(num_returns="streaming").remote(number, piece))

    def reports(self) -> list[Report]:
        found: list[Report] = []
        ready, _ = (
            ray.wait(self.streams, num_returns=len(self.streams), timeout=0, fetch_local=False)
            if self.streams
            else ([], [])
        )
        for stream in ready:
            try:
                found.append(ray.get(next(stream)))
            except StopIteration:
                self.streams.remove(stream)
            except RayError as error:
                if found:
                    break  # it is met again
                raise Dead(_how(error)) from error
        return found

    def stop(self) -> None:
        with suppress(RayError):
            self.actor.stop.remote()

    def kill(self) -> None:
        with suppress(RayError):
            ray.kill(self.actor)


def _how(error: Exception) -> str:
    """Return the first lines of what Ray says, in one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:300]
