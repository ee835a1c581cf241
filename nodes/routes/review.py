"""Routes of the review: a tab says that it is open, fetches the open questions, asks for more time, answers."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from ...clvr_core.errors import BadInput
from ..host.review_queue import REVIEWS, answer_from
from .json_body import read_json_object


def add_routes(server: Any) -> None:
    """Add the routes to ComfyUI's PromptServer."""
    routes = server.routes

    @routes.get("/clvr/reviews")
    async def open_questions(request: web.Request) -> web.Response:
        now = time.monotonic()
        waiting = [question for question in list(REVIEWS.open.values()) if not question.done.is_set()]
        return web.json_response([question.shown | {"seconds": question.until - now} for question in waiting])

    @routes.post("/clvr/present")
    async def present(request: web.Request) -> web.Response:
        tab = (await read_json_object(request)).get("tab")
        if isinstance(tab, str) and len(tab) <= 64:
            REVIEWS.tabs = {known for known in REVIEWS.tabs if known in server.sockets} | {tab}
        return web.json_response({})

    @routes.post("/clvr/reviews/{id}/stay")
    async def extend(request: web.Request) -> web.Response:
        question = REVIEWS.open.get(request.match_info["id"])
        if question is None:
            return _gone()
        question.until = max(question.until, time.monotonic() + question.shown["seconds"])
        return web.json_response({"seconds": question.until - time.monotonic()})

    @routes.post("/clvr/reviews/{id}")
    async def answer(request: web.Request) -> web.Response:
        question = REVIEWS.open.get(request.match_info["id"])
        if question is None or question.done.is_set():
            return _gone()
        try:
            question.answer = answer_from(question, await read_json_object(request))
        except BadInput as error:
            return web.json_response({"error": str(error)}, status=400)
        question.done.set()
        return web.json_response({})


def _gone() -> web.Response:
    return web.json_response({"error": "this question was answered already, or its time is over"}, status=404)
