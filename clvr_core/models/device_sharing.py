"""Models that work one at a time and may share a device: before one works, the one that holds the device leaves it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from ..brief import Goal
from ..errors import BadInput
from ..forwarding import Forwarder, forwarding
from ..protocols import Concurrent, Executor, Picture, Vlm
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


class _Locked(Forwarder):
    """A model that takes its turn before it works."""

    def __init__(self, model: Any, turns: Turns, turn: str) -> None:
        self._model, self._turns, self._turn = model, turns, turn

    def _working(self, failure: type[Exception]) -> AbstractContextManager[None]:
        return self._turns.of(self._turn, failure)


class _WithWitnesses(Forwarder):
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


def with_device_lock(model: Model, turns: Turns, name: str) -> Model:
    """Wrap the model so that it takes its turn before it works.

    The wrapper has the protocols of the model, less `Concurrent`: behind a lock it works for one caller at a time.
    """
    return forwarding(model, _Locked, without=(Concurrent,), more={Witnessed: _WithWitnesses})(model, turns, name)


def unwrap(model: Any) -> Any:
    """Return the model inside a wrapper of `with_device_lock`; any other model as it is."""
    return model._model if isinstance(model, _Locked) else model
