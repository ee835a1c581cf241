"""Responses that tests read, and a table of routes that tests call."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _missing import missing

__getattr__ = missing(__name__)


class StreamResponse:
    def __init__(self, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.status, self.headers = status, headers or {}


class Response(StreamResponse):
    def __init__(
        self, text: str = "", status: int = 200, headers: dict[str, str] | None = None, *, body: bytes = b""
    ) -> None:
        super().__init__(status, headers)
        self.text, self.body = text, body


class FileResponse(StreamResponse):
    def __init__(self, path: Path, headers: dict[str, str] | None = None) -> None:
        super().__init__(200, headers)
        self.path = path


def json_response(data: Any, status: int = 200) -> Response:
    return Response(json.dumps(data), status, {"Content-Type": "application/json"})


class Body:
    """A request's content, given out in pieces as a network would."""

    def __init__(self, data: bytes, piece: int = 65536) -> None:
        self._left, self._piece = data, piece

    async def read(self, most: int) -> bytes:
        size = min(most, self._piece)
        given, self._left = self._left[:size], self._left[size:]
        return given


class Request:
    def __init__(self, query: dict[str, str], match_info: dict[str, str], body: bytes = b"") -> None:
        self.query, self.match_info, self.content = query, match_info, Body(body)


class RouteTableDef:
    """Handlers by method and path."""

    def __init__(self) -> None:
        self.handlers: dict[tuple[str, str], Callable] = {}

    def get(self, path: str) -> Callable:
        return self._adder("GET", path)

    def post(self, path: str) -> Callable:
        return self._adder("POST", path)

    def _adder(self, method: str, path: str) -> Callable:
        def add(handler: Callable) -> Callable:
            self.handlers[method, path] = handler
            return handler

        return add
