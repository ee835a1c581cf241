"""A real HTTP server that speaks OpenAI's images API and draws with any executor."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from email import message_from_bytes
from email.policy import HTTP
from typing import Any

import numpy as np
from PIL import Image

from clvr_core.protocols import DrawRequest, Executor, Picture
from tests.servers import Said, Server, serving


@dataclass
class Asked:
    path: str
    headers: dict[str, str]
    fields: dict[str, Any]
    pictures: list[Picture]

    @classmethod
    def read(cls, path: str, headers: dict[str, str], data: bytes | None) -> Asked:
        return cls(path, headers, *_read(headers["Content-Type"], data))

    @property
    def request(self) -> DrawRequest:
        width, height = map(int, self.fields["size"].split("x"))
        return DrawRequest(self.fields["prompt"], int(self.fields["seed"]), tuple(self.pictures), width, height)


def picture_answer(picture: Picture, kind: str = "PNG") -> Said:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, kind)
    return Said({"created": 0, "data": [{"b64_json": base64.b64encode(data.getvalue()).decode()}]})


def drawing(executor: Executor) -> Callable[[Asked], Said]:
    """One picture at a time, as the executor draws it alone."""
    lock = threading.Lock()

    def answer(asked: Asked) -> Said:
        with lock:
            return picture_answer(executor.draw([asked.request])[0].picture)

    return answer


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


def serving_images(answer: Callable[[Asked], Said]) -> AbstractContextManager[Server]:
    return serving(answer, Asked.read)
