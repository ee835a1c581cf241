"""The JSON body of a request."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from ...clvr_core.reading import json_of

MAX_BYTES = 8 << 20
"""A mask of 1024 x 1024 pixels as PNG is far smaller."""


async def read_json_object(request: web.Request) -> dict[str, Any]:
    """Read the body as a JSON object; return an empty one if it is something else, or has more than MAX_BYTES."""
    raw = await request.content.read(MAX_BYTES + 1)
    while len(raw) <= MAX_BYTES and (more := await request.content.read(MAX_BYTES + 1 - len(raw))):
        raw += more
    if len(raw) > MAX_BYTES:
        return {}
    try:
        data = json_of(bytes(raw))
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
