"""The list of runs reads the journals that changed, also after a restart, and believes no damaged index."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from clvr_pack.nodes.routes import run_index, runs
from clvr_pack.nodes.routes.run_index import INDEX, NEW

JOURNAL = Path(__file__).parents[1] / "data" / "trajectories" / "rolled-back" / "trajectory.jsonl"
COUNT = 40


@pytest.fixture
def folder(host):
    """A folder of COUNT runs, each with a prompt of its own."""
    start, rest = JOURNAL.read_text("utf-8").split("\n", 1)
    for number in range(COUNT):
        run = host.runs / f"{number:016x}-1"
        run.mkdir(parents=True)
        line = json.loads(start)
        line["brief"] |= {"prompt": f"brief {number}"}
        (run / "trajectory.jsonl").write_text(json.dumps(line) + "\n" + rest, "utf-8")
    restart()
    yield host.runs
    restart()


@pytest.fixture
def read(monkeypatch):
    """Counts the journals that are read, by run."""
    read: Counter[str] = Counter()
    whole = run_index.read_trajectory
    monkeypatch.setattr(run_index, "read_trajectory", lambda path: read.update([path.name]) or whole(path))
    return read


def restart() -> None:
    runs._index.cache_clear()


def listed() -> dict[str, dict]:
    return {run["run"]: run for run in runs.all_runs({})["runs"]}


def test_each_journal_is_read_once_and_no_other_after_a_restart(folder, read):
    first = listed()
    assert len(first) == COUNT and set(read.values()) == {1} and len(read) == COUNT
    assert listed() == first and read.total() == COUNT
    restart()
    assert listed() == first and read.total() == COUNT


def test_of_what_changed_only_that_is_read(folder, read):
    listed()
    restart()
    read.clear()
    journal = folder / f"{7:016x}-1" / "trajectory.jsonl"
    journal.write_text(journal.read_text("utf-8").replace("brief 7", "another brief"), "utf-8")
    assert listed()[f"{7:016x}-1"]["prompt"] == "another brief" and dict(read) == {f"{7:016x}-1": 1}
    os.utime(journal, (10**9,) * 2)  # of the same size
    listed()
    assert read.total() == 2


def test_a_few_new_runs_do_not_write_the_file_anew_and_more_do(folder, read):
    listed()
    written = (folder / INDEX).stat().st_mtime_ns, (folder / INDEX).read_bytes()
    for number in range(NEW):
        os.utime(folder / f"{number:016x}-1" / "trajectory.jsonl", (10**9,) * 2)
        listed()
        same = ((folder / INDEX).stat().st_mtime_ns, (folder / INDEX).read_bytes()) == written
        assert same == (number < NEW - 1)


def test_runs_that_are_gone_are_forgotten(folder, read):
    listed()
    gone = folder / f"{0:016x}-1"
    (gone / "trajectory.jsonl").unlink()
    gone.rmdir()
    for number in range(1, 1 + NEW):
        os.utime(folder / f"{number:016x}-1" / "trajectory.jsonl", (10**9,) * 2)
    assert gone.name not in listed() and gone.name not in json.loads((folder / INDEX).read_text())["runs"]


@pytest.mark.parametrize(
    "damage", ["cut", "list", "version", "entries", "types", "link", "large", "deep"],
)  # fmt: skip
def test_a_damaged_index_counts_as_none(folder, read, damage, monkeypatch):
    first = listed()
    index = folder / INDEX
    held = json.loads(index.read_text())
    if damage == "large":
        monkeypatch.setattr(run_index, "LARGEST", 100)
    elif damage == "link":
        index.rename(folder.parent / "elsewhere")
        index.symlink_to(folder.parent / "elsewhere")
    else:
        (entry, *_) = held["runs"].values()
        entry["summary"]["steps"] = "many"
        index.write_text(
            {
                "cut": index.read_text()[:-9],
                "list": "[]",
                "version": json.dumps(held | {"version": 0}),
                "entries": json.dumps(held | {"runs": [1]}),
                "types": json.dumps(held),
                "deep": "[" * 100_000,
            }[damage]
        )
    restart()
    read.clear()
    assert listed() == first and read.total() == COUNT


def test_a_folder_that_cannot_be_written_is_listed_all_the_same(folder, read, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_index, "write_bytes", full)
    assert len(listed()) == COUNT
    restart()
    assert len(listed()) == COUNT and read.total() == 2 * COUNT and not (folder / INDEX).exists()
