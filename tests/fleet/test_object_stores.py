"""A batch in an object store: the files of a folder, a kill at any line, and two writers of one run."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from clvr_core import cli
from clvr_core.batch import SUMMARY, Job, run_batch
from clvr_core.brief import Brief, Budget
from clvr_core.errors import BadInput, CannotWrite
from clvr_core.evaluation.generate import Generation, Order
from clvr_core.evaluation.in_store import arm_in
from clvr_core.fleet.output import Disk, Store, output_of
from clvr_core.run.object_run import EVENTS, ObjectRun, Objects, _holds_the_fence
from clvr_core.run.session import Session
from clvr_core.run.store import digest_of
from clvr_core.synthesis import engine
from clvr_core.synthesis.data import IMAGES, REJECTED, ROWS, SHAREGPT, TRL
from clvr_core.synthesis.engine import DECISIONS, SETTINGS, Settings, synthesize
from tests.evaluation.test_generate import World, drawing_models
from tests.fleet.crews import Oracle
from tests.stickers.oracle import SIZE
from tests.synthesis.crews import Sources
from tests.synthesis.test_engine import PROMPTS
from tests.test_batch import BRIEFS, written

numbers = itertools.count()


@pytest.fixture(params=["memory", "s3"])
def url(request) -> Iterator[str]:
    if request.param == "memory":
        yield f"memory://runs-{next(numbers)}"
        return
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    server = pytest.importorskip("moto.server", reason="moto, which plays S3, is not installed").ThreadedMotoServer(
        port=0
    )
    server.start()
    host, port = server.get_host_and_port()
    given = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in given.items():
            patch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        fsspec.filesystem("s3").mkdir(bucket := f"runs-{next(numbers)}")
        yield f"s3://{bucket}/some"
    server.stop()


def jobs(count: int = 3) -> list[Job]:
    return [Job(f"run-{number}", Brief(BRIEFS[number], **SIZE, budget=Budget(rounds=6))) for number in range(count)]


def pictures(url: str, job: str) -> dict[str, bytes]:
    return {name: data for name, data in Objects(url).under(job).items() if name.endswith(".png")}


def test_a_batch_has_the_files_of_a_folder_and_is_not_done_twice(url, tmp_path):
    on_disk = run_batch(jobs(), Oracle().load(), tmp_path, 2)
    assert run_batch(jobs(), Oracle().load(), url, 2) == on_disk
    for job in jobs():
        assert pictures(url, job.id) == {path.name: path.read_bytes() for path in (tmp_path / job.id).glob("*.png")}
        assert {"report.html", "trajectory.jsonl"} <= set(Objects(url).under(job.id))
    assert Objects(url).get(SUMMARY) == (tmp_path / SUMMARY).read_bytes()
    again = Oracle().load()
    assert run_batch(jobs(), again, url, 2) == on_disk and again.executor.requests == []


def test_a_run_goes_on_after_whatever_line_a_kill_left_as_the_last(url):
    result = run_batch(jobs(1), Oracle().load(), f"{url}/whole", 1)
    whole = Objects(f"{url}/whole")
    events, drawn = whole.under(f"run-0/{EVENTS}"), pictures(whole.url, "run-0")
    for kept in range(len(events)):
        part = Objects(f"{url}/after-{kept}")
        for name in sorted(events)[:kept]:
            part.create(f"run-0/{EVENTS}/{name}", events[name])
        for name, data in drawn.items():
            if name.startswith("canvas"):
                part.put(f"run-0/{name}", data)
        assert run_batch(jobs(1), Oracle().load(), part.url, 1) == result
        assert pictures(part.url, "run-0") == drawn and len(part.under(f"run-0/{EVENTS}")) == len(events)


def test_of_two_writers_one_is_told_and_the_journal_is_whole(url):
    place, (job,) = f"{url}/run", jobs(1)
    session = Session(job.brief, Oracle().load(), ObjectRun.reopen(place))
    call = session.advance()
    late = ObjectRun.reopen(place)
    assert call is not None
    session.note(call, session.perform(call))
    with pytest.raises(BadInput, match=f"{place} was gone on with by another process meanwhile; go on with"):
        late.append({"event": "goals", "result": {}})
    assert [line["event"] for line in ObjectRun.reopen(place).lines] == ["start", "goals"]


def data_set(out: Path | str) -> dict[str, int]:
    judges = Sources().load(), Sources(second=True).load()
    return synthesize(out, PROMPTS, *judges, Settings(together=2), lambda line: None)


def test_a_data_set_has_the_files_of_a_folder_and_goes_on_where_it_was_stopped(url, tmp_path, monkeypatch):
    counts, objects = data_set(tmp_path), Objects(url)
    with monkeypatch.context() as patch:
        patch.setattr(engine._Writer, "write", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            data_set(url)
    assert len(objects.under(DECISIONS)) == 1, "the decisions of the first two briefs"
    assert data_set(url) == counts
    for name in (ROWS, SHAREGPT, TRL, REJECTED, SETTINGS):
        assert objects.get(name) == (tmp_path / name).read_bytes()
    assert objects.under(IMAGES) == {path.name: path.read_bytes() for path in (tmp_path / IMAGES).iterdir()}
    found = len(objects.under(DECISIONS))
    assert data_set(url) == counts and len(objects.under(DECISIONS)) == found, "nothing was left to do"
    with pytest.raises(BadInput, match=f"{url}/ holds a data set of other prompts, models or settings"):
        synthesize(url, PROMPTS[:1], Sources().load(), Sources(second=True).load(), Settings(), print)


def test_the_pictures_of_a_benchmark_are_those_of_a_folder_and_go_on_where_they_were_stopped(url, tmp_path):
    world = World(tmp_path)
    world.generation("clvr", parallel=1, keep_runs=False).run()

    def drawn(name: str = "clvr") -> Generation:
        order = Order("clvr", parallel=1, keep_runs=False)
        return Generation(world.bench, world.data, arm_in(url, name), order, drawing_models())

    def one_and_stop(done: int, total: int, remark: str) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drawn().run(one_and_stop)
    late = drawn()
    report = drawn().run()
    assert (report.there, report.made, report.failed) == (1, 1, [])
    with pytest.raises(BadInput, match=f"{url} was gone on with by another process meanwhile"):
        late.run()
    objects = Objects(url)
    pictures = {name.rpartition("/")[2]: objects.get(name) for name in objects.names("clvr") if name.endswith(".png")}
    assert pictures == world.bytes("clvr")
    again = drawn()
    known = [{**line, "seconds": 0} for line in again.arm.made()]
    assert known == [{**line, "seconds": 0} for line in world.lines("clvr")] and again.run().there == 2
    assert objects.get("clvr-eval/clvr/settings.json") == (world.images / "clvr-eval/clvr/settings.json").read_bytes()
    assert not objects.names("clvr-eval/clvr/runs"), "runs that are not kept are removed"
    assert again.arm.where == f"{url}/clvr"


def test_of_two_writers_of_a_file_of_lines_one_is_told(url):
    first, late = Store(url).record("lines"), Store(url).record("lines")
    first.append([b"a", b"b"])
    with pytest.raises(BadInput, match=f"{url} was gone on with by another process meanwhile"):
        late.append([b"c"])
    first.append([b"c"])
    assert Store(url).record("lines").lines == [b"a", b"b", b"c"]


def test_a_file_of_lines_that_a_kill_cut_ends_at_its_last_whole_line(tmp_path):
    Disk(tmp_path).record("lines").append([b"a", b"b"])
    (tmp_path / "lines").write_bytes(b"a\nb\nhal")
    record = Disk(tmp_path).record("lines")
    record.append([b"c"])
    assert record.lines == [b"a", b"b"] and (tmp_path / "lines").read_bytes() == b"a\nb\nc\n"


def test_a_rewind_is_a_line_too(url):
    run_batch(jobs(1), Oracle().load(), url, 1)
    run = ObjectRun.reopen(f"{url}/run-0")
    run.rewind(2, Budget(rounds=7))
    again = ObjectRun.reopen(f"{url}/run-0")
    assert again.lines == run.lines and len(run.lines) == 2
    assert run.lines[0]["brief"]["budget"]["rounds"] == 7


def test_masks_and_references_are_kept_beside_the_run(url):
    place, mask = f"{url}/run", np.full((4, 5), 255, np.uint8)
    picture = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    run = ObjectRun.reopen(place)
    run.save_mask("mask-1.png", mask)
    run.save_reference("cat", picture)
    again = ObjectRun.reopen(place)
    assert (again.mask("mask-1.png", digest_of(mask)) == mask).all()
    assert (again.reference("cat", digest_of(picture)) == picture).all()


def test_a_hole_in_the_journal_is_damage(url):
    objects = Objects(f"{url}/run")
    objects.create(f"{EVENTS}/000000.json", b'{"event":"start"}\n')
    objects.create(f"{EVENTS}/000002.json", b'{"event":"goals"}\n')
    with pytest.raises(BadInput, match=r"is damaged: 000002\.json stands where another line belongs"):
        ObjectRun.reopen(objects.url)


def test_a_picture_that_is_gone_is_named_by_its_url(url):
    run_batch(jobs(1), Oracle().load(), url, 1)
    objects = Objects(f"{url}/run-0")
    objects.store.rm_file(objects.place("canvas-000.png"))
    run = ObjectRun.reopen(objects.url)
    with pytest.raises(BadInput, match=f"{objects.url}/canvas-000.png is missing or damaged"):
        run.picture(0)


class Careless(MemoryFileSystem):
    """Writes over what is there."""

    protocol = "careless"
    store, pseudo_dirs = {}, [""]

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        super().pipe_file(path, value, **kwargs)


def test_a_store_without_conditional_writes_is_refused():
    fsspec.register_implementation("careless", Careless, clobber=True)
    _holds_the_fence.cache_clear()
    results = run_batch(jobs(1), Oracle().load(), "careless://runs", 1)
    assert results[0].state == "failed" and "cannot write an object only where there is none" in results[0].reason


class Away(MemoryFileSystem):
    protocol = "away"
    store, pseudo_dirs = {}, [""]

    def ls(self, path, detail=True, **kwargs):
        raise RuntimeError("the bucket\ndoes not answer")


def test_a_store_that_does_not_answer_ends_the_batch_with_what_it_says():
    fsspec.register_implementation("away", Away, clobber=True)
    with pytest.raises(
        CannotWrite, match="away://runs/run-0 cannot be used: the bucket does not answer; mend that and go on"
    ):
        run_batch(jobs(1), Oracle().load(), "away://runs", 1)


def test_what_out_is_told_to_be(tmp_path):
    assert output_of(f"file://{tmp_path}") == output_of(tmp_path) == Disk(tmp_path)
    assert output_of("s3://a/b/") == Store("s3://a/b/") and output_of("s3://a/b/").where("c") == "s3://a/b/c"


def test_the_command_line_takes_a_url(tmp_path, capsys):
    written(tmp_path, '"a red circle"')
    words = ["batch", str(tmp_path / "prompts.jsonl"), "--out", "nosuch://runs", "--json"]
    assert cli.main(words) == cli.BAD_INPUT
    assert "nosuch" in capsys.readouterr().err and not os.path.exists("nosuch:")
