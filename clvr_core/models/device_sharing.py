"""Models that work one at a time, and that may share a device by turns: before one works, the other has left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ..errors import BadInput, JudgeFailure
from ..protocols import Decision, Drawing, DrawRequest, Executor, Message, Picture, Question, Reply, Vlm


class Turns:
    """`movers` bring a model to the device of that name; they are on the CPU at first. Who has none stays where it is. One that the
    device has too little memory for goes back to the CPU, and that is a JudgeFailure of a model that judges and BadInput of one that
    draws."""

    def __init__(self, device: str = "cpu", movers: Mapping[str, Callable[[str], object]] | None = None) -> None:
        self.device, self.movers, self.holder = device, movers or {}, ""
        self._lock = threading.Lock()

    @contextmanager
    def of(self, name: str, failure: type[Exception] = BadInput) -> Iterator[None]:
        """Nobody else works within. Raises `failure` if the device is too small for it."""
        with self._lock:
            if name != self.holder and name in self.movers and not self._take(name):
                raise failure(
                    f"the {name} does not fit into the memory of {self.device} although the others have left; close what else uses it, "
                    "then go on with the run, or choose a smaller model"
                )
            yield

    def _take(self, name: str) -> bool:
        from ..executor.out_of_memory import fits, give_back

        if self.holder:
            self.movers[self.holder]("cpu")
            give_back(self.device)
        # Whoever fails to arrive holds nothing.
        self.holder = ""
        if fits(self.movers[name], self.device):
            self.holder = name
        return self.holder == name


class _Taking:
    """Everything but the work is the model's own."""

    def __init__(self, model: Any, turns: Turns, name: str) -> None:
        self._model, self._turns, self._turn = model, turns, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


class TakingVlm(_Taking):
    def chat(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Reply:
        with self._turns.of(self._turn, JudgeFailure):
            return self._model.chat(messages, schema)

    def decide(self, images: Sequence[Picture], questions: Sequence[Question]) -> Sequence[Decision]:
        with self._turns.of(self._turn, JudgeFailure):
            return self._model.decide(images, questions)


class TakingExecutor(_Taking):
    def draw(self, requests: Sequence[DrawRequest]) -> Sequence[Drawing]:
        with self._turns.of(self._turn):
            return self._model.draw(requests)


def with_device_lock(model: Vlm | Executor, turns: Turns, name: str) -> Any:
    """The model, with its turn taken before it works."""
    return (TakingExecutor if hasattr(model, "draw") else TakingVlm)(model, turns, name)


def unwrap(model: Any) -> Any:
    """The model without its turns."""
    return model._model if isinstance(model, _Taking) else model
