"""The run folder: what may be begun in it, what is read back from it, and the sentence for what cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clvr_core.errors import BadInput
from clvr_core.run.run_folder import JOURNAL, RunFolder, digest_of, trajectory_from
from clvr_core.run.session import RunModels, Session, drive
from clvr_core.storage.png import save_png
from clvr_core.trajectory import SCHEMA
from tests.fakes import FakeExecutor, grey, trajectory
from tests.run.script import a_brief, edit, generate, scripted

START = {"event": "start", "schema": SCHEMA, "brief": {"prompt": "a cat"}, "models": {}}


def holding(path: Path, *lines: dict | str, end: str = "\n") -> Path:
    """A folder whose journal has these lines."""
    path.mkdir(exist_ok=True)
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (path / JOURNAL).write_text("\n".join(text) + end, "utf-8")
    return path


class TestANewRun:
    @pytest.mark.parametrize("where", ["run", "deep/down/run"])
    def test_the_folder_is_made(self, tmp_path, where):
        assert RunFolder.create(tmp_path / where).lines == [] and (tmp_path / where / JOURNAL).exists()

    def test_an_empty_folder_will_do(self, tmp_path):
        RunFolder.create(tmp_path)

    def test_a_folder_that_holds_something_is_refused_and_left_alone(self, tmp_path):
        (tmp_path / "thesis.txt").write_text("years of work")
        with pytest.raises(
            BadInput,
            match=f"output folder {tmp_path} is not empty; choose a new one, or go on with: clvr resume {tmp_path}",
        ):
            RunFolder.create(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]

    def test_a_run_is_not_begun_over_another(self, tmp_path):
        RunFolder.create(tmp_path / "run")
        with pytest.raises(BadInput, match="is not empty"):
            RunFolder.create(tmp_path / "run")

    @pytest.mark.parametrize("where", ["taken", "taken/run"])
    def test_a_folder_that_cannot_be_written_is_named_with_the_reason(self, tmp_path, where):
        (tmp_path / "taken").write_text("a file")
        with pytest.raises(
            BadInput, match=rf"output folder {tmp_path / where} cannot be written: \w.*; choose another"
        ):
            RunFolder.create(tmp_path / where)

    def test_a_folder_that_goes_away_during_the_run_is_named_with_the_way_to_go_on(self, tmp_path):
        class Unplugged(FakeExecutor):
            def draw(self, requests):
                if self.requests:
                    (tmp_path / "run").rename(tmp_path / "elsewhere")
                return super().draw(requests)

        session = Session(
            a_brief(),
            RunModels(scripted([generate(), edit()], {0: "muu"}), Unplugged()),
            RunFolder.create(tmp_path / "run"),
        )
        with pytest.raises(
            BadInput, match=rf"{tmp_path / 'run'} cannot be written: No such file.*clvr resume {tmp_path / 'run'}"
        ):
            drive(session)
        assert RunFolder.open(tmp_path / "elsewhere").lines[-1]["event"] == "action"


class TestTheJournal:
    def test_lines_come_back_as_they_were_written(self, tmp_path):
        folder, line = (
            RunFolder.create(tmp_path / "run"),
            {"event": "goals", "text": 'ein "Schild"\r\n\u2028 \u732b \ud800', "n": [1, 0.1, None]},
        )
        folder.append(START)
        folder.append(line)
        assert RunFolder.open(tmp_path / "run").lines == folder.lines == [START, line]
        assert "\u732b" in (tmp_path / "run" / JOURNAL).read_text("utf-8")

    def test_lines_are_only_appended(self, tmp_path):
        folder = RunFolder.create(tmp_path / "run")
        before = b""
        for number in range(3):
            folder.append(START | {"number": number})
            after = (tmp_path / "run" / JOURNAL).read_bytes()
            assert after.startswith(before) and after.count(b"\n") == number + 1 and after.endswith(b"\n")
            before = after

    @pytest.mark.parametrize("rest", ['{"event": "goals", "resu', "{", '{"event": "goals"}', "\udcff\udcfe", "\r"])
    def test_a_last_line_without_an_end_is_dropped(self, tmp_path, rest):
        path = holding(tmp_path, START, {"event": "goals"})
        whole = (path / JOURNAL).read_bytes()
        (path / JOURNAL).write_bytes(whole + rest.encode(errors="surrogateescape"))
        assert [line["event"] for line in RunFolder.open(path).lines] == ["start", "goals"]
        assert (path / JOURNAL).read_bytes() == whole

    def test_what_comes_next_is_appended_behind_the_last_whole_line(self, tmp_path):
        path = holding(tmp_path, START, '{"event": "go', end="")
        RunFolder.open(path).append({"event": "goals"})
        assert [line["event"] for line in RunFolder.open(path).lines] == ["start", "goals"]

    def test_a_last_line_that_is_damaged_is_dropped_too(self, tmp_path):
        path = holding(tmp_path, START, "\0\0\0\0")
        assert len(RunFolder.open(path).lines) == 1

    @pytest.mark.parametrize(
        "damage",
        ['{"event": "goals"', "", "null", "[]", '{"evnt": "goals"}', '{"event": 3}', "\0\0", 'x"\r', "[" * 100_000],
        ids=lambda text: repr(text[:20]),
    )
    def test_a_damaged_line_before_the_last_is_named_and_nothing_is_changed(self, tmp_path, damage):
        path = holding(tmp_path, START, damage, {"event": "planned"}, '{"event": "st', end="")
        before = (path / JOURNAL).read_bytes()
        with pytest.raises(BadInput, match=rf"{JOURNAL} line 2 is damaged \(.+\); restore the file or start a new run"):
            RunFolder.open(path)
        assert (path / JOURNAL).read_bytes() == before

    def test_a_newer_schema_is_refused_before_anything_is_changed(self, tmp_path):
        path = holding(tmp_path, START | {"schema": SCHEMA + 1}, '{"event": "st', end="")
        before = (path / JOURNAL).read_bytes()
        with pytest.raises(
            BadInput, match=f"has schema version {SCHEMA + 1}; this version reads up to {SCHEMA}; update clvr"
        ):
            RunFolder.open(path)
        assert (path / JOURNAL).read_bytes() == before

    @pytest.mark.parametrize("schema", ["1", None, 0, -1, 1.5])
    def test_a_schema_that_is_no_version_is_damage(self, tmp_path, schema):
        with pytest.raises(BadInput, match="line 1 is damaged"):
            RunFolder.open(holding(tmp_path, START | {"schema": schema}))

    @pytest.mark.parametrize("lines", [(), ('{"event": "sta',), ({"event": "goals"},)], ids=["empty", "cut", "another"])
    def test_without_a_whole_first_line_there_is_nothing_to_go_on_with(self, tmp_path, lines):
        with pytest.raises(BadInput, match="holds no run to go on with"):
            RunFolder.open(holding(tmp_path, *lines, end="" if lines and isinstance(lines[0], str) else "\n"))

    @pytest.mark.parametrize("where", ["", "nowhere"])
    def test_a_folder_without_a_journal_holds_no_run(self, tmp_path, where):
        with pytest.raises(BadInput, match=f"{tmp_path / where} holds no run: {JOURNAL} cannot be read"):
            RunFolder.open(tmp_path / where)

    def test_what_a_killed_writer_left_half_done_is_cleared_away(self, tmp_path):
        path = holding(tmp_path, START)
        for name in (".0123456789abcdef.part", "canvas-000.png", ".hidden", "notes.part"):
            (path / name).write_bytes(b"x")
        RunFolder.open(path)
        assert sorted(file.name for file in path.iterdir()) == [".hidden", "canvas-000.png", "notes.part", JOURNAL]


class TestPictures:
    def test_a_canvas_comes_back_pixel_for_pixel(self, tmp_path):
        folder = RunFolder.create(tmp_path / "run")
        picture = grey(7)
        picture[1, 2] = (1, 2, 3)
        save_png(folder.canvas_path(0), picture, trajectory(), 0)
        assert (folder.picture(0) == picture).all() and (folder.picture(0, digest_of(picture)) == picture).all()

    @pytest.mark.parametrize(
        ("data", "said"), [(None, "No such file"), (b"", "not a PNG"), (b"\x89PNG\r\n\x1a\n123", "cut short")]
    )
    def test_one_that_is_missing_or_damaged_is_named(self, tmp_path, data, said):
        folder = RunFolder.create(tmp_path / "run")
        if data is not None:
            folder.canvas_path(3).write_bytes(data)
        with pytest.raises(
            BadInput, match=rf"canvas-003\.png is missing or damaged, and the run needs it to go on \(.*{said}"
        ):
            folder.picture(3)

    def test_one_with_other_pixels_than_were_recorded_is_refused(self, tmp_path):
        folder = RunFolder.create(tmp_path / "run")
        save_png(folder.canvas_path(0), grey(7), trajectory(), 0)
        with pytest.raises(BadInput, match="not the picture that the run drew"):
            folder.picture(0, digest_of(grey(8)))


PLANNED = {
    "event": "planned",
    "goals": [{"id": "g1", "text": "a cat"}],
    "plan": [["g1"]],
    "gate": "staged",
    "overhead": {"vlm_tokens": 3},
}
DRAWN = {"index": 0, "action": {"kind": "GENERATE"}, "chosen": 0, "accepted": True}
STEP = {"event": "step", "steps": [DRAWN], "current": 0, "best": 0, "warnings": ["careful"]}


class TestTheTrajectoryOfTheLines:
    def test_it_is_known_as_far_as_the_lines_tell_it(self):
        lines = [START, {"event": "goals", "result": {}}, PLANNED, {"event": "drawn"}, STEP]
        planned, stepped = trajectory_from(lines[:3]), trajectory_from(lines)
        assert trajectory_from(lines[:2]).goals == () and trajectory_from(lines[:1]).brief.prompt == "a cat"
        assert (planned.goals[0].text, planned.plan, planned.gate, planned.cost.vlm_tokens) == (
            "a cat",
            (("g1",),),
            "staged",
            3,
        )
        assert (stepped.best, stepped.current, len(stepped.steps), stepped.warnings, stepped.gate) == (
            0,
            0,
            1,
            ("careful",),
            "staged",
        )

    def test_a_later_line_mends_an_earlier_step_in_its_place(self):
        second = {
            "event": "step",
            "steps": [DRAWN | {"score": 1.0}, {"index": 1, "action": {"kind": "VALIDATE"}}],
            "current": 0,
            "best": 0,
        }
        run = trajectory_from([START, PLANNED, STEP, second])
        assert [(step.index, step.action.kind, step.score) for step in run.steps] == [
            (0, "GENERATE", 1.0),
            (1, "VALIDATE", None),
        ]

    def test_the_end_brings_the_outcome(self):
        end = {
            "event": "end",
            "steps": [],
            "current": 0,
            "best": 0,
            "outcome": {"reason": "END", "canvas": 0, "met": True},
        }
        run = trajectory_from([START, PLANNED, STEP, end])
        assert run.outcome.met and len(run.steps) == 1 and trajectory_from([START, PLANNED, STEP]).outcome is None

    def test_events_and_fields_of_a_later_version_are_passed_over(self):
        lines = [START | {"new": 1}, {"event": "steered", "words": "bluer"}, PLANNED | {"new": {}}, STEP]
        assert trajectory_from(lines) == trajectory_from([START, PLANNED, STEP])

    @pytest.mark.parametrize(
        ("lines", "said"),
        [
            ([{"event": "start"}], "line 1: brief: expected an object"),
            ([START | {"brief": {"seed": 1}}], r"line 1: brief\.prompt is missing"),
            ([START, PLANNED | {"goals": [{"id": "g1"}]}], r"line 2\.goals\[0\]\.text is missing"),
            ([START, PLANNED, STEP | {"steps": [{"index": 0}]}], r"line 3\.steps\[0\]\.action is missing"),
            ([START, PLANNED, STEP | {"best": "0"}], r"line 3\.best: expected int"),
        ],
    )
    def test_what_cannot_be_read_is_named_by_line_and_field(self, lines, said):
        with pytest.raises(ValueError, match=said):
            trajectory_from(lines)
