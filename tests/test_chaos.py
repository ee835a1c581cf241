"""The campaigns of benchmarks/chaos.py hold, and would say so if anything were lost. Nothing is killed here: no process
of pytest is forked."""

from __future__ import annotations

import json

import pytest

from benchmarks import chaos

HERE = ["--only", "cut", "disk", "replies", "--count", "1"]


@pytest.fixture(autouse=True)
def few_replies(monkeypatch):
    monkeypatch.setattr(chaos, "REPLIES", 5)


def test_a_case_of_each_campaign_holds(tmp_path, capsys):
    assert chaos.main([*HERE, "--json", str(tmp_path / "chaos.json")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[:4] for line in said[2:]] == [
        [f"| {name}", count, count, "0"] for name, count in (("cut", "1"), ("disk", "1"), ("replies", "15"))
    ]
    assert json.loads((tmp_path / "chaos.json").read_text())["disk"]["lost"] == []


def test_what_is_lost_is_counted_named_and_the_status(capsys, monkeypatch):
    go_on, judged = chaos.go_on, chaos.hostile.judged

    def loses_a_picture(folder):
        go_on(folder)
        if folder.name in ("cut-0", "disk-0"):
            (folder / "best.png").unlink()

    monkeypatch.setattr(chaos, "go_on", loses_a_picture)
    monkeypatch.setattr(chaos.hostile, "judged", lambda vlm, count: ["met", *judged(vlm, count)[1:]])
    assert chaos.main(HERE) == 1
    said = capsys.readouterr().out
    assert "cut, case 0: other than without the fault: best.png, files" in said
    assert "disk, case 0: other than without the fault: best.png, files" in said
    assert "replies, case 0: " in said and "['met'" in said


def test_a_disk_that_is_full_unnoticed_is_a_loss(capsys, monkeypatch):
    monkeypatch.setattr(chaos, "failing_disk", lambda code, after: chaos.mock.MagicMock())
    monkeypatch.setattr(chaos, "largest_file", lambda size: chaos.mock.MagicMock())
    assert chaos.main(["--only", "disk", "--count", "1"]) == 1
    assert "ended as if the disk had taken all of it" in capsys.readouterr().out
