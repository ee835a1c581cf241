"""What the viewer asks the server for: the list of runs, the lines of one, its pictures. Reads only, and only in the output folder under
clvr."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from aiohttp import web

from ...clvr_core.errors import BadInput
from ...clvr_core.run.run_folder import JOURNAL, read_trajectory
from ..loop.host_session import runs
from ..trajectories import inside, listed

LARGEST = 64 << 20


def add_routes(routes: web.RouteTableDef) -> None:
    for path, answer in (("runs", all_runs), ("lines", lines)):
        routes.get(f"/clvr/{path}")(_in_words(answer))
    routes.get("/clvr/canvas")(canvas)


def _in_words(answer: Callable[[Any], dict[str, Any]]):
    async def handle(request: web.Request) -> web.Response:
        try:
            return web.json_response(await asyncio.to_thread(answer, request.query))
        except BadInput as error:
            return web.json_response({"error": str(error)}, status=404)

    return handle


def all_runs(query: Any) -> dict[str, Any]:
    return {"runs": [{"run": name, **summary(runs() / name)} for name in listed()]}


def summary(path: Path) -> dict[str, Any]:
    try:
        state = journal_of(path).stat()
        return dict(_summary(path, state.st_mtime_ns, state.st_size))
    except (BadInput, OSError) as error:
        return {"prompt": f"cannot be read: {error}", "steps": 0, "met": None, "first": ""}


@lru_cache(1024)
def _summary(path: Path, changed: int, size: int) -> tuple[tuple[str, Any], ...]:
    told = read_trajectory(path)
    first = next((candidate.sha256 for step in told.steps for candidate in step.candidates), "")
    met = told.outcome.met if told.outcome else None
    return ("prompt", told.brief.prompt[:400]), ("steps", len(told.steps)), ("met", met), ("first", first)


def lines(query: Any) -> dict[str, Any]:
    """The lines of a run as they stand in its file, from number `from` on, and how many there are; a line that is not whole is none yet."""
    name, start = query.get("run", ""), query.get("from", "0")
    try:
        whole = journal_of(inside(runs() / name)).read_bytes().split(b"\n")[:-1]
    except (OSError, ValueError) as error:
        raise BadInput(f"the run {name!r:.80} is not in the output folder under clvr any more") from error
    begin = int(start) if start.isdecimal() and len(start) < 10 else 0
    return {"total": len(whole), "lines": [line.decode(errors="replace") for line in whole[begin:]]}


def journal_of(path: Path) -> Path:
    journal = inside(path / JOURNAL)
    if journal.stat().st_size > LARGEST:
        raise BadInput(
            f"the record of {path.name} has more than {LARGEST >> 20} MB, and the viewer opens none that large"
        )
    return journal


async def canvas(request: web.Request) -> web.StreamResponse:
    name, number = request.query.get("run", ""), request.query.get("canvas", "")
    try:
        file = inside(inside(runs() / name) / f"canvas-{int(number):03d}.png")
        if not (number.isdecimal() and len(number) < 7 and file.is_file()):
            raise ValueError("no such file")
    except (BadInput, ValueError, OSError):
        return web.json_response({"error": f"canvas {number!r:.20} is not in the run {name!r:.80}"}, status=404)
    return web.FileResponse(
        file, headers={"Content-Type": "image/png", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
    )
