"""An image model behind a server with OpenAI's images API, as vLLM-Omni serves FLUX.2 Klein."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from ..errors import Away, BadInput
from ..http_json import Client, Limits, ServerFailure, address, multipart
from ..protocols import Drawing, DrawRequest, Picture, SomeDrawn
from ..storage.pictures import DECODING_ERRORS, FORMATS, opened, pixels
from . import truncation
from .dialect import Dialect, Form
from .masks import within_mask


@dataclass(frozen=True, slots=True)
class ImageServer:
    """Where an image model is served. Read from the configuration of this machine, never from a workflow.

    url: up to and including /v1.
    model: the server's name of it; not sent if empty.
    key_variable: the environment variable that holds the key; empty if there is no key.
    steps, guidance: sent with each request; guidance above 1 counts as two evaluations a step.
    references: that it edits from at most, at least 1; None to find that out when it refuses some.
    parallel: requests at the same time, at least 1.
    timeout: seconds for one try.
    retries: tries after the first one.
    wait: seconds that a server is waited for that is away.
    width, height: of the canvas, in pixels.
    urls: further addresses of the same model.
    extra: fields that are added to each request, in place of those of the same name.
    headers: sent with each request: name -> the environment variable that holds the value.
    """

    url: str
    model: str = ""
    key_variable: str = ""
    steps: int = 4
    guidance: float = 1.0
    parallel: int = 4
    timeout: float = 300.0
    retries: int = 3
    width: int = 1024
    height: int = 1024
    wait: float = 600.0
    references: int | None = None
    urls: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for url in (self.url, *self.urls):
            address(url)
        _ = self.limits  # raises for what is out of range
        if self.parallel < 1:
            raise BadInput(f"parallel of the server {self.url} is {self.parallel}; it must be at least 1")
        if self.references is not None and self.references < 1:
            raise BadInput(f"references of the server {self.url} is {self.references}; it must be at least 1")

    @property
    def limits(self) -> Limits:
        return Limits(timeout=self.timeout, retries=self.retries, wait=self.wait)


BYTES_A_PIXEL = 6
"""An upper bound of the size of a PNG or JPEG; base64 adds a third."""


OWN = ("seed", "num_inference_steps", "guidance_scale", "strength")
"""Fields in whose place a server that refuses them has values of its own."""


UNREAD = (
    "{name} draws the same picture from the first {few} words of this prompt of {count} as from all of them: its server cuts "
    "the text there; give the server a longer text encoder, or briefs and goals in fewer words"
)


class RemoteExecutor:
    """Draws on a server, one request for each picture: `/images/generations`, or `/images/edits` with the references.

    Fields and references that the server refuses are left out from then on. The first long prompt is drawn once more, from
    its beginning alone, to warn of a server that reads no more. A mask is sent, and applied to the picture
    that comes back. `check` is called while waiting. An answer is accepted only if it is a picture of the size that was
    asked for. `draw` raises Away if the server is away, and BadInput if no picture came otherwise; the run can be
    resumed.
    """

    def __init__(self, server: ImageServer, check: Callable[[], None] = lambda: None) -> None:
        self.server, self.check = server, check
        self._client = Client(server.url, server.key_variable, server.limits, urls=server.urls, headers=server.headers)
        self._generations, self._edits = Dialect(), Dialect(server.references)
        self._reads: bool | None = None
        self._asking = threading.Lock()
        self.name = server.model or "image model"

    @property
    def parallel(self) -> int:
        return self.server.parallel

    @property
    def references(self) -> int | None:
        return self._edits.references

    def nfe(self, request: DrawRequest) -> int:
        return self.server.steps * (2 if self.server.guidance > 1 else 1)

    def draw(self, requests: Sequence[DrawRequest]) -> list[Drawing]:
        if len(requests) < 2:
            return [self._draw(request) for request in requests]
        with ThreadPoolExecutor(min(self.server.parallel, len(requests))) as pool:
            found = list(pool.map(self._drawn_or_why, requests))
        refused = [each for each in found if isinstance(each, BadInput)]
        drawn = [each for each in found if isinstance(each, Drawing)]
        if refused and not drawn:
            raise refused[0]
        if refused:
            raise SomeDrawn(str(refused[0]), [each if isinstance(each, Drawing) else None for each in found])
        return drawn

    def _drawn_or_why(self, request: DrawRequest) -> Drawing | BadInput:
        try:
            return self._draw(request)
        except BadInput as error:
            return error

    def _draw(self, request: DrawRequest) -> Drawing:
        settings, files = self._settings(request), _files(request)
        whole = Form(frozenset(settings) | files.keys(), len(request.references))
        dialect = self._edits if request.references else self._generations
        try:
            answer, form = dialect.ask(whole, lambda form: self._ask(request, settings, files, form))
            picture = _picture(answer, request)
            unread = not request.references and truncation.is_long(request) and not self._reads_on(request, picture)
        except ServerFailure as error:
            words = f"{self.name} at {self._client.host} gave no picture: {error}; mend that, then go on with the run"
            raise Away(words) if error.away else BadInput(words) from error
        own = [name for name in OWN if name in whole.names - form.names]
        warnings = (f"{self.name} takes no {', '.join(own)}; it draws with its own",) if own else ()
        if unread:
            warnings += (UNREAD.format(name=self.name, few=truncation.FEW, count=len(request.prompt.split())),)
        return Drawing(within_mask(request, picture), self.nfe(request), warnings=warnings)

    def _reads_on(self, request: DrawRequest, picture: Picture) -> bool:
        """Whether the server reads more than the beginning of a long prompt: found once, by drawing its beginning alone."""
        with self._asking:
            if self._reads is None:
                begun = replace(request, prompt=truncation.beginning(request.prompt))
                settings = self._settings(begun)
                send = partial(self._ask, begun, settings, {})
                try:
                    answer, _ = self._generations.ask(Form(frozenset(settings)), send)
                    self._reads = not np.array_equal(_picture(answer, begun), picture)
                except ServerFailure as error:
                    if error.away:
                        raise
                    self._reads = True  # it says nothing of the end
            return self._reads

    def _settings(self, request: DrawRequest) -> dict[str, Any]:
        settings = {
            "prompt": request.prompt,
            "model": self.server.model,
            "n": 1,
            "size": f"{request.width}x{request.height}",
            "seed": request.seed % 2**32,  # servers take no more
            "num_inference_steps": self.server.steps,
            "guidance_scale": self.server.guidance,
            "response_format": "b64_json",
            "output_format": "png",
        }
        if not self.server.model:
            del settings["model"]
        if request.references and request.strength is not None:
            settings["strength"] = request.strength
        return settings | dict(self.server.extra)

    def _ask(
        self, request: DrawRequest, settings: dict[str, Any], files: dict[str, bytes], form: Form
    ) -> dict[str, Any]:
        most = 8192 + BYTES_A_PIXEL * request.width * request.height * 4 // 3
        options: dict[str, Any] = {"check": self.check, "max_bytes": most}
        fields = {name: value for name, value in settings.items() if name in form.names}
        if not request.references:
            return self._client.ask("/images/generations", fields, **options)
        shown = [_png(reference) for reference in request.references[: form.references]]
        # As OpenAI's own client names them.
        parts = [("image[]" if len(shown) > 1 else "image", data) for data in shown]
        parts += [(name, data) for name, data in files.items() if name in form.names]
        kind, data = multipart(fields, parts)
        return self._client.ask("/images/edits", data=data, kind=kind, **options)


def _files(request: DrawRequest) -> dict[str, bytes]:
    """Return the mask of an edit by the names of its fields.

    `mask_image`, of vLLM-Omni, is white where the picture may change; `mask`, of OpenAI, is transparent there.
    """
    if request.mask is None or not request.references:
        return {}
    nothing = np.zeros_like(request.mask)
    clear = np.dstack([nothing, nothing, nothing, 255 - request.mask])
    return {"mask_image": _png(request.mask), "mask": _png(clear)}


def _png(picture: Picture) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "PNG")
    return data.getvalue()


def _picture(answer: dict[str, Any], request: DrawRequest) -> Picture:
    """Decode the first picture of an answer.

    Raises ServerFailure for anything but a picture of the size of the request.
    """
    listed = answer.get("data")
    first = listed[0] if isinstance(listed, list) and listed else None
    text = first.get("b64_json") if isinstance(first, dict) else None
    if not isinstance(text, str):
        raise ServerFailure("its answer holds no data[0].b64_json")
    try:
        data = base64.b64decode(text, validate=True)
        with Image.open(io.BytesIO(data), formats=FORMATS) as head:
            # Checked before the pixels are decompressed.
            if head.size != (request.width, request.height):
                raise ServerFailure(
                    f"it drew {head.width} x {head.height} where {request.width} x {request.height} was asked for"
                )
        with opened(data) as image:
            return pixels(image)
    except DECODING_ERRORS as error:
        if isinstance(error, ServerFailure):
            raise
        raise ServerFailure("its answer is not a picture") from error
