"""Scripted models that record their calls, and short ways to write goals, steps and trajectories."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from clvr_core.brief import Brief, Goal
from clvr_core.protocols import Decision, Drawing, DrawRequest, Message, Picture, Question, Reply
from clvr_core.trajectory import Action, Candidate, Step, Trajectory, Verdict, seed_for


class Chat(NamedTuple):
    messages: tuple[Message, ...]
    schema: Mapping[str, Any]

    @property
    def text(self) -> str:
        """Everything that was said, in one string."""
        return "\n\n".join(message.text for message in self.messages)


class Decide(NamedTuple):
    images: tuple[Picture, ...]
    questions: tuple[Question, ...]


class FakeVlm:
    """Answers from a script and records what it was asked, in `chats` and `decides`.

    replies: for each chat a str, a Reply, an exception to raise, or a function of the messages that gives one of these. decisions: for
    each call an exception to raise or a list with, for each question, a float, None, a Decision or an exception to raise. Either may
    be one function for all calls: replies(messages), decisions(images, questions). A script that has run out is an AssertionError.
    """

    def __init__(
        self,
        replies: Iterable[Any] | Callable[[Sequence[Message]], Any] = (),
        decisions: Iterable[Any] | Callable[[Sequence[Picture], Sequence[Question]], Any] = (),
        name: str = "fake-vlm",
    ) -> None:
        self.name = name
        self.chats: list[Chat] = []
        self.decides: list[Decide] = []
        self._replies = replies if callable(replies) else list(replies)
        self._decisions = decisions if callable(decisions) else list(decisions)

    def chat(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Reply:
        self.chats.append(Chat(tuple(messages), schema))
        reply = self._replies if callable(self._replies) else _next(self._replies, f"chat {len(self.chats)}")
        if callable(reply):
            reply = reply(messages)
        if isinstance(reply, BaseException):
            raise reply
        return reply if isinstance(reply, Reply) else Reply(reply, tokens=1)

    def decide(self, images: Sequence[Picture], questions: Sequence[Question]) -> list[Decision]:
        self.decides.append(Decide(tuple(images), tuple(questions)))
        answers = (
            self._decisions if callable(self._decisions) else _next(self._decisions, f"decide {len(self.decides)}")
        )
        if callable(answers):
            answers = answers(images, questions)
        for answer in [answers] if isinstance(answers, BaseException) else answers:
            if isinstance(answer, BaseException):
                raise answer
        return [answer if isinstance(answer, Decision) else Decision(answer, tokens=1) for answer in answers]


class FakeExecutor:
    """Draws flat grey pictures whose value says how many requests came before: 10, 20, 30, ...; or what a script says.

    images: pictures, or exceptions to raise, in order; or one function of the request that returns a picture.
    evaluations: nfe of every picture.
    requests, batches: records every request, and the number of requests of every call.
    """

    def __init__(
        self,
        images: Iterable[Picture | BaseException] | Callable[[DrawRequest], Picture] | None = None,
        evaluations: int = 4,
        name: str = "fake-executor",
    ) -> None:
        self.name = name
        self.evaluations = evaluations
        self.requests: list[DrawRequest] = []
        self.batches: list[int] = []
        self._images = images if images is None or callable(images) else list(images)

    def nfe(self, request: DrawRequest) -> int:
        return self.evaluations

    def draw(self, requests: Sequence[DrawRequest]) -> list[Drawing]:
        self.batches.append(len(requests))
        return [Drawing(self._picture(request), self.nfe(request)) for request in requests]

    def _picture(self, request: DrawRequest) -> Picture:
        self.requests.append(request)
        count = len(self.requests)
        if self._images is None:
            return grey(10 * count % 256, request.width, request.height)
        if callable(self._images):
            return self._images(request)
        picture = _next(self._images, f"picture {count}")
        if isinstance(picture, BaseException):
            raise picture
        return picture


def _next(script: list[Any], what: str) -> Any:
    if not script:
        raise AssertionError(f"the script has run out: nothing is written for {what}")
    return script.pop(0)


def grey(value: int = 128, width: int = 8, height: int = 8) -> Picture:
    return np.full((height, width, 3), value, dtype=np.uint8)


def goals(*texts: str) -> tuple[Goal, ...]:
    """Goals g1, g2, ... with these texts."""
    return tuple(Goal(f"g{number}", text) for number, text in enumerate(texts, 1))


def step(
    kind: str = "GENERATE",
    canvas: int | None = None,
    parent: int | None = None,
    verdicts: Mapping[str, str] | None = None,
    accepted: bool = True,
    reason: str = "",
    **action: Any,
) -> Step:
    """A step that proposed `canvas`. verdicts: goal -> state. Other words are fields of the action. trajectory() gives the index."""
    return Step(
        index=0,
        action=Action(kind, **action),
        parent=parent,
        candidates=()
        if canvas is None
        else (Candidate(canvas, f"canvas-{canvas:03}.png", seed_for(0, canvas, 0), sha256=""),),
        chosen=canvas,
        verdicts=tuple(Verdict(goal, state) for goal, state in (verdicts or {}).items()),
        accepted=accepted,
        reason=reason,
    )


def trajectory(*steps: Step, goals: Sequence[Goal] = (), prompt: str = "a red circle", **fields: Any) -> Trajectory:
    """The steps numbered from 0. `current` and `best` are the last accepted canvas unless given; other words are fields."""
    numbered = tuple(replace(item, index=index) for index, item in enumerate(steps))
    last = next((item.chosen for item in reversed(numbered) if item.accepted and item.chosen is not None), None)
    brief = fields.pop("brief", None) or Brief(prompt)
    return Trajectory(brief, goals=tuple(goals), steps=numbered, **{"current": last, "best": last, **fields})
