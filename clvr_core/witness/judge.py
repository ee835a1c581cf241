"""A judge together with its witnesses: a vision-language model to all that asks it questions."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from ..brief import Goal
from ..forwarding import Forwarder, forwarding
from ..protocols import Picture, Vlm
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


class _Judge(Forwarder):
    """A model with witnesses beside it."""

    def __init__(self, vlm: Any, witnesses: Witnesses) -> None:
        self._model, self.witnesses, self._lock = vlm, witnesses, threading.Lock()

    @property
    def name(self) -> str:
        return f"{self._model.name} with {self.witnesses.name}"

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


def with_witnesses(vlm: Vlm, witnesses: Witnesses) -> Vlm:
    """Return the model as a judge with these witnesses, in place of those that it has; the model alone if there are none.

    The judge has the protocols of the model.
    """
    vlm = without_witnesses(vlm)
    return forwarding(vlm, _Judge)(vlm, witnesses) if witnesses else vlm


def without_witnesses(vlm: Any) -> Any:
    """Return the model inside of `with_witnesses`; any other model as it is."""
    return vlm._model if isinstance(vlm, _Judge) else vlm
