"""Files of JSON lines, on the disk line by line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..reading import json_of
from .atomic import writing


class Lines:
    """A file of JSON lines that is only appended to. A last line cut by a kill is dropped; nothing has used it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines, whole, size = _read(path)
        if whole < size:
            with writing(path), path.open("r+b") as file:
                file.truncate(whole)

    def append(self, line: dict[str, Any]) -> None:
        """Append a line; it is on the disk when this returns."""
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        self.lines.append(line)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the whole lines of such a file, to which another process may be writing. Empty if there is none; raises
    BadInput for a damaged one."""
    return _read(path)[0]


def _read(path: Path) -> tuple[list[dict[str, Any]], int, int]:
    """Return the whole lines, their bytes, and those of the file."""
    try:
        raw = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise BadInput(f"{path} cannot be used: {error.strerror}") from error
    lines, whole = [], 0
    for number, line in enumerate(raw.split(b"\n")[:-1], 1):
        try:
            value = json_of(line)
            if not isinstance(value, dict):
                raise ValueError("not an object")
        except ValueError as error:
            raise BadInput(f"{path} line {number} is damaged ({error}); delete that line and go on") from error
        lines.append(value)
        whole += len(line) + 1
    return lines, whole, len(raw)
