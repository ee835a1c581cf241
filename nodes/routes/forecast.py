"""What a run would cost, for the line on the node before it is pressed."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from aiohttp import web

from ...clvr_core.brief import Brief, Budget
from ...clvr_core.errors import BadInput
from ...clvr_core.records import to_json
from ...clvr_core.run.forecast import forecast
from ...clvr_core.run.run_folder import JOURNAL, read_trajectory
from ...clvr_core.trajectory import Trajectory
from ..loop.host_session import MAX_ROUNDS, runs
from .model_sizes import told_of
from .review import body

TOLD_BY = 12
"""Newest runs that are read: reading takes a few milliseconds each."""


def earlier() -> list[Trajectory]:
    """The newest runs of the output folder that can be read, newest first."""
    journals = sorted(runs().glob(f"*/{JOURNAL}"), key=_changed, reverse=True)
    found = []
    for journal in journals[:TOLD_BY]:
        with contextlib.suppress(BadInput):  # a run that cannot be read tells nothing of the time
            found.append(read_trajectory(journal.parent))
    return found


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # deleted meanwhile
        return 0.0


def told_for(asked: dict[str, Any]) -> dict[str, Any]:
    """`asked`: the widgets of the node by name, and under `linked` what stands before it. Raises BadInput."""
    try:
        budget = Budget(rounds=min(int(asked.get("rounds", 8)), MAX_ROUNDS))
        side = int(asked.get("width", 96)), int(asked.get("height", 96))
        brief = Brief(
            "x", str(asked.get("strategy", "clvr")), 0, *side, budget, int(asked.get("candidates", 0)) or None
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(str(error)) from error
    return to_json(forecast(brief, earlier())) | {"memory": told_of(asked.get("linked"))}


def add_routes(routes: web.RouteTableDef) -> None:
    @routes.post("/clvr/forecast")
    async def told(request: web.Request) -> web.Response:
        asked = await body(request)
        try:
            return web.json_response(await asyncio.to_thread(told_for, asked))
        except BadInput as error:
            return web.json_response({"error": str(error)}, status=400)
