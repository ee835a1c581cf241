"""Models that share a device: who works is there alone."""

from __future__ import annotations

import threading
import time

import pytest

from clvr_core.protocols import DrawRequest, Message, Question
from clvr_core.turns import Turns, taking
from tests.fakes import FakeExecutor, FakeVlm, grey


def moved() -> tuple[list[tuple[str, str]], dict]:
    moves: list[tuple[str, str]] = []
    return moves, {name: lambda to, name=name: moves.append((name, to)) for name in ("controller", "executor")}


def test_before_one_works_the_other_has_left():
    moves, movers = moved()
    turns = Turns("cpu:0", movers)
    vlm, executor = taking(FakeVlm(["{}"] * 3, [[0.5]]), turns, "controller"), taking(FakeExecutor(), turns, "executor")
    vlm.chat([Message("user", "x")], {})
    vlm.decide([grey()], [Question("?")])
    executor.draw([DrawRequest("a", 1)])
    vlm.chat([Message("user", "x")], {})
    assert moves == [
        ("controller", "cpu:0"),
        ("controller", "cpu"),
        ("executor", "cpu:0"),
        ("executor", "cpu"),
        ("controller", "cpu:0"),
    ]


def test_all_but_the_work_is_the_models_own_and_moves_nothing():
    moves, movers = moved()
    executor = taking(FakeExecutor(name="hand", evaluations=7), Turns("cpu", movers), "executor")
    assert executor.name == "hand" and executor.nfe(DrawRequest("a", 1)) == 7 and moves == []
    assert not hasattr(executor, "window")


def test_one_that_fails_to_arrive_holds_nothing():
    moves, movers = moved()
    movers["executor"] = lambda to: (_ for _ in ()).throw(MemoryError)
    turns = Turns("cpu", movers)
    with pytest.raises(MemoryError):
        taking(FakeExecutor(), turns, "executor").draw([DrawRequest("a", 1)])
    taking(FakeVlm(["{}"]), turns, "controller").chat([], {})
    assert moves == [("controller", "cpu")]


def test_threads_work_one_at_a_time():
    working, most = [], []

    class Slow(FakeExecutor):
        def draw(self, requests):
            working.append(1)
            most.append(len(working))
            time.sleep(0.01)
            working.pop()
            return []

    executor = taking(Slow(), Turns(), "executor")
    threads = [threading.Thread(target=executor.draw, args=([],)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5
