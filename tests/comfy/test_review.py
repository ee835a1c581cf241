"""The Review node: it waits for the artist, and never for nobody."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from clvr_core.run.run_folder import RunFolder
from tests.comfy.graphs import begun_by, go, graph, loop, runs, told
from tests.comfy.server import Refused, error_of
from tests.comfy.tab import Tab
from tests.waiting import until

pytestmark = pytest.mark.weights


def reviewed(seconds: int = 600, otherwise: str = "go on", **inputs) -> dict:
    prompt = loop(**inputs)
    prompt["50"] = {
        "class_type": "CLVR_Review",
        "inputs": {"trajectory": ["6", 0], "seconds": seconds, "otherwise": otherwise},
    }
    prompt["7"]["inputs"]["trajectory"] = ["50", 0]
    return prompt


def png(array: np.ndarray) -> str:
    data = io.BytesIO()
    Image.fromarray(array).save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


@pytest.fixture
def tab(comfy):
    with Tab(comfy) as open_tab:
        yield open_tab
        for question in comfy.get("/clvr/reviews"):
            open_tab.answer(question, say="stop")


def made_by(comfy, before):
    return next(path for path in runs(comfy) if path not in before)


def test_without_a_tab_nothing_waits(comfy):
    folder = begun_by(comfy, reviewed(seconds=3600, seed=81))
    assert [remark.say for remark in told(folder).remarks] == ["go on"] * len(told(folder).steps)


def test_what_was_said_is_heeded_and_on_record_and_not_asked_again(comfy, tab):
    before, prompt = runs(comfy), reviewed(seed=82, strategy="clvr")
    queued = comfy.queue(prompt)
    first = tab.asked()
    assert {goal["need"] for goal in first["goals"]} == {"must"}
    assert {goal["id"] for goal in first["goals"]} >= {"g1"} and first["current"] == 0 and first["step"]["index"] == 0
    assert (
        comfy.get(f"/view?filename={first['canvases'][0]['file']}&subfolder={first['subfolder']}&type=output")[:4]
        == b"\x89PNG"
    )
    tab.answer(first, say="go on", words="a small black cross", dropped=["g1"])
    second = tab.asked()
    assert second["id"] != first["id"] and "a small black cross" in [goal["text"] for goal in second["goals"]]
    assert "g1" not in [goal["id"] for goal in second["goals"]]
    tab.answer(second, say="accept")
    entry = comfy.wait(queued)
    assert entry["status"]["status_str"] == "success", error_of(entry)
    run = told(made_by(comfy, before))
    assert run.outcome.reason == "the artist accepted the picture" and [remark.say for remark in run.remarks] == [
        "go on",
        "accept",
    ]
    assert "the artist accepted" in "".join(entry["outputs"]["9"]["text"])
    again = reviewed(seed=82, strategy="clvr")
    again["8"]["inputs"]["filename_prefix"] = "again"
    go(comfy, again)
    assert len(runs(comfy)) == len(before) + 1, "the record answered"


def test_a_painted_mask_keeps_the_rest_of_the_picture(comfy, tab):
    before = runs(comfy)
    queued = comfy.queue(reviewed(seed=83, strategy="strokes", rounds=2))
    mask = np.zeros((192, 192), np.uint8)
    mask[:, :64] = 255
    tab.answer(tab.asked(), say="go on", mask=png(mask))
    tab.answer(tab.asked(), say="stop")
    comfy.wait(queued)
    folder = RunFolder.open(made_by(comfy, before))
    run = told(folder.path)
    edit = run.steps[1]
    old, new = folder.picture(edit.action.references[0]), folder.picture(edit.chosen)
    assert (
        run.remarks[0].mask
        and np.array_equal(old[:, 64:], new[:, 64:])
        and not np.array_equal(old[:, :64], new[:, :64])
    )


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ({"say": "perhaps"}, "is none of go on, accept, stop"),
        ({"say": "go on", "dropped": ["../../etc"]}, "names a goal '../../etc'"),
        ({"say": "go on", "back_to": 99}, "canvas 99, which no step of the run proposed"),
        ({"say": "go on", "mask": "bm90IGEgcG5n"}, "the mask cannot be read"),
        ({"say": "go on", "mask": png(np.zeros((9, 9), np.uint8))}, "the mask is empty"),
        ({"say": "go on", "words": "w" * 3000}, "at most 2,000"),
    ],
    ids=["say", "goal", "canvas", "no png", "empty", "long"],
)
def test_an_answer_that_cannot_be_heeded_is_refused_and_the_question_stays(comfy, tab, said, answer):
    queued = comfy.queue(reviewed(seed=84))
    question = tab.asked()
    with pytest.raises(Refused, match=answer):
        tab.answer(question, **said)
    assert tab.asked()["id"] == question["id"]
    comfy.interrupt()
    assert comfy.wait(queued)["status"]["status_str"] == "error"


def test_cancel_ends_the_wait_and_a_late_answer_is_told_so(comfy, tab):
    queued = comfy.queue(reviewed(seed=85))
    question = tab.asked()
    comfy.interrupt()
    entry = comfy.wait(queued)
    assert [kind for kind, _ in entry["status"]["messages"]][-1] == "execution_interrupted"
    with pytest.raises(Refused, match="answered already, or its time is over"):
        tab.answer(question, say="accept")


def test_a_tab_that_is_loaded_again_finds_the_question_and_what_is_left_of_its_time(comfy, tab):
    queued = comfy.queue(reviewed(seed=88))
    told = tab.asked()
    first = until(lambda: (later := tab.asked())["seconds"] < told["seconds"] - 1 and later, "that a second is over")
    tab.socket.close()
    with Tab(comfy, "the-same-tab-again") as again:
        second = again.asked()
        assert second["id"] == first["id"] and 0 < second["seconds"] < first["seconds"]
        again.answer(second, say="stop")
        comfy.wait(queued)


def test_when_the_time_is_over_the_default_is_taken(comfy, tab):
    folder = begun_by(comfy, reviewed(seconds=1, otherwise="accept", seed=86))
    assert told(folder).outcome.reason == "the artist accepted the picture" and len(told(folder).steps) == 1


def test_the_one_node_asks_too(comfy, tab):
    before = runs(comfy)
    queued = comfy.queue(graph(prompt="a red circle and a blue square", seed=87, review=600))
    tab.answer(tab.asked(), say="stop")
    comfy.wait(queued)
    assert told(made_by(comfy, before)).outcome.reason == "the artist stopped the run"
