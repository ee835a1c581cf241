"""One set of models for many runs at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ..models.device_sharing import Turns, with_device_lock
from ..models.registry import Models
from ..protocols import Concurrent
from .engine import stopping


@contextmanager
def shared(models: Models, stop: threading.Event) -> Iterator[Models]:
    """Yield the models with a lock around each one that runs in this process, so that it serves one run at a time.

    A model that is `Concurrent` is called by several runs at once, without a lock. One that is `Interruptible` leaves its
    work once `stop` is set.
    """
    turns = Turns()

    def locked(model: Any, name: str) -> Any:
        return model if model is None or isinstance(model, Concurrent) else with_device_lock(model, turns, name)

    with stopping((models.vlm, models.executor, models.judge), stop):
        yield replace(
            models,
            vlm=locked(models.vlm, "controller"),
            executor=locked(models.executor, "executor"),
            judge=locked(models.judge, "verifier"),
        )
