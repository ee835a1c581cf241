"""Models by name, for workers that load them in another process, and what is known of them where they are not loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..errors import BadInput
from ..protocols import Decision, Drawing, DrawRequest, Message, Picture, Question, Reply
from .registry import Models, load_models
from .witnesses import judged_with, load_witnesses, read_witnesses


class Source(Protocol):
    """What loads models. It can be pickled."""

    def load(self) -> Models:
        """Raises BadInput if they cannot be loaded here."""
        ...


@dataclass(frozen=True, slots=True)
class Named:
    """A `Source` as the command line names it: `--models`, `--weights`, `--witness`."""

    models: str
    weights: str = ""
    witness: str = ""

    def load(self) -> Models:
        if not self.witness:
            return load_models(self.models, self.weights)
        settings = read_witnesses(self.witness)  # first, since a word may be misspelt
        return judged_with(load_models(self.models, self.weights), load_witnesses(settings))


@dataclass(frozen=True, slots=True)
class Facts:
    """What a process without models has to know of those of its workers.

    vlm, executor, judge: names; judge is None where the vlm judges.
    width, height: of their canvas, in pixels.
    generate, edit: evaluations of one picture without, and with one reference.
    memory: as in `Models`.
    """

    vlm: str
    executor: str
    judge: str | None
    width: int
    height: int
    generate: int
    edit: int
    memory: str = ""

    @classmethod
    def of(cls, models: Models) -> Facts:
        width, height, executor = models.width, models.height, models.executor
        blank = np.zeros((height, width, 3), np.uint8)
        each = [executor.nfe(DrawRequest("any", 0, references, width, height)) for references in ((), (blank,))]
        judge = models.judge.name if models.judge else None
        return cls(models.vlm.name, executor.name, judge, width, height, each[0], each[1], models.memory)

    def models(self) -> Models:
        """Return stand-ins that have the names and the costs of the models, and neither draw nor see."""
        judge = _Vlm(self.judge) if self.judge else None
        return Models(_Vlm(self.vlm), _Executor(self), self.width, self.height, memory=self.memory, judge=judge)


class _Crew(Protocol):
    def run(self, pieces: Iterable[None]) -> Iterator[tuple[int, Any]]: ...


def facts_of(crew: _Crew) -> Facts:
    """Ask a crew whose task gives them for the piece None. Raises BadInput if its workers end before they say them."""
    ((_, facts),) = crew.run([None])
    if not isinstance(facts, Facts):
        raise BadInput(f"the workers end before they have done anything: {facts.why}")
    return facts


@dataclass(frozen=True, slots=True)
class _Vlm:
    name: str

    def chat(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Reply:
        raise RuntimeError(f"{self.name} is with the workers")

    def decide(self, images: Sequence[Picture], questions: Sequence[Question]) -> Sequence[Decision]:
        raise RuntimeError(f"{self.name} is with the workers")


@dataclass(frozen=True, slots=True)
class _Executor:
    facts: Facts

    @property
    def name(self) -> str:
        return self.facts.executor

    def nfe(self, request: DrawRequest) -> int:
        return self.facts.edit if request.references else self.facts.generate

    def draw(self, requests: Sequence[DrawRequest]) -> Sequence[Drawing]:
        raise RuntimeError(f"{self.name} is with the workers")
