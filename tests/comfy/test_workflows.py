"""The shared workflows against the nodes as they are, and run to a finished picture."""

from __future__ import annotations

import json
import re

import pytest

from tests.comfy.server import ROOT, error_of

FOLDER = ROOT / "workflows"
SHARED = sorted(FOLDER.glob("*.json"))
WIDGETS = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool, "COMBO": str}
DRAWN_ONLY = ("Note", "MarkdownNote", "Reroute", "PrimitiveNode")


@pytest.fixture(scope="module")
def nodes(comfy) -> dict:
    return comfy.get("/object_info")


def inputs_of(node: dict) -> list[tuple[str, str, dict]]:
    """Name, type and options of each input, in the order in which the front end lists them."""
    listed = [(name, spec) for group in ("required", "optional") for name, spec in node["input"].get(group, {}).items()]
    return [(name, "COMBO" if isinstance(spec[0], list) else spec[0], dict(*spec[1:2])) for name, spec in listed]


def prompt_of(workflow: dict, nodes: dict) -> dict:
    """What the front end would queue; every widget is held against its schema on the way."""
    links = {link[0]: link for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in DRAWN_ONLY:
            continue
        schema, values = nodes[node["type"]], list(node["widgets_values"])
        linked = {slot["name"]: links[slot["link"]] for slot in node["inputs"] if slot.get("link") is not None}
        inputs = {}
        for name, kind, options in inputs_of(schema):
            if kind in WIDGETS and not options.get("forceInput"):
                inputs[name] = values.pop(0)
                assert isinstance(inputs[name], WIDGETS[kind]), (node["type"], name, inputs[name])
                if options.get("control_after_generate"):
                    assert values.pop(0) in ("fixed", "increment", "decrement", "randomize"), (node["type"], name)
            if name in linked:
                number, source, socket, target, _, told = linked[name]
                made = nodes[next(other["type"] for other in workflow["nodes"] if other["id"] == source)]["output"][socket]
                assert told == made and (kind in (made, "*")) and target == node["id"], (node["type"], name, number)
                inputs[name] = [str(source), socket]
            elif kind not in WIDGETS:
                assert name not in schema["input"].get("required", {}), (node["type"], name, "is not linked")
        assert not values, (node["type"], "has more widget values than widgets", values)
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def test_each_has_its_picture_and_its_form_for_use_without_a_browser():
    assert SHARED
    for path in SHARED:
        picture = path.with_suffix(".jpg").read_bytes()
        assert picture.startswith(b"\xff\xd8\xff") and 10_000 < len(picture) < 400_000, path.name
    assert {path.name for path in (FOLDER / "api").glob("*.json")} <= {path.name for path in SHARED}


@pytest.mark.parametrize("path", SHARED, ids=lambda path: path.stem)
def test_each_holds_to_the_schemas_and_names_no_machine_and_no_key(nodes, path):
    text = path.read_text()
    assert not re.search(r'"/|[A-Za-z]:\\\\|\.\./|api_key|password|token"', text)
    workflow = json.loads(text)
    prompt = prompt_of(workflow, nodes)
    ours = [node for node in workflow["nodes"] if node["type"].startswith("CLVR_")]
    assert ours and all(node["properties"]["cnr_id"] == "clvr" and node["properties"]["ver"] for node in ours)
    notes = [node for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    assert notes and all(word in notes[0]["widgets_values"][0] for word in ("Models", "VRAM", "Time"))
    headless = FOLDER / "api" / path.name
    if headless.exists():
        assert json.loads(headless.read_text()) == prompt


@pytest.mark.weights
def test_the_quick_try_runs_to_a_finished_picture(comfy, nodes):
    entry = comfy.run(prompt_of(json.loads((FOLDER / "1-shapes-quick-try.json").read_text()), nodes))
    assert entry["status"]["status_str"] == "success", error_of(entry)
    assert entry["outputs"]["4"]["images"] and entry["outputs"]["5"]["images"]
    assert "goals met" in "".join(entry["outputs"]["6"]["text"])
