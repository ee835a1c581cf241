"""Workflows are strangers' papers: whatever one says, nothing is read or written but runs in the output folder, and the server lives."""

from __future__ import annotations

import copy
import json
import struct
import zlib
from pathlib import Path

import pytest

from clvr_core.run.run_folder import JOURNAL
from tests.comfy.graphs import begun_by, go, in_one, looped, runs
from tests.comfy.server import Comfy, Refused, error_of
from tests.comfy.test_body import BRIEF, END, START
from tests.comfy.test_executor import EXECUTE as EXECUTED
from tests.comfy.test_executor import loop as painted

OUT = "../../../../hostile"
LINKED = ("CLVR_VLM", "CLVR_EXECUTOR", "CLVR_TRAJECTORY", "FLOW_CONTROL", "IMAGE")


def whole(seed: int = 161, script: dict | None = None) -> dict:
    """Every node of ours that scripted models can serve."""
    graph = looped(seed, script=script, rounds=2, goals="one\ntwo") | {
        "20": {"class_type": "CLVR_Generate", "inputs": in_one(seed, script, rounds=2)["2"]["inputs"]},
        "21": {"class_type": "CLVR_SaveTrajectory", "inputs": {"trajectory": ["20", 1], "name": "kept"}},
        "22": {"class_type": "CLVR_ViewTrajectory", "inputs": {"trajectory": [END, 1], "columns": 4}},
        "23": {"class_type": "PreviewImage", "inputs": {"images": ["20", 0]}},
    }
    graph[BRIEF]["inputs"] |= {"width": 64, "height": 64}
    return graph


def inputs_of(comfy: Comfy, prompt: dict, *kinds: str) -> list[tuple[str, str]]:
    """Node and name of every input of one of these types that our nodes in the prompt have."""
    nodes = comfy.get("/object_info")
    found = []
    for node, told in prompt.items():
        schema = nodes[told["class_type"]]["input"]
        fields = schema.get("required", {}) | schema.get("optional", {})
        found += [
            (node, name) for name, spec in fields.items() if told["class_type"].startswith("CLVR_") and spec[0] in kinds
        ]
    assert found
    return found


def files(comfy: Comfy) -> set[str]:
    """All there is around the server, but runs, what stock nodes save and the log."""
    around = comfy.base.parent
    return {
        path.relative_to(around).as_posix()
        for path in around.rglob("*")
        if not path.is_relative_to(comfy.base / "output") and not path.is_relative_to(comfy.base / "temp")
        if "custom_nodes" not in path.parts
    }


def attempt(comfy: Comfy, prompt: dict) -> str:
    """What the person is told: an error, or nothing if it ran."""
    try:
        queued = comfy.post("/prompt", {"prompt": prompt, "client_id": comfy.client})
    except Refused as refused:
        return str(refused)
    entry = comfy.wait(queued["prompt_id"])
    if queued["node_errors"]:  # ComfyUI runs what the wrong node has no part in
        return json.dumps(queued["node_errors"])
    return "" if entry["status"]["status_str"] == "success" else error_of(entry) or "an error without a word"


def linked(prompt: dict, node: str, name: str, kind: str, value) -> dict:
    """With the value brought by a link, where no limit of a widget holds."""
    prompt = copy.deepcopy(prompt) | {"v": {"class_type": kind, "inputs": {"value": value}}}
    prompt[node]["inputs"][name] = ["v", 0]
    return prompt


def test_no_text_is_a_path(comfy):
    """In every input for text and in every word of the model's."""
    before, prompt = files(comfy), whole(script={"words": f"{OUT}<script>alert(1)</script>{{0.__class__}}%s"})
    for node, name in inputs_of(comfy, prompt, "STRING"):
        change = copy.deepcopy(prompt)
        change[node]["inputs"][name] = OUT
        said = attempt(comfy, change)
        assert (name == "name") == ("name is '../" in said) and "Traceback" not in said, (node, name, said)
        said = attempt(comfy, linked(prompt, node, name, "PrimitiveString", OUT))
        assert (name == "name") == ("name is '../" in said), (node, name, said)
    assert files(comfy) == before
    pages = [path.read_text() for path in (comfy.base / "output" / "clvr").rglob("report.html")]
    assert pages and not any("<script>alert" in page for page in pages)
    assert not list((comfy.base / "output").rglob("*hostile*"))


def test_ten_megabytes_of_text_are_refused_in_words(comfy):
    long, prompt = 10_000_000 * "x", whole(162)
    for node, name in inputs_of(comfy, prompt, "STRING"):
        change = copy.deepcopy(prompt)
        change[node]["inputs"][name] = long
        for graph in (change, linked(prompt, node, name, "Stub_Anything", "long")):
            said = attempt(comfy, graph)
            assert "characters" in said or "name is 'xxx" in said, (node, name, said[:400])
            assert "at most" in said or name == "name", (node, name, said[:400])


def test_a_link_of_another_type_is_not_taken(comfy):
    prompt = whole(163)
    for node, name in inputs_of(comfy, prompt, *LINKED):
        assert "return_type_mismatch" in attempt(comfy, linked(prompt, node, name, "PrimitiveString", "x")), (
            node,
            name,
        )


FOUND = {"null": "nothing", '"x"': "the text 'x'", '{"trajectory": "../.."}': "a value of type dict"}


def test_a_value_of_another_type_behind_a_link_of_any_type_ends_the_prompt_with_what_to_link(comfy):
    prompt, nodes = whole(164), comfy.get("/object_info")
    for node, name in inputs_of(comfy, prompt, *LINKED):
        told = nodes[prompt[node]["class_type"]]
        for value, found in FOUND.items():
            if value == "null" and name in told["input"].get("optional", {}):
                continue
            said = attempt(comfy, linked(prompt, node, name, "Stub_Anything", value))
            if name == "flow":
                assert said == "flow of Loop End does not come from a Loop Start; link the two"
            else:
                begins = f"{name} of {told['display_name']} is {found}, and should be a"
                assert said.startswith(begins) and ": link a" in said.replace(": link the", ": link a"), (
                    node,
                    name,
                    value,
                    said,
                )
    assert attempt(comfy, whole(165)) == ""


LOADED = {
    (
        "5",
        "model",
    ): "model of Executor is the text 'x', and should be a diffusion model: link the MODEL output of Load Diffusion Model",
    ("5", "clip"): "clip of Executor is the text 'x', and should be a text encoder: link the CLIP output of Load CLIP",
    ("5", "vae"): "vae of Executor is the text 'x', and should be a VAE: link the VAE output of Load VAE",
    (
        "5",
        "steps",
    ): "steps of Executor is the text 'x', and should be a whole number: link an INT output, or type the number into the node",
    (
        "20",
        "mask",
    ): "mask of Execute Step is the text 'x', and should be a mask: link a MASK output, such as that of Load Image",
    (
        "6",
        "clip",
    ): "clip of Vision Model is the text 'x', and should be a text encoder: link the CLIP output of Load CLIP",
}


@pytest.mark.parametrize(("node", "name"), LOADED)
def test_so_does_one_in_place_of_what_comfyui_loads(comfy, node, name):
    prompt = painted(EXECUTED, seed=170) | {
        "6": {"class_type": "CLVR_VisionModel", "inputs": {"clip": ["2", 0], "reply_limit": 64, "prove_sight": False}},
    }
    if node == "6":
        prompt["13"]["inputs"]["vlm"] = ["6", 0]
    assert attempt(comfy, linked(prompt, node, name, "Stub_Anything", '"x"')) == LOADED[node, name]


@pytest.mark.parametrize("value", [10**9, -1])
def test_budgets_beyond_all_bounds_are_bounded_or_refused_in_words(comfy, value):
    """Brought by a link, where no limit of a widget holds."""
    prompt = whole(166, script={"goals": 2})
    for node, name in inputs_of(comfy, prompt, "INT"):
        change = linked(prompt, node, name, "PrimitiveInt", value)
        if name in ("width", "height"):  # else the executor's size is the one that counts
            del change[BRIEF]["inputs"]["executor"]
        said = attempt(comfy, change)
        assert said or name not in ("width", "height", "candidates"), (node, name)
        words = ("must be", "at most", "between", "or more", "above 0")
        assert not said or any(word in said for word in words), (node, name, said)
        change = copy.deepcopy(prompt)
        change[node]["inputs"][name] = 10**30 * value
        assert (
            "bigger than max" in attempt(comfy, change) if value > 0 else "smaller than min" in attempt(comfy, change)
        ), (node, name)
    assert max(len(list(path.glob("canvas-*.png"))) for path in runs(comfy)) <= 50


HOSTILE = [
    {"run": "../../secret", "at": 1},
    {"run": "..", "at": 1},
    {"run": "", "at": 1},
    {"run": "saved", "at": 1},
    {"run": 7, "at": 1},
    {"run": ["x"], "at": 1},
    {"run": None, "at": 10**9},
]


@pytest.mark.parametrize("told", HOSTILE, ids=str)
def test_what_only_a_loop_tells_itself_opens_no_other_folder(comfy, told):
    secret = comfy.base / "secret"
    secret.mkdir(exist_ok=True)
    (secret / JOURNAL).write_text('{"event":"start","schema":1,"brief":{"prompt":"secret"}}\n')
    prompt = looped(167)
    prompt[START]["inputs"] |= told
    said = attempt(comfy, prompt)
    assert (
        "does not lie in the output folder" in said or "holds no run" in said or "is not the run that it was" in said
    ), said
    assert "secret'}" not in said


@pytest.fixture(scope="module")
def finished(comfy):
    return begun_by(comfy, looped(168))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda lines: lines[0]["brief"].update(width=10**9), "both must be between 1 and 8,192"),
        (lambda lines: lines[0]["brief"].update(prompt="x" * 10_000_000), "at most 20,000"),
        (lambda lines: lines[-1].update(best=10**9), "missing or damaged"),
        (lambda lines: lines[-1].update(best="../../secret/x"), "expected int"),
        (lambda lines: lines[-1].update(steps=[{}]), "is missing"),
        (lambda lines: lines[-1].update(steps=10**6 * [0]), "expected an object"),
        (lambda lines: lines[0].update(schema=10**9), "schema version"),
        (lambda lines: lines.append({"event": "rewind", "keep": -1}), "is damaged"),
        (lambda lines: lines.append({"event": "../../x"}), ""),
    ],
)
def test_a_trajectory_file_of_a_stranger_is_read_as_data(comfy, finished, change, says):
    lines = [json.loads(line) for line in (finished / JOURNAL).read_text().splitlines()]
    change(lines)
    folder = finished.parent / f"strange-{abs(hash(says))}"
    folder.mkdir(exist_ok=True)
    (folder / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines))
    for canvas in finished.glob("canvas-*.png"):
        (folder / canvas.name).write_bytes(canvas.read_bytes())
    before = files(comfy)
    prompt = {
        "1": {"class_type": "CLVR_LoadTrajectory", "inputs": {"run": folder.name}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 2]}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    said = attempt(comfy, prompt)
    assert (says in said) if says else said == ""
    assert files(comfy) == before


def test_a_canvas_of_a_stranger_that_would_fill_the_memory_is_refused_in_words(comfy, finished):
    folder = finished.parent / "huge-1"
    folder.mkdir(exist_ok=True)
    (folder / JOURNAL).write_bytes((finished / JOURNAL).read_bytes())
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(10**6))), (b"IEND", b""))
    framed = (
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part)) for kind, part in parts
    )
    huge = b"\x89PNG\r\n\x1a\n" + b"".join(framed)
    for canvas in finished.glob("canvas-*.png"):
        (folder / canvas.name).write_bytes(huge)
    prompt = {
        "1": {"class_type": "CLVR_LoadTrajectory", "inputs": {"run": folder.name}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    assert "huge-1" in attempt(comfy, prompt)
    status = Path(f"/proc/{comfy.process.pid}/status")
    kilobytes = int(status.read_text().split("VmHWM:")[1].split()[0]) if status.exists() else 0
    assert kilobytes < 8_000_000, "the picture alone has 10,800,000"


def test_a_journal_too_deep_for_its_reader_is_refused_in_words(comfy, finished):
    folder = finished.parent / "deep-1"
    folder.mkdir(exist_ok=True)
    deep = 100_000 * "[" + 100_000 * "]"
    (folder / JOURNAL).write_text(
        (finished / JOURNAL).read_text() + f'{{"event":"step","steps":{deep}}}\n{{"event":"end"}}\n'
    )
    prompt = {
        "1": {"class_type": "CLVR_LoadTrajectory", "inputs": {"run": folder.name}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 2]}},
    }
    assert "is damaged" in attempt(comfy, prompt)
    go(comfy, looped(169))
