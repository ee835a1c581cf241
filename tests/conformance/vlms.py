"""Every vision-language model of the core, one entry each. A new one adds its entry to VLMS and passes test_vlms.py."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from clvr_core.controller.prompts import GOALS_SCHEMA
from clvr_core.errors import JudgeFailure
from clvr_core.models.device_sharing import Turns, with_device_lock
from clvr_core.protocols import Message, Picture, Question, Vlm
from clvr_core.vlm.local import Local, LocalVlm, load_local
from clvr_core.vlm.server import Endpoint, ServerVlm
from tests.fakes import FakeVlm
from tests.servers import Said
from tests.stickers.oracle import load_vlm
from tests.vlm import tiny
from tests.vlm.servers import Asked, completion, said_in, serving, speaking

BRIEF = "a large red cat at the top left"
GOALS = (Message("system", "You plan."), Message("user", BRIEF, data={"task": "goals", "prompt": BRIEF}))
SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "goals": {"type": "array", "items": {"type": "string", "maxLength": 4}, "minItems": 1, "maxItems": 1}
    },
    "required": ["goals"],
    "additionalProperties": False,
}


def question(text: str) -> Question:
    """In words, and for an embedded world as a goal in its grammar."""
    return Question(f"Does the picture show {text}?", {"task": "goal", "goal": {"id": "g1", "text": text}})


QUESTIONS = (question("a red cat"), question("a blue car"), question("a green bird"))


@dataclass(frozen=True)
class Case:
    """A model, and what the tests need to know beside its protocols.

    breaks: makes every later call fail until the patches are undone.
    schema: of the reply to GOALS that is asked for.
    """

    vlm: Vlm
    breaks: Callable[[pytest.MonkeyPatch], object]
    schema: Mapping[str, Any] = field(default_factory=lambda: SCHEMA)


@contextmanager
def embedded() -> Iterator[Case]:
    vlm = load_vlm()

    def breaks(patch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise JudgeFailure("it sees nothing")

        patch.setattr("clvr_core.stickers.judge.parse", refuse)
        patch.setattr(vlm, "_perceive", refuse)

    yield Case(vlm, breaks, GOALS_SCHEMA)


def _local(folder: Path) -> LocalVlm:
    return load_local(Local(str(tiny.save(folder / "qwen3-vl", tiny.qwen3_vl)), "cpu", "float32", 64, 40))


def _full(vlm: LocalVlm) -> Callable[[pytest.MonkeyPatch], None]:
    def forward(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    return lambda patch: patch.setattr(vlm.model, "forward", forward)


@contextmanager
def local(folder: Path) -> Iterator[Case]:
    vlm = _local(folder)
    yield Case(vlm, _full(vlm))


@contextmanager
def locked(folder: Path) -> Iterator[Case]:
    vlm = _local(folder)
    yield Case(with_device_lock(vlm, Turns("cpu"), "controller"), _full(vlm))


@contextmanager
def _served(answer: Callable[[Asked], Said]) -> Iterator[Case]:
    """The server of `answer`, which answers with an error once it is broken. One that answers 500 is away, which is no
    failure of the judge (tests/test_outages.py)."""
    state = {"broken": False}

    with serving(lambda asked: Said({"error": "out of order"}) if state["broken"] else answer(asked)) as server:
        endpoint = Endpoint(server.url, image_side=64, max_tokens=40, parallel=2)
        vlm = ServerVlm(replace(endpoint, limits=replace(endpoint.limits, retries=0)))
        yield Case(vlm, lambda patch: patch.setitem(state, "broken", True))


@contextmanager
def server(folder: Path) -> Iterator[Case]:
    """Holds replies to their schema and tells probabilities."""
    with _served(speaking(_local(folder))) as case:
        yield case


@contextmanager
def server_in_words() -> Iterator[Case]:
    """Knows neither schemas nor probabilities, as small servers do."""

    def answer(asked: Asked) -> Said:
        if asked.body is None:
            return Said({"data": [{"id": "small"}]})
        if asked.body.keys() & {"response_format", "logprobs"}:
            return Said({"error": "unknown setting"}, 400)
        asked_for = re.findall(r"^(\d+)\. (.+)$", said_in(asked.body), re.MULTILINE)
        answers = [{"question": int(number), "answer": "yes" if "red" in text else "no"} for number, text in asked_for]
        return completion(json.dumps({"answers": answers} if answers else {"goals": ["a"]}))

    with _served(answer) as case:
        yield case


@contextmanager
def fake() -> Iterator[Case]:
    state = {"broken": False}

    def reply(messages: Sequence[Message]) -> str | Exception:
        return JudgeFailure("no answer") if state["broken"] else '{"goals": ["a"]}'

    def decide(images: Sequence[Picture], questions: Sequence[Question]) -> list[float] | Exception:
        return (
            JudgeFailure("no answer") if state["broken"] else [0.9 if "red" in each.text else 0.1 for each in questions]
        )

    yield Case(FakeVlm(reply, decide), lambda patch: patch.setitem(state, "broken", True))


VLMS: dict[str, Callable[..., AbstractContextManager[Case]]] = {
    "embedded": embedded,
    "local": local,
    "server": server,
    "server in words": server_in_words,
    "behind a device lock": locked,
    "fake": fake,
}
