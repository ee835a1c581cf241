"""Writing files so that each is either whole or not there."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import CannotWrite

PART = f".{'[0-9a-f]' * 16}.part"
"""Pattern of the temporary names of `write_bytes`, and of nothing else."""


AGAIN = "the same command"
"""What goes on with most of our work, for sentences."""
OF_DISK = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG, errno.EROFS, errno.EIO}
"""Errors of a whole disk."""


@contextmanager
def writing(place: Path, again: str = AGAIN) -> Iterator[None]:
    """Turn an OSError inside the `with` into a CannotWrite that names the place. again: what goes on once that is
    mended."""
    try:
        yield
    except OSError as error:
        raise CannotWrite(
            f"{place} cannot be written: {error.strerror or error}; mend that and go on with: {again}",
            error.errno in OF_DISK,
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


def keep_note(note: Path, text: str) -> bool:
    """Write the note if there is none yet; return whether it says `text`.

    An empty note counts as none: a kill left it, when notes were still written in place. Raises OSError, and ValueError
    for a note that is no text.
    """
    held = note.read_text("utf-8") if note.exists() else ""
    if not held.strip("\0"):
        write_bytes(note, text.encode())
        return True
    return held == text


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
