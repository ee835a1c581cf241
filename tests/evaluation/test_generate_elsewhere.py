"""Pictures of a benchmark by shards and by workers: those of one process."""

from __future__ import annotations

import pytest

from clvr_core.errors import BadInput
from clvr_core.evaluation.arms import PLAN
from clvr_core.evaluation.generate import Drawing, Generation, Order
from clvr_core.evaluation.store import Arm
from clvr_core.fleet.processes import Processes
from clvr_core.fleet.shard import Shard
from clvr_core.models.source import facts_of
from clvr_core.storage.lock import FolderHeld
from tests.evaluation.test_generate import World
from tests.fleet.crews import Oracle
from tests.storage.test_lock import Elsewhere

BRIEFS = [
    "a red cat at the top left and two blue cars",
    "three green birds",
    "a black bus",
    "two pink cups",
]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, BRIEFS)


@pytest.mark.parametrize("arm", ["clvr", PLAN])
def test_shards_make_the_pictures_of_the_whole_and_the_whole_finds_them(world, arm):
    world.generation(arm, Oracle().load(), "whole", parallel=2, pictures=2).run()
    whole = world.bytes("whole")
    for number in (1, 2, 3):
        report = world.generation(arm, Oracle().load(), "parts", pictures=2, shard=Shard(number, 3)).run()
        assert report.there == 0 and not report.failed
    assert world.bytes("parts") == whole
    report = world.generation(arm, Oracle().load(), "parts", pictures=2).run()
    assert (report.made, report.there) == (0, len(whole))
    assert len(Arm(world.images, "parts").made()) == len(whole)


def test_a_shard_runs_beside_others_and_once(world):
    kept = Arm(world.images, "parts").kept
    (kept / ".shard-2-of-2").mkdir(parents=True)
    other = Elsewhere(kept / ".shard-2-of-2", b'{"pid":7,"command":"clvr eval"}')
    assert world.generation("clvr", Oracle().load(), "parts", shard=Shard(1, 2)).run().made == 2
    with pytest.raises(FolderHeld, match="in use by clvr eval process 7"):
        world.generation("clvr", Oracle().load(), "parts", shard=Shard(2, 2)).run()
    other.ends()


@pytest.mark.parametrize("arm", ["clvr", "oneshot"])
def test_workers_make_the_pictures_of_one_process(world, arm):
    world.generation(arm, Oracle().load(), "here", parallel=2).run()
    order, there = Order(arm, parallel=2), Arm(world.images, "there")
    with Processes(2, 2).crew(Drawing.of(Oracle(), order, there)) as crew:
        generation = Generation(world.bench, world.data, there, order, facts_of(crew).models(), crew)
        assert str(generation.estimate()) == str(world.generation(arm, Oracle().load(), "other", parallel=2).estimate())
        report = generation.run()
    assert report.made == len(BRIEFS) and world.bytes("there") == world.bytes("here")
    assert Arm(world.images, "there").settings == Arm(world.images, "here").settings


def test_a_prompt_that_the_workers_models_cannot_read_is_told_and_the_rest_is_drawn(tmp_path):
    world = World(tmp_path, [BRIEFS[0], "an astronaut"])
    order, arm = Order("clvr", parallel=2), Arm(world.images, "clvr")
    with Processes(1, 1).crew(Drawing.of(Oracle(reads=True), order, arm)) as crew:
        report = Generation(world.bench, world.data, arm, order, facts_of(crew).models(), crew).run()
    assert report.made == 1 and [name for name, _ in report.failed] == ["b1-0"]


def test_a_shard_that_is_none_is_refused():
    with pytest.raises(BadInput, match="shard 3/2 is none"):
        Order("clvr", shard=Shard(3, 2))
