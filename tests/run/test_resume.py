"""A run that was stopped anywhere goes on from what is on disk, and ends as if it had never been stopped."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clvr_core.brief import Brief, Budget, Goal
from clvr_core.errors import BadInput
from clvr_core.run.run_folder import BEST, JOURNAL, REPORT, RunFolder, trajectory_from
from clvr_core.run.run_models import same_models
from clvr_core.run.session import RunModels, Session, drive, resume
from clvr_core.storage.png import trajectory_of
from tests.fakes import FakeExecutor, FakeVlm
from tests.run import killable
from tests.stickers.oracle import OracleExecutor

ROOT = Path(__file__).parents[2]
VLM = killable.VLM


@pytest.fixture(autouse=True, scope="module")
def without_waiting_for_the_disk():
    """A killed process loses nothing that it has written; only a power cut would, and none happens here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


def without_times(value):
    """A line of the journal with every wall time taken out: the one thing in which two runs may differ."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key != "seconds"}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def journal(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / JOURNAL).read_bytes().splitlines()]


def left_by(folder: Path) -> dict[str, object]:
    """All that must be the same after a resume: every picture to the byte, the journal without times, the names of all files."""
    pictures = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".png"}
    return {
        **pictures,
        JOURNAL: without_times(journal(folder)),
        "files": sorted(path.name for path in folder.iterdir()),
    }


def rewrite(folder: Path, lines: list[dict]) -> None:
    (folder / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines))


def go_on(folder: Path, listener=None):
    return drive(resume(RunFolder.open(folder), RunModels(VLM, OracleExecutor(fault=0.3)), listener))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A finished run of several rounds. Never written to."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    killable.run(folder)
    drawn = [line for line in journal(folder) if line["event"] == "drawn"]
    assert len(drawn) >= 4, "another seed is needed in killable.py: these models meet this brief too soon"
    return folder


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def cut(folder: Path, lines: int) -> None:
    """Leaves the first lines of the journal and the pictures they speak of, as if nothing had come after."""
    first = journal(folder)[:lines]
    rewrite(folder, first)
    known = {
        candidate["file"] for line in first if line["event"] == "drawn" for candidate in line["result"]["candidates"]
    }
    for path in folder.iterdir():
        if path.name != JOURNAL and path.name not in known:
            path.unlink()


def line_of(folder: Path, event: str, which: int = 0) -> int:
    return [number for number, line in enumerate(journal(folder)) if line["event"] == event][which]


class TestFromAnyLine:
    def test_the_run_ends_the_same(self, whole, tmp_path):
        expected = left_by(whole)
        for lines in range(1, len(journal(whole)), 3):
            folder = Path(shutil.copytree(whole, tmp_path / str(lines)))
            cut(folder, lines)
            go_on(folder)
            assert left_by(folder) == expected, lines

    def test_only_what_is_new_is_done_and_told(self, copy):
        lines = journal(copy)
        cut(copy, line_of(copy, "drawn", 2) + 1)
        heard, executor = [], OracleExecutor(fault=0.3)
        drive(resume(RunFolder.open(copy), RunModels(VLM, executor), lambda event, line: heard.append(event)))
        assert heard == [line["event"] for line in lines[line_of(copy, "drawn", 2) + 1 :]]
        assert len(executor.requests) == heard.count("drawn") == [line["event"] for line in lines].count("drawn") - 3

    def test_a_last_line_that_was_cut_is_done_again_from_the_line_before(self, whole, copy):
        expected, raw = left_by(whole), (copy / JOURNAL).read_bytes()
        for number in (
            line_of(copy, "action", 1),
            line_of(copy, "drawn", 2),
            line_of(copy, "judged", 3),
            line_of(copy, "end"),
        ):
            begin = sum(map(len, raw.splitlines(keepends=True)[:number]))
            (copy / JOURNAL).write_bytes(raw[: begin + 40])
            go_on(copy)
            assert left_by(copy) == expected, number

    def test_pictures_without_a_line_are_drawn_again(self, whole, copy):
        cut(copy, line_of(copy, "drawn", 1))
        (copy / "canvas-001.png").write_bytes(b"half a pict")
        go_on(copy)
        assert left_by(copy) == left_by(whole)

    def test_a_brief_in_whole_numbers_gives_the_same_bytes_as_the_floats_it_is_read_back_as(self, tmp_path):
        listed = (Goal("g1", "a cat", feasibility=0, area=(0, 0, 1, 1)), Goal("g2", "a dog"))
        brief = Brief("a cat and a dog", "oneshot", width=8, height=8, budget=Budget(seconds=1000), goals=listed)
        one, two = tmp_path / "one", tmp_path / "two"
        vlm = FakeVlm(decisions=lambda images, questions: [0.9] * len(questions))
        drive(Session(brief, RunModels(vlm, FakeExecutor()), RunFolder.create(one)))
        session = Session(brief, RunModels(vlm, FakeExecutor()), RunFolder.create(two))
        session.note(call := session.advance(), session.perform(call))
        drive(resume(RunFolder.open(two), RunModels(vlm, FakeExecutor())))
        assert left_by(one) == left_by(two)

    def test_what_was_spent_before_counts(self, copy):
        cut(copy, line_of(copy, "drawn", 1) + 1)
        lines = journal(copy)
        lines[0]["brief"]["budget"] = {"seconds": 1000.0}
        lines[-1]["result"]["cost"]["seconds"] = {"draw": 2000.0}
        rewrite(copy, lines)
        run = go_on(copy)
        assert len(run.steps) == 2 and run.outcome.reason.startswith("budget: 200")

    def test_a_run_that_an_error_broke_off_goes_on(self, whole, tmp_path):
        class Breaks(OracleExecutor):
            def draw(self, requests):
                if len(self.requests) == 2:
                    raise RuntimeError("out of memory")
                return super().draw(requests)

        folder = tmp_path / "run"
        with pytest.raises(RuntimeError, match="out of memory"):
            drive(Session(killable.BRIEF, RunModels(VLM, Breaks(fault=0.3)), RunFolder.create(folder)))
        assert go_on(folder).outcome is not None and left_by(folder) == left_by(whole)


class TestAFinishedRun:
    def test_nothing_on_the_disk_changes_and_no_model_is_asked(self, whole, copy):
        for path in copy.iterdir():
            os.utime(path, (1, 1))
        before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in copy.iterdir()}
        vlm, executor, heard = FakeVlm(name="stickers"), FakeExecutor([], name="oracle"), []
        session = resume(RunFolder.open(copy), RunModels(vlm, executor), lambda event, line: heard.append(event))
        run = drive(session)
        assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in copy.iterdir()} == before
        assert (vlm.chats, vlm.decides, executor.requests, heard) == ([], [], [], []) and session.done
        assert run == trajectory_from(journal(whole)) and run.outcome == trajectory_of(whole / BEST).outcome

    def test_it_needs_none_of_its_pictures(self, copy):
        for path in copy.glob("canvas-*.png"):
            path.unlink()
        assert go_on(copy).outcome.canvas is not None

    def test_what_is_handed_over_is_written_before_the_run_is_said_to_have_ended(self, whole, copy):
        cut(copy, len(journal(copy)) - 1)
        assert not (copy / BEST).exists() and not (copy / REPORT).exists()
        go_on(copy)
        assert (copy / BEST).read_bytes() == (whole / BEST).read_bytes() and (copy / REPORT).exists()


@pytest.mark.parametrize(
    ("recorded", "same"),
    [
        ({"controller": "eyes.gguf"}, True),
        ({"controller": "/models/eyes.gguf"}, True),
        ({"controller": "/models/others.gguf"}, False),
        ({"controller": 3}, False),
        ("eyes.gguf", False),
    ],
)
def test_a_run_that_names_a_model_by_its_path_goes_on(recorded, same):
    """As those of earlier versions with llama.cpp, which lists a model by its path."""
    assert same_models(recorded, {"controller": "eyes.gguf"}) is same


class TestWhatCannotGoOn:
    def test_other_models_are_refused_and_both_are_named(self, copy):
        before = left_by(copy)
        with pytest.raises(
            BadInput, match=r"made by .*verifier 'stickers'.*executor 'oracle'.*these models are .*executor 'klein'"
        ):
            resume(RunFolder.open(copy), RunModels(VLM, FakeExecutor(name="klein")))
        with pytest.raises(BadInput, match=r"made by controller 'stickers'.*these models are controller 'qwen'"):
            resume(RunFolder.open(copy), RunModels(FakeVlm(name="qwen"), OracleExecutor()))
        assert left_by(copy) == before

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"brief": None}, "the brief cannot be read: Brief: expected an object"),
            ({"brief": {"prompt": "x", "seed": "one"}}, r"Brief\.seed: expected int, found 'one'"),
            ({"brief": {"seed": 1}}, r"Brief\.prompt is missing"),
            ({"brief": {"prompt": "x", "strategy": "hope"}}, r"Brief\.strategy: 'hope' is none of"),
            ({"brief": {"prompt": " "}}, "the brief is empty"),
            ({"models": None}, "models it does not name"),
        ],
    )
    def test_a_first_line_that_does_not_say_what_is_needed_is_named(self, copy, change, said):
        lines = journal(copy)
        lines[0] |= change
        for missing in (False, True):
            if missing:
                lines[0] = {key: value for key, value in lines[0].items() if change.get(key, key) is not None}
            rewrite(copy, lines)
            with pytest.raises(BadInput, match=said):
                resume(RunFolder.open(copy), RunModels(VLM, OracleExecutor(fault=0.3)))

    @pytest.mark.parametrize("damage", ["missing", "cut", "other pixels", "no picture", "flipped byte"])
    def test_a_canvas_that_is_needed_is_named_if_it_is_missing_or_damaged(self, copy, damage):
        cut(copy, line_of(copy, "drawn", 2) + 1)
        needed = copy / "canvas-002.png"
        data = bytearray(needed.read_bytes())
        data[-40] ^= 1
        if damage == "missing":
            needed.unlink()
        elif damage == "other pixels":
            shutil.copy(copy / "canvas-001.png", needed)
        else:
            needed.write_bytes({"cut": data[:-60], "no picture": b"hello", "flipped byte": bytes(data)}[damage])
        before = (copy / JOURNAL).read_bytes()
        with pytest.raises(BadInput, match=r"canvas-002\.png is missing or damaged, and the run needs it to go on"):
            go_on(copy)
        assert (copy / JOURNAL).read_bytes() == before

    def test_canvases_that_are_not_needed_any_more_may_be_missing(self, whole, copy):
        best = trajectory_from(journal(copy)).best
        cut(copy, len(journal(copy)) - 1)
        for path in copy.glob("canvas-*.png"):
            if path != RunFolder(copy, []).canvas_path(best):
                path.unlink()
        go_on(copy)
        assert (copy / BEST).read_bytes() == (whole / BEST).read_bytes()

    @pytest.mark.parametrize(
        ("event", "change", "said"),
        [
            ("action", {"event": "drawn"}, r"records 'drawn' where this version would do 'action'"),
            ("planned", {"plan": [["g1"]]}, r"records plan \[\['g1'\]\] where this version decides \[\]"),
            ("step", {"current": None}, r"records current None where this version decides 0"),
            ("end", {"best": 77}, r"records best 77 where this version decides \d"),
        ],
    )
    def test_a_record_that_this_version_would_not_make_is_refused(self, copy, event, change, said):
        lines = journal(copy)
        number = line_of(copy, event)
        lines[number] |= change
        rewrite(copy, lines)
        with pytest.raises(
            BadInput, match=rf"line {number + 1} of {JOURNAL} {said}; the run was made by another version"
        ):
            go_on(copy)

    def test_pictures_of_other_seeds_are_refused(self, copy):
        lines = journal(copy)
        lines[0]["brief"]["seed"] = 3
        rewrite(copy, lines)
        with pytest.raises(BadInput, match="other seeds than this version would draw"):
            go_on(copy)

    @pytest.mark.parametrize(
        ("event", "result", "said"),
        [
            ("goals", None, "Goals: expected an object"),
            ("action", {"action": {"kind": "PAINT"}}, r"Chosen\.action\.kind: 'PAINT' is none of"),
            ("drawn", {"candidates": [{}]}, r"Drawn\.candidates\[0\]\.canvas is missing"),
            ("judged", {"verdicts": 3, "edits": []}, r"Judgement\.verdicts: expected a list"),
        ],
    )
    def test_a_result_that_cannot_be_read_is_named_by_line_and_field(self, copy, event, result, said):
        lines = journal(copy)
        number = line_of(copy, event)
        lines[number]["result"] = result
        rewrite(copy, lines)
        with pytest.raises(BadInput, match=rf"line {number + 1} of {JOURNAL} is damaged \({said}"):
            go_on(copy)


def kill_points(writes: list[str]) -> list[str]:
    """Twenty writes over the whole run: in the middle of a line, before its sync, within a picture, between a picture and its line."""
    rng = random.Random(20)
    kinds = [write.split()[0] for write in writes]
    at = {kind: [str(place) for place, other in enumerate(kinds) if other == kind and place] for kind in set(kinds)}
    torn = [f"{place}-torn" for place in rng.sample(at["journal"], 8)]
    last = f"{len(writes) - 1}-torn"
    return list(dict.fromkeys([last, *torn]))[:8] + [
        place for kind in ("journal", "file", "replace", "folder") for place in rng.sample(at[kind], 3)
    ]


@pytest.mark.skipif(
    not (hasattr(os, "fork") and os.path.isdir("/proc/self/fd")), reason="kills processes that it forks"
)
def test_killed_at_twenty_points_the_run_ends_with_the_same_pictures(whole, tmp_path):
    def jobs(*names: str) -> dict:
        command = [sys.executable, "-m", "tests.run.killable", str(tmp_path), *names]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    writes, _ = jobs("whole")["whole"]
    points = kill_points(writes)
    assert len(set(points)) == 20
    killed = jobs(*points, "again-7")
    expected = left_by(whole)
    assert left_by(tmp_path / "whole") == expected
    assert all(killed[point][0] is None for point in points), "each of them was killed"
    assert killed["again-7"][1] >= 4 and left_by(tmp_path / "again-7") == expected
    for point in points:
        folder = tmp_path / point
        assert left_by_a_kill(folder, writes, point)
        assert go_on(folder).outcome is not None
        assert left_by(folder) == expected, point


def left_by_a_kill(folder: Path, writes: list[str], point: str) -> bool:
    """Whether the folder looks as this kill must leave it, so that the test tests what it says."""
    number, parts = int(point.removesuffix("-torn")), list(folder.glob(".*.part"))
    raw = (folder / JOURNAL).read_bytes()
    synced = [write for write in writes[: number + 1] if write.startswith("journal")]
    return (
        raw.count(b"\n") == int(synced[-1].split()[1]) - point.endswith("torn")
        and raw.endswith(b"\n") is not point.endswith("torn")
        and bool(parts) is (writes[number] in ("file", "replace"))
    )
