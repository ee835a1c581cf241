"""Workers in processes: their pieces, their deaths, their end."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from clvr_core.errors import BadInput
from clvr_core.fleet.crew import Lost
from clvr_core.fleet.pool import TRIES, Pool
from clvr_core.fleet.processes import Processes, devices_of, share_of
from clvr_core.fleet.worker import Place
from clvr_core.models.memory_plan import free_bytes
from tests.fleet.crews import Endless, Killers, Squares


@pytest.fixture
def warned(monkeypatch):
    """The sentences about workers that a pool says."""
    said: list[str] = []
    own = Pool.__init__
    monkeypatch.setattr(Pool, "__init__", lambda pool, *given: own(pool, *given, said.append))
    return said


def test_every_piece_is_done_once_by_processes_that_are_kept():
    told = []
    with Processes(2, 4).crew(Squares()) as crew:
        assert dict(crew.run(range(20))) == {number: number**2 for number in range(20)}
        assert dict(crew.run([7], lambda number, what: told.append((number, what)))) == {0: 49}
        again = []
        list(crew.run(range(40), lambda number, what: again.append(what[1])))
    assert told[0][0] == 0 and told[0][1][1] in again, "the worker of an earlier list is among those of a later one"
    assert len(set(again)) <= 2 and os.getpid() not in again


def test_pieces_are_taken_when_a_worker_is_free_for_one():
    taken = []

    def pieces():
        for number in range(1000):
            taken.append(number)
            yield number

    with Processes(1, 2).crew(Squares()) as crew:
        results = crew.run(pieces())
        next(results)
        assert len(taken) <= 8
        results.close()


def test_an_error_comes_after_what_was_under_way_and_nothing_more_is_begun(warned):
    with Processes(1, 1).crew(Squares()) as crew:
        results, found = crew.run([1, -2, *range(500)]), []
        with pytest.raises(ValueError, match="-2 has no place here"):
            for each in results:
                found.append(each)
        assert found == [(0, 1)]
        assert dict(crew.run([3])) == {0: 9}, "the workers live on"
    assert not warned


def test_what_kills_its_worker_is_given_up_and_the_rest_is_done(tmp_path, warned):
    pieces = [(number, TRIES if number == 3 else 0) for number in range(8)]
    with Processes(2, 6).crew(Killers(tmp_path)) as crew:
        done = dict(crew.run(pieces))
    lost = done.pop(3)
    assert done == {number: number for number in range(8) if number != 3}
    assert isinstance(lost, Lost) and "SIGKILL" in lost.why
    assert len(list(tmp_path.glob("3-*"))) == len(warned) == TRIES


def test_a_piece_whose_worker_dies_once_is_done_by_another(tmp_path, warned):
    with Processes(1, 2).crew(Killers(tmp_path)) as crew:
        assert dict(crew.run([(0, 1), (1, 0)])) == {0: 0, 1: 1}
    assert len(warned) == 1 and "begun again" in warned[0]


def test_a_worker_that_cannot_be_made_says_why():
    with Processes(2, 2).crew(Squares("no such weights")) as crew, pytest.raises(BadInput, match="no such weights"):
        list(crew.run(range(3)))


def test_an_interrupt_has_all_leave_their_work(tmp_path):
    def told(number: int, what: str) -> None:
        raise KeyboardInterrupt

    with Processes(2, 2).crew(Endless(tmp_path)) as crew, pytest.raises(KeyboardInterrupt):
        list(crew.run(range(9), told))
    left = {path.name for path in tmp_path.iterdir()}
    assert left and left <= {"0", "1"}


def test_places_with_other_versions_are_told_apart():
    here = Place.here()
    assert not here.differs(replace(here, host="b")) and "clvr 0.0.1" in here.differs(replace(here, clvr="0.0.1"))


def test_workers_that_share_a_gpu_plan_with_their_share(monkeypatch):
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (70 << 30, 80 << 30))
    free = []
    for gpus in (0, 0.5, 0.25, 1, 2):
        with monkeypatch.context() as patch:
            for name, value in share_of(gpus).items():
                patch.setenv(name, value)
            free.append(free_bytes("cuda:0") >> 30)
    assert free == [70, 40, 20, 70, 70]


@pytest.mark.parametrize(
    ("gpus", "given", "devices"),
    [
        (0, None, [None, None]),
        (0.5, None, ["0", "0", "1"]),
        (1, None, ["0", "1"]),
        (2, None, ["0,1", "2,3"]),
        (1, "4,7", ["4", "7", "4"]),
        (0.4, "GPU-a,GPU-b", ["GPU-a", "GPU-a", "GPU-b", "GPU-b"]),
        (0.7, None, ["0", "1", "2"]),
    ],
)
def test_each_process_gets_its_share_of_the_gpus(gpus, given, devices):
    assert [devices_of(number, gpus, given) for number in range(len(devices))] == devices
