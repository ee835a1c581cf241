"""Runs as files, and workflows that reach for other files."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from clvr_core.run.run_folder import BEST, JOURNAL, REPORT, RunFolder, trajectory_from
from clvr_core.storage.png import read_png
from tests.comfy.graphs import begun_by, go, in_one
from tests.comfy.server import Comfy, Refused, error_of


def kept(name: str = "run", seed: int = 1) -> dict:
    nodes = in_one(seed, rounds=2)
    nodes["5"] = {"class_type": "CLVR_SaveTrajectory", "inputs": {"trajectory": ["2", 1], "name": name}}
    nodes["6"] = {"class_type": "PreviewAny", "inputs": {"source": ["5", 0]}}
    return nodes


def load(run: str) -> dict:
    return {
        "1": {"class_type": "CLVR_LoadTrajectory", "inputs": {"run": run}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "loaded"}},
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["1", 2]}},
        "4": {"class_type": "CLVR_ViewTrajectory", "inputs": {"trajectory": ["1", 1], "columns": 4}},
        "5": {"class_type": "PreviewAny", "inputs": {"source": ["4", 1]}},
    }


def base(comfy: Comfy) -> Path:
    return comfy.base / "output" / "clvr"


def test_a_run_is_kept_under_a_name_and_opened_again(comfy):
    entry = go(comfy, kept("my run", seed=51))
    name = "".join(entry["outputs"]["6"]["text"])
    assert name == "saved/my run-1"
    folder = base(comfy) / name
    told = trajectory_from(RunFolder.open(folder).lines)
    assert told.brief.seed == 51 and told.outcome and (folder / BEST).exists() and (folder / REPORT).exists()
    assert len(list(folder.glob("canvas-*.png"))) == told.canvases
    opened = go(comfy, load(name))
    (image,) = opened["outputs"]["2"]["images"]
    assert np.array_equal(read_png(comfy.base / "output" / image["filename"])[0], read_png(folder / BEST)[0])
    assert told.outcome.reason in "".join(opened["outputs"]["3"]["text"])
    lines = "".join(opened["outputs"]["5"]["text"]).splitlines()
    assert len([line for line in lines if "goals met" in line and line[0].isdigit()]) >= len(told.steps)
    assert opened["outputs"]["4"]["images"], "the sheet is shown"


def test_a_name_that_is_taken_gets_the_next_number(comfy):
    for number, seed in ((1, 52), (2, 53)):
        entry = go(comfy, kept("again", seed=seed))
        assert "".join(entry["outputs"]["6"]["text"]) == f"saved/again-{number}"


@pytest.mark.parametrize("name", ["../out", "a/b", "a\\b", "/etc", "", ".", "..", "x" * 65, "a\x00b", "C:x"])
def test_a_name_that_is_a_path_is_refused_and_nothing_is_written(comfy, name):
    before = sorted((comfy.base / "output").rglob("*"))
    nodes = kept(name, seed=54)
    del nodes["3"], nodes["4"]
    with pytest.raises(Refused, match="name is"):
        comfy.run(nodes)
    assert sorted((comfy.base / "output").rglob("*")) == before


@pytest.mark.parametrize("run", ["../../secret", "..", ".", "", "saved/../../../secret", "link"])
def test_a_run_elsewhere_is_not_opened(comfy, run):
    secret = comfy.base / "secret"
    secret.mkdir(exist_ok=True)
    (secret / JOURNAL).write_text('{"event":"start","schema":1,"brief":{"prompt":"secret"}}\n')
    base(comfy).mkdir(parents=True, exist_ok=True)
    if not (base(comfy) / "link").exists():
        (base(comfy) / "link").symlink_to(secret, target_is_directory=True)
    try:
        entry = comfy.run(load(run))
    except Refused as refused:
        assert "value_not_in_list" in str(refused) and "secret\\" not in str(refused)
    else:
        assert entry["status"]["status_str"] == "error" and "does not lie in the output folder" in error_of(entry)


def test_a_record_that_names_other_files_opens_none_of_them(comfy):
    folder = begun_by(comfy, kept("bait", seed=55))
    journal = RunFolder.open(folder).lines
    (comfy.base / "output" / "outside.png").write_bytes((folder / BEST).read_bytes())
    for line in journal:
        for candidate in line.get("result", {}).get("candidates", ()):
            candidate["file"] = "../../outside.png"
    (folder / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in journal))
    for canvas in folder.glob("canvas-*.png"):
        canvas.unlink()
    entry = comfy.run(load(folder.name))
    assert "missing or damaged" in error_of(entry)


def test_a_picture_that_claims_to_be_huge_is_refused_in_words(comfy):
    folder = begun_by(comfy, kept("huge", seed=56))
    best = trajectory_from(RunFolder.open(folder).lines).best
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )
    (folder / f"canvas-{best:03d}.png").write_bytes(data)
    entry = comfy.run(load(folder.name))
    assert "missing or damaged" in error_of(entry)
