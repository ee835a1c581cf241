"""Whole runs as one growing conversation each (`Brief.conversation`), by which the embedded vision-language model is taught as
a controller: brief, action, canvas and verdicts, next action, and so on.

The runs are made by the loop itself, with the exact controller, an executor that is simulated and errs, and a judge that
errs alike about the same things. So each request is what a controller is asked with in a run, word by word.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..brief import Brief, Budget
from ..protocols import Message, Picture, Reply
from ..run.session import RunModels, Session, drive
from ..stickers.grammar import NotInGrammar
from ..stickers.judge import StickersVlm
from ..stickers.scene import CANVAS, Scene
from ..stickers.simulated import NFE, Rates, SimulatedExecutor, perceive_rendered, rendered
from .vlm_control import CLVR, ordered, some_brief
from .vlm_questions import Chance

ROUNDS, PATIENCE = 8, 3
USUAL = Rates()
MISJUDGED = 0.03
"""How often the judge errs."""
FAULTY = Rates(thing=0.12, crowd=0.03, place=0.08, edit=0.2, spill=0.1)
"""Of the executor in half of the runs, so that there is more to mend; in the others its usual rates."""


@dataclass(frozen=True)
class Spoken:
    """One turn. role: system, user or assistant. scenes: of its pictures, which come after its words."""

    role: str
    text: str
    scenes: tuple[Scene, ...] = ()


class Exact(StickersVlm):
    """The exact controller, which writes compact JSON in the order of the schema and keeps its last request for an action
    and the reply to it."""

    def __init__(self) -> None:
        super().__init__(read=perceive_rendered)
        self.messages: Sequence[Message] = ()
        self.reply = ""

    def chat(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Reply:
        reply = super().chat(messages, schema)
        if messages[-1].data["task"] != "action":
            return reply
        value = dict.fromkeys(schema["properties"]) | json.loads(reply.text)
        self.messages, self.reply = messages, json.dumps(ordered(value, schema), separators=(",", ":"))
        return replace(reply, text=self.reply)


def blank(scene: Scene) -> Picture:
    """A picture that shows nothing; the scene is in its lowest bits."""
    return np.zeros((CANVAS, CANVAS, 3), np.uint8)


def conversation_about(brief: Brief, rates: Rates = USUAL) -> list[Spoken]:
    """Run the loop on the brief and return its conversation, the last turn of which is the last action; empty where the
    controller was not asked, or where a canvas cannot be read.

    rates: of the executor. The judge's errors hang on the brief's seed.
    """
    executor = SimulatedExecutor(rates, NFE["merged"], lambda scene: rendered(scene, blank), perceive_rendered)
    controller = Exact()
    judge = StickersVlm(MISJUDGED, brief.seed, "correlated", read=perceive_rendered)
    drive(Session(replace(brief, conversation=True), RunModels(controller, executor, judge=judge)))
    spoken = []
    for message in controller.messages:
        seen = [perceive_rendered(picture) for picture in message.images]
        if not all(each.clean for each in seen):
            return []
        spoken.append(Spoken(message.role, message.text, tuple(each.scene() for each in seen)))
    return [*spoken, Spoken("assistant", controller.reply)] if spoken else []


def conversations(rng: Chance, count: int) -> list[list[Spoken]]:
    """Return so many conversations about random briefs."""
    found: list[list[Spoken]] = []
    while len(found) < count:
        try:
            brief, _, _ = some_brief(rng)
        except NotInGrammar:
            continue
        strategy = "clvr" if rng.random() < CLVR else "director"
        brief = replace(brief, strategy=strategy, budget=Budget(ROUNDS, patience=PATIENCE), final_ab=False)
        if spoken := conversation_about(brief, USUAL if rng.random() < 0.5 else FAULTY):
            found.append(spoken)
    return found
