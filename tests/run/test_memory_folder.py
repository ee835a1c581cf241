"""A run in memory is the run on disk without its files."""

from __future__ import annotations

from dataclasses import replace
from itertools import repeat

import numpy as np
import pytest

from clvr_core.brief import Budget
from clvr_core.errors import BadInput
from clvr_core.protocols import Drawing
from clvr_core.run.lines import trajectory_from
from clvr_core.run.memory_folder import MemoryFolder
from clvr_core.run.run_folder import RunFolder
from clvr_core.run.session import RunModels, Session, drive, go_on, resume
from clvr_core.run.store import digest_of
from clvr_core.trajectory import Trajectory, timeless
from tests.fakes import FakeExecutor, grey, trajectory
from tests.run.script import a_brief, edit, generate, scripted

SCRIPT = [generate(), *repeat(edit(), 4)], {0: "muu", 1: "mmu", 2: "muu", 3: "mmm"}


def without_files(run: Trajectory) -> Trajectory:
    """The run without wall times and the names of its picture files."""
    run = timeless(run)
    bare = [
        replace(step, candidates=tuple(replace(candidate, file="") for candidate in step.candidates))
        for step in run.steps
    ]
    return replace(run, steps=tuple(bare))


def test_it_has_the_steps_the_pictures_and_the_journal_of_a_run_on_disk(tmp_path):
    memory, disk = MemoryFolder(), RunFolder.create(tmp_path / "run")
    sessions = [Session(a_brief(), RunModels(scripted(*SCRIPT), FakeExecutor()), store) for store in (memory, disk)]
    in_memory, on_disk = map(drive, sessions)
    assert without_files(in_memory) == without_files(on_disk) and in_memory.canvases == 4
    assert [line["event"] for line in memory.lines] == [line["event"] for line in disk.lines]
    assert trajectory_from(memory.lines) == in_memory
    for canvas in range(4):
        assert np.array_equal(memory.picture(canvas), disk.picture(canvas))


def test_it_is_continued_from_its_journal():
    store, executor = MemoryFolder(), FakeExecutor()
    session = Session(a_brief(), RunModels(scripted(*SCRIPT), executor), store)
    call = session.advance()
    for _ in range(6):
        result = session.perform(call)
        session.note(call, result)
        call = session.advance(result)
    drawn = len(executor.requests)
    rest = scripted(SCRIPT[0][drawn:], SCRIPT[1])
    run = drive(resume(store, RunModels(rest, executor)))
    assert run.outcome.met and len(executor.requests) == 4 and 0 < drawn < 4


def test_a_larger_budget_rewinds_its_end():
    store, executor = MemoryFolder(), FakeExecutor()
    first = drive(Session(a_brief(budget=Budget(2)), RunModels(scripted(*SCRIPT), executor), store))
    assert not first.outcome.met and first.canvases == 2
    rest = scripted(SCRIPT[0][2:], SCRIPT[1])
    run = drive(go_on(store, RunModels(rest, executor), Budget(8)))
    assert run.outcome.met and len(executor.requests) == 4 and trajectory_from(store.lines) == run
    assert [line["event"] for line in store.lines].count("end") == 1


def test_old_canvases_are_held_by_the_store_alone():
    vlm = scripted([generate(), *repeat(edit(), 20)], dict.fromkeys(range(21), "muu"))
    store = MemoryFolder()
    session = Session(a_brief(budget=Budget(20, patience=20)), RunModels(vlm, FakeExecutor()), store)
    drive(session)
    assert len(session.canvases) <= 10 and session.picture(1)[0, 0, 0] == 20


@pytest.mark.parametrize("folder", ["memory", "disk"])
def test_what_is_missing_or_another_is_refused_by_every_store(tmp_path, folder):
    store = MemoryFolder() if folder == "memory" else RunFolder.create(tmp_path / "run")
    latent, mask = np.ones((2, 1, 1), np.float32), np.zeros((8, 8), np.uint8)
    reads = [(store.picture, 0, grey(7)), (store.latent, 0, latent), (store.mask, "mask-000.png", mask)]
    for read, name, values in reads:
        with pytest.raises(BadInput, match="and the run needs it to go on"):
            read(name, digest_of(values))
    store.save_canvas(0, Drawing(grey(7), 1, latent), trajectory(), 1)
    store.save_mask("mask-000.png", mask)
    for read, name, values in reads:
        assert np.array_equal(read(name, digest_of(values)), values)
        with pytest.raises(BadInput, match="and the run needs it to go on"):
            read(name, digest_of(values + 1))
