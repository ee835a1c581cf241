"""A run told as a script: what the controller says, what the judge sees on each canvas, which canvas it prefers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from clvr_core.brief import Brief
from clvr_core.protocols import Decision, Picture
from clvr_core.run.run_folder import RunFolder
from clvr_core.run.session import RunModels, Session, drive
from clvr_core.trajectory import Trajectory
from tests.fakes import FakeExecutor, FakeVlm

PROMPT = "a barn, a cat and a moon"
PROBABILITY = {"m": 0.9, "u": 0.1, "?": 0.5, "e": None}
"""met, unmet, unsure, error"""


def canvas_of(picture: Picture) -> int:
    """FakeExecutor paints its first canvas 10, the next 20, ..."""
    return int(picture[0, 0, 0]) // 10 - 1


def generate(scene: str = "a barn", **fields: Any) -> dict[str, Any]:
    return {"kind": "GENERATE", "scene_prompt": scene, "summary": f"I paint {scene}.", **fields}


def edit(words: str = "add a cat", *references: int, **fields: Any) -> dict[str, Any]:
    return {"kind": "EDIT", "edit_prompt": words, "references": list(references), "summary": f"I {words}.", **fields}


VALIDATE = {"kind": "VALIDATE"}
END = {"kind": "END"}


def drafts(count: int, **fields: Any) -> dict[str, Any]:
    return {
        "goals": [
            {"text": f"thing {number}", "check": f"Is thing {number} there?", **fields}
            for number in range(1, count + 1)
        ]
    }


def scripted(
    actions: Iterable[Any] = (),
    canvases: Mapping[int, str | Sequence[Any]] | None = None,
    *,
    goals: Any = 3,
    edits: Mapping[int, tuple[float | None, float | None]] | None = None,
    prefers: Any = None,
    inspections: Iterable[Any] = (),
) -> FakeVlm:
    """A FakeVlm by script.

    actions: what each request for an action is answered, in order: an object, or whatever FakeVlm takes as a reply. canvases: for each
    canvas a letter of PROBABILITY for each goal; a list has one entry for each time it is asked, the last for ever, and may hold
    exceptions. goals: a number of them, or the replies to the requests for goals. edits: canvas -> done and kept, else both are sure.
    prefers: the canvas that wins the comparison, or a function of both canvases. inspections: answers to the text inspection.
    """
    said, looked = (
        iter(actions),
        {canvas: list([states] if isinstance(states, str) else states) for canvas, states in (canvases or {}).items()},
    )
    drafted, inspected = iter([drafts(goals)] if isinstance(goals, int) else goals), iter(inspections)

    def replies(messages):
        task = next(
            message.data["task"] for message in reversed(messages) if message.data.get("task") in ("goals", "action")
        )
        reply = next(
            drafted if task == "goals" else said, AssertionError(f"nothing is written for another request for {task}")
        )
        return json.dumps(reply) if isinstance(reply, dict) else reply

    def decisions(images, questions):
        task = questions[0].data["task"]
        if task == "plan-check":
            return [next(inspected)]
        if task == "compare":
            first, second = map(canvas_of, images)
            answer = prefers(first, second) if callable(prefers) else 0.9 if first == prefers else 0.1
            return answer if isinstance(answer, BaseException) else [answer]
        if task.startswith("edit"):
            return list((edits or {}).get(canvas_of(images[1]), (1.0, 1.0)))
        script = looked[canvas_of(images[0])]
        states = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(states, BaseException):
            return states
        return [_decision(states[int(question.data["goal"]["id"][1:]) - 1]) for question in questions]

    return FakeVlm(replies, decisions)


def _decision(letter: Any) -> Any:
    return Decision(PROBABILITY[letter], tokens=1) if isinstance(letter, str) else letter


def asked(vlm: FakeVlm, task: str) -> list[Any]:
    """The messages that asked for goals or an action, or the calls whose questions had this task."""
    if task in ("goals", "action"):
        return [message for chat in vlm.chats for message in chat.messages[-1:] if message.data.get("task") == task]
    return [call for call in vlm.decides if call.questions[0].data["task"] == task]


def judged(vlm: FakeVlm) -> list[int]:
    """The canvases in the order in which they were judged."""
    return [canvas_of(call.images[0]) for call in asked(vlm, "goal")]


def a_brief(**fields: Any) -> Brief:
    return Brief(**{"prompt": PROMPT, "width": 8, "height": 8, "final_ab": False, **fields})


def play(
    vlm: FakeVlm, executor: FakeExecutor | None = None, folder: RunFolder | None = None, **brief: Any
) -> Trajectory:
    return drive(Session(a_brief(**brief), RunModels(vlm, executor or FakeExecutor()), folder))


def seen(picture_requests: FakeExecutor) -> list[tuple[int, ...]]:
    """Which canvases each picture was drawn from."""
    return [tuple(map(canvas_of, request.references)) for request in picture_requests.requests]
