"""A server that records what it sends."""

from __future__ import annotations

from typing import Any

from _missing import missing
from aiohttp import web
from execution import PromptQueue

__getattr__ = missing(__name__)


class PromptServer:
    instance: PromptServer | None = None

    def __init__(self) -> None:
        """`sockets`: the tabs that are connected. `client_id`: of the tab whose prompt is executing."""
        self.routes = web.RouteTableDef()
        self.prompt_queue = PromptQueue()
        self.sockets: dict[str, Any] = {}
        self.client_id: str | None = None
        self.last_node_id: str | None = None
        self.sent: list[tuple[str, Any, str | None]] = []
        self.texts: list[tuple[str, str]] = []

    def send_sync(self, event: str, data: Any, sid: str | None = None) -> None:
        self.sent.append((event, data, sid))

    def send_progress_text(self, text: str, node_id: str) -> None:
        self.texts.append((node_id, text))
