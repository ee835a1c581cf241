"""A real HTTP server on the loopback with scripted answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Asked:
    path: str
    headers: dict[str, str]
    body: dict[str, Any] | None

    @classmethod
    def read(cls, path: str, headers: dict[str, str], data: bytes | None) -> Asked:
        return cls(path, headers, None if data is None else json.loads(data))


@dataclass
class Said:
    """An answer. cut: bytes of it that are not sent. hang: seconds before it is sent."""

    body: Any = field(default_factory=dict)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = 0
    hang: float = 0.0

    @property
    def data(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Server:
    """asked: every request as `read` returned it, given path, headers and content (None for a GET)."""

    def __init__(self, answer: Callable[[Any], Said], read: Callable[[str, dict[str, str], bytes | None], Any]) -> None:
        self.asked: list[Any] = []
        self.gone = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                self.respond(None)

            def do_POST(self) -> None:
                self.respond(self.rfile.read(int(self.headers["Content-Length"])))

            def respond(self, data: bytes | None) -> None:
                asked = read(self.path, dict(self.headers), data)
                outer.asked.append(asked)
                said = answer(asked)
                if said.hang and outer.gone.wait(said.hang):
                    return
                self.send_response(said.status)
                for name, value in ({"Content-Length": str(len(said.data))} | said.headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(said.data[: len(said.data) - said.cut])
                self.close_connection = True

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *_: None
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"


@contextmanager
def serving(answer: Callable[[Any], Said], read: Callable[..., Any] = Asked.read) -> Iterator[Server]:
    server = Server(answer, read)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.gone.set()
        server.http.shutdown()
        server.http.server_close()
        thread.join()
