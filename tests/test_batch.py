"""Many briefs side by side: what a file may say, how runs end, and that a kill changes nothing."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clvr_core import cli
from clvr_core.batch import SUMMARY, Job, Result, Table, read_jobs, run_batch
from clvr_core.brief import Brief, Budget
from clvr_core.errors import BadInput, CannotWrite
from clvr_core.executor.remote import ImageServer, RemoteExecutor
from clvr_core.fleet.shard import Shard
from clvr_core.models.registry import Models
from clvr_core.run.reading import read_trajectory
from clvr_core.run.run_folder import BEST, JOURNAL
from clvr_core.stickers import CANVAS
from clvr_core.storage.lock import FolderHeld
from clvr_core.vlm.server import Endpoint, ServerVlm
from clvr_core.world import world_named
from tests.executor.images import Asked as ImageAsked
from tests.executor.images import drawing, picture_answer, serving_images
from tests.fakes import FakeExecutor, grey
from tests.faults import failing_disk
from tests.stickers.oracle import SIZE, OracleExecutor, load_vlm
from tests.storage.test_lock import Elsewhere
from tests.vlm.servers import Asked as ChatAsked
from tests.vlm.servers import Said, completion, pictures_in, said_in, serving
from tests.waiting import let_others_run

ROOT = Path(__file__).parents[1]
BRIEFS = (
    "a red cat at the top left and two blue cars",
    "three green birds. a purple cup",
    'a large yellow bus, a small black cat and a sign that says "HI"',
    "two orange kites and a red bed by the sea",
)
USUAL = Brief("any", **SIZE, budget=Budget(rounds=6))


def written(folder: Path, *lines: object) -> Path:
    path = folder / "prompts.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


class TestFile:
    def test_what_a_line_leaves_out_is_as_the_command_says(self, tmp_path):
        own = {"id": "b.2", "prompt": "two", "seed": 9, "strategy": "strokes", "candidates": 2}
        first, second, third = read_jobs(written(tmp_path, '"a red circle"', "", own, '"c"'), USUAL)
        assert first.brief == Brief("a red circle", **SIZE, budget=Budget(rounds=6)) and first.id.startswith("0001-")
        assert second == Job("b.2", Brief("two", "strokes", 9, **SIZE, budget=Budget(rounds=6), candidates=2))
        assert third.id.startswith("0004-"), "blank lines count, so that an editor's numbers are those of the folders"

    def test_a_brief_that_is_changed_gets_another_folder_and_a_larger_budget_does_not(self, tmp_path):
        def name(usual: Brief, text: str) -> str:
            return read_jobs(written(tmp_path, json.dumps(text)), usual)[0].id

        assert name(USUAL, "a") == name(Brief("any", **SIZE, budget=Budget(rounds=9)), "a")
        assert name(USUAL, "a") == name(replace(USUAL, guided=True), "a"), "so that runs of before are found"
        assert len({name(USUAL, "a"), name(USUAL, "b"), name(Brief("any", seed=1, **SIZE), "a")}) == 3

    @pytest.mark.parametrize(
        ("lines", "says"),
        [
            (["{"], "line 1: "),
            (['"a"', "[1]"], r"line 2: brief: expected an object, found \[1\]"),
            (['{"prompt": "a", "sed": 1}'], "line 1: sed is not known; choose from prompt, id, seed, strategy"),
            (['{"prompt": 3}'], "line 1: brief.prompt: expected str, found 3"),
            (['{"prompt": " "}'], "line 1: the brief is empty"),
            (['{"prompt": "a", "strategy": "best"}'], "line 1: unknown strategy 'best'"),
            (['{"prompt": "a", "id": "../x"}'], r"line 1: the id '\.\./x' cannot name a folder"),
            (
                ['{"prompt": "a", "id": "x"}', '{"prompt": "b", "id": "x"}'],
                "line 2: the id 'x' is taken by an earlier line",
            ),
            (
                ['{"prompt": "a", "id": "x"}', '{"prompt": "b", "id": "X"}'],
                "line 2: the id 'X' is taken by an earlier line",
            ),
            (['{"prompt": "a", "id": "summary.json"}'], "line 1: the id 'summary.json' cannot name a folder"),
            (['{"prompt": "a", "id": "Summary.JSON"}'], "line 1: the id 'Summary.JSON' cannot name a folder"),
            (['{"prompt": "a", "id": "nul.1"}'], "line 1: the id 'nul.1' cannot name a folder here or on Windows"),
            (['{"prompt": "a", "id": "a."}'], "line 1: the id 'a.' cannot name a folder"),
            ([""], "holds no briefs"),
            (['{"prompt": "a", "references": "ann=ann.png"}'], "line 1: brief.references: expected"),
            (['{"prompt": "a", "references": ["ann.png"]}'], "line 1: the reference 'ann.png' is no NAME=FILE"),
            (
                ['{"prompt": "a", "references": ["ann=none.png"]}'],
                "line 1: the reference ann cannot be read from .*none.png",
            ),
            (['{"prompt": "a", "references": ["a b=wall.png"]}'], "line 1: the name of a reference is 'a b'"),
            (
                ['{"prompt": "a", "references": ["a=wall.png", "a=wall.png"]}'],
                "line 1: two references have the name 'a'",
            ),
        ],
    )
    def test_what_cannot_be_used_is_named_with_its_line(self, tmp_path, lines, says):
        Image.fromarray(grey(90)).save(tmp_path / "wall.png")
        with pytest.raises(BadInput, match=says):
            read_jobs(written(tmp_path, *lines), USUAL)

    def test_so_is_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(BadInput, match=r"none.jsonl cannot be read: No such file"):
            read_jobs(tmp_path / "none.jsonl", USUAL)


class TestReferences:
    """Of a line: files beside the list; of a line without its own: those of the command."""

    def test_they_are_named_in_a_list_or_in_a_cell(self, tmp_path, monkeypatch):
        (tmp_path / "here").mkdir()
        for name, value in (("ann.png", 130), ("mug.png", 140), ("here/all.png", 150)):
            Image.fromarray(grey(value, CANVAS, CANVAS)).save(tmp_path / name)
        monkeypatch.chdir(tmp_path / "here")
        own = {"prompt": "b", "references": ["ann=ann.png:face", "mug=mug.png"]}
        lines = written(tmp_path, '"a"', own, {"prompt": "c", "references": []})
        found = read_jobs(lines, USUAL, ["all=all.png:style"])
        named = [[(each.name, each.keeps) for each in job.brief.references] for job in found]
        assert named == [[("all", "style")], [("ann", "face"), ("mug", "subject")], []]
        (tmp_path / "a.csv").write_text("prompt,references\nb,ann=ann.png:face | mug=mug.png\na,\n", "utf-8")
        table = read_jobs(tmp_path / "a.csv", USUAL, ["all=all.png:style"])
        assert [job.brief.references for job in table] == [job.brief.references for job in (found[1], found[0])]
        other = read_jobs(written(tmp_path, '"a"'), USUAL)
        assert other[0].id != found[0].id, "another brief has another folder"

    def test_a_run_keeps_them_and_goes_on_without_the_files(self, tmp_path):
        Image.fromarray(grey(130, CANVAS, CANVAS)).save(tmp_path / "ann.png")
        own = {"id": "x", "prompt": BRIEFS[0], "references": ["ann=ann.png:face"]}
        job = read_jobs(written(tmp_path, own), USUAL)
        short = [replace(job[0], brief=replace(job[0].brief, strategy="oneshot"))]
        (first,) = run_batch(short, models(), tmp_path / "out", 1)
        run = read_trajectory(tmp_path / "out" / "x")
        assert first.state in ("met", "unmet"), first.reason
        assert [(goal.id, goal.reference) for goal in run.goals if goal.kind == "likeness"] == [("r1", "ann")]
        assert (tmp_path / "out" / "x" / "reference-ann.png").exists()
        (tmp_path / "ann.png").unlink()
        assert run_batch(short, models(), tmp_path / "out", 1) == [first]
        (lost,) = run_batch([replace(short[0], id="y")], models(), tmp_path / "out", 1)
        assert lost.state == "failed" and "the reference ann cannot be read" in lost.reason


def jobs(*briefs: str) -> list[Job]:
    return [Job(f"run-{number}", Brief(brief, **SIZE, budget=Budget(rounds=6))) for number, brief in enumerate(briefs)]


def models(**executor) -> Models:
    return Models(load_vlm(), OracleExecutor(**executor), CANVAS, CANVAS)


class TestRuns:
    def test_each_has_its_folder_and_the_summary_is_for_machines(self, tmp_path):
        results = run_batch(jobs(*BRIEFS), models(), tmp_path, 3)
        assert [result.state for result in results] == ["met"] * 4 and [result.id for result in results] == [
            f"run-{n}" for n in range(4)
        ]
        told = json.loads((tmp_path / SUMMARY).read_text())
        assert (told["runs"], told["met"], told["failed"]) == (4, 4, 0) and told["images"] == sum(
            result.images for result in results
        )
        assert all((tmp_path / each["best"]).exists() for each in told["results"])
        assert run_batch(jobs(*BRIEFS)[2:3], models(), tmp_path / "alone", 1) == [results[2]]
        assert (tmp_path / "alone" / "run-2" / BEST).read_bytes() == (tmp_path / "run-2" / BEST).read_bytes()

    def test_one_that_fails_says_why_and_the_others_go_on(self, tmp_path):
        vlm = load_vlm()
        bad = [*jobs(BRIEFS[0]), Job("bad", Brief("a photo of a llama"))]
        good, failed = run_batch(
            bad, Models(vlm, OracleExecutor(), CANVAS, CANVAS, check=vlm.require_readable), tmp_path, 2
        )
        assert (
            good.state == "met"
            and failed.state == "failed"
            and "the word 'llama' in the brief is not part" in failed.reason
        )

    def test_done_runs_are_not_run_again_and_those_of_other_briefs_or_models_not_overwritten(self, tmp_path):
        first = run_batch(jobs(BRIEFS[0]), models(), tmp_path, 1)
        again = models()
        assert run_batch(jobs(BRIEFS[0]), again, tmp_path, 1) == first and again.executor.requests == []
        (other,) = run_batch(jobs(BRIEFS[1]), models(), tmp_path, 1)
        assert other.state == "failed" and "is a run of another brief" in other.reason
        (named,) = run_batch(jobs(BRIEFS[0]), Models(load_vlm(), FakeExecutor(), CANVAS, CANVAS), tmp_path, 1)
        assert named.state == "failed" and "was made by other models" in named.reason
        assert json.loads((tmp_path / "run-0" / JOURNAL).read_text().splitlines()[0])["brief"]["prompt"] == BRIEFS[0]

    def test_a_run_of_before_edits_were_counted_goes_on_as_it_began(self, tmp_path):
        run_batch(jobs(BRIEFS[0]), models(), tmp_path, 1)
        deeper = [
            replace(job, brief=replace(job.brief, budget=replace(job.brief.budget, depth=3))) for job in jobs(BRIEFS[0])
        ]
        (again,) = run_batch(deeper, models(), tmp_path, 1)
        assert again.state == "met" and "depth" not in (tmp_path / "run-0" / JOURNAL).read_text().splitlines()[0]

    def test_a_run_of_before_runs_were_guided_goes_on_as_it_began(self, tmp_path):
        (plain,) = jobs(BRIEFS[0])
        guided = replace(plain, brief=replace(plain.brief, guided=True))
        first = run_batch([plain], models(), tmp_path, 1)
        assert run_batch([guided], models(), tmp_path, 1) == first, "it has ended, and nothing is drawn"
        assert not read_trajectory(tmp_path / "run-0").brief.guided
        (other,) = run_batch([replace(guided, id="new")], models(), tmp_path, 1)
        assert read_trajectory(tmp_path / "new").brief.guided and other.state in ("met", "unmet")
        (refused,) = run_batch([replace(plain, id="new")], models(), tmp_path, 1)
        assert refused.state == "failed" and "is a run of another brief" in refused.reason

    def test_a_disk_that_takes_nothing_ends_all_of_them_and_the_same_command_goes_on(self, tmp_path):
        mine = models()
        with failing_disk(after=9), pytest.raises(CannotWrite, match=r"No space left.*go on with: the same command"):
            run_batch(jobs(*BRIEFS), mine, tmp_path, 1)
        assert not (tmp_path / "run-3").exists(), "for which would be drawn in vain"
        assert [result.state for result in run_batch(jobs(*BRIEFS), models(), tmp_path, 2)] == ["met"] * 4

    def test_a_folder_that_cannot_be_written_or_that_another_process_writes_fails_alone(self, tmp_path):
        (tmp_path / "run-0").write_text("in the way")
        (tmp_path / "run-1").mkdir()
        other = Elsewhere(tmp_path / "run-1")
        results = run_batch(jobs(*BRIEFS[:3]), models(), tmp_path, 2)
        assert [result.state for result in results] == ["failed", "failed", "met"]
        assert "cannot be used: File exists" in results[0].reason and "is in use by" in results[1].reason
        other.ends()

    def test_two_batches_in_one_folder_are_one(self, tmp_path):
        other = Elsewhere(tmp_path, b'{"pid":7,"command":"clvr batch"}')
        with pytest.raises(FolderHeld, match=f"{tmp_path} is in use by clvr batch process 7; wait"):
            run_batch(jobs(BRIEFS[0]), models(), tmp_path, 1)
        other.ends()

    def test_shards_of_two_processes_are_the_whole_and_the_command_without_them_sums_it_up(self, tmp_path):
        whole = run_batch(jobs(*BRIEFS), models(), tmp_path / "whole", 2)
        out, told = tmp_path / "parts", []
        (out / ".shard-2-of-2").mkdir(parents=True)
        other = Elsewhere(out / ".shard-2-of-2")  # while the second runs too
        told += run_batch(jobs(*BRIEFS), models(), out, 2, shard=Shard(1, 2))
        other.ends()
        told += run_batch(jobs(*BRIEFS), models(), out, 2, shard=Shard(2, 2))
        assert sorted(told, key=lambda result: result.id) == whole
        assert [json.loads((out / f"summary-{n}-of-2.json").read_text())["runs"] for n in (1, 2)] == [2, 2]
        assert not (out / SUMMARY).exists() and not (out / ".shard-2-of-2").exists()
        again = models()
        assert run_batch(jobs(*BRIEFS), again, out, 2) == whole and again.executor.requests == []
        for number in range(4):
            files = [(place / f"run-{number}" / BEST).read_bytes() for place in (out, tmp_path / "whole")]
            assert files[0] == files[1]

    def test_a_shard_that_another_process_runs_is_refused(self, tmp_path):
        (tmp_path / ".shard-2-of-2").mkdir()
        other = Elsewhere(tmp_path / ".shard-2-of-2", b'{"pid":7,"command":"clvr batch"}')
        with pytest.raises(FolderHeld, match="is in use by clvr batch process 7"):
            run_batch(jobs(*BRIEFS), models(), tmp_path, 1, shard=Shard(2, 2))
        other.ends()

    def test_a_shard_of_no_brief_has_an_empty_summary(self, tmp_path):
        assert run_batch(jobs(BRIEFS[0]), models(), tmp_path, 4, shard=Shard(3, 3)) == []
        assert json.loads((tmp_path / "summary-3-of-3.json").read_text())["runs"] == 0

    def test_models_in_this_process_work_for_one_at_a_time(self, tmp_path):
        inside, most = [], []

        class Watched(OracleExecutor):
            def draw(self, requests):
                inside.append(1)
                most.append(len(inside))
                let_others_run()
                inside.pop()
                return super().draw(requests)

        run_batch(jobs(*BRIEFS), Models(load_vlm(), Watched(), CANVAS, CANVAS), tmp_path, 4)
        assert set(most) == {1}

    @pytest.mark.parametrize("concurrency", [0, 5000])
    def test_concurrency_out_of_range_is_refused(self, tmp_path, concurrency):
        with pytest.raises(BadInput, match="it must be between 1 and 1024"):
            run_batch(jobs("a"), models(), tmp_path, concurrency)

    def test_an_interrupt_ends_each_run_where_it_can_be_gone_on_with(self, tmp_path):
        class Interrupting(OracleExecutor):
            def draw(self, requests):
                if len(self.requests) == 1:
                    raise KeyboardInterrupt
                return super().draw(requests)

        with pytest.raises(KeyboardInterrupt):
            run_batch(jobs(*BRIEFS), Models(load_vlm(), Interrupting(), CANVAS, CANVAS), tmp_path, 2)
        assert [result.state for result in run_batch(jobs(*BRIEFS), models(), tmp_path, 2)] == ["met"] * 4


class TestTable:
    def test_elsewhere_than_on_a_terminal_each_end_is_a_line(self):
        out = io.StringIO()
        table = Table(2, out)
        table("a", None)
        table("a", {"event": "planned"})
        table("a", Result("a", "met", "all goals met", 3, 3, 2))
        table("b", None)
        table("b", Result("b", "failed", "the server is gone"))
        first, second = out.getvalue().splitlines()
        assert first.startswith("a  met  3 of 3 goals in 2 steps, ") and second == "b  failed  the server is gone"

    def test_on_a_terminal_every_run_has_a_row_that_is_drawn_anew(self):
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        out = Terminal()
        table = Table(30, out)
        for number in range(26):
            table(f"r{number}", None)
        step = {
            "index": 1,
            "verdicts": [{"goal": "g1", "state": "met"}, {"goal": "g2", "state": "unmet"}],
            "accepted": True,
        }
        table("r3", {"event": "step", "steps": [step]})
        table("r4", {"event": "planned", "goals": [{"id": "g1"}, {"id": "g2", "need": "nice"}]})
        table("r4", {"event": "step", "steps": [step]})
        table("r3", Result("r3", "unmet", "", 2, 1, 4))
        before = len(out.getvalue())
        table.tick()
        assert "1 of 30 runs" in out.getvalue()[before:], "the seconds go on while nothing happens"
        screen: list[str] = []
        for piece in out.getvalue().split("\x1b["):
            if piece[:1].isdigit() and "F" in piece[:4]:
                del screen[len(screen) - int(piece.partition("F")[0]) :]
                continue
            screen += piece.removeprefix("J").splitlines()
        assert screen[0].startswith("r3  unmet  1 of 2 goals in 4 steps") and screen[1] == "1 of 30 runs: 1 unmet"
        assert len(screen) == 1 + 1 + 24 + 1 and screen[-1] == "  and 1 more"
        assert "step 1: 1 of 2 goals met, kept" in out.getvalue()
        assert "step 1: 1 of 1 must-have goals met, 0 of 1 nice to have, kept" in out.getvalue()


CONFIG = """
[controller]
kind = "embedded"
[executor]
url = "{url}"
steps = 12
width = {side}
height = {side}
retries = 0
"""


def command(folder: Path, out: Path, *more: str) -> list[str]:
    return [
        "batch",
        str(folder / "prompts.jsonl"),
        "--models",
        str(folder / "clvr.toml"),
        "--out",
        str(out),
        "--rounds",
        "6",
        *more,
    ]


def canvases(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.png"))}


@pytest.mark.usefixtures("exact_eyes")
class TestServerGone:
    def test_a_server_that_dies_stops_the_runs_and_they_go_on_when_it_is_back_at_another_port(self, tmp_path, capsys):
        written(tmp_path, *map(json.dumps, BRIEFS[:2]))
        with serving_images(drawing(OracleExecutor())) as server:
            (tmp_path / "clvr.toml").write_text(CONFIG.format(url=server.url, side=CANVAS))
        assert cli.main(command(tmp_path, tmp_path / "out", "--json")) == cli.BAD_INPUT
        told = json.loads(capsys.readouterr().out)
        assert told["stopped"] == 2 and "refuses the connection" in told["results"][0]["reason"]
        with serving_images(drawing(OracleExecutor())) as server:
            (tmp_path / "clvr.toml").write_text(CONFIG.format(url=server.url, side=CANVAS))
            assert cli.main(command(tmp_path, tmp_path / "out")) == cli.DONE
        assert "2 runs: 2 met" in capsys.readouterr().out


BOTH = """
[controller]
url = "{eyes}"
retries = 0
[executor]
url = "{hand}"
width = 96
height = 96
retries = 0
"""
GOAL = {"text": "a red circle", "kind": "local", "check": "Is there a red circle?"}


def seeing(asked: ChatAsked) -> Said:
    """A vision-language model by script: of one goal every canvas falls short, so each is edited."""
    if asked.body is None:
        return Said({"data": [{"id": "eye"}]})
    if asked.body.get("logprobs"):
        red = "plain red" in said_in(asked.body) and pictures_in(asked.body)[0][..., 0].mean() > 128
        return completion("", logprobs=[("Yes", 0.9 if red else 0.2), ("No", 0.1 if red else 0.8)])
    properties = asked.body["response_format"]["json_schema"]["schema"]["properties"]
    if "kind" not in properties:
        return completion(json.dumps({"goals": [GOAL]}))
    canvases = properties["references"]["items"].get("enum", [])
    action = {
        "kind": "EDIT" if canvases else "GENERATE",
        "references": canvases[-1:],
        "scene_prompt": "a disc",
        "edit_prompt": "redder",
    }
    return completion(json.dumps({"summary": "it is not red", "goals": ["g1"], **action}))


def painted(asked: ImageAsked) -> Said:
    """One colour by all that was said, the pictures too."""
    told = [asked.fields["prompt"], asked.fields["seed"], *(int(picture[0, 0, 0]) for picture in asked.pictures)]
    return picture_answer(np.full((96, 96, 3), zlib.crc32(repr(list(map(str, told))).encode()) % 256, np.uint8))


class TestBothBehindServers:
    def test_all_runs_wait_for_them_side_by_side(self, tmp_path):
        """More of them than asyncio's own pool has threads."""
        runs = min(32, (os.cpu_count() or 1) + 4) + 3
        together = threading.Barrier(runs)

        def answer(asked: ChatAsked) -> Said:
            if asked.body and "kind" not in json.dumps(asked.body.get("response_format")):
                together.wait(60)
            return seeing(asked)

        with serving(answer) as eyes, serving_images(painted) as hand:
            models = Models(
                ServerVlm(Endpoint(eyes.url, "eye")), RemoteExecutor(ImageServer(hand.url, width=96, height=96)), 96, 96
            )
            checks = models.vlm.check, models.executor.check
            briefs = [
                Job(
                    f"run-{number}",
                    Brief(f"disc {number}", width=96, height=96, budget=Budget(rounds=1), final_ab=False),
                )
                for number in range(runs)
            ]
            results = run_batch(briefs, models, tmp_path, runs)
        assert [result.state for result in results] == ["unmet"] * runs and len(hand.asked) == runs
        assert (models.vlm.check, models.executor.check) == checks

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
    @pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
    def test_stopped_while_a_server_hangs_the_same_command_goes_on(self, tmp_path, end, capsys):
        written(tmp_path, *map(json.dumps, BRIEFS[:3]))
        stuck, free = threading.Event(), threading.Event()

        def painting(asked: ImageAsked) -> Said:
            if len(hand.asked) > 2 and not free.is_set():
                if len(hand.asked) == 5:
                    stuck.set()
                free.wait(300)
            return painted(asked)

        with serving(seeing) as eyes, serving_images(painting) as hand:
            (tmp_path / "clvr.toml").write_text(BOTH.format(eyes=eyes.url, hand=hand.url))
            arguments = ["--concurrency", "3", "--rounds", "2", "--json"]
            words = [sys.executable, "-m", "clvr_core.cli", *command(tmp_path, tmp_path / "stopped", *arguments)]
            # Whoever starts the tests in the background has it ignored.
            heeds = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
            process = subprocess.Popen(
                words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=heeds
            )
            assert stuck.wait(180), "two pictures are drawn, and all three runs wait for the next"
            process.send_signal(end)
            # The server hangs on: whoever waited for it would not come back.
            _, said = process.communicate(timeout=120)
            if end == signal.SIGINT:
                assert process.returncode == cli.INTERRUPTED and "interrupted; go on with: the same command" in said
                assert said.count("stopped  to be gone on with by the same command") == 3
            assert not (tmp_path / "stopped" / SUMMARY).exists() and len(canvases(tmp_path / "stopped")) == 2
            free.set()
            code = cli.main(command(tmp_path, tmp_path / "stopped", *arguments))
            told, asked = json.loads(capsys.readouterr().out), len(hand.asked)
            assert cli.main(command(tmp_path, tmp_path / "whole", *arguments)) == code == cli.NOT_MET
            whole = json.loads(capsys.readouterr().out)
        assert canvases(tmp_path / "stopped") == canvases(tmp_path / "whole") and told["results"] == whole["results"]
        assert asked - 5 == whole["images"] - 2, "what was drawn before is not drawn again"


@pytest.mark.weights
def test_behind_a_server_the_embedded_model_draws_what_it_draws_here(tmp_path, capsys):
    brief, world = "a red circle at the top left and a blue square in the center", world_named()
    with serving_images(drawing(world.load_executor())) as server:
        (tmp_path / "clvr.toml").write_text(CONFIG.format(url=server.url, side=world.canvas))
        written(tmp_path, json.dumps({"prompt": brief, "id": "one", "seed": 4}))
        code = cli.main(command(tmp_path, tmp_path / "there"))
    assert cli.main(["generate", brief, "--seed", "4", "--rounds", "6", "--out", str(tmp_path / "here")]) == code

    def pixels(folder: Path) -> list[bytes]:
        from PIL import Image

        return [Image.open(path).tobytes() for path in sorted(folder.glob("canvas-*.png"))]

    assert pixels(tmp_path / "there" / "one") == pixels(tmp_path / "here") != []
    capsys.readouterr()


def test_a_csv_and_a_text_are_lists_of_briefs_too(tmp_path):
    (tmp_path / "a.csv").write_text('id,prompt,seed,candidates\nx,"a cat, black",7,2\n,a dog,,\n', "utf-8")
    jobs = read_jobs(tmp_path / "a.csv", Brief("any", seed=3))
    assert [(job.brief.prompt, job.brief.seed, job.brief.candidates) for job in jobs] == [
        ("a cat, black", 7, 2),
        ("a dog", 3, None),
    ]
    assert jobs[0].id == "x" and jobs[1].id.startswith("0003-")
    (tmp_path / "a.txt").write_text("{red|blue} ball\n\na dog\n", "utf-8")
    assert [job.brief.prompt for job in read_jobs(tmp_path / "a.txt", Brief("any"))] == ["{red|blue} ball", "a dog"]
    (tmp_path / "b.csv").write_text("prompt,seed\na cat,many\n", "utf-8")
    with pytest.raises(BadInput, match=r"b.csv line 2: brief.seed"):
        read_jobs(tmp_path / "b.csv", Brief("any"))
    (tmp_path / "c.csv").write_text("prompt\n", "utf-8")
    with pytest.raises(BadInput, match=r"c.csv: the list has a header and no briefs"):
        read_jobs(tmp_path / "c.csv", Brief("any"))
