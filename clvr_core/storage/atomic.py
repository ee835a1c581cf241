"""Files that are either whole or not there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import BadInput


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns what the disk says into BadInput, for commands that go on where they stopped."""
    try:
        yield
    except OSError as error:
        raise BadInput(
            f"{folder} cannot be written: {error.strerror or error}; mend that and give the same command, what was saved is whole"
        ) from error


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes beside the file, flushes it to the disk, then renames over it. Raises OSError; leaves no temporary file behind."""
    path = Path(path)
    beside = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with open(beside, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return  # Windows opens no folder, and its rename needs none
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        pass  # some network mounts refuse this for a folder; the file is in place either way
    finally:
        os.close(handle)
