"""What a worker does, wherever it lives: it opens a task, and does pieces of it in threads."""

from __future__ import annotations

import platform
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

from .. import __version__
from ..errors import Away, BadInput, CannotWrite, JudgeFailure
from .crew import Task
from .engine import Stopped

Kind = Literal["ready", "told", "done", "failed", "refused"]


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker sends.

    kind: ready (`value` is the `Place` it lives in), refused (it cannot work; `value` is the error), told, done, failed
        (of the piece `number`; `value` is what the task told, returned or raised).
    """

    kind: Kind
    number: int = -1
    value: Any = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker lives, and the versions there: they fix what is drawn, so all workers must have the same."""

    host: str
    clvr: str
    python: str

    @classmethod
    def here(cls) -> Place:
        return cls(socket.gethostname(), __version__, ".".join(platform.python_version_tuple()[:2]))

    def differs(self, other: Place) -> str:
        """Return in words what differs from another place, "" if nothing does."""
        mine, theirs = (f"clvr {each.clvr} on Python {each.python}" for each in (self, other))
        return "" if mine == theirs else f"{self.host} has {mine}, and {other.host} has {theirs}"


class Worker:
    """A task that is open.

    send: takes each `Report`, from any thread.
    """

    def __init__(self, task: Task[Any, Any], threads: int, send: Callable[[Report], None]) -> None:
        self.send, self.stop = send, threading.Event()
        self._stack = ExitStack()
        self._pool = ThreadPoolExecutor(threads)
        try:
            self._do = self._stack.enter_context(task.open(self.stop))
        except (BadInput, ImportError) as error:
            send(Report("refused", value=error))
            return
        send(Report("ready", value=Place.here()))

    def begin(self, number: int, piece: Any, send: Callable[[Report], None] | None = None) -> None:
        """Do a piece in a thread. send: takes the reports of this piece, in place of the worker's own."""
        self._pool.submit(self._carry_out, number, piece, send or self.send)

    def _carry_out(self, number: int, piece: Any, send: Callable[[Report], None]) -> None:
        try:
            if self.stop.is_set():
                raise Stopped
            value = self._do(piece, lambda what: send(Report("told", number, what)))
        except Exception as error:
            send(Report("failed", number, portable(error)))
        else:
            send(Report("done", number, value))

    def close(self) -> None:
        """Have all pieces leave their work, and wait until they have."""
        self.stop.set()
        self._pool.shutdown(cancel_futures=True)
        self._stack.close()


PORTABLE = (BadInput, CannotWrite, Away, JudgeFailure, Stopped)


def portable(error: Exception) -> Exception:
    """Return the error if another process can make it again from its words, else one with them."""
    if type(error) in PORTABLE or type(error).__module__ == "builtins":
        return error
    return BadInput(str(error)) if isinstance(error, BadInput) else RuntimeError(f"{type(error).__name__}: {error}")
