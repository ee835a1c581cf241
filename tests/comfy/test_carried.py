"""What the pictures carry that are made in a graph: whichever is dropped on the graph opens workflow and run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clvr_core.run.run_folder import BEST
from clvr_core.storage.png import read_png
from tests.comfy.graphs import go, looped, runs
from tests.comfy.server import Comfy, error_of
from tests.comfy.test_trajectories import base, kept, load


def open_in(comfy: Comfy, prompt: dict, workflow: object) -> dict:
    """The history of the prompt, queued as a tab does it, with the workflow that it comes from."""
    body = {"prompt": prompt, "client_id": comfy.client, "extra_data": {"extra_pnginfo": {"workflow": workflow}}}
    entry = comfy.wait(comfy.post("/prompt", body)["prompt_id"])
    assert entry["status"]["status_str"] == "success", error_of(entry)
    return entry


def drawn(kind: str, number: int | str, **more: object) -> dict:
    return {"nodes": [{"id": number, "type": kind, **more}], "version": 0.4}


def texts(comfy: Comfy, picture: dict) -> dict[str, str]:
    return read_png(comfy.base / picture["type"] / picture["subfolder"] / picture["filename"])[1]


def remembered(comfy: Comfy, picture: dict) -> object:
    (node,) = json.loads(texts(comfy, picture)["workflow"])["nodes"]
    return node.get("properties", {}).get("clvr_run")


def run_of(entry: dict, node: str) -> str:
    """The name of the run whose pictures the node shows."""
    return Path(entry["outputs"][node]["images"][0]["subfolder"]).name


def test_every_picture_of_the_run_carries_the_workflow_and_the_run(comfy):
    prompt = kept("carried", seed=72)
    entry = open_in(comfy, prompt, drawn("CLVR_Generate", 2))
    name = run_of(entry, "2")
    for folder in (base(comfy) / name, base(comfy) / "".join(entry["outputs"]["6"]["text"])):
        files = [folder / BEST, *sorted(folder.glob("canvas-*.png"))]
        assert len(files) >= 3
        for file in files:
            found = read_png(file)[1]
            assert json.loads(found["workflow"]) == drawn("CLVR_Generate", 2, properties={"clvr_run": name}), file
            assert (
                json.loads(found["prompt"]).keys() == prompt.keys() and json.loads(found["clvr"])["brief"]["seed"] == 72
            )
    assert entry["outputs"]["2"]["images"][0]["filename"] == BEST
    (saved,) = entry["outputs"]["3"]["images"]
    assert remembered(comfy, saved) == name and "clvr" not in texts(comfy, saved)


def test_so_does_a_loop_drawn_by_hand_and_what_is_saved_behind_it(comfy):
    prompt = looped(74, first=1) | {
        "20": {"class_type": "CLVR_ViewTrajectory", "inputs": {"trajectory": ["7", 1], "columns": 2}}
    }
    entry = open_in(comfy, prompt, drawn("CLVR_LoopEnd", 7))
    folder = runs(comfy)[-1]
    assert [remembered(comfy, entry["outputs"][node]["images"][0]) for node in ("8", "20")] == [folder.name] * 2
    files = sorted(folder.glob("*.png"))
    assert len(files) == 4 and all("workflow" in read_png(file)[1] for file in files), "three canvases and the best"


def test_a_picture_of_a_run_that_was_opened_again_names_it(comfy):
    name = "".join(go(comfy, kept("opened", seed=75))["outputs"]["6"]["text"])
    entry = open_in(comfy, load(name), drawn("CLVR_LoadTrajectory", 1))
    assert remembered(comfy, entry["outputs"]["2"]["images"][0]) == name


def test_a_node_inside_a_subgraph_remembers_too(comfy):
    prompt = json.loads(json.dumps(kept("inside", seed=76)).replace('"2"', '"9:2"'))
    inside = {"id": "made-up", "nodes": [{"id": 2, "type": "CLVR_Generate", "properties": {"a": 1}}]}
    workflow = drawn("made-up", 9) | {"definitions": {"subgraphs": [inside]}}
    entry = open_in(comfy, prompt, workflow)
    found = json.loads(texts(comfy, entry["outputs"]["3"]["images"][0])["workflow"])
    assert found["definitions"]["subgraphs"][0]["nodes"][0]["properties"] == {"a": 1, "clvr_run": run_of(entry, "9:2")}


ODD = [5, [], "x", {"nodes": 5}, {"nodes": [5]}, drawn("x", 2, properties=5), {"definitions": []}]


@pytest.mark.parametrize("number", range(len(ODD)))
def test_a_workflow_of_another_form_is_left_as_it_is(comfy, number):
    entry = open_in(comfy, kept("odd", seed=780 + number), ODD[number])
    assert json.loads(texts(comfy, entry["outputs"]["3"]["images"][0])["workflow"]) == ODD[number]


def test_without_a_workflow_there_is_none_in_the_pictures(comfy):
    folder = base(comfy) / "".join(go(comfy, kept("bare", seed=73))["outputs"]["6"]["text"])
    assert all("workflow" not in read_png(file)[1] for file in folder.glob("*.png"))
