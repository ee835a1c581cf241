"""Work side by side: its order, its errors, its end."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from clvr_core.errors import Away
from clvr_core.fleet.engine import Stopped, Threads, stopping, threads_for
from tests.fakes import FakeVlm
from tests.waiting import HUNG


def test_results_come_in_the_order_of_the_work_whoever_ends_first():
    first = threading.Event()

    def do(piece: int) -> int:
        if piece == 0:
            assert first.wait(HUNG)
        else:
            first.set()
        return piece * 10

    assert list(Threads(2).each(do, range(6))) == [0, 10, 20, 30, 40, 50]


def test_as_many_pieces_as_there_are_workers_are_under_way_at_once():
    together = threading.Barrier(3)
    assert list(Threads(3).each(lambda piece: together.wait(HUNG) >= 0, range(6))) == [True] * 6


def test_one_worker_works_in_the_thread_of_the_caller_and_only_when_asked():
    done = []
    work = Threads(1).each(lambda piece: done.append((piece, threading.current_thread())), range(3))
    next(work)
    assert done == [(0, threading.current_thread())]


def test_an_error_comes_after_what_was_done_before_it_and_begins_nothing_more():
    begun, failing = [], threading.Event()

    def do(piece: int) -> int:
        begun.append(piece)
        if piece == 1:
            failing.set()
            raise Away("the judge is away")
        if piece == 0:
            assert failing.wait(HUNG), "the error comes first, and takes nothing with it"
        return piece

    work = Threads(2).each(do, range(100))
    assert next(work) == 0
    with pytest.raises(Away):
        next(work)
    assert len(begun) < 100


def test_the_first_error_is_told_and_not_that_others_were_not_begun():
    third = threading.Event()

    def do(piece: int) -> None:
        if piece == 2:
            third.set()
            raise BrokenPipeError("the third")
        assert third.wait(HUNG)

    with pytest.raises(BrokenPipeError, match="the third"):
        list(Threads(3).each(do, range(30)))


def test_an_interrupt_makes_models_leave_their_work():
    model, threads, under_way = SimpleNamespace(check=lambda: None), Threads(2), threading.Event()
    left = []

    def do(piece: int) -> None:
        if piece == 0:
            assert under_way.wait(HUNG)
            raise KeyboardInterrupt
        under_way.set()
        while True:
            try:
                model.check()
            except Stopped:
                left.append(piece)
                raise

    own = model.check
    with stopping([model], threads.stop), pytest.raises(KeyboardInterrupt):
        list(threads.each(do, range(2)))
    assert left == [1] and model.check is own


def test_who_takes_fewer_results_than_there_are_interrupts_nobody():
    threads = Threads(2)
    work = threads.each(lambda piece: piece, range(9))
    assert next(work) == 0
    work.close()
    assert not threads.stop.is_set()


def test_a_model_s_own_check_is_asked_as_well():
    asked = []
    model = SimpleNamespace(check=lambda: asked.append(True))
    with stopping([model, object()], threading.Event()):
        model.check()
    assert asked == [True]


def test_there_are_several_threads_only_where_every_model_takes_several_calls():
    server, other, here = SimpleNamespace(parallel=4), SimpleNamespace(parallel=16), FakeVlm()
    workers = [threads_for(*models).workers for models in ((server, None, other), (server, here), (here,), (None,))]
    assert workers == [16, 1, 1, 1]
