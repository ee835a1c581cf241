"""A real HTTP server that speaks OpenAI's images API and draws with any executor."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

from clvr_core.protocols import DrawRequest, Executor, Picture


@dataclass
class Asked:
    path: str
    headers: dict[str, str]
    fields: dict[str, Any]
    pictures: list[Picture]

    @property
    def request(self) -> DrawRequest:
        width, height = map(int, self.fields["size"].split("x"))
        return DrawRequest(self.fields["prompt"], int(self.fields["seed"]), tuple(self.pictures), width, height)


@dataclass
class Answer:
    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def picture_answer(picture: Picture, kind: str = "PNG") -> Answer:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, kind)
    return Answer(json.dumps({"created": 0, "data": [{"b64_json": base64.b64encode(data.getvalue()).decode()}]}).encode())


def drawing(executor: Executor) -> Callable[[Asked], Answer]:
    """One picture at a time, as the executor draws it alone."""
    lock = threading.Lock()

    def answer(asked: Asked) -> Answer:
        with lock:
            return picture_answer(executor.draw([asked.request])[0].picture)

    return answer


class ImageServerForTests:
    def __init__(self, answer: Callable[[Asked], Answer]) -> None:
        self.asked: list[Asked] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                asked = Asked(self.path, dict(self.headers), *_read(self.headers["Content-Type"], data))
                outer.asked.append(asked)
                said = answer(asked)
                self.send_response(said.status)
                for name, value in ({"Content-Length": str(len(said.body))} | said.headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(said.body)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda *_: None
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"


def _read(kind: str, data: bytes) -> tuple[dict[str, Any], list[Picture]]:
    if kind == "application/json":
        return json.loads(data), []
    form = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + data, policy=HTTP)
    assert form.get_content_type() == "multipart/form-data" and not form.defects
    fields, pictures = {}, []
    for part in form.iter_parts():
        name = part.get_param("name", header="content-disposition")
        if name == "image":
            pictures.append(np.asarray(Image.open(io.BytesIO(part.get_content())).convert("RGB")))
        else:
            fields[name] = part.get_content().removesuffix("\r\n")
    return fields, pictures


@contextmanager
def serving_images(answer: Callable[[Asked], Answer]) -> Iterator[ImageServerForTests]:
    server = ImageServerForTests(answer)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
        thread.join()
