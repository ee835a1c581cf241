"""Routes of the viewer: the list of runs, the journal lines of a run, its pictures, whole and small. They only read, and
only in the folder of runs.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from aiohttp import web
from PIL import Image

from ...clvr_core.errors import BadInput
from ...clvr_core.run.reading import JOURNAL, NoRun
from ...clvr_core.storage.pictures import DECODING_ERRORS, opened
from ...clvr_core.storage.png import read_png
from ...clvr_core.storage.png_encode import encode
from ..host.run_folders import list_runs, require_inside, runs_folder
from .run_index import RunIndex, RunSummary

MAX_JOURNAL_BYTES = 64 << 20
LISTED = 5000
"""Runs that the gallery lists at most."""
THUMB_SIDE = 128
"""Pixels of the longer side of a small picture."""


def add_routes(routes: web.RouteTableDef) -> None:
    for path, answer in (("runs", all_runs), ("lines", lines)):
        routes.get(f"/clvr/{path}")(_json_route(answer))
    routes.get("/clvr/canvas")(canvas)
    routes.get("/clvr/thumb")(thumb)
    routes.get("/clvr/clean")(clean)


def _json_route(answer: Callable[[Any], dict[str, Any]]):
    """Make a handler that answers in a worker thread; a BadInput becomes status 404 with its sentence."""

    async def handle(request: web.Request) -> web.Response:
        try:
            return web.json_response(await asyncio.to_thread(answer, request.query))
        except BadInput as error:
            return web.json_response({"error": str(error)}, status=404)

    return handle


def all_runs(query: Any) -> dict[str, Any]:
    names, index = list_runs(LISTED), _index(runs_folder())
    listed = [{"run": name, **summary(index, name)} for name in names]
    index.keep(names)
    return {"runs": listed}


@lru_cache(1)
def _index(folder: Path) -> RunIndex:
    return RunIndex(folder, LISTED)


def summary(index: RunIndex, name: str) -> dict[str, Any]:
    """Return the fields of RunSummary and `changed`, in seconds since 1970; for a damaged run what is wrong with it, as
    its prompt, without the path of the folder of runs."""
    changed = 0.0
    try:
        state = journal_of(runs_folder() / name).stat()
        changed = state.st_mtime
        return asdict(index.summary(name, state.st_mtime_ns, state.st_size)) | {"changed": changed}
    except NoRun as error:
        why = error.why
    except BadInput as error:
        why = str(error)  # of `journal_of`, by the name alone
    except OSError as error:
        why = error.strerror
    unread = RunSummary(f"cannot be read: {why}", 0, None, "", "", "", 0, 0, None)
    return asdict(unread) | {"changed": changed}


def lines(query: Any) -> dict[str, Any]:
    """Return the journal lines of `run` from number `from` on, and how many there are. A line still being written is
    left out.
    """
    name, start = query.get("run", ""), query.get("from", "0")
    try:
        whole = journal_of(require_inside(runs_folder() / name)).read_bytes().split(b"\n")[:-1]
    except BadInput:
        raise
    except (OSError, ValueError) as error:
        raise BadInput(f"the run {Path(name).name!r:.80} is not in the output folder under clvr any more") from error
    begin = int(start) if start.isdecimal() and len(start) < 10 else 0
    return {"total": len(whole), "lines": [line.decode(errors="replace") for line in whole[begin:]]}


def journal_of(path: Path) -> Path:
    """Return the run's journal. Raises BadInput if it has more than MAX_JOURNAL_BYTES or lies elsewhere."""
    journal = require_inside(path / JOURNAL)
    if journal.stat().st_size > MAX_JOURNAL_BYTES:
        raise BadInput(
            f"the record of {path.name} has more than {MAX_JOURNAL_BYTES >> 20} MB, and the viewer opens none that large"
        )
    return journal


HEADERS = {"Content-Type": "image/png", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}


async def canvas(request: web.Request) -> web.StreamResponse:
    """Answer with canvas number `canvas` of `run` as PNG, or status 404."""
    try:
        return web.FileResponse(_canvas_file(request.query), headers=HEADERS)
    except BadInput as error:
        return web.json_response({"error": str(error)}, status=404)


async def clean(request: web.Request) -> web.StreamResponse:
    """Answer with the same canvas as a PNG to save, without trajectory, workflow or any other metadata."""
    try:
        file = _canvas_file(request.query)
        data = await asyncio.to_thread(lambda: encode(read_png(file)[0], []))
    except BadInput as error:
        return web.json_response({"error": str(error)}, status=404)
    return web.Response(body=data, headers=HEADERS | {"Content-Disposition": 'attachment; filename="picture.png"'})


async def thumb(request: web.Request) -> web.Response:
    """Answer with a small JPEG of the same canvas, or status 404."""
    try:
        file = _canvas_file(request.query)
        state = await asyncio.to_thread(file.stat)
        data = await asyncio.to_thread(_thumb, file, state.st_mtime_ns, state.st_size)
    except (BadInput, *DECODING_ERRORS) as error:
        why = str(error) if isinstance(error, BadInput) else "the picture cannot be read"
        return web.json_response({"error": why}, status=404)
    # A tab's address of it names the moment of the run's last change.
    kept = {"Content-Type": "image/jpeg", "Cache-Control": "private, max-age=86400"}
    return web.Response(body=data, headers=HEADERS | kept)


@lru_cache(1024)
def _thumb(file: Path, modified: int, size: int) -> bytes:
    """Make the small picture; `modified` and `size` of its file are part of the cache's key."""
    with opened(file.read_bytes(), ("PNG",)) as image:
        small = image.convert("RGB")
    small.thumbnail((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _canvas_file(query: Any) -> Path:
    """Return the file of canvas number `canvas` of `run`. Raises BadInput if it is not there."""
    name, number = query.get("run", ""), query.get("canvas", "")
    try:
        file = require_inside(require_inside(runs_folder() / name) / f"canvas-{int(number):03d}.png")
        if number.isdecimal() and len(number) < 7 and file.is_file():
            return file
    except (BadInput, ValueError, OSError):
        pass
    raise BadInput(f"canvas {number!r:.20} is not in the run {name!r:.80}")
