"""Files that are whole or not there, and what is said of a disk that takes none."""

from __future__ import annotations

import errno
import os

import pytest

from clvr_core.errors import CannotWrite
from clvr_core.storage.atomic import PART, keep_note, write_bytes, writing
from tests.faults import DISK, failing_disk, largest_file


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_write_that_fails_changes_nothing(tmp_path, before):
    if before:
        (tmp_path / "file").write_bytes(before)
    for fault in (failing_disk(), largest_file(10)):
        with fault, pytest.raises(OSError):
            write_bytes(tmp_path / "file", b"new" * 9)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == ({"file": before} if before else {})


def test_the_temporary_name_is_one_that_is_cleared_away(tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(os, "fsync", lambda file: found.extend(tmp_path.glob(PART)))
    write_bytes(tmp_path / "file", b"new")
    assert len(found) == 1 and [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("code", [*DISK, errno.EACCES, errno.ENOTDIR, errno.ENOENT])
def test_a_fault_is_one_sentence_with_what_goes_on(tmp_path, code):
    with pytest.raises(CannotWrite) as told, writing(tmp_path, "clvr resume X"):
        raise OSError(code, os.strerror(code))
    said = f"{tmp_path} cannot be written: {os.strerror(code)}; mend that and go on with: clvr resume X"
    assert str(told.value) == said and told.value.of_disk is (code in DISK)


@pytest.mark.parametrize(
    ("held", "agrees"), [(None, True), ("", True), ("\0" * 9, True), ("seed 1", True), ("seed 2", False), ("se", False)]
)
def test_a_note_is_written_once_and_an_empty_one_is_none(tmp_path, held, agrees):
    note = tmp_path / "note.json"
    if held is not None:
        note.write_text(held)
        os.utime(note, (1, 1))
    assert keep_note(note, "seed 1") is agrees
    assert note.read_text() == ("seed 1" if agrees else held)
    assert (note.stat().st_mtime == 1) is (held in ("seed 1", "seed 2", "se")), "one that is whole is not written again"
