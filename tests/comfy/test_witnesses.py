"""Witnesses in the real ComfyUI: beside the judge of a run, and with ComfyUI's own detector."""

from __future__ import annotations

import copy
import json

from clvr_core.trajectory import timeless
from tests.comfy.graphs import begun_by, go, in_one, looped, told
from tests.comfy.server import error_of


def witnessed(prompt: dict, **inputs) -> dict:
    """The graph with Witnesses between the vision model and every node that judges; the controller has it too."""
    prompt = copy.deepcopy(prompt)
    (models,) = (name for name, node in prompt.items() if node["class_type"] == "Stub_Models")
    for node in prompt.values():
        node["inputs"] = {
            name: ["70", 0] if value == [models, 0] and node["class_type"] != "CLVR_Reason" else value
            for name, value in node["inputs"].items()
        }
    settings = {"vlm": [models, 0], "text": "off", "changes": True} | inputs
    return prompt | {"70": {"class_type": "CLVR_Witnesses", "inputs": settings}}


def shown(entry: dict, node: str) -> str:
    return "".join(entry["outputs"][node]["text"])


def test_the_run_of_a_graph_is_that_of_the_one_node_and_names_the_witnesses(comfy):
    by_hand, in_a_node = (
        told(begun_by(comfy, witnessed(prompt))) for prompt in (looped(71, candidates=0), in_one(71, candidates=0))
    )
    assert timeless(by_hand) == timeless(in_a_node) and by_hand.outcome and by_hand.outcome.met
    assert by_hand.models["controller"] == "stub eyes"
    assert by_hand.models["verifier"] == "stub eyes with changes"
    edits = [step for step in by_hand.steps if step.action.kind == "EDIT"]
    assert edits and all(step.edit.witnesses[0].witness == "changes" for step in edits)


def test_the_node_says_what_is_on(comfy):
    graph = witnessed(in_one(73, rounds=1)) | {
        "71": {"class_type": "PreviewAny", "inputs": {"source": ["70", 1]}},
    }
    report = shown(go(comfy, graph), "71")
    assert report.splitlines() == [
        "text: off",
        "objects: off; link a detector to count things",
        "likeness: off; link a clip_vision to measure it",
        "count: off",
        "changes: measured on the pixels of each edit",
    ]


def test_comfyuis_own_detector_looks_at_the_picture(comfy):
    """Its weights are random, so what it says is no matter: it runs in the witness's thread, and knows its 80 kinds."""
    graph = {
        "1": {"class_type": "Stub_Models", "inputs": {"script": "{}"}},
        "2": {"class_type": "Stub_Detector", "inputs": {}},
        "3": {
            "class_type": "CLVR_Witnesses",
            "inputs": {"vlm": ["1", 0], "text": "off", "detector": ["2", 0], "seen": 0.99, "seconds": 600.0},
        },
        "4": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 48, "batch_size": 1, "color": 0xFF0000}},
        "5": {
            "class_type": "Stub_Hear",
            "inputs": {"vlm": ["3", 0], "image": ["4", 0], "goals": json.dumps(["no dogs", "no unicorns"])},
        },
        "6": {"class_type": "PreviewAny", "inputs": {"source": ["5", 0]}},
    }
    heard = json.loads(shown(go(comfy, graph), "6"))
    assert heard == {"said": {"g1": [["objects", "yes", 'finds 0 "dog"']]}, "warnings": []}


def test_a_model_that_is_no_detector_is_refused_by_the_node(comfy):
    prompt = witnessed(in_one(75, rounds=1), detector=["72", 0])
    prompt["72"] = {"class_type": "Stub_Anything", "inputs": {"value": "image"}}
    assert "detector of Witnesses is a picture, and should be a diffusion model" in error_of(comfy.run(prompt))
