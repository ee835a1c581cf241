"""Wrappers that have the protocols of the model inside them, no more and no fewer.

`forwarding(model, base)` makes a class of `base` and of one forwarder for each protocol that the model fulfils, since the
loop asks `isinstance(model, PromptWindow)` for what is optional. A new optional protocol needs a forwarder here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import numpy as np

from .errors import BadInput, JudgeFailure
from .protocols import (
    ChatWindow,
    Concurrent,
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


class Forwarder:
    """A wrapper around a model. Each subclass forwards one protocol."""

    _model: Any

    def _working(self, failure: type[Exception]) -> AbstractContextManager[Any]:
        """Entered for as long as the model works. failure: what it raises if the model cannot."""
        return nullcontext()

    @property
    def name(self) -> str:
        return self._model.name


class _ForwardVlm(Forwarder):
    def chat(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Reply:
        with self._working(JudgeFailure):
            return self._model.chat(messages, schema)

    def decide(self, images: Sequence[Picture], questions: Sequence[Question]) -> Sequence[Decision]:
        with self._working(JudgeFailure):
            return self._model.decide(images, questions)


class _ForwardExecutor(Forwarder):
    def nfe(self, request: DrawRequest) -> int:
        return self._model.nfe(request)

    def draw(self, requests: Sequence[DrawRequest]) -> Sequence[Drawing]:
        with self._working(BadInput):
            return self._model.draw(requests)


class _ForwardWindow(Forwarder):
    @property
    def window(self) -> int | None:
        return self._model.window

    def tokens(self, prompt: str) -> int:
        return self._model.tokens(prompt)


class _ForwardChatWindow(Forwarder):
    def room(self, messages: Sequence[Message]) -> int | None:
        return self._model.room(messages)


class _ForwardReferenceLimit(Forwarder):
    @property
    def references(self) -> int | None:
        return self._model.references


class _ForwardCheck(Forwarder):
    @property
    def check(self) -> Callable[[], None]:
        return self._model.check

    @check.setter
    def check(self, check: Callable[[], None]) -> None:
        self._model.check = check


class _ForwardMove(Forwarder):
    def move(self, device: str) -> None:
        self._model.move(device)


class _ForwardParallel(Forwarder):
    @property
    def parallel(self) -> int:
        return self._model.parallel


class _ForwardReload(Forwarder):
    def reload(self, state: Mapping[str, Any]) -> None:
        self._model.reload(state)


class _ForwardOffload(Forwarder):
    def offload(self) -> None:
        self._model.offload()


class _ForwardLatents(Forwarder):
    def latent_of(self, picture: Picture) -> np.ndarray | None:
        return self._model.latent_of(picture)


class _ForwardRoundTrip(Forwarder):
    def round_trip(self, picture: Picture) -> Picture:
        with self._working(BadInput):
            return self._model.round_trip(picture)


FORWARDED: dict[type, type[Forwarder]] = {
    Vlm: _ForwardVlm,
    Executor: _ForwardExecutor,
    PromptWindow: _ForwardWindow,
    ChatWindow: _ForwardChatWindow,
    ReferenceLimit: _ForwardReferenceLimit,
    Interruptible: _ForwardCheck,
    Movable: _ForwardMove,
    Concurrent: _ForwardParallel,
    Reloadable: _ForwardReload,
    Offloadable: _ForwardOffload,
    LatentsByPicture: _ForwardLatents,
    RoundTrip: _ForwardRoundTrip,
}
"""For each protocol the class that forwards it."""


@cache
def _class_of(base: type[Forwarder], forwarders: tuple[type[Forwarder], ...]) -> type[Forwarder]:
    return type(base.__name__, (base, *forwarders), {})


def forwarding(
    model: Any,
    base: type[Forwarder],
    without: Collection[type] = (),
    more: Mapping[type, type[Forwarder]] | None = None,
) -> Any:
    """Return the class of wrappers of this model.

    base: what the wrapper is besides; its own members come before those that are forwarded.
    without: protocols that the wrapper does not have although the model has them.
    more: further protocols with their forwarders.
    """
    known = {**FORWARDED, **(more or {})}
    kept = (
        forwarder for protocol, forwarder in known.items() if protocol not in without and isinstance(model, protocol)
    )
    return _class_of(base, tuple(kept))
