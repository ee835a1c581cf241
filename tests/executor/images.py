"""A real HTTP server that speaks OpenAI's images API and draws with any executor."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
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
    files: dict[str, Picture] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str, headers: dict[str, str], data: bytes | None) -> Asked:
        return cls(path, headers, *_read(headers["Content-Type"], data))

    @property
    def request(self) -> DrawRequest:
        width, height = map(int, self.fields["size"].split("x"))
        return DrawRequest(self.fields["prompt"], int(self.fields.get("seed", 0)), tuple(self.pictures), width, height)


def picture_answer(picture: Picture, kind: str = "PNG") -> Said:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, kind)
    return Said({"created": 0, "data": [{"b64_json": base64.b64encode(data.getvalue()).decode()}]})


def _alone(executor: Executor) -> Callable[[Asked], Picture]:
    lock = threading.Lock()

    def draw(asked: Asked) -> Picture:
        with lock:
            return executor.draw([asked.request])[0].picture

    return draw


def drawing(executor: Executor) -> Callable[[Asked], Said]:
    """One picture at a time, as the executor draws it alone."""
    draw = _alone(executor)
    return lambda asked: picture_answer(draw(asked))


OPENAI = {"prompt", "model", "n", "size"}
OWN = OPENAI | {"response_format", "output_format", "seed", "num_inference_steps", "guidance_scale"}
DIALECTS = {
    "vllm-omni": (OWN, OWN | {"mask_image", "strength"}),
    "sglang": (OWN, OWN | {"mask"}),
    "gpt-image": (OPENAI | {"output_format"}, OPENAI | {"output_format", "mask"}),
    "dall-e": (OPENAI | {"response_format"}, OPENAI | {"response_format", "mask"}),
}
"""Which of the fields that are sent generations and edits know: in vLLM-Omni 0.30 (api_server.py, protocol/images.py), in
SGLang at 0230ddc (image_api.py, protocol.py), and in OpenAI's own models. The first two pass over others, OpenAI refuses them."""


def dialect(name: str, executor: Executor, most: int = 4) -> Callable[[Asked], Said]:
    """Answer as this server does. most: references that its model takes."""
    draw = _alone(executor)

    def answer(asked: Asked) -> Said:
        edit = asked.path == "/v1/images/edits"
        taken, given = DIALECTS[name][edit], {**asked.fields, **asked.files}
        strict = name in ("gpt-image", "dall-e")
        if strict and (unknown := sorted(given.keys() - taken)):
            return Said({"error": {"message": f"Unknown parameter: '{unknown[0]}'.", "param": unknown[0]}}, 400)
        if len(asked.pictures) > most:
            return Said({"error": {"message": f"Received {len(asked.pictures)} input images.", "code": 400}}, 400)
        if name == "sglang" and asked.fields.get("output_format") != "png":
            return picture_answer(draw(asked), "JPEG")
        return picture_answer(draw(asked))

    return answer


def _read(kind: str, data: bytes) -> tuple[dict[str, Any], list[Picture], dict[str, Picture]]:
    if kind == "application/json":
        return json.loads(data), [], {}
    form = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + data, policy=HTTP)
    assert form.get_content_type() == "multipart/form-data" and not form.defects
    fields, pictures, files = {}, [], {}
    parts = [(part.get_param("name", header="content-disposition"), part) for part in form.iter_parts()]
    for name, part in parts:
        if part.get_content_type() != "image/png":
            fields[name] = part.get_content().removesuffix("\r\n")
            continue
        picture = np.asarray(Image.open(io.BytesIO(part.get_content())))
        if name in ("image", "image[]"):
            pictures.append(picture)
        else:
            files[name] = picture
    assert [name for name, _ in parts].count("image") <= 1, "OpenAI refuses a repeated image; several are image[]"
    return fields, pictures, files


def serving_images(answer: Callable[[Asked], Said]) -> AbstractContextManager[Server]:
    return serving(answer, Asked.read)
