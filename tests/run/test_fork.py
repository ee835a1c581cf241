"""A run led by hand: what made each result is told, and where another makes it the run goes on in a folder of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clvr_core.brief import Budget
from clvr_core.errors import BadInput
from clvr_core.run.run_folder import JOURNAL, RunFolder, trajectory_from
from clvr_core.run.session import RunModels, Session, drive, start
from tests.fakes import FakeExecutor
from tests.run.script import a_brief, edit, generate, scripted

SCRIPT = {"actions": [generate(), edit(), edit()], "canvases": {0: "muu", 1: "mmu", 2: "mmm"}}


@pytest.fixture
def run(tmp_path) -> Path:
    drive(start(a_brief(), RunModels(scripted(**SCRIPT), FakeExecutor()), tmp_path / "run"))
    return tmp_path / "run"


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / JOURNAL).read_bytes().splitlines()]


def test_a_fork_has_the_first_lines_and_their_pictures_under_its_own_budget(run, tmp_path):
    source = RunFolder.open(run)
    keep = [line["event"] for line in source.lines].index("step") + 1
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    fork = source.fork(tmp_path / "fork", keep, Budget(rounds=3))
    fork.close()
    assert fork.lines[1:] == source.lines[1:keep] and trajectory_from(fork.lines).brief.budget.rounds == 3
    assert sorted(path.name for path in (tmp_path / "fork").iterdir()) == ["canvas-000.png", JOURNAL]
    assert (tmp_path / "fork" / "canvas-000.png").read_bytes() == before["canvas-000.png"]
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before, "the run itself is not touched"
    assert RunFolder.open(tmp_path / "fork").lines == fork.lines == lines(tmp_path / "fork")


def test_a_fork_goes_on_in_its_own_way(run, tmp_path):
    source = RunFolder.open(run)
    keep = [line["event"] for line in source.lines].index("step") + 1
    fork = source.fork(tmp_path / "fork", keep, Budget())
    other = drive(Session(a_brief(), RunModels(scripted([edit("a moon")], {0: "mmm"}), FakeExecutor()), fork))
    assert [step.action.edit_prompt for step in other.steps] == ["", "a moon"] and other.outcome.met


def test_a_result_is_taken_from_the_record_only_if_the_same_made_it(tmp_path):
    session = start(a_brief(), RunModels(scripted(**SCRIPT), FakeExecutor()), tmp_path / "run")
    call = session.advance()
    result = session.perform(call)
    session.note(call, result, "one")
    session.advance(result)
    again = Session(a_brief(), RunModels(scripted(), FakeExecutor()), RunFolder.open(tmp_path / "run"))
    call = again.advance(upto=0)
    assert again.on_record(call, "one") == result
    assert again.on_record(call, "another") is None and again.on_record(call) is None
    assert [line.get("by") for line in lines(tmp_path / "run") if line["event"] == "goals"] == ["one"]


@pytest.mark.parametrize("found", [None, b"", b'{"event":"sta'])
def test_a_folder_whose_first_line_was_never_whole_is_begun_anew(tmp_path, found):
    if found is not None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / JOURNAL).write_bytes(found)
    folder = RunFolder.reopen(tmp_path / "run")
    assert folder.lines == [] and (tmp_path / "run" / JOURNAL).read_bytes() == b""
    assert drive(Session(a_brief(), RunModels(scripted(**SCRIPT), FakeExecutor()), folder)).outcome.met


def test_a_folder_with_a_run_is_opened_and_one_that_cannot_be_is_named(run, tmp_path):
    assert RunFolder.reopen(run).lines == lines(run)
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(BadInput, match=r"run folder .*file.* cannot be used"):
        RunFolder.reopen(tmp_path / "file")


@pytest.mark.parametrize(
    ("mine", "theirs", "covers"),
    [
        ({}, {}, True),
        ({"rounds": 9}, {"rounds": 8}, True),
        ({"rounds": 7}, {"rounds": 8}, False),
        ({"images": None}, {"images": 3}, True),
        ({"images": 3}, {"images": None}, False),
        ({"rounds": 9, "patience": 2}, {"patience": 3}, False),
    ],
)
def test_a_budget_covers_another_if_no_limit_is_tighter(mine, theirs, covers):
    assert Budget(**mine).covers(Budget(**theirs)) is covers
