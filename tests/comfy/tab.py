"""A tab of the browser as the server sees it: a websocket that stays open, with this pack's front end behind it."""

from __future__ import annotations

import base64
import os
import socket
from typing import Any

from tests.comfy.server import Comfy
from tests.waiting import until


class Tab:
    def __init__(self, comfy: Comfy, name: str = "tab-of-the-tests") -> None:
        self.comfy, self.name = comfy, name
        self.socket = socket.create_connection(("127.0.0.1", comfy.port), timeout=30)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET /ws?clientId={name} HTTP/1.1",
            f"Host: 127.0.0.1:{comfy.port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
        ]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        assert b"101" in self.socket.recv(64)
        comfy.post("/clvr/present", {"tab": name})

    def __enter__(self) -> Tab:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def asked(self) -> dict[str, Any]:
        """The one open question."""
        return until(lambda: self.comfy.get("/clvr/reviews"), "a question")[0]

    def answer(self, question: dict[str, Any], **said: Any) -> None:
        self.comfy.post(f"/clvr/reviews/{question['id']}", said)
