"""Routes that set a run aside, so that the next prompt with its brief begins anew or before what the artist said last,
that move it to the trash, and that open its folder.
"""

from __future__ import annotations

import asyncio
import os
import sys
import webbrowser
from collections.abc import Callable
from typing import Any

from aiohttp import web

from ...clvr_core.errors import BadInput
from ..host.run_folders import listed_run, move_to_trash, pick, start_anew, take_back
from ..host.stops import stop_after_round
from .json_body import read_json_object

LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
POLLS, PAUSE = 50, 0.1
"""How often, and with how many seconds between, it is looked whether a prompt that was cancelled has ended."""


def add_routes(server: Any) -> None:
    """Add the routes to ComfyUI's PromptServer."""
    for path, work in (("anew", start_anew), ("take-back", take_back), ("delete", move_to_trash)):
        server.routes.post(f"/clvr/runs/{path}")(_route(server, lambda name, _, work=work: work(name)))
    server.routes.post("/clvr/runs/pick")(_route(server, lambda name, body: pick(name, _canvas(body))))
    server.routes.post("/clvr/runs/open")(open_folder)
    server.routes.post("/clvr/runs/stop")(_at_once(stop_after_round))


def _route(server: Any, work: Callable[[str, dict[str, Any]], Any]):
    async def handle(request: web.Request) -> web.Response:
        body = await read_json_object(request)
        name = str(body.get("run", ""))
        try:
            await _until_idle(server)
            result = await asyncio.to_thread(work, name, body)
        except BadInput as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({"folder": result} if result else {})

    return handle


def _canvas(body: dict[str, Any]) -> int:
    number = body.get("canvas")
    if not isinstance(number, int) or isinstance(number, bool):
        raise BadInput(f"canvas is {number!r:.40}, and should be the number of one")
    return number


def _at_once(work: Callable[[str], Any]):
    """Make a handler for what is meant for a run that is at work."""

    async def handle(request: web.Request) -> web.Response:
        try:
            work(str((await read_json_object(request)).get("run", "")))
        except BadInput as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({})

    return handle


async def open_folder(request: web.Request) -> web.Response:
    """Open the folder of `run` in the file manager of the machine of ComfyUI, for a tab on that machine only."""
    name = str((await read_json_object(request)).get("run", ""))
    try:
        folder = listed_run(name)
        here = request.remote in LOOPBACK
        shown = here and has_desktop() and await asyncio.to_thread(webbrowser.open, folder.as_uri())
    except BadInput as error:
        return web.json_response({"error": str(error)}, status=400)
    return web.json_response({"shown": bool(shown), "folder": f"output/clvr/{name}"})


def has_desktop() -> bool:
    """Return whether there is a desktop; without one Linux would open a browser in ComfyUI's own terminal."""
    return sys.platform != "linux" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


async def _until_idle(server: Any) -> None:
    """Wait until no prompt is executed, as it could write into the run. Raises BadInput if one still is."""
    for _ in range(POLLS):
        if not server.prompt_queue.get_current_queue_volatile()[0]:
            return
        await asyncio.sleep(PAUSE)
    raise BadInput("a prompt is still at work; cancel it first, or wait for its end")
