"""Real HTTP servers on the loopback: one that answers as it is told, and one that speaks OpenAI's chat and can see."""

from __future__ import annotations

import base64
import io
import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image


@dataclass
class Asked:
    path: str
    headers: dict[str, str]
    body: dict[str, Any] | None


@dataclass
class Said:
    """An answer. cut: so many bytes fewer are sent than promised. hang: seconds before it."""

    body: Any = field(default_factory=dict)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = 0
    hang: float = 0.0

    @property
    def data(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Server:
    def __init__(self, answer: Callable[[Asked], Said]) -> None:
        self.asked: list[Asked] = []
        self.gone = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                self.respond(None)

            def do_POST(self) -> None:
                self.respond(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def respond(self, body: dict[str, Any] | None) -> None:
                asked = Asked(self.path, dict(self.headers), body)
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
def serving(answer: Callable[[Asked], Said]) -> Iterator[Server]:
    server = Server(answer)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.gone.set()
        server.http.shutdown()
        server.http.server_close()
        thread.join()


def completion(text: str, finish: str = "stop", logprobs: list[tuple[str, float]] | None = None, tokens: Any = 10) -> Said:
    """A chat completion; `logprobs`: words with their probabilities at the first token."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
    if logprobs is not None:
        top = [{"token": word, "logprob": math.log(share)} for word, share in logprobs]
        choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    return Said({"id": "x", "object": "chat.completion", "choices": [choice], "usage": {"total_tokens": tokens}})


def pictures_in(body: dict[str, Any]) -> list[np.ndarray]:
    found = []
    for message in body["messages"]:
        for part in message["content"] if isinstance(message["content"], list) else []:
            if part["type"] == "image_url":
                kind, _, data = part["image_url"]["url"].partition(",")
                assert kind == "data:image/png;base64"
                found.append(np.array(Image.open(io.BytesIO(base64.b64decode(data)))))
    return found


def said_in(body: dict[str, Any]) -> str:
    """All the words of the conversation."""
    contents = [message["content"] for message in body["messages"]]
    parts = [part for content in contents for part in ([{"text": content}] if isinstance(content, str) else content)]
    return "\n".join(part.get("text", "") for part in parts)
