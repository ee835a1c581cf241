"""Models that work one at a time, and that may share a device by turns: before one works, the other has left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from .protocols import Decision, Drawing, DrawRequest, Executor, Message, Picture, Question, Reply, Vlm


class Turns:
    """`movers` bring a model to the device of that name; they are on the CPU at first. Who has none stays where it is."""

    def __init__(self, device: str = "cpu", movers: Mapping[str, Callable[[str], object]] | None = None) -> None:
        self.device, self.movers, self.holder = device, movers or {}, ""
        self._lock = threading.Lock()

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Nobody else works within."""
        with self._lock:
            if name != self.holder and name in self.movers:
                self._take(name)
            yield

    def _take(self, name: str) -> None:
        from .executor.room import give_back

        if self.holder:
            self.movers[self.holder]("cpu")
            give_back(self.device)
        # Whoever fails to arrive holds nothing.
        self.holder = ""
        self.movers[name](self.device)
        self.holder = name


class _Taking:
    """Everything but the work is the model's own."""

    def __init__(self, model: Any, turns: Turns, name: str) -> None:
        self._model, self._turns, self._turn = model, turns, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


class TakingVlm(_Taking):
    def chat(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Reply:
        with self._turns.of(self._turn):
            return self._model.chat(messages, schema)

    def decide(self, images: Sequence[Picture], questions: Sequence[Question]) -> Sequence[Decision]:
        with self._turns.of(self._turn):
            return self._model.decide(images, questions)


class TakingExecutor(_Taking):
    def draw(self, requests: Sequence[DrawRequest]) -> Sequence[Drawing]:
        with self._turns.of(self._turn):
            return self._model.draw(requests)


def taking(model: Vlm | Executor, turns: Turns, name: str) -> Any:
    """The model, with its turn taken before it works."""
    return (TakingExecutor if hasattr(model, "draw") else TakingVlm)(model, turns, name)


def itself(model: Any) -> Any:
    """The model without its turns."""
    return model._model if isinstance(model, _Taking) else model
