"""Strength Finder on a real ComfyUI: tiny Klein models merged live at each point, judged by the embedded vision model."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image
from safetensors.torch import load_file

from tests.comfy.graphs import go
from tests.comfy.server import Comfy, error_of
from tests.comfy.test_executor import models
from tests.waiting import until

SIZE = 192
LIST = {"loras": "one more", "loras.lora_1": "tiny.safetensors", "loras.strength_1": 0.5, "loras.more_2": "none"}


def finder(**inputs) -> dict:
    """Node 10 searches with nodes 1 to 5, 9 is the distilled model, 11 writes the best, 12 shows the ranking."""
    nodes = models(width=SIZE, height=SIZE)
    nodes["1"]["inputs"]["unet_name"] = "flux-2-klein-base-4b.safetensors"
    nodes["4"] = {"class_type": "CLVR_ShapesModels", "inputs": {"judge_error": 0.0}}
    usual = {"executor": ["5", 0], "vlm": ["4", 0], "distilled": ["9", 0], "briefs": "a large red circle"}
    usual |= {"alphas": "1", "betas": "1, 0.5", "lora_factors": "1, 0.5", "pictures": 1, "fp8": "refuse", "blocks": ""}
    unet = {"unet_name": "flux-2-klein-4b.safetensors", "weight_dtype": "default"}
    files = {"base": "flux-2-klein-base-4b.safetensors", "distilled": unet["unet_name"], "aligned": "none"}
    written = files | {"lora": "tiny.safetensors", "lora_strength": 0.5, "name": "found", "limit": 100.0}
    links = {"alpha": ["10", 1], "beta": ["10", 2], "lora_factor": ["10", 3]}
    return nodes | {
        "9": {"class_type": "UNETLoader", "inputs": unet},
        "10": {"class_type": "CLVR_StrengthFinder", "inputs": usual | LIST | inputs},
        "11": {"class_type": "CLVR_DSWMMerge", "inputs": written | links},
        "12": {"class_type": "PreviewAny", "inputs": {"source": ["10", 5]}},
    }


def folders(comfy: Comfy) -> list[Path]:
    return sorted((comfy.base / "output" / "clvr-strengths").glob("*"))


def test_a_search_writes_its_sheet_and_the_merge_takes_its_numbers(comfy):
    entry = go(comfy, finder())
    said = "".join(entry["outputs"]["12"]["text"])
    (folder,) = folders(comfy)
    best = json.loads((folder / "search.json").read_text())["best"]
    assert "6 comparisons in both orders, 0 without an answer" in said and len(list(folder.glob("point-*.png"))) == 4
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.height > 4 * SIZE
    assert entry["outputs"]["10"]["images"], "the sheet is shown on the node"
    merged = comfy.base / "output" / "diffusion_models" / "found.safetensors"
    assert load_file(merged).keys()
    with merged.open("rb") as file:
        head = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    recorded = json.loads(head["__metadata__"]["dswm.recipe"])
    assert recorded["beta"] == best["beta"] and recorded["inputs"][-1]["strength"] == 0.5 * best["lora"]
    pictures = {path.name: path.stat().st_mtime_ns for path in folder.glob("point-*.png")}
    assert len({path.read_bytes() for path in folder.glob("point-*.png")}) == 4, "each point draws its own picture"
    comfy.forget()
    go(comfy, finder())
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("point-*.png")} == pictures, (
        "nothing was drawn anew"
    )


def test_cancel_keeps_what_was_drawn_and_the_next_run_goes_on(comfy):
    nodes = finder(pictures=2)
    before = folders(comfy)
    prompt = comfy.queue(nodes)
    fresh = lambda: [path for path in folders(comfy) if path not in before]  # noqa: E731
    until(lambda: fresh() and list(fresh()[0].glob("point-*.png")), "the first picture", every=0.01)
    comfy.interrupt()
    entry = comfy.wait(prompt)
    assert any(kind == "execution_interrupted" for kind, _ in entry["status"]["messages"]), error_of(entry)
    (folder,) = fresh()
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("point-*.png")}
    assert len(kept) < 8 and not (folder / "search.json").exists()
    del nodes["11"]
    go(comfy, nodes)
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("point-*.png")}
    assert kept.items() <= after.items() and (folder / "search.json").exists()
