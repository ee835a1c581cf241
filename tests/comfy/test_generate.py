"""The one-node loop on a real ComfyUI, with the embedded models."""

from __future__ import annotations

import json

import numpy as np
import pytest

from clvr_core.run.run_folder import BEST, REPORT, RunFolder, trajectory_from
from clvr_core.storage.png import read_png
from tests.comfy.graphs import PROMPT, graph, planned, runs
from tests.comfy.server import Refused, error_of
from tests.waiting import until

pytestmark = pytest.mark.weights


def test_the_nodes_are_there_with_a_tooltip_on_every_input(comfy):
    nodes = {name: node for name, node in comfy.get("/object_info").items() if name.startswith("CLVR_")}
    assert nodes
    for name, node in nodes.items():
        assert node["description"] and node["category"].startswith("CLVR"), name
        for group in ("required", "optional"):
            for field, (_, options, *_) in (
                (field, (*spec, {})) for field, spec in node["input"].get(group, {}).items()
            ):
                assert options.get("tooltip"), (name, field)
        assert all(node["output_tooltips"]), name


def test_a_brief_becomes_the_best_picture_a_trajectory_and_a_sentence(comfy):
    entry = comfy.run(graph())
    assert entry["status"]["status_str"] == "success", error_of(entry)
    folder = runs(comfy)[-1]
    (saved,) = entry["outputs"]["3"]["images"]
    picture, _ = read_png(comfy.base / "output" / saved["filename"])
    best, texts = read_png(folder / BEST)
    assert np.array_equal(picture, best) and picture.shape == (192, 192, 3) and "clvr" in texts
    trajectory = trajectory_from(RunFolder.open(folder).lines)
    assert trajectory.outcome is not None and trajectory.brief.prompt == PROMPT and (folder / REPORT).stat().st_size
    summary = "".join(entry["outputs"]["4"]["text"])
    assert f"of {len(trajectory.goals)} goals met" in summary and trajectory.outcome.reason in summary
    assert entry["outputs"]["2"]["images"], "the node shows its picture"


def test_the_same_inputs_are_not_run_again_and_another_seed_is(comfy):
    comfy.run(graph(seed=11, strategy="oneshot"))
    before = runs(comfy)
    comfy.run(graph(seed=11, strategy="oneshot"))
    assert runs(comfy) == before
    comfy.run(graph(seed=12, strategy="oneshot"))
    assert len(runs(comfy)) == len(before) + 1


def test_cancel_takes_effect_within_a_drawing_and_leaves_what_was_planned(comfy):
    before = runs(comfy)
    prompt = comfy.queue(graph(seed=5, strategy="best-of-n", candidates=64))
    folder = until(lambda: planned(comfy, before), "the plan")
    comfy.interrupt()
    entry = comfy.wait(prompt)
    assert any(kind == "execution_interrupted" for kind, _ in entry["status"]["messages"]), entry["status"]
    trajectory = trajectory_from(RunFolder.open(folder).lines)
    assert trajectory.goals and not trajectory.steps
    assert not list(folder.glob("*.png")), "64 pictures were not waited for"
    assert comfy.run(graph(strategy="oneshot", seed=6))["status"]["status_str"] == "success", (
        "the next prompt is not touched by it"
    )


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"prompt": "  "}, "prompt is empty"),
        ({"prompt": "x" * 200_000}, "characters; at most"),
        ({"strategy": "magic"}, "magic"),
        ({"rounds": 10**9}, "bigger than max"),
        ({"seed": -1}, "smaller than min"),
    ],
)
def test_what_cannot_be_run_is_refused_before_it_starts(comfy, inputs, says):
    before = runs(comfy)
    with pytest.raises(Refused) as refused:
        comfy.run(graph(**inputs))
    assert says in json.dumps(json.loads(str(refused.value))["node_errors"]) and runs(comfy) == before


def test_words_outside_the_grammar_are_answered_with_the_grammar(comfy):
    before = runs(comfy)
    entry = comfy.run(graph(prompt="a portrait of a queen in oil"))
    assert entry["status"]["status_str"] == "error" and "NOUN" in error_of(entry) and runs(comfy) == before
