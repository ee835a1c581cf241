"""benchmarks/rehearsal.py at tiny widths: ComfyUI's stock loaders; each night the judge, the executor, Cancel, the whole of
workflow 2, the one node and the same files through diffusers too, which the files beside this one test with other tiny models.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NIGHTLY = bool(os.environ.get("CLVR_NIGHTLY"))
nightly = pytest.mark.skipif(not NIGHTLY, reason="CLVR_NIGHTLY is not set: each stage takes its time")
TINY = ("--size", "tiny", "--side", "64", "--steps", "1", "--tokens", "64")


@pytest.fixture(scope="module")
def found(comfy_folder, tmp_path_factory):
    base = tmp_path_factory.mktemp("rehearsal")
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import rehearsal
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    stages = (
        "make",
        "detect",
        "encode",
        *(("ask", "paint", "cancel", "diffusers", "loop", "quick") if NIGHTLY else ()),
    )
    parts = ("text encoder", "DiT", "VLM")
    found = rehearsal.main([str(base), *TINY, "--parts", *parts, "--stages", *stages])
    assert json.loads((base / "rehearsal.json").read_text()) == found
    return found


def of(found, stage: str) -> dict:
    (value,) = (value for key, value in found.items() if key.startswith(f"{stage} "))
    return value


def test_stock_loaders_take_the_files_with_their_dtypes(found):
    dit, vlm, text = found["detect DiT fp8"], found["detect VLM fp8"], found["detect text encoder fp8"]
    assert dit["class"] == ["Flux2", "Flux"] and vlm["class"][1] == "Qwen3VLClipModel"
    assert text["class"] == ["Flux2TEModel_", "Qwen3_4BModel"]
    for each in (dit, vlm, text):
        assert each["numbers"]["float8_e4m3fn"] > 2_000_000 and not each["missing"]
    assert vlm["bytes"] == pytest.approx(vlm["plan"], rel=0.01)


@nightly
def test_a_constrained_reply_parses_and_decisions_are_answered(found):
    asked = of(found, "ask")
    pytest.importorskip("llguidance")
    assert json.loads(asked["reply"]).keys() == {"kind", "sure"} and len(asked["yes"]) == 2


def test_the_text_encoder_says_numbers_to_the_diffusion_model(found):
    """Three layers of the tiny width, side by side, as Klein reads them."""
    assert of(found, "encode")["shape"] == [1, 512, 3 * 128] and of(found, "encode")["finite"]


@nightly
def test_two_rounds_are_drawn_and_a_cancel_ends_them(found):
    painted = of(found, "paint")
    assert painted["steps"] == ["GENERATE", "EDIT"] and painted["evaluations"] == 2
    assert any(key.startswith("cancel ") for key in found)


@nightly
@pytest.mark.parametrize("stage", ["loop", "diffusers"])
def test_the_whole_workflow_and_diffusers_draw_two_rounds_with_the_same_files(found, stage):
    assert of(found, stage)["evaluations"] == 2


@nightly
def test_the_one_node_draws_with_the_same_files(found):
    """By the recipe's four steps; its replies are random, and may end the run after the first round."""
    assert of(found, "quick")["evaluations"] in (4, 8)
