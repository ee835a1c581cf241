"""Routes that set a run aside: the next prompt with its brief begins anew, or before what the artist said last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web

from ...clvr_core.errors import BadInput
from ..host.run_folders import start_anew, take_back
from .json_body import read_json_object

POLLS, PAUSE = 50, 0.1
"""How often, and with how many seconds between, it is looked whether a prompt that was cancelled has ended."""


def add_routes(server: Any) -> None:
    """Add the routes to ComfyUI's PromptServer."""
    for path, work in (("anew", start_anew), ("take-back", take_back)):
        server.routes.post(f"/clvr/runs/{path}")(_route(server, work))


def _route(server: Any, work: Callable[[str], Any]):
    async def handle(request: web.Request) -> web.Response:
        name = str((await read_json_object(request)).get("run", ""))
        try:
            await _until_idle(server)
            await asyncio.to_thread(work, name)
        except BadInput as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({})

    return handle


async def _until_idle(server: Any) -> None:
    """Wait until no prompt is executed, as it could write into the run. Raises BadInput if one still is."""
    for _ in range(POLLS):
        if not server.prompt_queue.get_current_queue_volatile()[0]:
            return
        await asyncio.sleep(PAUSE)
    raise BadInput("a prompt is still at work; cancel it first, or wait for its end")
