"""The output file: written beside its final path under a temporary name, and renamed to that path only once it is whole
and on the disk."""

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
from ..storage.atomic import sync_folder
from .plan import MergePlan

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

DIRECT = 64 << 20
"""Outputs of at least so many bytes are written past the page cache: the inputs stay in the cache, and memory does not
fill with pages that wait to be written."""
RESERVE = 16 << 20
"""Bytes that must stay free on the disk."""


def check_target(plan: MergePlan, out: Path, size: int, overwrite: bool) -> None:
    """Check, without changing anything, that a file of `size` bytes can be written to `out`.

    Raises BadInput if it cannot, or if `out` is an input, or if it exists and `overwrite` is False.
    """
    real = _real(out)
    folder = real.parent
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
        free = shutil.disk_usage(folder).free + sum(part.stat().st_blocks * 512 for part in _leftovers(real))
    except OSError as error:
        raise BadInput(f"--out {out} cannot be written: {error.strerror}; choose another place") from error
    if free < size + RESERVE:
        raise BadInput(
            f"--out {out} needs {size / 1e9:.3g} GB and {RESERVE >> 20} MB to spare, and {free / 1e9:.3g} GB are free; "
            "make room or choose another disk"
        )


def _real(out: Path) -> Path:
    """Return the path to write: of a link, that of the file that it leads to, so that the link stays."""
    return Path(os.path.realpath(out))


def _leftovers(out: Path) -> Iterator[Path]:
    """Yield the temporary files that killed merges left beside `out`, each locked while the caller has it.

    The lock tells them from the file of a running merge; where there are no file locks (Windows), none is yielded.
    """
    if not fcntl:
        return
    for part in out.parent.glob(f".{glob.escape(out.name)}.{'[0-9a-f]' * 16}.part"):
        with contextlib.suppress(OSError):  # another merge is writing it, or it belongs to another user
            file = os.open(part, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield part
            finally:
                os.close(file)


class Target:
    """A temporary file `.NAME.RANDOM.part` of full size, which becomes the output.

    `write` fills the data, `seal` writes the header, `place` renames the file to its final path. Leaving the `with`
    before `place` removes it.
    """

    def __init__(self, out: Path, start: int, size: int, direct: bool = True, overwrite: bool = False) -> None:
        """Create the temporary file, after removing those that killed merges left.

        out: the final path, or a link to it.
        start: bytes of the header, in front of the data.
        size: bytes of the data.
        direct: write large files past the page cache. The views given to `write` must then start on a memory page.
        overwrite: `place` replaces a file that is there by then.

        Raises BadInput if the file cannot be created at this size.
        """
        self.out, self.start, self.size, self._overwrite = out, start, size, overwrite
        self.real = _real(out)
        self.part = _temporary_path(self.real)
        self._lock = threading.Lock()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        self._direct = False
        try:
            for part in _leftovers(self.real):
                part.unlink()
            if direct and size >= DIRECT and hasattr(os, "O_DIRECT"):
                try:
                    self._file = os.open(self.part, flags | os.O_DIRECT, 0o666)
                    self._direct = True
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
                    # A file system without direct writes may have created the file before it refused them.
                    self.part.unlink(missing_ok=True)
            if not self._direct:
                self._file = os.open(self.part, flags, 0o666)
            if not self._locked():
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

    def _locked(self) -> bool:
        """Lock the file until it is closed, which tells other merges that it is in use.

        Returns False if another merge has taken it for a leftover and removed it just before.
        """
        if fcntl:
            # A network mount may have no locks; `_leftovers` yields nothing there either.
            with contextlib.suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_EX)
        return self.part.exists()

    def remove(self) -> None:
        """Close and delete the temporary file, if it is still there."""
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
        """Write the first `size` bytes of the view as the data from byte `start` on.

        Raises BadInput if the disk is full or fails.
        """
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
        """Write the header, and return once everything is on the disk.

        The header comes last, so that no loader takes an incomplete file for a checkpoint. Raises BadInput if the disk
        fails.
        """
        page = mmap.mmap(-1, len(header))  # direct writes need memory that starts on a page
        page[:] = header
        self._write(0, memoryview(page))
        try:
            os.ftruncate(self._file, self.start + self.size)
            os.fsync(self._file)
        except OSError as error:
            raise self._failed(error) from error

    def place(self) -> None:
        """Rename the sealed file to its final path.

        Raises BadInput if that fails, and if another merge has placed a file there that was not to be replaced.
        """
        try:
            if os.name == "nt":  # Windows cannot rename an open file; elsewhere the lock is held up to the end
                self._close()
            if self._overwrite:
                os.replace(self.part, self.real)
            else:
                _place_new(self.part, self.real)
        except FileExistsError as error:
            raise BadInput(
                f"--out {self.out} was written meanwhile, by another merge perhaps; choose another name, or give --overwrite"
            ) from error
        except OSError as error:
            raise self._failed(error) from error
        self._close()
        sync_folder(self.real.parent)

    def place_with(self, lora: Target) -> None:
        """Rename this checkpoint and the LoRA kept from it, both sealed, to their final paths.

        The old LoRA is moved away first and the new one comes last. So wherever a kill cuts this off, no LoRA is beside
        a checkpoint that it was not kept from; a checkpoint without its LoRA is noticed by the next merge and made
        again. Raises BadInput if a rename fails; the old pair then stays.
        """
        aside = _temporary_path(lora.real)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.replace(lora.real, aside)
                sync_folder(lora.real.parent)
        except OSError as error:
            raise lora._failed(error) from error
        try:
            self.place()
        except BaseException:
            if self.part.exists() and aside.exists():  # the old checkpoint is still there, so its LoRA stays too
                os.replace(aside, lora.real)
            raise
        aside.unlink(missing_ok=True)
        lora.place()


def _place_new(part: Path, place: Path) -> None:
    """Rename a file to a path where nothing is. Raises FileExistsError if something is there, which `rename` would
    replace."""
    if os.name == "nt":
        os.rename(part, place)  # there it replaces nothing
        return
    try:
        os.link(part, place)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(place):
            raise FileExistsError(errno.EEXIST, "the file exists") from None
        os.rename(part, place)
    else:
        part.unlink()


def _temporary_path(out: Path) -> Path:
    return out.with_name(f".{out.name}.{secrets.token_hex(8)}.part")
