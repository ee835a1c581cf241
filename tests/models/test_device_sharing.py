"""Models that share a device: who works is there alone."""

from __future__ import annotations

import threading

import pytest
import torch

from clvr_core.errors import BadInput, JudgeFailure
from clvr_core.models.device_sharing import Turns, with_device_lock
from clvr_core.protocols import DrawRequest, Message, PromptWindow, Question
from tests.fakes import FakeExecutor, FakeVlm, grey
from tests.waiting import let_others_run


def moved() -> tuple[list[tuple[str, str]], dict]:
    moves: list[tuple[str, str]] = []
    return moves, {name: lambda to, name=name: moves.append((name, to)) for name in ("controller", "executor")}


def test_before_one_works_the_other_has_left():
    moves, movers = moved()
    turns = Turns("cpu:0", movers)
    vlm, executor = (
        with_device_lock(FakeVlm(["{}"] * 3, [[0.5]]), turns, "controller"),
        with_device_lock(FakeExecutor(), turns, "executor"),
    )
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
    executor = with_device_lock(FakeExecutor(name="brush", evaluations=7), Turns("cpu", movers), "executor")
    assert executor.name == "brush" and executor.nfe(DrawRequest("a", 1)) == 7 and moves == []
    assert not isinstance(executor, PromptWindow)


def test_one_that_fails_to_arrive_holds_nothing():
    moves, movers = moved()
    movers["executor"] = lambda to: (_ for _ in ()).throw(MemoryError)
    turns = Turns("cpu", movers)
    with pytest.raises(MemoryError):
        with_device_lock(FakeExecutor(), turns, "executor").draw([DrawRequest("a", 1)])
    with_device_lock(FakeVlm(["{}"]), turns, "controller").chat([], {})
    assert moves == [("controller", "cpu")]


@pytest.mark.parametrize("name", ["controller", "executor"])
def test_one_that_the_device_is_too_small_for_goes_back_and_it_is_said_in_words(name):
    moves, movers = moved()
    arrives = movers[name]

    def small(to: str) -> None:
        arrives(to)
        if to != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    turns = Turns("cpu:0", movers | {name: small})
    vlm, executor = (
        with_device_lock(FakeVlm(["{}"] * 2, [[0.5]]), turns, "controller"),
        with_device_lock(FakeExecutor(), turns, "executor"),
    )
    full = (
        rf"the {name} does not fit into the memory of cpu:0 although the others have left; close .* go on with the run"
    )
    if name == "executor":
        vlm.chat([], {})
        with pytest.raises(BadInput, match=full):
            executor.draw([DrawRequest("a", 1)])
        vlm.chat([], {})
        comes = [("controller", "cpu:0")]
        assert moves == [*comes, ("controller", "cpu"), ("executor", "cpu:0"), ("executor", "cpu"), *comes]
    else:
        for ask in (lambda: vlm.chat([], {}), lambda: vlm.decide([grey()], [Question("?")])):
            with pytest.raises(JudgeFailure, match=full):
                ask()
        executor.draw([DrawRequest("a", 1)])
        assert moves == [("controller", "cpu:0"), ("controller", "cpu")] * 2 + [("executor", "cpu:0")]


def test_threads_work_one_at_a_time():
    working, most = [], []

    class Slow(FakeExecutor):
        def draw(self, requests):
            working.append(1)
            most.append(len(working))
            let_others_run()
            working.pop()
            return []

    executor = with_device_lock(Slow(), Turns(), "executor")
    threads = [threading.Thread(target=executor.draw, args=([],)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5
