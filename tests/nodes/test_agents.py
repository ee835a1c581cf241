"""The page for agents: its schema is held against the workflows and the nodes."""

from __future__ import annotations

import json
import re

import jsonschema
import pytest

from clvr_core.comfyui_queue import prompt_for, read_workflow
from tests.nodes.agents import PAGE, WORKFLOWS, page
from tests.nodes.papers import ROOT

SCHEMA = json.loads((ROOT / PAGE).read_text("utf-8"))


def test_the_schema_is_that_of_the_workflows_and_the_nodes():
    assert (ROOT / PAGE).read_text("utf-8") == page(), "python -m tests.nodes.agents"
    assert SCHEMA.keys() == {path.name for path in (ROOT / WORKFLOWS).glob("*.json")}


@pytest.mark.parametrize("name", SCHEMA)
def test_each_input_and_output_is_in_its_workflow(name):
    workflow, described = json.loads((ROOT / WORKFLOWS / name).read_text("utf-8")), SCHEMA[name]
    properties = described["inputs"]["properties"]
    assert {"prompt", "seed", "strategy", "rounds"} <= properties.keys()
    values = {key: workflow[each["x-node"]]["inputs"].get(key, each["default"]) for key, each in properties.items()}
    jsonschema.Draft202012Validator.check_schema(described["inputs"])
    jsonschema.validate(values, described["inputs"])
    assert {key: each["default"] for key, each in properties.items()} == values
    for wrong in ({"prompt": 3}, {}, {"prompt": "x", "rounds": 0}, {"prompt": "x", "checkpoint": "y"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, described["inputs"])
    assert {"picture", "summary", "run"} <= described["outputs"].keys()
    assert all(each["node"] in workflow for each in described["outputs"].values())


def test_what_clvr_batch_sets_is_in_the_schema_too():
    from clvr_core.brief import Brief

    for name, described in SCHEMA.items():
        workflow = read_workflow(ROOT / WORKFLOWS / name)
        graph = prompt_for(workflow, Brief("two cats", guided=True))  # as clvr batch has it by itself
        node = described["outputs"]["run"]["node"]
        asked = {key: value for key, value in graph[node]["inputs"].items() if not isinstance(value, list)}
        jsonschema.validate(asked, described["inputs"])


def test_the_page_names_every_workflow_and_only_routes_that_there_are():
    text = (ROOT / "docs" / "agents.md").read_text("utf-8")
    assert all(name in text for name in SCHEMA)
    routes = set(re.findall(r"/clvr/[a-z/-]+", text))
    known = {
        route
        for path in (ROOT / "nodes" / "routes").glob("*.py")
        for route in re.findall(r"/clvr/[a-z/{}-]+", path.read_text("utf-8"))
    }
    assert routes and routes <= known | {"/clvr/runs", "/clvr/lines"}
