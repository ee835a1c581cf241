"""What the viewer is told, and what no one is told."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse

import pytest

from clvr_core.run.run_folder import JOURNAL, RunFolder
from tests.comfy.graphs import begun_by
from tests.comfy.test_trajectories import base, kept

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def folder(comfy):
    return begun_by(comfy, kept("routes", seed=71))


def ask(comfy, route: str, **query: object):
    return comfy.get(f"/clvr/{route}?{urllib.parse.urlencode(query)}")


def refused(comfy, route: str, **query: object) -> str:
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(comfy, route, **query)
    assert caught.value.code == 404
    return json.loads(caught.value.read())["error"]


def test_the_runs_are_listed_with_what_became_of_them(comfy, folder):
    listed = {run["run"]: run for run in ask(comfy, "runs")["runs"]}
    lines = RunFolder.open(folder).lines
    first = next(line for line in lines if line["event"] == "drawn")["result"]["candidates"][0]
    told = listed[folder.name]
    assert told["prompt"] == lines[0]["brief"]["prompt"] and told["first"] == first["sha256"]
    assert told["met"] in (True, False) and told["steps"] >= 1
    assert any(name.startswith("saved/routes-") for name in listed)


def test_the_lines_of_a_run_come_as_they_stand_from_any_one_on(comfy, folder):
    raw = (folder / JOURNAL).read_text("utf-8").splitlines()
    assert ask(comfy, "lines", run=folder.name) == {"total": len(raw), "lines": raw}
    assert ask(comfy, "lines", run=folder.name, **{"from": len(raw) - 1}) == {"total": len(raw), "lines": raw[-1:]}
    assert ask(comfy, "lines", run=folder.name, **{"from": 999})["lines"] == []
    assert ask(comfy, "lines", run=folder.name, **{"from": "-1"})["total"] == len(raw)


def test_a_line_that_is_being_written_is_none_yet(comfy, folder):
    path = base(comfy) / "half-1"
    path.mkdir()
    (path / JOURNAL).write_text('{"event":"start","brief":{"prompt":"x"}}\n{"event":"go')
    assert ask(comfy, "lines", run="half-1") == {"total": 1, "lines": ['{"event":"start","brief":{"prompt":"x"}}']}
    assert {run["run"]: run["met"] for run in ask(comfy, "runs")["runs"]}["half-1"] is None
    assert (path / JOURNAL).read_text().endswith('{"event":"go'), "looking changes nothing"


def test_a_record_that_cannot_be_read_is_listed_in_words(comfy, folder):
    path = base(comfy) / "broken-1"
    path.mkdir()
    (path / JOURNAL).write_text("nonsense\n")
    assert "cannot be read" in {run["run"]: run["prompt"] for run in ask(comfy, "runs")["runs"]}["broken-1"]


def test_a_canvas_is_the_picture_in_the_folder(comfy, folder):
    assert ask(comfy, "canvas", run=folder.name, canvas=0) == (folder / "canvas-000.png").read_bytes()
    for canvas in ("999", "-1", "x", "", "1e1", "../0", "9" * 50):
        assert "is not in the run" in refused(comfy, "canvas", run=folder.name, canvas=canvas)


@pytest.mark.parametrize(
    "run", ["", ".", "..", "../..", "/etc", "saved/../../../secret", "elsewhere", "no-such-1", "a\x00b", "x" * 5000]
)
def test_nothing_outside_the_runs_is_told(comfy, folder, run):
    secret = comfy.base / "secret"
    secret.mkdir(exist_ok=True)
    (secret / JOURNAL).write_text('{"event":"start","schema":1,"brief":{"prompt":"secret"}}\n')
    (secret / "canvas-000.png").write_bytes(b"secret")
    if not (base(comfy) / "elsewhere").exists():
        (base(comfy) / "elsewhere").symlink_to(secret, target_is_directory=True)
    assert "secret words" not in refused(comfy, "lines", run=run)
    refused(comfy, "canvas", run=run, canvas=0)


def test_a_link_inside_a_run_leads_nowhere(comfy, folder):
    path = base(comfy) / "linked-1"
    path.mkdir()
    (comfy.base / "private.txt").write_text('{"event":"start","brief":{"prompt":"private"}}\n')
    (path / JOURNAL).symlink_to(comfy.base / "private.txt")
    (path / "canvas-000.png").symlink_to(comfy.base / "private.txt")
    refused(comfy, "lines", run="linked-1")
    refused(comfy, "canvas", run="linked-1", canvas=0)
    assert "private" not in json.dumps({run["run"]: run for run in ask(comfy, "runs")["runs"]}["linked-1"])
