"""Benchmarks in a graph: which prompt, which seed, what is scored and where it is kept."""

from __future__ import annotations

import json

import pytest
import torch

from clvr_core.errors import BadInput
from tests.fakes import FakeVlm
from tests.nodes.graph import Graph
from tests.nodes.pack import NODES, stubs


@pytest.fixture
def folder(host):
    path = host.base / "input" / "mine"
    path.mkdir()
    lines = [
        {"id": "a", "prompt": "a red circle", "statements": ["there is a circle", "it is red"]},
        {"id": "b", "prompt": "a blue square", "statements": ["there is a square"]},
    ]
    (path / "prompts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return "mine"


def prompts(**inputs: object) -> tuple:
    inputs = {"folder": "mine", "benchmark": "auto", "index": 0, "pictures": 1, "run_seed": 0} | inputs
    return Graph({"1": {"class_type": "CLVR_BenchmarkPrompts", "inputs": inputs}}).run("1")


def score(vlm: FakeVlm, **inputs: object) -> tuple:
    inputs = {"task": prompts()[1], "image": torch.zeros(1, 32, 32, 3), "vlm": vlm, "name": "mine"} | inputs
    return Graph({"1": {"class_type": "CLVR_BenchmarkScore", "inputs": inputs}}).run("1")


class TestPrompts:
    def test_an_index_is_one_picture_of_one_prompt(self, folder):
        prompt, task, seed, count, source, told = prompts(index=1)
        assert prompt == "a blue square" and task.k == 0 and count == 2 and source.shape == (1, 64, 64, 3)
        assert "item b" in told and told.endswith("2 of 2")
        assert seed == prompts(index=1)[2] != prompts(index=1, run_seed=1)[2]

    def test_an_index_beyond_the_last_is_refused(self, folder):
        with pytest.raises(BadInput, match="index is 9, and mine has 2 pictures: the last is 1"):
            prompts(index=9)

    @pytest.mark.parametrize("name", ["", "..", "../output", "link"])
    def test_only_a_folder_of_the_input_folder_is_read(self, host, name):
        (host.base / "input" / "link").symlink_to(host.base / "output")
        with pytest.raises(BadInput, match="does not lie in ComfyUI's input folder; pick one of the list"):
            prompts(folder=name)

    def test_folders_that_hold_a_benchmark_are_listed_and_known_by_their_data(self, host, folder):
        (host.base / "input" / "photos").mkdir()
        node = NODES["CLVR_BenchmarkPrompts"]
        assert node.define_schema().inputs[0].options["options"] == ["mine"]
        before = node.fingerprint_inputs(folder="mine")
        (host.base / "input" / "mine" / "prompts.jsonl").write_text('{"id": "c", "prompt": "x"}')
        assert node.fingerprint_inputs(folder="mine") != before


class TestScore:
    def test_every_statement_is_judged_and_kept_beside_the_picture(self, host, folder):
        passed, told, so_far = score(FakeVlm((), [[0.9, 0.1]]))
        assert not passed and told.splitlines() == ["holds: there is a circle", "does not hold: it is red"]
        assert so_far == 0
        kept = host.base / "output" / "clvr-eval" / "prompts"
        assert list(kept.rglob("*.png")) and list(kept.rglob("*.jsonl"))
        assert score(FakeVlm((), [[0.9, 0.9]]), name="other")[0] is True

    def test_no_answer_is_neither_a_pass_nor_a_failure_of_the_node(self, folder):
        passed, told, _ = score(FakeVlm((), lambda images, questions: [None] * len(questions)))
        assert not passed and told.startswith("no answer: there is a circle")

    def test_prompts_without_statements_get_them_from_the_first_judge_once(self, host, folder):
        (host.base / "input" / folder / "prompts.jsonl").write_text('{"id": "c", "prompt": "a red circle"}')
        reply = json.dumps({"goals": [{"text": "a red circle", "check": "Is there a red circle?"}]})
        vlm = FakeVlm([reply], [[0.9], [0.9]])
        assert score(vlm)[1] == "holds: a red circle"
        assert score(vlm, name="again")[0] is True and len(vlm.chats) == 1
        assert stubs["comfy.utils"].ProgressBar.shown

    def test_a_prompt_that_cannot_be_taken_apart_is_an_error_that_names_it(self, host, folder):
        (host.base / "input" / folder / "prompts.jsonl").write_text('{"id": "c", "prompt": "a red circle"}')
        with pytest.raises(BadInput, match=r"item c was not taken apart: .*; run again to go on"):
            score(FakeVlm(lambda messages: "no JSON"))

    def test_a_name_that_is_no_file_name_is_refused(self):
        validate = NODES["CLVR_BenchmarkScore"].validate_inputs
        assert "letters, digits, dots and dashes are expected" in validate(name="a/b")
        assert validate(name="run-1.5") is True and validate() is True
