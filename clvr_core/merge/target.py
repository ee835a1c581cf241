"""The file that is written: beside its place under another name, whole and on the disk before it takes that place, or not at all."""

from __future__ import annotations

import contextlib
import errno
import glob
import mmap
import os
import secrets
import shutil
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from ..errors import BadInput
from .plan import MergePlan

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

DIRECT = 64 << 20
"""From this size on the page cache is passed by: the inputs keep their place in it, and the disk is written to at its own speed."""
RESERVE = 16 << 20
"""Bytes of the disk that are left free."""


def check_target(plan: MergePlan, out: Path, size: int, overwrite: bool) -> None:
    """Raises BadInput if `out` cannot or must not be written. Nothing is touched."""
    folder = out.parent
    try:
        if out.suffix != ".safetensors":
            raise BadInput(f"--out {out} must end in .safetensors, or no loader will find it")
        if not folder.is_dir():
            raise BadInput(f"--out {out}: there is no folder {folder}; make it first")
        if out.is_dir():
            raise BadInput(f"--out {out} is a folder; give a file in it")
        if os.path.lexists(out) and not out.exists():
            raise BadInput(f"--out {out} is a link that leads nowhere; choose another name")
        if out.exists():
            for _, checkpoint in plan.checkpoints:
                for file in checkpoint.files:
                    if os.path.samefile(out, file.path):
                        raise BadInput(f"--out {out} is the input {file.path}; choose another name")
            if not overwrite:
                raise BadInput(f"--out {out} exists; choose another name, or give --overwrite")
            if not (out.stat().st_mode & stat.S_IWUSR and os.access(out, os.W_OK)):
                raise BadInput(f"--out {out} is read-only; choose another name")
        if not os.access(folder, os.W_OK):
            raise BadInput(f"--out {out}: the folder {folder} is read-only; choose another")
        free = shutil.disk_usage(folder).free + sum(part.stat().st_blocks * 512 for part in _left(out))
    except OSError as error:
        raise BadInput(f"--out {out} cannot be written: {error.strerror}; choose another place") from error
    if free < size + RESERVE:
        raise BadInput(
            f"--out {out} needs {size / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free; make room or choose another disk"
        )


def _left(out: Path) -> Iterator[Path]:
    """What killed merges left beside `out`. Nobody else has the file that is given, until the next is asked for. None without locks."""
    parts = out.parent.glob(f".{glob.escape(out.name)}.{'[0-9a-f]' * 16}.part") if fcntl else ()
    for part in parts:
        with contextlib.suppress(OSError):  # it is being written, or is another person's
            file = os.open(part, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield part
            finally:
                os.close(file)


class Target:
    """A temporary file `.NAME.RANDOM.part` of full size. `seal` completes it, `place` makes it the target; leaving first removes it."""

    def __init__(self, out: Path, start: int, size: int, direct: bool = True) -> None:
        """`start` bytes of header and `size` of data. `direct` writes, past the page cache, need views that start on a page.

        What killed merges left is removed first. Raises BadInput if the file cannot be made at this size.
        """
        self.out, self.start, self.size = out, start, size
        self.part = _beside(out)
        self._lock = threading.Lock()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        self._direct = False
        try:
            for part in _left(out):
                part.unlink()
            if direct and size >= DIRECT and hasattr(os, "O_DIRECT"):
                try:
                    self._file = os.open(self.part, flags | os.O_DIRECT, 0o666)
                    self._direct = True
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
                    self.part.unlink(
                        missing_ok=True
                    )  # file systems without direct writes may have made it all the same
            if not self._direct:
                self._file = os.open(self.part, flags, 0o666)
            if not self._held():
                os.close(self._file)
                raise FileNotFoundError(errno.ENOENT, "another merge to it began in the same moment")
        except OSError as error:
            raise BadInput(f"--out {out} cannot be written: {error.strerror}; choose another place") from error
        try:
            self._allocate(self._padded(start + size))
        except BaseException:
            self.remove()
            raise

    def __enter__(self) -> Target:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _held(self) -> bool:
        """The lock tells other merges, until the file is closed, that it is not left over. One may have taken it for that just before."""
        if fcntl:
            with contextlib.suppress(
                OSError
            ):  # a network mount without locks, where nothing is taken for left over either
                fcntl.flock(self._file, fcntl.LOCK_EX)
        return self.part.exists()

    def remove(self) -> None:
        self._close()
        self.part.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _allocate(self, size: int) -> None:
        if not hasattr(os, "posix_fallocate"):
            return
        try:
            os.posix_fallocate(self._file, 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise self._failed(error) from error

    def _failed(self, error: OSError) -> BadInput:
        return BadInput(
            f"--out {self.out} cannot be written: {error.strerror}; make room or choose another disk; nothing was changed"
        )

    def _padded(self, size: int) -> int:
        return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE if self._direct else size

    def write(self, start: int, view: memoryview, size: int) -> None:
        """The sink of a stream: `size` bytes of the data from byte `start` on. Raises BadInput if the disk is full or fails."""
        self._write(self.start + start, view[: self._padded(size)])

    def _write(self, offset: int, view: memoryview) -> None:
        while view.nbytes:
            try:
                if hasattr(os, "pwrite"):
                    done = os.pwrite(self._file, view, offset)
                else:
                    with self._lock:
                        os.lseek(self._file, offset, os.SEEK_SET)
                        done = os.write(self._file, view)
            except OSError as error:
                raise self._failed(error) from error
            view, offset = view[done:], offset + done

    def seal(self, header: bytes) -> None:
        """Writes the header last, so that a torn file is none, and returns once everything is on the disk."""
        page = mmap.mmap(-1, len(header))  # direct writes need memory that starts on a page
        page[:] = header
        self._write(0, memoryview(page))
        try:
            os.ftruncate(self._file, self.start + self.size)
            os.fsync(self._file)
        except OSError as error:
            raise self._failed(error) from error

    def place(self) -> None:
        try:
            if os.name == "nt":  # which renames no open file; elsewhere the lock is held up to the end
                self._close()
            os.replace(self.part, self.out)
        except OSError as error:
            raise self._failed(error) from error
        self._close()
        _sync_folder(self.out.parent)

    def place_with(self, lora: Target) -> None:
        """Puts both, sealed, in the place of an older pair. Wherever that is cut off, a LoRA is never beside a checkpoint that it was not
        kept from: the old one goes first and the new one comes last. A checkpoint without its LoRA is seen, and merged again.
        """
        aside = _beside(lora.out)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.replace(lora.out, aside)
                _sync_folder(lora.out.parent)
        except OSError as error:
            raise lora._failed(error) from error
        try:
            self.place()
        except BaseException:
            if self.part.exists() and aside.exists():  # the old checkpoint stands, so its LoRA does
                os.replace(aside, lora.out)
            raise
        aside.unlink(missing_ok=True)
        lora.place()


def _beside(out: Path) -> Path:
    return out.with_name(f".{out.name}.{secrets.token_hex(8)}.part")


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
