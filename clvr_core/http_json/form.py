"""Fields and files as the body of a request."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any


def multipart(fields: dict[str, Any], files: Sequence[tuple[str, bytes]]) -> tuple[str, bytes]:
    """Return content type and content of multipart/form-data (RFC 7578). files: PNG files by the name of their field,
    which may come several times.
    """
    mark = f"clvr-{secrets.token_hex(16)}"
    parts = [
        (f'name="{name}"', "text/plain; charset=utf-8", _text(value).encode(errors="replace"))
        for name, value in fields.items()
    ]
    parts += [
        (f'name="{name}"; filename="{number}.png"', "image/png", data) for number, (name, data) in enumerate(files, 1)
    ]
    lines: list[bytes] = []
    for head, kind, data in parts:
        lines += [
            f"--{mark}".encode(),
            f"Content-Disposition: form-data; {head}".encode(),
            f"Content-Type: {kind}".encode(),
            b"",
            data,
        ]
    return f"multipart/form-data; boundary={mark}", b"\r\n".join([*lines, f"--{mark}--".encode(), b""])


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, (dict, list, bool)) else str(value)
