"""The lock on a folder: one writer at a time, whatever becomes of the others."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from clvr_core.storage import lock
from clvr_core.storage.lock import LOCK, FolderHeld, FolderLock, locked
from tests.waiting import let_others_run

ROOT = Path(__file__).parents[2]
HOLDING = """
import os, sys
from pathlib import Path
from clvr_core.storage.lock import FolderHeld, FolderLock
mine = FolderLock(Path(sys.argv[1]))
mine.acquire()
if hasattr(os, "fork"):
    child = os.fork()
    if not child:  # the lock is its parent's
        try:
            FolderLock(mine.folder).acquire(take_over=True)
        except FolderHeld:
            mine.release()
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
print("held", flush=True)
sys.stdin.read()
"""


class Elsewhere:
    """The lock as another process has it: another open file, which this process's FolderLock knows nothing of."""

    def __init__(self, folder: Path, content: bytes = b"") -> None:
        self.file = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR)
        os.write(self.file, content)
        self.tries()

    def tries(self) -> None:
        lock._lock(self.file)

    def ends(self) -> None:
        os.close(self.file)


def test_another_process_is_named_and_what_it_leaves_when_it_is_killed_blocks_nobody(tmp_path):
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout.readline().strip() == b"held"
        with pytest.raises(FolderHeld) as told:
            FolderLock(tmp_path).acquire()
        assert f"{tmp_path} is in use by -c {tmp_path} process {other.pid} on " in str(told.value).replace("\u2026", "")
        assert "; wait until that has ended, or stop it, or choose another folder" in str(told.value)
    finally:
        other.kill()
        other.communicate()
    assert (tmp_path / LOCK).exists(), "it could not clear up"
    mine = FolderLock(tmp_path)
    mine.acquire()
    assert json.loads((tmp_path / LOCK).read_bytes())["pid"] == os.getpid()
    mine.release()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"pid":7,"host":"box","command":"clvr batch","since":"today"}', "clvr batch process 7 on box since today"),
        (b'{"pid":7,"command":"a\\u001b[2Jb\\nc"}', "a\ufffd[2Jb c process 7"),
        (b'{"pid":7,"comm', "another process"),
        (b"[" * 9000, "another process"),
        (b"", "another process"),
        (b"\xff\0", "another process"),
        (b"3", "another process"),
    ],
    ids=repr,
)
def test_whoever_it_is_is_told_as_far_as_the_file_says(tmp_path, content, said):
    other = Elsewhere(tmp_path, content)
    with pytest.raises(FolderHeld) as told:
        FolderLock(tmp_path).acquire(take_over=True)
    assert str(told.value).startswith(f"{tmp_path} is in use by {said}; wait")
    assert (tmp_path / LOCK).read_bytes() == content
    other.ends()


def test_a_file_that_its_holder_removed_meanwhile_is_not_taken_for_the_lock(tmp_path, monkeypatch):
    first, second, opens = FolderLock(tmp_path), FolderLock(tmp_path), lock._open
    first.acquire()

    def open_while_it_is_released(path):
        file = opens(path)
        first.release()
        return file

    monkeypatch.setattr(lock, "_open", open_while_it_is_released)
    second.acquire()
    with pytest.raises(OSError):
        Elsewhere(tmp_path)
    second.release()
    assert not list(tmp_path.iterdir())


def test_a_lock_file_of_another_is_not_removed(tmp_path):
    mine = FolderLock(tmp_path / "run")
    (tmp_path / "run").mkdir()
    mine.acquire()
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    (tmp_path / "run").mkdir()
    other = Elsewhere(tmp_path / "run")
    mine.release()
    assert (tmp_path / "run" / LOCK).exists()
    other.ends()


class TestInOneProcess:
    def test_a_second_is_refused_unless_it_takes_over(self, tmp_path):
        first, second = FolderLock(tmp_path), FolderLock(tmp_path)
        first.acquire()
        with pytest.raises(FolderHeld, match=f"in use by .*process {os.getpid()} "):
            second.acquire()
        assert first.held and not second.held
        second.acquire(take_over=True)
        assert (first.held, first.lost, second.held, second.lost) == (False, True, True, False)
        first.release()
        with pytest.raises(OSError):
            Elsewhere(tmp_path)

    def test_it_is_the_same_folder_by_whatever_name(self, tmp_path):
        (tmp_path / "run").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "run")
        with locked(tmp_path / "run"), pytest.raises(FolderHeld):
            FolderLock(tmp_path / "link").acquire()
        with locked(tmp_path / "link"):
            pass

    def test_a_write_under_way_is_finished_before_the_lock_goes_over(self, tmp_path):
        first, second, order = FolderLock(tmp_path), FolderLock(tmp_path), []
        first.acquire()

        def take_over():
            second.acquire(take_over=True)
            order.append("taken")

        thread = threading.Thread(target=take_over)
        with first.turn:
            thread.start()
            let_others_run()
            order.append("written")
            assert first.held
        thread.join()
        assert order == ["written", "taken"] and first.lost


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL])
def test_without_locks_it_goes_on_with_a_warning(tmp_path, monkeypatch, code):
    class None_:
        LOCK_EX = LOCK_NB = LOCK_UN = 0

        @staticmethod
        def flock(file, how):
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(lock, "fcntl", None_)
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    with pytest.warns(RuntimeWarning, match=f"{tmp_path} lies on a file system without locks"):
        first.acquire()
    with pytest.raises(FolderHeld):
        second.acquire()
    first.release()
    with pytest.warns(RuntimeWarning):
        second.acquire()
    second.release()
    assert not list(tmp_path.iterdir())


class Msvcrt:
    """The locks of Windows: on bytes of a file, each of one open file."""

    LK_NBLCK, LK_UNLCK = 2, 0

    def __init__(self) -> None:
        self.locks: dict[tuple[int, int], int] = {}

    def locking(self, file: int, how: int, count: int) -> None:
        place = os.fstat(file).st_ino, os.lseek(file, 0, os.SEEK_CUR)
        if how == self.LK_UNLCK:
            assert self.locks.pop(place) == file
        elif self.locks.setdefault(place, file) != file:
            raise OSError(errno.EACCES, "Permission denied")


def test_on_windows(tmp_path, monkeypatch):
    windows = Msvcrt()
    monkeypatch.setattr(lock, "fcntl", None)
    monkeypatch.setattr(lock, "msvcrt", windows)
    other = Elsewhere(tmp_path, b'{"pid":7}')
    assert [place for _, place in windows.locks] == [lock.PLACE], "far behind the content, which can be read"
    with pytest.raises(FolderHeld, match="in use by process 7; wait"):
        FolderLock(tmp_path).acquire()
    windows.locks.clear()
    other.ends()
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_bytes())["pid"] == os.getpid()
        with pytest.raises(OSError):
            Elsewhere(tmp_path)
    assert not windows.locks and not list(tmp_path.iterdir())


def test_a_file_that_another_user_left_is_locked_all_the_same(tmp_path, monkeypatch):
    (tmp_path / LOCK).write_bytes(b'{"pid":7}')
    opens = os.open

    def of_another_user(path, flags, *mode):
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return opens(path, flags, *mode)

    monkeypatch.setattr(lock.os, "open", of_another_user)
    with locked(tmp_path):
        monkeypatch.undo()
        with pytest.raises(OSError):
            Elsewhere(tmp_path)
