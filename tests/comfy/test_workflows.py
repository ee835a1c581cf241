"""The shared workflows against the nodes as they are, and run to a finished picture."""

from __future__ import annotations

import itertools
import json
import re

import numpy as np
import pytest
from PIL import Image

from clvr_core.run.run_folder import BEST, RunFolder, trajectory_from
from clvr_core.storage.png import read_png
from tests.comfy.graphs import runs
from tests.comfy.server import ROOT, error_of

FOLDER = ROOT / "workflows"
APPS = sorted(FOLDER.glob("*.app.json"))
SHARED = sorted(set(FOLDER.glob("*.json")) - set(APPS))
WIDGETS = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool, "COMBO": str}
DYNAMIC = "COMFY_DYNAMICCOMBO_V3"
"""A choice that shows further inputs; the widgets of those follow its own."""
FILES = (
    "unet_name",
    "clip_name",
    "vae_name",
    "lora_name",
    "image",
    "base",
    "aligned",
    "distilled",
    "lora",
    "run",
    "weights",
)
"""Inputs whose choices are what lies in a folder; also with a number behind them, in a list that grows."""
TWINS = {
    "https://huggingface.co/Comfy-Org/flux2-klein/resolve/main/split_files/diffusion_models/flux-2-klein-base-4b.safetensors"
}
"""As large as another, and named with it in one breath."""
DRAWN_ONLY = ("Note", "MarkdownNote", "Reroute", "PrimitiveNode")
MUTED = 2
MERGE = FOLDER / "7-merge-and-generate.json"


@pytest.fixture(scope="module")
def nodes(comfy) -> dict:
    return comfy.get("/object_info")


def inputs_of(node: dict) -> list[tuple[str, str, dict]]:
    """Name, type and options of each input, in the order in which the front end lists them."""
    listed = [(name, spec) for group in ("required", "optional") for name, spec in node["input"].get(group, {}).items()]
    return [
        (name, "COMBO", {"options": spec[0]} | dict(*spec[1:2]))
        if isinstance(spec[0], list)
        else (name, spec[0], dict(*spec[1:2]))
        for name, spec in listed
    ]


def prompt_of(workflow: dict, nodes: dict) -> dict:
    """What the front end would queue; every widget is held against its schema on the way."""
    links = {link[0]: link for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in DRAWN_ONLY or node["mode"] == MUTED:
            continue
        schema, values = nodes[node["type"]], list(node["widgets_values"])
        linked = {slot["name"]: links[slot["link"]] for slot in node["inputs"] if slot.get("link") is not None}
        inputs = {}
        for name, kind, options in inputs_of(schema):
            is_widget = kind == DYNAMIC or (kind in WIDGETS and not options.get("forceInput"))
            if is_widget and not values and name in schema["input"].get("optional", {}):
                continue  # added after the graph was saved; the node has its default
            if kind == DYNAMIC:
                inputs |= grown(name, options, values)
            elif is_widget:
                inputs[name] = values.pop(0)
                assert isinstance(inputs[name], WIDGETS[kind]), (node["type"], name, inputs[name])
                assert kind != "COMBO" or name in FILES or inputs[name] in options["options"], (
                    node["type"],
                    name,
                    inputs[name],
                )
                if options.get("image_upload"):
                    assert values.pop(0) == "image", (node["type"], name)
                if options.get("control_after_generate"):
                    assert values.pop(0) in ("fixed", "increment", "decrement", "randomize"), (node["type"], name)
            if name in linked:
                number, source, socket, target, _, told = linked[name]
                made = nodes[next(other["type"] for other in workflow["nodes"] if other["id"] == source)]["output"][
                    socket
                ]
                assert told == made and (kind in (made, "*") or made == "*") and target == node["id"], (
                    node["type"],
                    name,
                    number,
                )
                inputs[name] = [str(source), socket]
            elif kind not in WIDGETS and kind != DYNAMIC:
                assert name not in schema["input"].get("required", {}), (node["type"], name, "is not linked")
        assert not values, (node["type"], "has more widget values than widgets", values)
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def grown(path: str, options: dict, values: list) -> dict:
    """Take the values of a choice and of the inputs that it shows, at any depth, off the list; return them as ComfyUI's API
    names them."""
    choice = values.pop(0)
    (shown,) = (option for option in options["options"] if option["key"] == choice)
    found = {path: choice}
    for name, kind, inner in inputs_of({"input": shown["inputs"]}):
        if kind == DYNAMIC:
            found |= grown(f"{path}.{name}", inner, values)
            continue
        found[f"{path}.{name}"] = value = values.pop(0)
        assert isinstance(value, WIDGETS[kind]), (path, name, value)
        assert kind != "COMBO" or re.sub(r"_\d$", "", name) in FILES or value in inner["options"], (path, name, value)
    return found


def test_each_has_its_picture_and_its_form_for_use_without_a_browser():
    assert SHARED
    for path in SHARED:
        picture = path.with_suffix(".jpg").read_bytes()
        assert picture.startswith(b"\xff\xd8\xff") and 10_000 < len(picture) < 400_000, path.name
    headless = {path.name for path in (FOLDER / "api").glob("*.json")}
    assert headless == {path.name for path in SHARED if path.name[0] in "012"}


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
    named = [model for node in workflow["nodes"] for model in node["properties"].get("models", ())]
    assert len(re.findall(r"\d\.\d GB(?: each)?\)", notes[0]["widgets_values"][0])) == len(
        {model["url"] for model in named} - TWINS
    )
    for node in workflow["nodes"]:
        named = (
            [node["widgets_values"][0]]
            if node["type"] in ("UNETLoader", "CLIPLoader", "VAELoader") and node["widgets_values"][0]
            else []
        )
        linked = {model["name"]: model for model in node["properties"].get("models", ())}
        assert set(named) <= linked.keys(), (node["type"], "names a file without a link to it")
        assert all(
            model["url"].startswith("https://huggingface.co/") and model["directory"] for model in linked.values()
        )
    headless = FOLDER / "api" / path.name
    if headless.exists():
        assert json.loads(headless.read_text()) == prompt


@pytest.mark.parametrize("path", APPS, ids=lambda path: path.stem)
def test_an_app_is_its_graph_with_the_inputs_that_it_shows(path):
    app = json.loads(path.read_text())
    graph = json.loads(path.with_name(path.name.replace(".app", "")).read_text())
    assert app["extra"].pop("linearMode") and app.pop("id") != graph.pop("id") and app == graph
    picture = path.with_suffix(".jpg").read_bytes()
    assert picture.startswith(b"\xff\xd8\xff") and 10_000 < len(picture) < 400_000


@pytest.mark.weights
def test_the_quick_try_runs_to_a_finished_picture(comfy, nodes):
    entry = comfy.run(prompt_of(json.loads((FOLDER / "1-quick-try.json").read_text()), nodes))
    assert entry["status"]["status_str"] == "success", error_of(entry)
    assert entry["outputs"]["4"]["images"] and entry["outputs"]["5"]["images"]
    assert "goals met" in "".join(entry["outputs"]["6"]["text"])


@pytest.mark.weights
def test_the_embedded_weights_are_merged_and_drawn_with_in_one_press(comfy, nodes):
    entry = comfy.run(prompt_of(json.loads(MERGE.read_text()), nodes))
    assert entry["status"]["status_str"] == "success", error_of(entry)
    assert entry["outputs"]["10"]["images"] and "goals met" in "".join(entry["outputs"]["12"]["text"])
    assert (comfy.base / "output" / "diffusion_models" / "stickers-merged.safetensors").exists()


def with_klein(workflow: dict) -> dict:
    """The graph after the three steps that its note gives for FLUX.2 Klein."""
    by_type = {node["type"]: node for node in workflow["nodes"]}
    by_type["CLVR_DSWMMerge"]["widgets_values"][:8] = [*KLEIN, "none", "none", 1.0, 1.0, 1.0, "klein-merged"]
    for node in workflow["nodes"]:
        node["mode"] = 0
    links = {slot["link"]: slot["name"] for slot in by_type["CLVR_Generate"]["inputs"] if slot["link"]}
    sources = {"vlm": by_type["CLVR_VisionModel"]["id"], "executor": by_type["CLVR_Executor"]["id"]}
    for link in workflow["links"]:
        if name := links.get(link[0]):
            link[1:3] = [sources[name], 0]
    return workflow


KLEIN = ("flux-2-klein-base-4b.safetensors", "flux-2-klein-4b.safetensors")
FILE = "tiny_qwen3vl.safetensors"
"""Written by tests/comfy/tiny_vision.py."""
LORA = "tiny.safetensors"
"""Written by tests/comfy/tiny."""
GOALS = ["a lighthouse", "a red boat", "three gulls"]
SCRIPT = {
    "goals": GOALS,
    "actions": [
        {"kind": "GENERATE", "scene_prompt": "a lighthouse"},
        {"kind": "EDIT", "edit_prompt": "add a red boat"},
        {"kind": "EDIT", "edit_prompt": "add three gulls"},
    ],
}
NUMBER = itertools.count()
"""Makes a vision model that has seen nothing yet."""
MET = ("1000", "1100", "1110", "1111")
"""Of the goals after each round."""
SIDE = 64


def with_tiny_models(prompt: dict, comfy, grid: int) -> dict:
    """The graph as it is, with tiny random weights in place of the files that it names and a script in place of the vision model.

    `grid`: pictures a round.
    """
    script = SCRIPT | {"met": [row for row in MET for _ in range(grid)], "number": next(NUMBER)}
    for number, node in list(prompt.items()):
        kind, inputs = node["class_type"], node["inputs"]
        if kind == "CLIPLoader":
            prompt[number] = {"class_type": "Tiny_TextEncoder", "inputs": {"kind": "klein"}}
        elif kind == "CLVR_VisionModel":
            prompt[number] = {"class_type": "Tiny_Eyes", "inputs": {"script": json.dumps(script)}}
        elif kind == "VAELoader":
            inputs["vae_name"] = "taef2"
        elif kind == "CLVR_DSWMMergeLive":
            inputs |= {"loras.lora_1": LORA, "loras.more_2.lora_2": LORA}
        elif kind == "LoadImage":
            Image.fromarray(np.arange(SIDE * SIDE * 3, dtype=np.uint8).reshape(SIDE, SIDE, 3)).save(
                comfy.base / "input" / inputs["image"]
            )
        elif kind in ("CLVR_Brief", "CLVR_Generate"):
            inputs["tolerance"] = 0.0  # the edits of random weights change the whole picture
        inputs |= {name: SIDE for name in ("width", "height") if isinstance(inputs.get(name), int)}
    return prompt


@pytest.mark.parametrize("path", [path for path in SHARED if path.name[0] in "2345678"], ids=lambda path: path.stem)
def test_those_for_klein_run_to_a_finished_picture_over_several_rounds(comfy, nodes, path):
    workflow = json.loads(path.read_text())
    workflow = with_klein(workflow) if path == MERGE else workflow
    prompt = with_tiny_models(prompt_of(workflow, nodes), comfy, 4 if path.name[0] in "45" else 1)
    before = runs(comfy)
    entry = comfy.run(prompt)
    assert entry["status"]["status_str"] == "success", error_of(entry)
    (folder,) = (folder for folder in runs(comfy) if folder not in before)
    told = trajectory_from(RunFolder.open(folder).lines)
    kinds = [step.action.kind for step in told.steps]
    assert told.outcome and kinds.count("EDIT") >= 2 and kinds[0] == ("GIVEN" if path.name[0] == "4" else "GENERATE")
    saved = next(number for number, node in prompt.items() if node["class_type"] == "SaveImage")
    (image,) = entry["outputs"][saved]["images"]
    assert np.array_equal(read_png(comfy.base / "output" / image["filename"])[0], read_png(folder / BEST)[0])


def test_the_eyes_of_the_klein_loop_may_be_a_qwen3_vl_of_comfyuis_own(comfy, nodes):
    """With random weights it says nothing of use: the run ends with a picture and says what was wrong with the replies."""
    prompt = prompt_of(json.loads((FOLDER / "2-klein-4-step-loop.json").read_text()), nodes)
    ((number, eyes),) = ((number, node) for number, node in prompt.items() if node["class_type"] == "CLVR_VisionModel")
    loader = prompt[eyes["inputs"]["clip"][0]]
    with_tiny_models(prompt, comfy, 1)
    prompt[number] = eyes
    eyes["inputs"] |= {"reply_limit": 64, "prove_sight": False}
    prompt["100"] = {"class_type": "CLIPLoader", "inputs": loader["inputs"] | {"clip_name": FILE}}
    eyes["inputs"]["clip"] = ["100", 0]
    next(node for node in prompt.values() if node["class_type"] == "CLVR_Generate")["inputs"]["rounds"] = 2
    before = runs(comfy)
    entry = comfy.run(prompt)
    assert entry["status"]["status_str"] == "success", error_of(entry)
    (folder,) = (folder for folder in runs(comfy) if folder not in before)
    told = trajectory_from(RunFolder.open(folder).lines)
    assert told.outcome and told.warnings and told.cost.vlm_tokens and (folder / BEST).exists()
