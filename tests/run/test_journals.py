"""Stored journals tell the trajectories that are stored beside them. tests/web/unit/journals.test.js asks the same of the viewer."""

from __future__ import annotations

import json

import pytest

from clvr_core.run.run_folder import JOURNAL
from tests.run.journals import EXPECTED, FOLDER, RUNS, expected

FOLDERS = sorted(path for path in FOLDER.iterdir() if path.is_dir())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_the_journal_tells_the_stored_trajectory(folder):
    stored = json.loads((folder / EXPECTED).read_text("utf-8"))
    assert expected(folder) == stored, "run: python -m tests.run.journals"


def test_the_stored_runs_are_those_that_the_command_plays():
    assert {folder.name for folder in FOLDERS} == set(RUNS)


def test_the_stored_runs_hold_what_readers_have_to_understand():
    runs = {folder.name: expected(folder) for folder in FOLDERS}
    nice = runs["nice-missed"]
    last = nice["steps"][-1]["verdicts"]
    assert nice["outcome"]["met"] and nice["goals"][2]["need"] == "nice" and last[2]["state"] == "unmet"
    assert [step["accepted"] for step in runs["rolled-back"]["steps"]].count(False) >= 3
    assert [bool(remark["words"]) for remark in runs["reviewed"]["remarks"]].count(True) == 1
    assert {step["action"]["kind"] for name in ("validated", "given") for step in runs[name]["steps"]} >= {
        "VALIDATE",
        "GIVEN",
    }
    assert runs["unfinished"]["outcome"] is None and runs["rewound"]["brief"]["budget"]["rounds"] == 4


def test_a_journal_from_before_there_were_codes_tells_the_same_as_one_with_them():
    assert b"ruling" not in (FOLDER / "rolled-back" / JOURNAL).read_bytes()
    assert b'"ruling":"goals lost"' in (FOLDER / "with-codes" / JOURNAL).read_bytes()
    assert expected(FOLDER / "rolled-back") == expected(FOLDER / "with-codes")
