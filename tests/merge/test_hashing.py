"""The SHA-256 of the inputs: from the buffers of the merge, and from the table of earlier merges."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from clvr_core.merge import engine, hashing, stream, sums
from clvr_core.merge.plan import make_plan
from clvr_core.merge.recipe import Lora, MergeRecipe
from clvr_core.merge.run import merge
from clvr_core.merge.survey import survey
from clvr_core.weights.checkpoint import File
from tests.merge import klein
from tests.merge.test_lowrank import factors, named
from tests.merge.test_merge import written


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def small(monkeypatch):
    """Windows and buffers so small that each worker needs its memory back many times."""
    for module in (engine, stream):
        monkeypatch.setattr(module, "WINDOW", 4096)
        monkeypatch.setattr(module, "BLOCK", 512)
    monkeypatch.setattr(stream, "HELD", 3 * 4096)
    monkeypatch.setattr(hashing, "HASHED", 1000)


@pytest.fixture
def read(monkeypatch):
    """The byte ranges read of each file while `run` streams."""
    found, real = [], File.read_into

    def reading(self, view, offset):
        found.append((self.path, offset, offset + len(view)))
        real(self, view, offset)

    monkeypatch.setattr(File, "read_into", reading)
    return found


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("forms", [("bfl", "bfl", "comfyui"), ("bfl", "diffusers", "bfl")], ids=str)
def test_each_byte_of_an_input_in_the_order_of_the_output_is_read_once(tmp_path, small, read, forms, threads):
    paths = written(tmp_path, forms)
    lora = klein.save(tmp_path / "l.safetensors", named(factors()))
    with make_plan(MergeRecipe(*paths, alpha=0.7, loras=(Lora(lora, 0.5),))) as plan:
        survey(plan)
        files = [file for _, checkpoint in plan.checkpoints for file in checkpoint.files]
        made = stream.Stream(plan, threads=threads, hashed=files)
        read.clear()
        found = made.run(lambda *_: None)
    assert [found.sha256[file] for file in files] == [sha256(file.path) for file in files]
    for path, form in zip(paths, forms):
        times = np.zeros(path.stat().st_size, int)
        for place, start, stop in read:
            if place == path:
                times[start:stop] += 1
        assert times.min() == 1 and times.max() == (1 if form != "diffusers" else 2)


def test_a_copied_input_is_read_once_and_the_base_for_its_sum_alone(tmp_path, small, read):
    paths = written(tmp_path)
    with make_plan(MergeRecipe(paths[0], distilled=paths[2])) as plan:
        survey(plan)
        assert "distilled" in {segment.copy for segment in plan.segments}
        files = [file for _, checkpoint in plan.checkpoints for file in checkpoint.files]
        read.clear()
        found = stream.Stream(plan, threads=2, hashed=files).run(lambda *_: None)
    assert [found.sha256[file] for file in files] == [sha256(paths[0]), sha256(paths[2])]
    assert sum(stop - start for path, start, stop in read if path == paths[2]) == files[1].size


def test_an_error_under_the_hashing_ends_all_threads(tmp_path, small):
    with make_plan(MergeRecipe(*written(tmp_path))) as plan:
        survey(plan)
        files = [file for _, checkpoint in plan.checkpoints for file in checkpoint.files]

        def full(*_):
            raise OSError("no room")

        before = threading.active_count()
        with pytest.raises(OSError, match="no room"):
            stream.Stream(plan, threads=3, hashed=files).run(full)
        assert threading.active_count() == before


@pytest.fixture
def settled(monkeypatch):
    """Files count as left alone the moment they are written."""
    monkeypatch.setattr(sums, "SETTLED", -10_000_000_000)


def test_the_second_merge_of_the_same_files_hashes_nothing(tmp_path, settled, cache):
    paths = written(tmp_path)
    for number in (1, 2, 3):
        if number == 3:
            changed = bytearray(paths[1].read_bytes())
            changed[-2] ^= 1
            paths[1].write_bytes(changed)
        with make_plan(MergeRecipe(*paths, alpha=number / 4)) as plan:
            done = merge(plan, tmp_path / f"{number}.safetensors")
        sizes = [path.stat().st_size for path in paths]
        assert done.hashed == {1: sum(sizes), 2: 0, 3: sizes[1]}[number]
        with closing(File(done.out)) as file:
            inputs = json.loads(file.metadata["dswm.recipe"])["inputs"]
        assert [entry["files"][0]["sha256"] for entry in inputs] == list(map(sha256, paths))


def test_a_file_that_may_still_be_written_is_not_remembered(tmp_path):
    paths = written(tmp_path)
    for number in (1, 2):
        with make_plan(MergeRecipe(*paths)) as plan:
            assert merge(plan, tmp_path / f"{number}.safetensors").hashed == sum(path.stat().st_size for path in paths)


def change(path: Path, how: str) -> None:
    status = path.stat()
    if how == "same size and time":
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif how == "another file":
        beside = path.with_name("beside")
        beside.write_bytes(path.read_bytes())
        os.replace(beside, path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + (how == "time")))


@pytest.mark.parametrize("how", ["time", "same size and time", "another file"])
def test_a_changed_file_is_never_answered_from_the_table(tmp_path, settled, how):
    path = klein.save(tmp_path / "a.safetensors", klein.weights())
    table = sums.Sums(tmp_path / "sums.json")
    with closing(File(path)) as file:
        table.keep({file: "0" * 64}, os.stat(path).st_ctime_ns)
        assert table.known([file]) == {file: "0" * 64}
        change(path, how)
        with closing(File(path)) as again:
            assert table.known([file, again]) == {}


@pytest.mark.parametrize("content", [b"", b"[]", b'{"v": 2, "sums": {}}', b'{"v": 1, "sums": {"a": 3}}', b"\xff"])
def test_a_damaged_table_is_an_empty_one_and_is_replaced(tmp_path, settled, content):
    path = klein.save(tmp_path / "a.safetensors", klein.weights())
    table = sums.Sums(tmp_path / "new" / "sums.json")
    table.path.parent.mkdir()
    table.path.write_bytes(content)
    with closing(File(path)) as file:
        assert table.known([file]) == {}
        table.keep({file: "0" * 64}, os.stat(path).st_ctime_ns)
        assert table.known([file]) == {file: "0" * 64}


def test_a_table_that_cannot_be_written_stops_nothing(tmp_path, settled):
    path = klein.save(tmp_path / "a.safetensors", klein.weights())
    (tmp_path / "in the way").write_text("")
    table = sums.Sums(tmp_path / "in the way" / "sums.json")
    with closing(File(path)) as file:
        table.keep({file: "0" * 64}, os.stat(path).st_ctime_ns)
        assert table.known([file]) == {}
