"""A question to the artist while the run waits: shown in every open tab, answered once, never asked where nobody looks."""

from __future__ import annotations

import base64
import binascii
import io
import json
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import comfy.model_management
import numpy as np
from aiohttp import web
from comfy_execution.utils import get_executing_context
from PIL import Image
from server import PromptServer

from ...clvr_core.errors import BadInput
from ...clvr_core.policy.remarks import apply_remark
from ...clvr_core.protocols import Picture
from ...clvr_core.records import from_json
from ...clvr_core.run.run_folder import RunFolder
from ...clvr_core.trajectory import Remark, Trajectory
from ..loop.host_session import say

ASKED, ANSWERED = "clvr.review", "clvr.reviewed"
LARGEST = 8 << 20
"""Bytes of an answer: a mask of 1024 x 1024 as PNG is far smaller."""
AWAY = 90.0
"""Seconds that a tab may be gone, to be loaded again, before nobody looks."""
GO_ON = Remark(0)


@dataclass
class Question:
    """`until`: by time.monotonic(). `shown` is what the tabs are told."""

    told: Trajectory
    shown: dict[str, Any]
    until: float
    answer: tuple[Remark, Picture | None] | None = None
    done: threading.Event = field(default_factory=threading.Event)


class ReviewQueue:
    """The open questions, and the tabs that have this pack's front end."""

    def __init__(self) -> None:
        self.open: dict[str, Question] = {}
        self.tabs: set[str] = set()

    def present(self) -> bool:
        """Whether a tab that can show a question is connected. A client that only queues prompts is none."""
        server = getattr(PromptServer, "instance", None)
        return server is not None and any(tab in server.sockets for tab in self.tabs)

    def ask(self, told: Trajectory, folder: str, seconds: float, otherwise: str) -> tuple[Remark, Picture | None]:
        """Waits for the artist at most so long; then, or where nobody looks, `otherwise` is the answer. Cancel ends the wait."""
        if seconds <= 0:
            return GO_ON, None
        silent = (Remark(0, otherwise), None)
        if not self.present():
            return silent
        number, server = uuid.uuid4().hex, PromptServer.instance
        question = Question(told, shown(told, folder, number, seconds, otherwise), time.monotonic() + seconds)
        self.open[number] = question
        server.send_sync(ASKED, question.shown)
        looked = time.monotonic()
        try:
            while not question.done.wait(0.1):
                comfy.model_management.throw_exception_if_processing_interrupted()
                left = question.until - time.monotonic()
                say(f"waiting for your word: {max(0, round(left))} s, then {otherwise}")
                if self.present():
                    looked = time.monotonic()
                if left <= 0 or time.monotonic() - looked > AWAY:
                    break
            return question.answer or silent
        finally:
            del self.open[number]
            server.send_sync(ANSWERED, {"id": number})


DESK = ReviewQueue()


def reviewer_for(folder: str, seconds: float, otherwise: str):
    return lambda told: DESK.ask(told, folder, seconds, otherwise)


def shown(told: Trajectory, folder: str, number: str, seconds: float, otherwise: str) -> dict[str, Any]:
    """What a tab needs to put the question: no picture, only the names of files under the output folder."""
    context, step = get_executing_context(), told.current_step
    states = {verdict.goal: verdict.state for verdict in step.verdicts} if step else {}
    last = told.steps[-1]
    kept = [each for each in told.steps if each.chosen is not None]
    return {
        "id": number,
        "node": context.node_id if context else None,
        "prompt": told.brief.prompt,
        "width": told.brief.width,
        "height": told.brief.height,
        "subfolder": f"clvr/{folder}",
        "current": told.current,
        "canvases": [
            {
                "canvas": each.chosen,
                "file": RunFolder.file_of(each.chosen),
                "step": each.index,
                "accepted": each.accepted,
            }
            for each in kept
        ],
        "goals": [{"id": goal.id, "text": goal.text, "state": states.get(goal.id, "unsure")} for goal in told.goals],
        "step": {"index": last.index, "kind": last.action.kind, "summary": last.action.summary, "reason": last.reason},
        "seconds": seconds,
        "otherwise": otherwise,
    }


def answer_from(question: Question, data: Any) -> tuple[Remark, Picture | None]:
    """Raises BadInput for an answer that cannot be read, or that the run cannot heed."""
    try:
        spoken = {key: value for key, value in data.items() if key not in ("mask", "sha256")}
        said = from_json(Remark, spoken | {"after": 0}, "answer")
    except (ValueError, AttributeError) as error:
        raise BadInput(f"the answer cannot be read: {error}") from error
    mask = painted(data["mask"], question.told.brief.width, question.told.brief.height) if data.get("mask") else None
    apply_remark(question.told, said)
    return said, mask


def painted(text: Any, width: int, height: int) -> Picture:
    """A PNG in base64 -> uint8 H x W at the size of the canvas: 255 where it was painted."""
    try:
        data = base64.b64decode(text, validate=True)
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if image.width * image.height > 4096 * 4096:
                raise ValueError(f"it has {image.width} x {image.height} pixels")
            mask = np.asarray(image.convert("L").resize((width, height)))
    except (OSError, ValueError, TypeError, binascii.Error, Image.DecompressionBombError) as error:
        raise BadInput(f"the mask cannot be read: {error}") from error
    mask = np.where(mask > 127, 255, 0).astype(np.uint8)
    if not mask.any():
        raise BadInput("the mask is empty: paint where the picture may change, or leave it out")
    return mask


def add_routes(server) -> None:
    routes = server.routes

    @routes.get("/clvr/reviews")
    async def listed(request: web.Request) -> web.Response:
        now = time.monotonic()
        waiting = [question for question in list(DESK.open.values()) if not question.done.is_set()]
        return web.json_response([question.shown | {"seconds": question.until - now} for question in waiting])

    @routes.post("/clvr/present")
    async def present(request: web.Request) -> web.Response:
        tab = (await body(request)).get("tab")
        if isinstance(tab, str) and len(tab) <= 64:
            DESK.tabs = {known for known in DESK.tabs if known in server.sockets} | {tab}
        return web.json_response({})

    @routes.post("/clvr/reviews/{id}/stay")
    async def stay(request: web.Request) -> web.Response:
        question = DESK.open.get(request.match_info["id"])
        if question is None:
            return _gone()
        question.until = max(question.until, time.monotonic() + question.shown["seconds"])
        return web.json_response({"seconds": question.until - time.monotonic()})

    @routes.post("/clvr/reviews/{id}")
    async def answered(request: web.Request) -> web.Response:
        question = DESK.open.get(request.match_info["id"])
        if question is None or question.done.is_set():
            return _gone()
        try:
            question.answer = answer_from(question, await body(request))
        except BadInput as error:
            return web.json_response({"error": str(error)}, status=400)
        question.done.set()
        return web.json_response({})


def _gone() -> web.Response:
    return web.json_response({"error": "this question was answered already, or its time is over"}, status=404)


async def body(request: web.Request) -> dict[str, Any]:
    """Empty for what is no JSON object, or is too large."""
    raw = await request.content.read(LARGEST + 1)
    while len(raw) <= LARGEST and (more := await request.content.read(LARGEST + 1 - len(raw))):
        raw += more
    if len(raw) > LARGEST:
        return {}
    try:
        data = json.loads(raw)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
