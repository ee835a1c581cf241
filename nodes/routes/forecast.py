"""Route of the forecast: what a run will cost, for the line on the node before the prompt is queued."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from aiohttp import web

from ...clvr_core.brief import SIDE, Brief, Budget
from ...clvr_core.errors import BadInput
from ...clvr_core.records import to_json
from ...clvr_core.run.forecast import forecast
from ...clvr_core.run.run_folder import JOURNAL, read_trajectory
from ...clvr_core.trajectory import Trajectory
from ..host.run_folders import runs_folder
from ..loop.inputs import MAX_ROUNDS
from .json_body import read_json_object

RECENT = 12
"""Newest runs that a forecast reads; each takes a few milliseconds."""


def recent_runs() -> list[Trajectory]:
    """Read the newest runs of the output folder, newest first; a damaged one is skipped."""
    journals = sorted(runs_folder().glob(f"*/{JOURNAL}"), key=_modified, reverse=True)
    found = []
    for journal in journals[:RECENT]:
        with contextlib.suppress(BadInput):
            found.append(read_trajectory(journal.parent))
    return found


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # deleted meanwhile
        return 0.0


def forecast_for(asked: dict[str, Any]) -> dict[str, Any]:
    """Return the forecast and the memory plan as JSON. Raises BadInput for a value out of range.

    asked: the widgets of the node by name; under `linked` the nodes upstream, as `memory_of` takes them.
    """
    from .model_sizes import memory_of

    try:
        budget = Budget(rounds=min(int(asked.get("rounds", 8)), MAX_ROUNDS))
        size = int(asked.get("width", SIDE)), int(asked.get("height", SIDE))
        brief = Brief(
            "x", str(asked.get("strategy", "clvr")), 0, *size, budget, int(asked.get("candidates", 0)) or None
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(str(error)) from error
    return to_json(forecast(brief, recent_runs())) | {"memory": memory_of(asked.get("linked"))}


def add_routes(routes: web.RouteTableDef) -> None:
    @routes.post("/clvr/forecast")
    async def answer(request: web.Request) -> web.Response:
        asked = await read_json_object(request)
        try:
            return web.json_response(await asyncio.to_thread(forecast_for, asked))
        except BadInput as error:
            return web.json_response({"error": str(error)}, status=400)
