"""Ending in order on the signals of `kill` and of a closed terminal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Ended(BaseException):
    """The process was told to end."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Raise Ended for the signals of `kill` and of a closed terminal, so that temporary files are removed.

    One that is ignored, as under nohup, stays ignored.
    """

    def end(number: int, _: object) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)  # one is enough, and the next must not cut the cleaning short
        raise Ended(number)

    before = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
                if number not in before and signal.getsignal(number) is signal.SIG_DFL:
                    before[number] = signal.signal(number, end)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
