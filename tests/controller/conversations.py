"""Every word that is said to the models in one scripted run of each strategy, as text.

    python -m tests.controller.conversations

Writes tests/controller/conversations/STRATEGY.txt, to be read by a person before it is committed, and adds the digests of
new prompt texts to tests/controller/wordings.json.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from clvr_core.brief import Brief, Budget
from clvr_core.controller import TEMPLATES as CONTROLLER
from clvr_core.policy import LOOPS
from clvr_core.protocols import Decision, Message, Picture, Question, Reply
from clvr_core.run.session import RunModels, Session, drive
from clvr_core.templates import Templates
from clvr_core.verifier import TEMPLATES as VERIFIER
from tests.fakes import FakeExecutor
from tests.run.script import canvas_of, edit, generate

FOLDER = Path(__file__).parent / "conversations"
WORDINGS = Path(__file__).parent / "wordings.json"
"""Part -> version of its prompts -> name of each text -> digest."""
PARTS = {"controller": CONTROLLER, "verifier": VERIFIER}
PROMPT = 'a barn at dusk with "MILK" over its door,\n\na black cat to the left of it and a full moon'
GOALS = [
    {"text": "dusk", "kind": "global", "check": "Is it dusk?", "feasibility": 0.9},
    {"text": "a barn", "kind": "local", "check": "Is there a barn?", "feasibility": 0.95},
    {
        "text": '"MILK" over the door of the barn',
        "kind": "text",
        "check": 'Does it say "MILK" over the door?',
        "feasibility": 0.3,
    },
    {"text": "a black cat left of the barn", "kind": "layout", "check": "", "feasibility": 0.6},
    {"text": "a full moon", "kind": "local", "check": "Is there a full moon?", "feasibility": 0.8},
]
SEEN = ["mmuuu", "mmuum", "mmmu?", "mmmum", "mmmmm"]
"""What the judge sees on each canvas; the last for all that follow."""
STATES = {"m": "met", "u": "unmet", "?": "unsure"}
ACTIONS = [
    generate("a barn at dusk", goals=["g1", "g2"]),
    edit("add a full moon, keep the barn", 0, goals=["g5"]),
    edit('paint "MILK" over the door', goals=["g3"], region=[0.3, 0.2, 0.7, 0.5]),
    edit("turn the moon full", goals=["g5"]),
    edit("add a black cat left of the barn", goals=["g4"]),
]
STRATEGIES: dict[str, dict[str, Any]] = {
    **{name: {} for name in LOOPS},
    "director": {"candidates": 1},
    "oneshot": {},
    "clvr-fused": {"fused": True},
    "clvr-conversation": {"conversation": True},
    "director-set": {"candidates": 2, "judging": "set", "evidence": True},
}
"""Name of a strategy, or name-variant."""


class Recorder:
    """A scripted Vlm that records its prompts."""

    name = "recorder"

    def __init__(self) -> None:
        self.prompts: list[str] = []
        self._actions: Iterator[dict[str, Any]] = iter(ACTIONS)
        self._probabilities: Mapping[str, float] = {"m": 0.9, "u": 0.1, "?": 0.5}

    def chat(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Reply:
        words = [f"[{message.role}]{_pictures(message.images)}\n{message.text}" for message in messages]
        properties = ", ".join(schema["properties"])
        value = self._value(messages[-1])
        self.prompts.append("\n\n".join([f"##### chat for {properties}", *words, f"[assistant]\n{json.dumps(value)}"]))
        return Reply(json.dumps(value), 10)

    def _value(self, message: Message) -> dict[str, Any]:
        task = message.data["task"]
        if task == "goals":
            return {"goals": GOALS}
        if task == "evidence":
            return {"seen": [{"goal": goal, "seen": "nothing of the kind"} for goal in message.data["goals"]]}
        if task == "fused":
            seen = zip("12345", _seen(message.images[0]))
            verdicts = [
                {"goal": f"g{number}", "state": STATES[letter], "evidence": "as I see it"} for number, letter in seen
            ]
            return {"verdicts": verdicts, **next(self._actions, {"kind": "END", "summary": "All of it holds."})}
        return next(self._actions)

    def decide(self, images: Sequence[Picture], questions: Sequence[Question]) -> list[Decision]:
        shares = [self._share(images, question) for question in questions]
        words = [f"[question, answered {share}]\n{question.text}" for share, question in zip(shares, questions)]
        self.prompts.append("\n\n".join([f"##### decide{_pictures(images)}", *words]))
        return [Decision(share, "", 1) for share in shares]

    def _share(self, images: Sequence[Picture], question: Question) -> float:
        task = question.data["task"]
        if task == "goal":
            return self._probabilities[_seen(images[0])[int(question.data["goal"]["id"][1:]) - 1]]
        if task == "choose":
            return 0.9 if canvas_of(images[question.data["place"] - 1]) % 2 else 0.2
        return {"plan-check": 0.1, "compare": 0.9 if images and canvas_of(images[0]) else 0.1}.get(task, 0.95)


def _seen(picture: Picture) -> str:
    return SEEN[min(canvas_of(picture), len(SEEN) - 1)]


def _pictures(images: Sequence[Picture]) -> str:
    return f" with canvas {', '.join(str(canvas_of(image)) for image in images)}" if images else ""


def conversation(strategy: str) -> str:
    vlm = Recorder()
    name = strategy if strategy in LOOPS else strategy.partition("-")[0]
    # The pictures are flat, so an edit changes all of them: nothing is repaired.
    usual = {"budget": Budget(tolerance=None)}
    brief = Brief(PROMPT, name, width=8, height=8, **(usual | STRATEGIES[strategy]))
    drive(Session(brief, RunModels(vlm, FakeExecutor())))
    return "\n\n\n".join(vlm.prompts) + "\n"


def digests(templates: Templates) -> dict[str, str]:
    """Name of each prompt text -> first 16 hexadecimal digits of its SHA-256."""
    texts = sorted(path for path in templates.folder.glob("*.txt") if path.name != "version.txt")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in texts}


def list_new_texts() -> None:
    """Add the texts that the current versions do not list yet. A text that is listed keeps its digest: another wording
    needs another version, so that no run is continued in other words."""
    listed = json.loads(WORDINGS.read_text("utf-8"))
    for part, templates in PARTS.items():
        known = listed[part].setdefault(templates.version, {})
        listed[part][templates.version] = dict(sorted((digests(templates) | known).items()))
    WORDINGS.write_text(json.dumps(listed, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    for name in STRATEGIES:
        (FOLDER / f"{name}.txt").write_text(conversation(name), encoding="utf-8")
    list_new_texts()
