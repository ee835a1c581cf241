"""The only place of the tests that waits or reads a clock; tests/test_waiting.py sees to it.

Limits of time are for tests that hang. What a test finds never depends on how long anything took.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Found = TypeVar("Found")
HUNG = 120.0
"""Seconds after which a test is given up."""
TURNS = 1000


def until(
    condition: Callable[[], Found], what: str | Callable[[], str], within: float = HUNG, every: float = 0.02
) -> Found:
    """Asks again until the answer is truthy, and returns it. Raises AssertionError, with `what`, once time is over."""
    end = time.monotonic() + within
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {within:g} s in vain: {what if isinstance(what, str) else what()}")
        time.sleep(every)
    return found


def let_others_run() -> None:
    """Gives way to every other thread, often enough that one that can go on does."""
    for _ in range(TURNS):
        time.sleep(0)


@contextmanager
def ending(within: float = HUNG) -> Iterator[None]:
    """Breaks off what does not end, a search by a regular expression too, where the system has signals for it."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def hung(*_: object) -> None:
        raise AssertionError(f"did not end within {within:g} s")

    before = signal.signal(signal.SIGALRM, hung)
    signal.setitimer(signal.ITIMER_REAL, within)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def counting_calls() -> Iterator[list[int]]:
    """Counts the functions called meanwhile, Python's own among them: work that is the same on every machine."""
    count, before = [0], sys.getprofile()

    def told(_, event: str, __) -> None:
        count[0] += event in ("call", "c_call")

    sys.setprofile(told)
    try:
        with ending():
            yield count
    finally:
        sys.setprofile(before)


class Clock:
    """A clock that only waiting moves. It takes the place of the module `time` in a module that waits.

    now: seconds since it began.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1e9 + self.now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.now += seconds
