"""A judge together with its witnesses: a vision-language model to all that asks it questions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Protocol, runtime_checkable

from ..brief import Goal
from ..protocols import Concurrent, Decision, Interruptible, Message, Movable, Picture, Question, Reply, Vlm
from ..trajectory import Finding
from . import Heard, Witnesses


@runtime_checkable
class Witnessed(Protocol):
    """Optional, of a vision-language model that judges: witnesses look at the pictures too."""

    @property
    def witnesses(self) -> Witnesses:
        """Those that stand beside it."""
        ...

    def hear(
        self,
        picture: Picture,
        goals: Sequence[Goal],
        counted: Mapping[str, Finding],
        references: Mapping[str, Picture],
    ) -> Heard:
        """Return what the witnesses say of the goals on the picture, uint8 H x W x 3.

        counted: goal -> the judge's own count.
        references: the named references of the brief, uint8 H x W x 3.
        """
        ...


class _Judge:
    """Each subclass forwards one more protocol of the model."""

    def __init__(self, vlm: Any, witnesses: Witnesses) -> None:
        self._vlm, self.witnesses, self._lock = vlm, witnesses, threading.Lock()

    @property
    def name(self) -> str:
        return f"{self._vlm.name} with {self.witnesses.name}"

    def chat(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Reply:
        return self._vlm.chat(messages, schema)

    def decide(self, images: Sequence[Picture], questions: Sequence[Question]) -> Sequence[Decision]:
        return self._vlm.decide(images, questions)

    def hear(
        self,
        picture: Picture,
        goals: Sequence[Goal],
        counted: Mapping[str, Finding],
        references: Mapping[str, Picture],
    ) -> Heard:
        # Readers and detectors hold one model each, for one picture at a time.
        with self._lock:
            return self.witnesses.look(picture, goals, counted, references)


class _WithCheck(_Judge):
    @property
    def check(self) -> Callable[[], None]:
        return self._vlm.check

    @check.setter
    def check(self, check: Callable[[], None]) -> None:
        self._vlm.check = check


class _WithMove(_Judge):
    def move(self, device: str) -> None:
        self._vlm.move(device)


class _WithParallel(_Judge):
    @property
    def parallel(self) -> int:
        return self._vlm.parallel


_FORWARDED: dict[type, type[_Judge]] = {Interruptible: _WithCheck, Movable: _WithMove, Concurrent: _WithParallel}


@cache
def _class_of(forwarders: tuple[type[_Judge], ...]) -> type[_Judge]:
    return type("WitnessedJudge", forwarders or (_Judge,), {})


def with_witnesses(vlm: Vlm, witnesses: Witnesses) -> Vlm:
    """Return the model as a judge with these witnesses, in place of those that it has; the model alone if there are none.

    The judge has the protocols of the model.
    """
    vlm = without_witnesses(vlm)
    if not witnesses:
        return vlm
    forwarders = tuple(forwarder for protocol, forwarder in _FORWARDED.items() if isinstance(vlm, protocol))
    judge: Any = _class_of(forwarders)(vlm, witnesses)
    return judge


def without_witnesses(vlm: Any) -> Any:
    """Return the model inside of `with_witnesses`; any other model as it is."""
    return vlm._vlm if isinstance(vlm, _Judge) else vlm
