"""The queue of reviews: questions that a run waits for. Every open tab shows them; the first answer counts."""

from __future__ import annotations

import base64
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import comfy.model_management
import numpy as np
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ...clvr_core.errors import BadInput
from ...clvr_core.policy.remarks import apply_remark
from ...clvr_core.protocols import Picture
from ...clvr_core.records import from_json
from ...clvr_core.run.run_folder import RunFolder
from ...clvr_core.storage.pictures import DECODING_ERRORS, opened
from ...clvr_core.trajectory import Remark, Trajectory
from .progress import show_text
from .run_folders import runs_folder
from .stops import is_stopping, say_stop

if TYPE_CHECKING:
    from ...clvr_core.run.session import Reviewer

ASKED, ANSWERED = "clvr.review", "clvr.reviewed"
"""Events to the tabs: a question is open, and it is closed."""
AWAY = 90.0
"""Seconds without any open tab, enough to load a page again, after which a question closes."""
MAX_MASK_PIXELS = 4096 * 4096
GO_ON = Remark(0)


@dataclass
class Question:
    """One open review.

    trajectory: the run up to the step that is reviewed.
    shown: what the tabs get, as `question_data` makes it.
    until: the time.monotonic() at which the question closes.
    answer: the remark, and the painted mask if there is one, uint8 H x W; None before the artist answered.
    done: set when there is an answer.
    """

    trajectory: Trajectory
    shown: dict[str, Any]
    until: float
    answer: tuple[Remark, Picture | None] | None = None
    done: threading.Event = field(default_factory=threading.Event)


class ReviewQueue:
    """The open questions by id, and the ids of the tabs that have this pack's front end loaded."""

    def __init__(self) -> None:
        self.open: dict[str, Question] = {}
        self.tabs: set[str] = set()

    def has_tab(self) -> bool:
        """Return whether a tab that can show a question is connected. A client that only queues prompts is none."""
        server = getattr(PromptServer, "instance", None)
        return server is not None and any(tab in server.sockets for tab in self.tabs)

    def ask(self, trajectory: Trajectory, folder: str, seconds: float, otherwise: str) -> tuple[Remark, Picture | None]:
        """Ask the artist and wait for the answer, at most `seconds`. `folder`: name of the run's folder.

        Return a remark that says `otherwise` if nobody answers in time or no tab is open. With `seconds` 0 nobody is
        asked. Cancel ends the wait by ComfyUI's own exception.
        """
        if is_stopping(runs_folder() / folder):
            return say_stop(trajectory)
        if seconds <= 0:
            return GO_ON, None
        silent = (Remark(0, otherwise), None)
        if not self.has_tab():
            return silent
        number, server = uuid.uuid4().hex, PromptServer.instance
        shown = question_data(trajectory, folder, number, seconds, otherwise)
        question = Question(trajectory, shown, time.monotonic() + seconds)
        self.open[number] = question
        server.send_sync(ASKED, question.shown)
        last_seen, told = time.monotonic(), ""
        try:
            while not question.done.wait(0.1):
                comfy.model_management.throw_exception_if_processing_interrupted()
                if is_stopping(runs_folder() / folder):
                    return say_stop(trajectory)
                left = question.until - time.monotonic()
                # Once a second: the text says whole seconds, and each message goes to every tab.
                if (words := f"waiting for your word: {max(0, round(left))} s, then {otherwise}") != told:
                    show_text(told := words)
                if self.has_tab():
                    last_seen = time.monotonic()
                if left <= 0 or time.monotonic() - last_seen > AWAY:
                    break
            return question.answer or silent
        finally:
            del self.open[number]
            server.send_sync(ANSWERED, {"id": number})

    def reviewer(self, folder: str, seconds: float, otherwise: str) -> Reviewer:
        """Make a session's reviewer that asks through this queue."""
        return lambda trajectory: self.ask(trajectory, folder, seconds, otherwise)


REVIEWS = ReviewQueue()


def question_data(trajectory: Trajectory, folder: str, number: str, seconds: float, otherwise: str) -> dict[str, Any]:
    """Make the JSON from which a tab shows the question. Pictures are files below the output folder."""
    context, step = get_executing_context(), trajectory.current_step
    verdicts = {verdict.goal: verdict for verdict in step.verdicts} if step else {}
    states = {goal: verdict.state for goal, verdict in verdicts.items()}
    last = trajectory.steps[-1]
    return {
        "id": number,
        "node": context.node_id if context else None,
        "prompt": trajectory.brief.prompt,
        "width": trajectory.brief.width,
        "height": trajectory.brief.height,
        "subfolder": f"clvr/{folder}",
        "first": 0 if trajectory.steps[0].action.kind == "GIVEN" else 1,
        "current": trajectory.current,
        "canvases": [
            {
                "canvas": each.chosen,
                "file": RunFolder.file_of(each.chosen),
                "step": each.index,
                "accepted": each.accepted,
            }
            for each in trajectory.steps
            if each.chosen is not None
        ],
        "candidates": [
            {"canvas": each.canvas, "file": each.file, "chosen": each.canvas == last.chosen} for each in last.candidates
        ],
        "goals": [
            {
                "id": goal.id,
                "text": goal.text,
                "state": states.get(goal.id, "unsure"),
                "need": goal.need,
                "places": [] if goal.id not in verdicts else verdicts[goal.id].wrong_places,
            }
            for goal in trajectory.goals
        ],
        "step": {
            "index": last.index,
            "kind": last.action.kind,
            "summary": last.action.summary,
            "reason": last.reason,
            "ruling": last.ruling,
        },
        "seconds": seconds,
        "otherwise": otherwise,
    }


def answer_from(question: Question, data: Any) -> tuple[Remark, Picture | None]:
    """Read an answer that a tab sent. Raises BadInput if it is malformed or does not fit the run."""
    try:
        fields = {key: value for key, value in data.items() if key not in ("mask", "sha256")}
        remark = from_json(Remark, fields | {"after": 0}, "answer")
    except (ValueError, AttributeError) as error:
        raise BadInput(f"the answer cannot be read: {error}") from error
    brief = question.trajectory.brief
    mask = mask_from(data["mask"], brief.width, brief.height) if data.get("mask") else None
    apply_remark(question.trajectory, remark)
    return remark, mask


def mask_from(text: Any, width: int, height: int) -> Picture:
    """Decode a PNG in base64 to uint8 H x W, 255 where it is painted. Raises BadInput if nothing is painted."""
    try:
        data = base64.b64decode(text, validate=True)
        with opened(data, ("PNG",), MAX_MASK_PIXELS) as image:
            mask = np.asarray(image.convert("L").resize((width, height)))
    except (*DECODING_ERRORS, TypeError) as error:
        raise BadInput(f"the mask cannot be read: {error}") from error
    mask = np.where(mask > 127, 255, 0).astype(np.uint8)
    if not mask.any():
        raise BadInput("the mask is empty: paint where the picture may change, or leave it out")
    return mask
