"""Does pieces of work side by side, each apart from the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from ..protocols import Concurrent, Interruptible

Work = TypeVar("Work")
Done = TypeVar("Done")


class Stopped(Exception):
    """Raised inside a model's call after all work was told to stop."""


class Engine(Protocol):
    """Where work is done: in threads of this process, or elsewhere."""

    def each(self, do: Callable[[Work], Done], work: Iterable[Work]) -> Iterator[Done]:
        """Yield `do` of each piece of work, in their order.

        A piece that raises ends the iteration with its error once those under way have ended; those before it were
        yielded, and no other is begun.
        """
        ...


class Threads:
    """Threads of this process, for work that mostly waits for servers.

    workers: pieces at the same time, at least 1; with 1 all work is done in the caller's thread.
    stop: set when the caller is interrupted, so that models leave their work; see `stopping`.
    """

    def __init__(self, workers: int) -> None:
        self.workers = max(1, workers)
        self.stop = threading.Event()

    def each(self, do: Callable[[Work], Done], work: Iterable[Work]) -> Iterator[Done]:
        listed = list(work)
        if self.workers == 1 or len(listed) < 2:
            yield from map(do, listed)
            return
        failed = threading.Event()

        def done(piece: Work) -> Done:
            if failed.is_set():
                raise Stopped
            try:
                return do(piece)
            except BaseException:
                failed.set()
                raise

        with ThreadPoolExecutor(min(self.workers, len(listed))) as pool:
            futures = [pool.submit(done, piece) for piece in listed]
            try:
                yield from _results(futures)
            except BaseException as error:
                failed.set()
                if not isinstance(error, (Exception, GeneratorExit)):
                    self.stop.set()
                raise


def _results(futures: Sequence[Future[Done]]) -> Iterator[Done]:
    """Yield the results in order. Raises the first error that is not merely that another failed before it."""
    for place, future in enumerate(futures):
        try:
            yield future.result()
        except Stopped:
            # A later piece failed first, and this one was not begun.
            errors = [each.exception() for each in futures[place:]]
            raise next((each for each in errors if each and not isinstance(each, Stopped)), Stopped()) from None


def threads_for(*models: Any) -> Threads:
    """Return threads for as many calls as are worth making at the same time: one unless every model is `Concurrent`.

    models: None for one that is not used.
    """
    used = [model for model in models if model is not None]
    if not used or not all(isinstance(model, Concurrent) for model in used):
        return Threads(1)
    return Threads(max(model.parallel for model in used))


@contextmanager
def stopping(models: Iterable[Any], stop: threading.Event) -> Iterator[None]:
    """Have each model that is `Interruptible` leave its work with Stopped once `stop` is set."""
    before = [(model, model.check) for model in models if isinstance(model, Interruptible)]

    def raise_if_stopped() -> None:
        if stop.is_set():
            raise Stopped

    for model, own in before:

        def check(own: Callable[[], None] = own) -> None:
            raise_if_stopped()
            own()

        model.check = check
    try:
        yield
    finally:
        for model, own in before:
            model.check = own
