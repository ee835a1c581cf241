"""What the body of a loop may hold and what becomes of it, with models that answer by a script."""

from __future__ import annotations

import copy
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from clvr_core.run.run_folder import BEST
from clvr_core.storage.png import read_png
from tests.comfy.graphs import begun, begun_by, drawn, in_one, left_by, looped, over, runs, saved, told
from tests.comfy.server import Refused, error_of

VLM, BRIEF, START, REASON, EXECUTE, VERIFY, END, SAVE, SAY = "123456789"


def test_it_stops_as_soon_as_every_goal_holds(comfy):
    entry, (run,) = begun(comfy, looped(101))
    assert run.outcome.reason == "every goal is met" and len(run.steps) == 3 and run.brief.budget.rounds == 12
    assert "every goal is met" in "".join(entry["outputs"][SAY]["text"])


def test_fifty_rounds_of_a_long_body_are_gone_through(comfy):
    """ComfyUI follows links by recursion; 50 rounds of 25 nodes in one chain would be too deep for it."""
    prompt = looped(102, rounds=50, patience=50, script={"halves": 0})
    source = EXECUTE
    for number in range(20):
        source, prompt[f"i{number}"] = f"i{number}", {"class_type": "ImageInvert", "inputs": {"image": [source, 0]}}
    prompt[VERIFY]["inputs"]["candidates"] = [source, 0]
    _, (run,) = begun(comfy, prompt)
    assert len(run.steps) == 50 and not run.outcome.met


def test_more_than_fifty_rounds_are_not(comfy):
    prompt = looped(103, patience=50, script={"halves": 0})
    prompt[BRIEF]["inputs"]["rounds"] = ["n", 0]
    prompt["n"] = {"class_type": "PrimitiveInt", "inputs": {"value": 10**9}}
    _, (run,) = begun(comfy, prompt)
    assert len(run.steps) == run.brief.budget.rounds == 50


def test_the_parts_of_a_subgraph_are_a_body(comfy):
    """The front end takes subgraphs apart and names their nodes after both, so that an id holds colons."""
    prompt = looped(104)
    text = json.dumps(prompt)
    for name in (REASON, EXECUTE, VERIFY):
        text = text.replace(f'"{name}": {{"class', f'"12:7:{name}": {{"class').replace(
            f'["{name}", ', f'["12:7:{name}", '
        )
    entry, (run,) = begun(comfy, json.loads(text))
    assert len(run.steps) == 3 and entry["outputs"][SAVE]["images"]


def test_ids_that_look_like_those_of_clones_do_not_mix_the_nodes_up(comfy):
    names = {START: "again", REASON: "1.0.0.x", EXECUTE: "2.0.0.x", VERIFY: "x_", END: "start"}
    text = json.dumps(looped(105))
    for old, new in names.items():
        text = text.replace(f'"{old}": {{"class', f'"{new}": {{"class').replace(f'["{old}", ', f'["{new}", ')
    _, (run,) = begun(comfy, json.loads(text))
    assert len(run.steps) == 3 and run.outcome.met


def muted(prompt: dict, node: str) -> dict:
    """As the front end queues it: the node is gone, and so are the links from it."""
    prompt = copy.deepcopy(prompt)
    del prompt[node]
    for other in prompt.values():
        other["inputs"] = {
            name: value for name, value in other["inputs"].items() if not (isinstance(value, list) and value[0] == node)
        }
    return prompt


def bypassed(prompt: dict, node: str, nodes: dict) -> dict:
    """As the front end queues it: in place of each output stands what comes in at the first input of its type."""
    schema, inputs = nodes[prompt[node]["class_type"]], prompt[node]["inputs"]
    kinds = {
        name: spec[0] for group in ("required", "optional") for name, spec in schema["input"].get(group, {}).items()
    }
    passed = {
        socket: next(
            (inputs[name] for name in inputs if kinds.get(name) == kind and isinstance(inputs[name], list)), None
        )
        for socket, kind in enumerate(schema["output"])
    }
    text = json.dumps({name: other for name, other in prompt.items() if name != node})
    for socket, source in passed.items():
        if source:
            text = text.replace(f'["{node}", {socket}]', json.dumps(source))
    return muted(json.loads(text) | {node: prompt[node]}, node)


@pytest.mark.parametrize("off", [muted, bypassed])
@pytest.mark.parametrize("node", [START, REASON, EXECUTE, VERIFY])
def test_a_body_with_one_of_our_nodes_switched_off_is_refused_in_words(comfy, node, off):
    prompt = looped(106)
    prompt = muted(prompt, node) if off is muted else bypassed(prompt, node, comfy.get("/object_info"))
    try:
        entry = comfy.run(prompt)
    except Refused as refused:
        said = json.loads(str(refused))["node_errors"].values()
        assert any(error["type"] == "required_input_missing" for node in said for error in node["errors"])
    else:
        assert "between Loop Start and Loop End moved the run on" in error_of(entry)
        (error,) = (body for kind, body in entry["status"]["messages"] if kind == "execution_error")
        assert error["exception_type"] == "BadInput", "no path before it"


def test_a_node_of_another_pack_in_the_body_may_be_bypassed(comfy):
    prompt = looped(107)
    prompt["i"] = {"class_type": "ImageInvert", "inputs": {"image": [EXECUTE, 0]}}
    prompt[VERIFY]["inputs"]["candidates"] = ["i", 0]
    _, (run,) = begun(comfy, bypassed(prompt, "i", comfy.get("/object_info")))
    assert len(run.steps) == 3 and run.outcome.met


def through(prompt: dict, **nodes: tuple[str, dict]) -> dict:
    """The graph with these nodes in a chain between Execute Step and Verify, each with its class and what else it is given."""
    source = EXECUTE
    for name, (kind, inputs) in nodes.items():
        first = "image1" if kind == "ImageBlend" else "image"
        source, prompt[name] = name, {"class_type": kind, "inputs": {first: [source, 0], **inputs}}
    prompt[VERIFY]["inputs"]["candidates"] = [source, 0]
    return prompt


def test_a_file_in_the_body_that_was_changed_under_its_name_makes_a_run_of_its_own(comfy):
    path = comfy.base / "input" / "sketch.png"
    path.parent.mkdir(exist_ok=True)

    def prompt() -> dict:
        drawn = through(
            looped(112), blend=("ImageBlend", {"image2": ["file", 0], "blend_factor": 0.0, "blend_mode": "normal"})
        )
        return drawn | {"file": {"class_type": "LoadImage", "inputs": {"image": path.name}}}

    Image.new("RGB", (64, 64), "red").save(path)
    _, (first,) = begun(comfy, prompt())
    assert begun(comfy, prompt())[1] == []
    Image.new("RGB", (64, 64), "blue").save(path)
    _, (second,) = begun(comfy, prompt())
    assert len(first.steps) == len(second.steps) == 3


def test_a_sampler_that_always_draws_a_batch_serves_the_one_shot_at_the_end_too(comfy):
    batch = through(
        looped(113, strategy="clvr", candidates=2),
        one=("ImageFromBatch", {"batch_index": 0, "length": 1}),
        two=("RepeatImageBatch", {"amount": 2}),
    )
    _, (run,) = begun(comfy, batch)
    assert run.outcome.met and [len(step.candidates) for step in run.steps] == [2, 2, 2, 1]
    assert run.steps[-1].reason == "drawn for the final comparison"


def test_too_many_pictures_are_refused_in_any_other_round(comfy):
    entry = comfy.run(through(looped(114), two=("RepeatImageBatch", {"amount": 2})))
    assert "candidates has 2 pictures, and this round judges 1" in error_of(entry)


def test_what_the_body_scales_up_does_not_grow_from_round_to_round(comfy):
    large = through(
        looped(115, rounds=3, script={"halves": 0}),
        larger=("ImageScaleBy", {"upscale_method": "nearest-exact", "scale_by": 2.0}),
    )
    entry, (run,) = begun(comfy, large)
    assert len(run.steps) == 3 and saved(comfy, entry, SAVE).shape == (run.brief.height, run.brief.width, 3) == (
        64,
        64,
        3,
    )


@pytest.mark.parametrize("made", [lambda: looped(116), lambda: in_one(117)])
def test_a_run_that_was_deleted_is_made_again(comfy, made):
    folder = begun_by(comfy, made())
    kept = drawn(folder)
    shutil.rmtree(folder)
    assert begun_by(comfy, made()) == folder and drawn(folder).keys() == kept.keys()
    assert begun(comfy, made())[1] == []


def test_two_loops_in_one_graph_do_not_touch_each_other(comfy):
    two = looped(108), looped(109, 50, script={"goals": 5})
    before = runs(comfy)
    alone = [run for prompt in two for run in begun(comfy, prompt)[1]]
    for path in runs(comfy):
        if path not in before:
            path.rename(comfy.base / path.name)
    comfy.forget()
    _, together = begun(comfy, two[0] | two[1])
    steps = [[(step.action, step.candidates, step.verdicts) for step in run.steps] for run in (*alone, *together)]
    assert [len(each) for each in steps] == [3, 5, 3, 5] and steps[:2] == steps[2:]


def test_a_loop_may_stand_in_the_body_of_another(comfy):
    """The inner one, of several rounds, draws the candidates of each round of the outer one."""
    outer, inner = looped(110, rounds=3, script={"halves": 0, "goals": 2}), looped(111, 50)
    for name in ("57", "58"):
        del inner[name]
    inner["51"]["inputs"]["prompt"] = ["p", 0]
    join = {"string_a": [REASON, 1], "string_b": [REASON, 7], "delimiter": " "}
    outer["p"] = {"class_type": "StringConcatenate", "inputs": join}
    outer["t"] = {"class_type": "PreviewAny", "inputs": {"source": [REASON, 7]}}
    join["string_b"] = ["t", 0]
    del outer[EXECUTE]
    outer[VERIFY]["inputs"]["candidates"] = ["56", 0]
    _, found = begun(comfy, outer | inner)
    inside = [run for run in found if run.brief.seed == 111]
    assert [len(run.steps) for run in found if run.brief.seed == 110] == [3]
    assert len(inside) == 3 and all(run.outcome.met and len(run.steps) == 3 for run in inside)


def test_every_picture_of_every_round_is_in_the_history_of_the_queue(comfy):
    before = runs(comfy)
    entry, (run,) = begun(comfy, looped(112, candidates=2))
    (folder,) = (path for path in runs(comfy) if path not in before)
    shown = [
        image
        for node in entry["outputs"].values()
        for image in node.get("images", ())
        if image["subfolder"].startswith("clvr/")
    ]
    rounds = {step.chosen: f"canvas-{step.chosen:03d}.png" for step in run.steps} | {run.best: BEST}
    assert {image["filename"] for image in shown} == set(rounds.values())
    assert {image["subfolder"] for image in shown} == {f"clvr/{folder.name}"}
    picture = comfy.get(f"/view?filename={shown[0]['filename']}&subfolder={shown[0]['subfolder']}&type=output")
    assert picture == (folder / shown[0]["filename"]).read_bytes()
    assert np.array_equal(saved(comfy, entry, SAVE), read_png(folder / "best.png")[0])


def test_with_a_larger_budget_no_earlier_round_is_drawn_or_judged_again(comfy):
    before = runs(comfy)
    begun(comfy, looped(113, rounds=1))
    (folder,) = (path for path in runs(comfy) if path not in before)
    first, steps = left_by(folder), over(comfy, "stub: step")
    entry, found = begun(comfy, looped(113, rounds=2))
    assert found == [] and over(comfy, "stub: step") == steps + 1
    assert left_by(folder)["trajectory.jsonl"].startswith(first["trajectory.jsonl"]) and len(told(folder).steps) == 2
    assert "budget: 2 rounds" in "".join(entry["outputs"][SAY]["text"])


def test_a_large_picture_of_an_earlier_round_is_still_what_it_was(comfy):
    """It has gone from memory since, and the cache of ComfyUI hands it out to a node that is new in the graph."""
    before = runs(comfy)
    prompt = looped(114, script={"width": 1024, "height": 640})
    entry, _ = begun(comfy, prompt)
    (folder,) = (path for path in runs(comfy) if path not in before)
    assert np.array_equal(saved(comfy, entry, SAVE), read_png(folder / "best.png")[0])
    steps = over(comfy, "stub: step")
    prompt["late"] = {"class_type": "SaveImage", "inputs": {"images": [EXECUTE, 0], "filename_prefix": "late"}}
    entry, _ = begun(comfy, prompt)
    first = read_png(folder / "canvas-000.png")[0]
    assert (
        np.array_equal(saved(comfy, entry, "late"), first)
        and first.shape == (640, 1024, 3)
        and over(comfy, "stub: step") == steps
    )
