"""Runs of ComfyUI's process beside those of another process, and beside its own cancelled ones."""

from __future__ import annotations

import pytest
from clvr_pack.nodes.host.sockets import ExecutorHandle

from clvr_core.storage.lock import LOCK, FolderHeld
from tests.nodes.graph import Graph, Patient, loop, recorded, scripted, settings
from tests.storage.test_lock import Elsewhere


def whole(vlm, executor, **changed):
    inputs = {"vlm": vlm, "executor": executor, **settings(**changed)}
    return {"end": {"class_type": "CLVR_Generate", "inputs": inputs}}


@pytest.mark.parametrize("prompt", [loop, whole])
def test_a_cancelled_prompt_does_not_block_the_next_one(host, prompt):
    calls = []

    class CancelledAtTheSecond(Patient):
        def _picture(self, request):
            calls.append(request)
            host.memory.interrupted = len(calls) == 2
            return super()._picture(request)

    executor = ExecutorHandle(CancelledAtTheSecond(), 64, 64, lambda text: None, "weights", step=16)
    with pytest.raises(host.Cancelled) as kept:  # ComfyUI may keep the exception, and with it the session
        Graph(prompt(scripted(), executor)).run("end")
    (run,) = host.runs.iterdir()
    Elsewhere(run).ends()
    host.memory.interrupted = False
    assert Graph(prompt(scripted(), executor)).run("end")[1].trajectory.outcome.met
    assert len(list(host.runs.iterdir())) == 1 and len(calls) == 4 and kept.value is not None


@pytest.mark.parametrize("prompt", [loop, whole])
def test_a_run_that_another_process_writes_is_told_and_left_alone(host, executor, prompt):
    run = Graph(prompt(scripted(), executor, rounds=1)).run("end")[1]
    assert not (run.folder / LOCK).exists(), "between two prompts it is free"
    other = Elsewhere(run.folder, b'{"pid":7,"command":"clvr resume"}')
    with pytest.raises(FolderHeld, match="is in use by clvr resume process 7"):
        Graph(prompt(scripted(), executor)).run("end")
    loaded = {"load": {"class_type": "CLVR_LoadTrajectory", "inputs": {"run": run.folder.name}}}
    assert Graph(loaded).run("load")[1].trajectory == run.trajectory, "reading needs no lock"
    other.ends()
    assert recorded(run.folder) == run.trajectory
