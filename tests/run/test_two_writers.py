"""Two writers of one run: one of them is told, and the journal stays that of one."""

from __future__ import annotations

import json
import os
from itertools import repeat
from pathlib import Path

import pytest

from clvr_core.brief import Budget
from clvr_core.errors import BadInput, CannotWrite
from clvr_core.fleet.rounds import drive_all
from clvr_core.protocols import Drawing
from clvr_core.run.reading import read_journal, read_trajectory
from clvr_core.run.run_folder import JOURNAL, RunFolder
from clvr_core.run.session import RunModels, Session, drive, go_on, resume, start
from clvr_core.storage.lock import LOCK, FolderHeld
from tests.fakes import FakeExecutor, grey
from tests.faults import largest_file
from tests.run.script import a_brief, edit, generate, scripted
from tests.storage.test_lock import Elsewhere

SCRIPT = [generate(), *repeat(edit(), 4)], {0: "muu", 1: "mmu", 2: "muu", 3: "mmm"}


def models() -> RunModels:
    return RunModels(scripted(*SCRIPT), FakeExecutor())


def stopped(folder: Path, calls: int) -> tuple[Session, object]:
    """A session after some calls, with the next one."""
    session = start(a_brief(), models(), folder)
    call = session.advance()
    for _ in range(calls):
        session.note(call, result := session.perform(call))
        call = session.advance(result)
    return session, call


def events(folder: Path) -> list[str]:
    return [json.loads(line)["event"] for line in (folder / JOURNAL).read_bytes().splitlines()]


@pytest.mark.parametrize("opens", [RunFolder.open, RunFolder.reopen])
def test_a_run_that_another_process_writes_is_refused_and_left_alone(tmp_path, opens):
    drive(start(a_brief(), models(), tmp_path / "run"))
    (tmp_path / "run" / ".0123456789abcdef.part").write_bytes(b"what the other is writing")
    other = Elsewhere(tmp_path / "run", b'{"pid":7,"command":"clvr resume"}')
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(FolderHeld, match=f"{tmp_path / 'run'} is in use by clvr resume process 7; wait until"):
        opens(tmp_path / "run")
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before
    assert read_trajectory(tmp_path / "run").outcome and read_journal(tmp_path / "run").lines, "reading needs no lock"
    other.ends()
    assert opens(tmp_path / "run").lines


def test_two_that_begin_in_one_folder_at_the_same_time_are_one(tmp_path):
    other = Elsewhere(tmp_path)
    for begin in (RunFolder.create, RunFolder.reopen):
        with pytest.raises(FolderHeld):
            begin(tmp_path)
    other.ends()
    assert RunFolder.create(tmp_path).lines == [], "what a killed process left of its lock is no run"


def test_the_folder_is_free_again_once_the_run_has_ended_however_it_did(tmp_path):
    class Breaks(FakeExecutor):
        def draw(self, requests):
            assert (tmp_path / "run" / LOCK).exists(), "meanwhile it is locked"
            raise RuntimeError("out of memory")

    for led in (drive, lambda session: drive_all([session], session.models.executor)):
        session = Session(a_brief(), RunModels(scripted(*SCRIPT), Breaks()), RunFolder.reopen(tmp_path / "run"))
        with pytest.raises(RuntimeError, match="out of memory"):
            led(session)
        Elsewhere(tmp_path / "run").ends()
    drive(resume(RunFolder.open(tmp_path / "run"), models()))
    assert not (tmp_path / "run" / LOCK).exists()
    folder = RunFolder.open(tmp_path / "run")
    assert (tmp_path / "run" / LOCK).exists() and folder.lines
    del folder
    assert not (tmp_path / "run" / LOCK).exists(), "nor does an object that is gone hold it"


class TestInOneProcess:
    def test_a_later_session_goes_on_and_the_earlier_is_told_at_its_next_write(self, tmp_path):
        earlier, call = stopped(tmp_path / "run", 2)
        result = earlier.perform(call)
        later = resume(RunFolder.open(tmp_path / "run"), models())
        with pytest.raises(BadInput, match="is gone on with by a later session of this process; this one has ended"):
            earlier.note(call, result)
        drive(later)
        with pytest.raises(BadInput, match="this one has ended"):
            earlier.folder.save_canvas(0, Drawing(grey(1), 0), earlier.trajectory, 1)
        whole = tmp_path / "whole"
        drive(start(a_brief(), models(), whole))
        assert events(tmp_path / "run") == events(whole)

    def test_one_that_was_closed_goes_on_only_if_nobody_else_did(self, tmp_path):
        session, call = stopped(tmp_path / "run", 2)
        session.folder.close()
        RunFolder.open(tmp_path / "run").close()
        session.note(call, result := session.perform(call))
        call = session.advance(result)
        session.folder.close()
        drive(resume(RunFolder.open(tmp_path / "run"), models()))
        before = (tmp_path / "run" / JOURNAL).read_bytes()
        with pytest.raises(BadInput, match=r"was gone on with by another session meanwhile; go on with: clvr resume"):
            session.note(call, session.perform(call))
        assert (tmp_path / "run" / JOURNAL).read_bytes() == before
        Elsewhere(tmp_path / "run").ends()

    def test_sessions_over_one_folder_object_are_one(self, tmp_path):
        drive(start(a_brief(budget=Budget(2)), models(), tmp_path / "run"))
        rest = RunModels(scripted(SCRIPT[0][2:], SCRIPT[1]), FakeExecutor(images=[]))
        session = go_on(RunFolder.open(tmp_path / "run"), rest, Budget(3))
        assert session.advance() is not None and events(tmp_path / "run")[-1] == "rewind"


def test_a_folder_that_cannot_be_held_is_a_sentence(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    folder.close()
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    with pytest.raises(CannotWrite, match="No such file or directory; mend that and go on with: clvr resume"):
        folder.hold()


def test_what_a_failed_write_left_of_a_line_does_not_stand_before_the_next(tmp_path, monkeypatch):
    class Full:
        """A file of a disk that takes ten bytes more."""

        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            self.file.write(data[:10])
            self.file.flush()
            raise OSError(28, "No space left on device")

    session, call = stopped(tmp_path / "run", 2)
    before, opens = (tmp_path / "run" / JOURNAL).read_bytes(), Path.open
    result = session.perform(call)
    monkeypatch.setattr(
        Path, "open", lambda path, mode="r", *rest: Full(opens(path, mode)) if mode == "ab" else opens(path, mode)
    )
    with pytest.raises(BadInput, match=r"cannot be written: No space left .*; mend that and go on with: clvr resume"):
        session.note(call, result)
    assert (tmp_path / "run" / JOURNAL).read_bytes() == before
    monkeypatch.undo()
    session.folder.append({"event": "judged"})
    assert events(tmp_path / "run")[-1] == "judged"


@pytest.mark.parametrize("size", [700, 1500, 2500])
def test_a_run_under_a_limit_of_file_size_ends_with_a_sentence_and_goes_on_without_it(tmp_path, size):
    with largest_file(size), pytest.raises(CannotWrite, match=r"File too large; mend that and go on with: clvr resume"):
        drive(start(a_brief(), models(), tmp_path / "run"))
    left = (tmp_path / "run" / JOURNAL).read_bytes()
    assert len(left) <= size and left.endswith(b"\n")
    assert drive(resume(RunFolder.open(tmp_path / "run"), models())).outcome


class TestFilesThatAreNotOurs:
    @pytest.mark.parametrize("content", [b"a token without an end of line", b'{"event":"start"}\n', b""])
    @pytest.mark.parametrize("opens", [RunFolder.open, RunFolder.reopen])
    def test_what_a_linked_journal_leads_to_is_not_written(self, tmp_path, content, opens):
        (tmp_path / "token").write_bytes(content)
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / JOURNAL).symlink_to(tmp_path / "token")
        with pytest.raises(BadInput, match=rf"{JOURNAL} is a link, and what it leads to is not written"):
            opens(tmp_path / "run")
        assert (tmp_path / "token").read_bytes() == content

    def test_nor_is_one_made_where_a_link_leads_nowhere(self, tmp_path):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / JOURNAL).symlink_to(tmp_path / "nowhere")
        with pytest.raises(BadInput, match="cannot be read"):
            RunFolder.reopen(tmp_path / "run")
        assert not (tmp_path / "nowhere").exists()

    @pytest.mark.parametrize("content", [b"my own notes", b'{"event":"goals"', b'{"event":"start"}'])
    def test_a_file_of_that_name_that_no_writer_of_ours_began_is_left_alone(self, tmp_path, content):
        (tmp_path / JOURNAL).write_bytes(content)
        with pytest.raises(BadInput, match=f"{JOURNAL} is not one of clvr; move it away or choose another folder"):
            RunFolder.reopen(tmp_path)
        assert (tmp_path / JOURNAL).read_bytes() == content

    @pytest.mark.parametrize("content", [b'{"event":"start","schema":1,"brief":{"pro', b"\0" * 512])
    def test_what_a_kill_or_a_power_cut_left_of_the_first_line_is_begun_anew(self, tmp_path, content):
        (tmp_path / JOURNAL).write_bytes(content)
        assert RunFolder.reopen(tmp_path).lines == [] and (tmp_path / JOURNAL).read_bytes() == b""

    def test_of_hidden_parts_only_those_of_a_killed_writer_are_removed(self, tmp_path):
        drive(start(a_brief(), models(), tmp_path / "run"))
        for name in (".0123456789abcdef.part", ".notes.part", ".x.part", "0123456789abcdef.part"):
            (tmp_path / "run" / name).write_bytes(b"x")
        RunFolder.open(tmp_path / "run")
        left = {path.name for path in (tmp_path / "run").iterdir() if path.name.endswith(".part")}
        assert left == {".notes.part", ".x.part", "0123456789abcdef.part"}

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
    def test_a_journal_that_is_a_pipe_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / JOURNAL)
        for read in (RunFolder.open, RunFolder.reopen, read_journal, read_trajectory):
            with pytest.raises(BadInput, match="is no file"):
                read(tmp_path)
