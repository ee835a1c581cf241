"""A batch by workers in processes: the same pictures as in one process, whoever dies meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from clvr_core import cli
from clvr_core.batch import SUMMARY, Job, Result, paint_on, read_jobs, run_batch
from clvr_core.brief import Brief, Budget
from clvr_core.errors import BadInput
from clvr_core.fleet.processes import Processes
from clvr_core.fleet.shard import Shard
from clvr_core.models.source import Facts
from tests.executor.images import serving_images
from tests.fakes import grey
from tests.fleet.crews import Oracle
from tests.stickers.oracle import SIZE
from tests.test_batch import BOTH, BRIEFS, canvases, command, painted, seeing, written
from tests.vlm.servers import serving
from tests.waiting import HUNG

ROOT = Path(__file__).parents[2]


def jobs() -> list[Job]:
    return [Job(f"run-{number}", Brief(brief, **SIZE, budget=Budget(rounds=6))) for number, brief in enumerate(BRIEFS)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, list[Result]]:
    """The same batch in one process."""
    out = tmp_path_factory.mktemp("whole")
    return out, run_batch(jobs(), Oracle().load(), out, 2)


def test_workers_make_the_same_files_and_their_lines_are_told(tmp_path, whole):
    told = {job.id: [] for job in jobs()}
    engine = Processes(2, 4)
    results = paint_on(engine, Oracle(), lambda models: jobs(), tmp_path, lambda job, event: told[job].append(event))
    assert results == whole[1] and canvases(tmp_path) == canvases(whole[0])
    assert (tmp_path / SUMMARY).read_bytes() == (whole[0] / SUMMARY).read_bytes()
    for events in told.values():
        assert events[0] is None and isinstance(events[-1], Result)
        assert [line["event"] for line in events[1:-1]][:2] == ["start", "goals"]


def test_references_come_to_the_workers(tmp_path):
    Image.fromarray(grey(130, **SIZE)).save(tmp_path / "ann.png")
    lines = written(tmp_path, {"id": "x", "prompt": BRIEFS[0], "references": ["ann=ann.png:face"]})
    usual = Brief("any", "oneshot", **SIZE, budget=Budget(rounds=6))
    (result,) = paint_on(Processes(1, 1), Oracle(), lambda models: read_jobs(lines, usual), tmp_path / "out")
    assert result.state in ("met", "unmet") and (tmp_path / "out" / "x" / "reference-ann.png").exists()


def test_runs_of_workers_that_die_are_gone_on_with_by_others(tmp_path, whole):
    killed = tmp_path / "killed"
    killed.mkdir()
    results = paint_on(Processes(2, 2), Oracle(killed, times=2), lambda models: jobs(), tmp_path / "out")
    assert len(list(killed.iterdir())) >= 2
    assert results == whole[1] and canvases(tmp_path / "out") == canvases(whole[0])
    # A shard of it finds its runs done.
    part = paint_on(Processes(1, 1), Oracle(), lambda models: jobs(), tmp_path / "out", shard=Shard(2, 3))
    assert part == [whole[1][1]]


def test_the_jobs_are_planned_with_what_the_workers_have(tmp_path):
    seen = []

    def plan(models):
        seen.append(models)
        raise BadInput("nothing is wanted")

    with pytest.raises(BadInput, match="nothing is wanted"):
        paint_on(Processes(1, 1), Oracle(), plan, tmp_path)
    (models,), own = seen, Oracle().load()
    assert models.names == own.names and Facts.of(models) == Facts.of(own)


def test_the_command_line_has_workers(tmp_path, capsys):
    written(tmp_path, *map(json.dumps, BRIEFS[:3]))
    with serving(seeing) as eyes, serving_images(painted) as hand:
        (tmp_path / "clvr.toml").write_text(BOTH.format(eyes=eyes.url, hand=hand.url))
        given = ["--concurrency", "3", "--rounds", "2", "--json"]
        assert cli.main(command(tmp_path, tmp_path / "here", *given)) == cli.NOT_MET
        here = json.loads(capsys.readouterr().out)
        assert cli.main(command(tmp_path, tmp_path / "there", *given, "--workers", "2")) == cli.NOT_MET
        there = json.loads(capsys.readouterr().out)
    assert there["results"] == here["results"]
    assert canvases(tmp_path / "there") == canvases(tmp_path / "here")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--engine", "slurm"], "--engine is 'slurm'; choose one of local, ray"),
        (["--workers", "0"], "--workers is 0; it must be between 1 and 100,000"),
        (["--gpus", "1.5"], "--gpus is 1.5; give a share of one, or a whole number up to 64"),
        (["--address", "10.0.0.1:6379"], "--address 10.0.0.1:6379 is of a Ray cluster; give --engine ray as well"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(tmp_path, flags, says, capsys):
    written(tmp_path, '"a"')
    assert cli.main(command(tmp_path, tmp_path / "out", *flags)) == cli.BAD_INPUT
    assert says in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_the_command_ends_its_workers_and_the_same_command_goes_on(tmp_path, end, capsys):
    """Its workers wait for a server that hangs; they leave too, and free their runs."""
    written(tmp_path, *map(json.dumps, BRIEFS[:3]))
    stuck, free = threading.Event(), threading.Event()

    def painting(asked):
        if len(hand.asked) > 2 and not free.is_set():
            stuck.set()
            free.wait(HUNG)
        return painted(asked)

    with serving(seeing) as eyes, serving_images(painting) as hand:
        (tmp_path / "clvr.toml").write_text(BOTH.format(eyes=eyes.url, hand=hand.url))
        given = ["--concurrency", "3", "--rounds", "2", "--json", "--workers", "2"]
        words = [sys.executable, "-m", "clvr_core.cli", *command(tmp_path, tmp_path / "stopped", *given)]
        heeds = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731  (ignored in the background)
        process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=heeds)
        assert stuck.wait(HUNG), "two pictures are drawn, and a run waits for the next"
        process.send_signal(end)
        _, said = process.communicate(timeout=HUNG)  # until the workers have closed it too
        if end == signal.SIGINT:
            assert process.returncode == cli.INTERRUPTED and "interrupted; go on with: the same command" in said
        free.set()
        code = cli.main(command(tmp_path, tmp_path / "stopped", *given))
        told = json.loads(capsys.readouterr().out)
        assert cli.main(command(tmp_path, tmp_path / "whole", *given[:-2])) == code == cli.NOT_MET
        whole = json.loads(capsys.readouterr().out)
    assert told["results"] == whole["results"]
    assert canvases(tmp_path / "stopped") == canvases(tmp_path / "whole")
