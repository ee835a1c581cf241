"""Writing over a cache that is never moved: the same logits as the plain way, and a way back where recording fails. Without a GPU: what is
recorded there is called here."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
import torch

from clvr_core.vlm import constrain
from clvr_core.vlm.local import LocalVlm
from clvr_core.vlm.prefix import Reader
from clvr_core.vlm.prompt import Prompter
from clvr_core.vlm.steps import ROUND, Steps, cuda_graph, usable
from tests.vlm.test_local import ASK, SCHEMA
from tests.vlm.test_prefix import EQUAL, FIRST, SECOND, picture, user


def called(step):
    """In place of a recording."""
    return step


@pytest.fixture
def qwen(loaded) -> LocalVlm:
    return loaded["qwen3-vl"]


def anew(vlm: LocalVlm, record, **settings) -> LocalVlm:
    made = LocalVlm(vlm.model, vlm.processor, replace(vlm.settings, **{"max_tokens": 120} | settings))
    made._reader = Reader(vlm.model, made._checked, record=record)
    return made


@torch.inference_mode()
def test_each_pass_gives_the_logits_of_the_plain_way_and_the_cache_is_whole_afterwards(qwen):
    prompter, words = Prompter(qwen.model, qwen.processor), qwen.processor.tokenizer('{"a": "the sky')["input_ids"]
    found = []
    for record in (None, called):
        reader = Reader(qwen.model, record=record)
        run = reader.read(prompter.prompt(FIRST))
        logits = [run.logits]
        with reader.writing(run, 40):
            for tokens in ([words[0]], words[1:4], [words[4]], [words[5]], words[6:]):
                reader.extend(run, tokens)
                logits.append(run.logits.clone())
        assert run.cache.get_seq_length() == len(run.keys) == len(prompter.prompt(FIRST)) + len(words)
        reader.extend(run, words[:2])
        logits.append(run.logits)
        reader.finish(run)
        logits.append(reader.read(prompter.prompt(SECOND)).logits)
        found.append(logits)
        assert (reader._steps is None) == (record is None)
    for plain, fast in zip(*found, strict=True):
        assert float((plain - fast).abs().max()) < EQUAL
    assert max(float((one - other).abs().max()) for one, other in zip(found[0], found[0][1:])) > 100 * EQUAL, (
        "each pass changed something"
    )


@pytest.mark.parametrize("thinking", [0, 5])
@pytest.mark.parametrize(
    "held", [pytest.param(True, marks=pytest.mark.skipif(not constrain.available(), reason="no llguidance")), False]
)
def test_a_reply_is_the_same_written_either_way(qwen, thinking, held, monkeypatch):
    most = 120
    if not held:
        monkeypatch.setattr(constrain, "available", lambda: False)
        most = 12
    plain, fast = (anew(qwen, record, thinking=thinking, max_tokens=most) for record in (None, called))
    for turns in (ASK, ASK):
        assert plain.chat(turns, SCHEMA) == fast.chat(turns, SCHEMA)
    assert plain.decide((), ()) == [] and fast._reader._steps is not None


def test_room_is_made_once_and_anew_only_for_a_longer_prompt(qwen):
    made = []

    def recorded(step):
        made.append(1)
        return step

    fast = anew(qwen, recorded)
    for _ in range(2):
        fast.chat(ASK, SCHEMA)
    assert made == [1] and fast._reader._steps.room == ROUND
    fast.chat([replace(ASK[1], text="long " * 120)], SCHEMA)
    assert made == [1, 1] and fast._reader._steps.room > ROUND
    fast.move("cpu")
    assert fast._reader._steps is None, "what was recorded reads the weights where they were"


def test_where_recording_fails_it_is_said_and_the_reply_is_written_the_plain_way(qwen):
    def fails(step):
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")

    slow = anew(qwen, fails)
    with pytest.warns(
        RuntimeWarning,
        match="replies are written slowly, without a CUDA graph: CUDA error: operation not permitted when",
    ):
        reply = slow.chat(ASK, SCHEMA)
    assert reply == anew(qwen, None).chat(ASK, SCHEMA) == slow.chat(ASK, SCHEMA), "and only once"


def test_a_recording_that_gives_other_logits_is_not_used(qwen):
    def wrong(step):
        return lambda: step().flip(0)

    slow = anew(qwen, wrong)
    with pytest.warns(
        RuntimeWarning, match=r"the recorded pass gives other logits than the plain one \(similarity -?0\.\d+\)"
    ):
        assert slow.chat(ASK, SCHEMA) == anew(qwen, None).chat(ASK, SCHEMA)


def test_a_reply_that_is_stopped_leaves_nothing_wrong_behind(qwen):
    class Stopped(Exception):
        pass

    fast, left = anew(qwen, called), [6]

    def check() -> None:
        left[0] -= 1
        if not left[0]:
            raise Stopped

    fast.check = check
    with pytest.raises(Stopped):
        fast.chat(ASK, SCHEMA)
    fast.check = lambda: None
    assert fast.chat(ASK, SCHEMA) == anew(qwen, None).chat(ASK, SCHEMA)


@pytest.mark.parametrize("name", ["qwen3.5", "gemma3"])
def test_caches_that_keep_a_state_are_written_the_plain_way(loaded, name):
    if name not in loaded:
        pytest.skip(f"this transformers has no {name}")
    reader = Reader(loaded[name].model, record=called)
    with torch.inference_mode():
        run = reader.read(Prompter(loaded[name].model, loaded[name].processor).prompt([user("a", picture("red"))]))
        with reader.writing(run, 4):
            reader.extend(run, [5])
    assert reader._steps is None


def test_without_a_gpu_nothing_is_recorded(qwen, monkeypatch):
    monkeypatch.setattr(Steps, "__init__", lambda *_: pytest.fail("was recorded"))
    assert not usable(qwen.model)
    anew(qwen, cuda_graph, max_tokens=4).chat(ASK, SCHEMA)


def test_a_model_that_comes_to_the_gpu_and_goes_is_recorded_each_time_that_it_is_there(qwen, monkeypatch):
    """Stands in for a GPU: where the model is, and what is recorded."""
    place, made = ["cpu"], []

    def recorded(step):
        made.append(1)
        return step

    monkeypatch.setattr("clvr_core.vlm.prefix.usable", lambda model: place == ["cuda"])
    monkeypatch.setattr("clvr_core.vlm.prefix.cuda_graph", recorded)
    vlm = anew(qwen, recorded, max_tokens=4)
    counts = []
    for where in ("cpu", "cuda", "cuda", "cpu", "cuda"):
        if place != [where]:
            vlm.move("cpu")
        place[0] = where
        vlm.chat(ASK, SCHEMA)
        counts.append(len(made))
        assert (vlm._reader._steps is None) == (where == "cpu")
    assert counts == [0, 1, 1, 1, 2]


def test_a_recording_is_made_as_torch_asks_for_it(qwen, monkeypatch):
    """Stands in for torch.cuda: the order of the calls, and that what is played back is a copy."""
    said = []

    class Stream:
        def wait_stream(self, other) -> None:
            said.append("waits")

    class Graph:
        def replay(self) -> None:
            said.append("replay")
            step()

    @contextlib.contextmanager
    def graph(given, capture_error_mode):
        assert isinstance(given, Graph) and capture_error_mode == "thread_local"
        said.append("begin")
        yield
        said.append("end")

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    out = torch.zeros(2)

    def step():
        said.append("step")
        return out.add_(1)

    play = cuda_graph(step)
    assert said == ["waits", "step", "step", "step", "waits", "begin", "step", "end"]
    first, second = play(), play()
    assert first.tolist() == [5, 5] and second.tolist() == [6, 6] and said[-2:] == ["replay", "step"]
    with torch.inference_mode():
        assert Steps(qwen.model, 10, True, called).room == ROUND
