"""A benchmark in a graph, on a real ComfyUI: the next prompt, a picture, its score, and folders of strangers."""

from __future__ import annotations

import json

import pytest

from clvr_core.evaluation.benchmarks import BENCHMARKS
from clvr_core.evaluation.store import Arm
from tests.comfy.server import Comfy, Refused, error_of
from tests.evaluation.folders import geneval, imgedit, write_lines

pytestmark = pytest.mark.weights
BRIEFS = ["a red circle at the top left", "a green square at the center"]


@pytest.fixture(scope="module")
def folder(comfy) -> str:
    write_lines(
        comfy.base / "input" / "mine" / "prompts.jsonl",
        [{"id": f"p{n}", "prompt": brief} for n, brief in enumerate(BRIEFS)],
    )
    return "mine"


def graph(folder: str, index: int = 0, name: str = "run", **inputs) -> dict:
    settings = {"folder": folder, "benchmark": "auto", "index": index, "pictures": 0, "run_seed": 0} | inputs
    return {
        "1": {"class_type": "CLVR_ShapesModels", "inputs": {"judge_error": 0.0}},
        "2": {"class_type": "CLVR_BenchmarkPrompts", "inputs": settings},
        "3": {
            "class_type": "CLVR_Generate",
            "inputs": {
                "vlm": ["1", 0],
                "executor": ["1", 1],
                "prompt": ["2", 0],
                "strategy": "oneshot",
                "seed": ["2", 2],
            }
            | {"rounds": 1, "patience": 1, "candidates": 0, "evaluations": 0},
        },
        "4": {
            "class_type": "CLVR_BenchmarkScore",
            "inputs": {"task": ["2", 1], "image": ["3", 0], "vlm": ["1", 0], "name": name, "protocol": "decisions"},
        },
        "5": {"class_type": "PreviewAny", "inputs": {"source": ["4", 1]}},
        "6": {"class_type": "PreviewAny", "inputs": {"source": ["2", 5]}},
        "7": {"class_type": "PreviewAny", "inputs": {"source": ["4", 2]}},
    }


def go(comfy: Comfy, prompt: dict) -> dict:
    entry = comfy.run(prompt)
    assert entry["status"]["status_str"] == "success", error_of(entry)
    return {node: "".join(out["text"]) for node, out in entry["outputs"].items() if "text" in out}


def test_each_run_scores_the_next_prompt_into_the_same_files(comfy, folder):
    for index in range(2):
        told = go(comfy, graph(folder, index))
        assert f"item p{index} (all), picture 0: {index + 1} of 2" in told["6"] and "holds: a" in told["5"]
    images = comfy.base / "output" / "clvr-eval" / "prompts"
    arm = Arm(images, "run")
    assert [
        arm.find(BENCHMARKS["prompts"], item, 0).name
        for item in BENCHMARKS["prompts"].read(comfy.base / "input" / folder)
    ] == [
        "p0.png",
        "p1.png",
    ]
    (result,) = arm.results()
    assert result["pictures"]["judged"] == 2 and float(told["7"]) == pytest.approx(result["measures"]["pass"]["value"])
    (answers,) = (images / "clvr-eval" / "run").glob("answers-*.jsonl")
    assert [json.loads(line)["item"] for line in answers.read_text().splitlines()] == ["p0", "p1"]


def test_an_index_behind_the_last_is_said_to_be(comfy, folder):
    assert "the last is 1" in error_of(comfy.run(graph(folder, 2)))


@pytest.mark.parametrize("folder", ["..", "../output", "", ".", "link", "/etc"])
def test_a_folder_elsewhere_is_not_read(comfy, folder):
    outside = comfy.base / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "prompts.txt").write_text("secret words\n")
    if not (comfy.base / "input" / "link").exists():
        (comfy.base / "input" / "link").symlink_to(outside, target_is_directory=True)
    try:
        said = error_of(comfy.run(graph(folder)))
    except Refused as refused:
        said = str(refused)
        assert "value_not_in_list" in said or "does not lie in ComfyUI's input folder" in said
    else:
        assert "does not lie in ComfyUI's input folder" in said
    assert "secret words" not in said


@pytest.mark.parametrize("name", ["../x", "a/b", "", "x" * 65])
def test_a_name_that_is_a_path_is_refused(comfy, folder, name):
    nodes = graph(folder, name=name)
    del nodes["5"], nodes["6"], nodes["7"]
    with pytest.raises(Refused, match="name is"):
        comfy.run(nodes)


def test_the_list_shows_folders_of_benchmarks_and_no_others(comfy, folder):
    (comfy.base / "input" / "holiday").mkdir(exist_ok=True)
    geneval(comfy.base / "input" / "g")
    imgedit(comfy.base / "input" / "i")
    node = comfy.get("/object_info/CLVR_BenchmarkPrompts")["CLVR_BenchmarkPrompts"]
    kind, *rest = node["input"]["required"]["folder"]
    listed = kind if isinstance(kind, list) else rest[0]["options"]
    assert {"g", "i", "mine"} <= set(listed) and "holiday" not in listed
