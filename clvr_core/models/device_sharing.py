"""Models that work one at a time and may share a device: before one works, the one that holds the device leaves it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import numpy as np

from ..brief import Goal
from ..errors import BadInput, JudgeFailure
from ..protocols import (
    Decision,
    Drawing,
    DrawRequest,
    Executor,
    Interruptible,
    LatentsByPicture,
    Message,
    Movable,
    Offloadable,
    Picture,
    PromptWindow,
    Question,
    ReferenceLimit,
    Reloadable,
    Reply,
    RoundTrip,
    Vlm,
)
from ..trajectory import Finding
from ..witness import Heard, Witnesses
from ..witness.judge import Witnessed

Model = TypeVar("Model", Vlm, Executor)


class Turns:
    """A lock over models, by name, that also moves them.

    device: that they share, as torch names it.
    movers: for each model a function that moves it to the named device; all are on the CPU at first. A model without
        one stays where it is.
    holder: the model on the device, empty if there is none.
    """

    def __init__(self, device: str = "cpu", movers: Mapping[str, Callable[[str], object]] | None = None) -> None:
        self.device, self.movers, self.holder = device, dict(movers or {}), ""
        self._lock = threading.Lock()

    @contextmanager
    def of(self, name: str, failure: type[Exception] = BadInput) -> Iterator[None]:
        """Hold the lock, with the model on the device.

        Raises `failure`, and leaves the model on the CPU, if the device is too small.
        """
        with self._lock:
            if name != self.holder and name in self.movers and not self._bring(name):
                raise failure(
                    f"the {name} does not fit into the memory of {self.device} although the others have left; close what else uses it, "
                    "then go on with the run, or choose a smaller model"
                )
            yield

    def _bring(self, name: str) -> bool:
        from ..executor.out_of_memory import fits, give_back

        if self.holder:
            self.movers[self.holder]("cpu")
            give_back(self.device)
        # A mover that raises leaves the device without a holder.
        self.holder = ""
        if fits(self.movers[name], self.device):
            self.holder = name
        return self.holder == name


class _Locked:
    """A model that takes its turn before it works. Each subclass forwards one protocol."""

    def __init__(self, model: Any, turns: Turns, turn: str) -> None:
        self._model, self._turns, self._turn = model, turns, turn

    @property
    def name(self) -> str:
        return self._model.name


class _LockedVlm(_Locked):
    def chat(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Reply:
        with self._turns.of(self._turn, JudgeFailure):
            return self._model.chat(messages, schema)

    def decide(self, images: Sequence[Picture], questions: Sequence[Question]) -> Sequence[Decision]:
        with self._turns.of(self._turn, JudgeFailure):
            return self._model.decide(images, questions)


class _LockedExecutor(_Locked):
    def nfe(self, request: DrawRequest) -> int:
        return self._model.nfe(request)

    def draw(self, requests: Sequence[DrawRequest]) -> Sequence[Drawing]:
        with self._turns.of(self._turn):
            return self._model.draw(requests)


class _WithWindow(_Locked):
    @property
    def window(self) -> int | None:
        return self._model.window

    def tokens(self, prompt: str) -> int:
        return self._model.tokens(prompt)


class _WithReferenceLimit(_Locked):
    @property
    def references(self) -> int | None:
        return self._model.references


class _WithCheck(_Locked):
    @property
    def check(self) -> Callable[[], None]:
        return self._model.check

    @check.setter
    def check(self, check: Callable[[], None]) -> None:
        self._model.check = check


class _WithWitnesses(_Locked):
    @property
    def witnesses(self) -> Witnesses:
        return self._model.witnesses

    def hear(
        self,
        picture: Picture,
        goals: Sequence[Goal],
        counted: Mapping[str, Finding],
        references: Mapping[str, Picture],
    ) -> Heard:
        return self._model.hear(picture, goals, counted, references)


class _WithMove(_Locked):
    def move(self, device: str) -> None:
        self._model.move(device)


class _WithReload(_Locked):
    def reload(self, state: Mapping[str, Any]) -> None:
        self._model.reload(state)


class _WithOffload(_Locked):
    def offload(self) -> None:
        self._model.offload()


class _WithLatents(_Locked):
    def latent_of(self, picture: Picture) -> np.ndarray | None:
        return self._model.latent_of(picture)


class _WithRoundTrip(_Locked):
    def round_trip(self, picture: Picture) -> Picture:
        with self._turns.of(self._turn):
            return self._model.round_trip(picture)


FORWARDED: dict[type, type[_Locked]] = {
    Vlm: _LockedVlm,
    Executor: _LockedExecutor,
    PromptWindow: _WithWindow,
    ReferenceLimit: _WithReferenceLimit,
    Interruptible: _WithCheck,
    Witnessed: _WithWitnesses,
    Movable: _WithMove,
    Reloadable: _WithReload,
    Offloadable: _WithOffload,
    LatentsByPicture: _WithLatents,
    RoundTrip: _WithRoundTrip,
}
"""For each protocol the class that forwards it.

`Concurrent` is missing: behind a lock a model works for one caller at a time.
"""


@cache
def _class_of(forwarders: tuple[type[_Locked], ...]) -> type[_Locked]:
    return type("Locked", forwarders, {})


def with_device_lock(model: Model, turns: Turns, name: str) -> Model:
    """Wrap the model so that it takes its turn before it works.

    The wrapper has the protocols of the model, less `Concurrent`.
    """
    forwarders = tuple(forwarder for protocol, forwarder in FORWARDED.items() if isinstance(model, protocol))
    wrapper: Any = _class_of(forwarders)(model, turns, name)
    return wrapper


def unwrap(model: Any) -> Any:
    """Return the model inside a wrapper of `with_device_lock`; any other model as it is."""
    return model._model if isinstance(model, _Locked) else model
