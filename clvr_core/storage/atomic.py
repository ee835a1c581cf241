"""Writing files so that each is either whole or not there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import BadInput

PART = f".{'[0-9a-f]' * 16}.part"
"""Pattern of the temporary names of `write_bytes`, and of nothing else."""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn an OSError inside the `with` into a BadInput that names the folder, for commands that can be repeated to go
    on."""
    try:
        yield
    except OSError as error:
        raise BadInput(
            f"{folder} cannot be written: {error.strerror or error}; mend that and give the same command, what was saved is whole"
        ) from error


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file under a temporary name beside `path`, flush it to the disk, and rename it to `path`.

    Raises OSError if that fails; the old file is then unchanged and the temporary one removed.
    """
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
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder to the disk, so that a file renamed in it keeps its new name after a power cut."""
    if os.name == "nt":
        return  # Windows cannot open a folder, and its rename needs no flush
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        pass  # some network mounts refuse to flush a folder; the file has its name either way
    finally:
        os.close(handle)
