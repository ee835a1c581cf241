"""A lock on a folder, so that never two write in it.

The lock is one of the operating system on the file LOCK in the folder, so that it ends with the process that holds it,
however that ends. The file says who that is; what a killed process leaves of it blocks nobody.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from ..errors import BadInput
from ..records import from_json, to_json
from ..text import one_line
from .atomic import writing

msvcrt: Any = None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    msvcrt = import_module("msvcrt")

P = ParamSpec("P")
T = TypeVar("T")
LOCK = ".clvr.lock"
"""Name of the file that is locked. It is removed on release, while it is still locked."""
BUSY = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
"""Errors of a lock that somebody else has. Any other error means that there are no locks here."""
PLACE = 1 << 30
"""Byte that Windows locks, behind the content: there nobody can read what is locked."""
LONGEST = 4096
"""Bytes of the file that are read at most."""
TRIES = 100
"""How often the file may be removed by others, who have just released it, before this is taken for a fault."""


class FolderHeld(BadInput):
    """Another writer holds the folder."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a folder. `command`: its program and first argument. `since`: local time, ISO 8601."""

    pid: int
    host: str = ""
    command: str = ""
    since: str = ""

    def __str__(self) -> str:
        said = (
            self.command,
            f"process {self.pid}",
            self.host and f"on {self.host}",
            self.since and f"since {self.since}",
        )
        return one_line(" ".join(filter(None, said)), 200)


_held: dict[tuple[int, int], FolderLock] = {}
"""The locks that this process holds, by device and inode of the locked file."""
_mutex = threading.RLock()


class FolderLock:
    """A lock on one folder, not yet acquired.

    turn: hold it during each write; the lock does not go to another of this process meanwhile.
    lost: whether another lock of this process has taken the folder over. Final.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.turn = threading.RLock()
        self.lost = False
        self._file: int | None = None
        self._key = (0, 0)

    @property
    def held(self) -> bool:
        return self._file is not None

    def acquire(self, take_over: bool = False) -> None:
        """Acquire the lock; no waiting.

        take_over: take it from an earlier lock of this process, which is then `lost`.

        Raises FolderHeld naming the holder, and OSError if the folder cannot be written. Where the file system has no
        locks, the caller is warned and nothing is locked.
        """
        for _ in range(TRIES):
            with _mutex:
                earlier = self._try(take_over)
            if earlier is not None:
                with earlier.turn, _mutex:
                    if earlier._file is not None:
                        self._file, earlier._file, earlier.lost = earlier._file, None, True
                        self._note()
            if self._file is not None:
                return
        raise FolderHeld(f"{self.folder} cannot be locked: its {LOCK} is removed again and again; try later")

    def _try(self, take_over: bool) -> FolderLock | None:
        """Acquire the lock if it is free; return the lock of this process to take it from. None of both if the file was
        removed by its holder in this moment."""
        file = _open(self.folder / LOCK)
        there = os.fstat(file)
        self._key = (there.st_dev, there.st_ino)
        earlier = _held.get(self._key)
        try:
            if earlier is not None:
                raise BlockingIOError(errno.EAGAIN, "held by this process")
            _lock(file)
        except OSError as error:
            if error.errno in BUSY:
                holder = _holder(file)
                os.close(file)
                if earlier is not None and take_over:
                    return earlier
                raise FolderHeld(
                    f"{self.folder} is in use by {holder}; "
                    "wait until that has ended, or stop it, or choose another folder"
                ) from None
            warnings.warn(
                f"{self.folder} lies on a file system without locks ({error.strerror}); "
                "see to it that nothing else writes there meanwhile",
                RuntimeWarning,
                stacklevel=3,
            )
        if self._is_there():
            self._file = file
            self._note()
        else:
            os.close(file)
        return None

    def _is_there(self) -> bool:
        """Whether the file of this lock is the one in the folder: a holder removes it before it unlocks it."""
        try:
            there = os.stat(self.folder / LOCK)
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == self._key

    def _note(self) -> None:
        """Write into the file who holds it."""
        if self._file is None:
            return
        _held[self._key] = self
        with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            os.write(self._file, json.dumps(to_json(_this_process())).encode())

    def release(self) -> None:
        """Release the lock if it is held; it may be acquired again."""
        with _mutex:
            file, self._file = self._file, None
            if file is None:
                return
            _held.pop(self._key, None)
            with contextlib.suppress(OSError):
                if fcntl and self._is_there():
                    # While it is locked: whoever has opened it meanwhile finds out, once it has the lock.
                    (self.folder / LOCK).unlink()
                _unlock(file)
            os.close(file)
            if not fcntl:
                with contextlib.suppress(OSError):  # Windows does not remove what somebody has opened
                    (self.folder / LOCK).unlink()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make the folder if it is missing, and hold its lock. What was made is removed if it stayed empty.

    Raises FolderHeld, and CannotWrite if the folder cannot be written.
    """
    lock, made = FolderLock(folder), not folder.exists()
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def alone_in_folder(work: Callable[Concatenate[Path, P], T]) -> Callable[Concatenate[Path, P], T]:
    """Decorate a function whose first argument is a folder, so that it runs while that is `locked`."""

    @wraps(work)
    def run(folder: Path, /, *rest: P.args, **named: P.kwargs) -> T:
        with locked(folder):
            return work(folder, *rest, **named)

    return run


def _open(path: Path) -> int:
    flags = os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        return os.open(path, flags | os.O_RDWR, 0o666)
    except PermissionError:
        # What a killed process of another user left can be locked as well; it keeps its content.
        return os.open(path, getattr(os, "O_NOFOLLOW", 0) | os.O_RDONLY)


def _lock(file: int) -> None:
    if fcntl:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        os.lseek(file, PLACE, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)


def _unlock(file: int) -> None:
    if fcntl:
        fcntl.flock(file, fcntl.LOCK_UN)
    else:
        os.lseek(file, PLACE, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_UNLCK, 1)


def _this_process() -> Holder:
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]]) if sys.argv else ""
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    return Holder(os.getpid(), socket.gethostname(), one_line(command, 80), since)


def _holder(file: int) -> str:
    """Return who holds the file by its content, which may be half written, or another's."""
    try:
        os.lseek(file, 0, os.SEEK_SET)
        return str(from_json(Holder, json.loads(os.read(file, LONGEST))))
    except (OSError, ValueError, RecursionError):
        return "another process"


def _forget() -> None:
    """Leave the locks to the parent of this new process, whose files they are."""
    global _mutex
    _mutex = threading.RLock()
    for lock in _held.values():
        if lock._file is not None:
            os.close(lock._file)
            lock._file = None
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
