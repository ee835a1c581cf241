"""Disks that fail, for tests."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

DISK = (errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EIO)


@contextmanager
def failing_disk(code: int = errno.ENOSPC, after: int = 0) -> Iterator[None]:
    """From here on the disk takes `after` more flushes of a file, and answers every later one with this error."""
    left = [after]

    def flush(file: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(code, os.strerror(code))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", flush)
        yield


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """From here on this process cannot write behind this byte of any file, as under `ulimit -f`."""
    resource = pytest.importorskip("resource", reason="there are no limits of a process here")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
