"""benchmarks/rehearsal.py at tiny widths: ComfyUI's stock loaders, the judge, the executor, the workflow, Cancel."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found(comfy_folder, tmp_path_factory):
    base = tmp_path_factory.mktemp("rehearsal")
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import rehearsal
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    stages = ("make", "detect", "ask", "paint", "cancel")
    words = [
        str(base),
        "--tiny",
        "--side",
        "64",
        "--steps",
        "1",
        "--tokens",
        "64",
        "--parts",
        "DiT",
        "VLM",
        "--stages",
        *stages,
    ]
    found = rehearsal.main(words)
    assert json.loads((base / "rehearsal.json").read_text()) == found
    return found


def test_stock_loaders_take_the_files_with_their_dtypes(found):
    dit, vlm = found["detect DiT fp8"], found["detect VLM fp8"]
    assert dit["class"] == ["Flux2", "Flux"] and vlm["class"][1] == "Qwen3VLClipModel"
    for each in (dit, vlm):
        assert each["numbers"]["float8_e4m3fn"] > 2_000_000 and not each["missing"]
    assert vlm["bytes"] == pytest.approx(vlm["plan"], rel=0.01)


def test_a_constrained_reply_parses_and_decisions_are_answered(found):
    (asked,) = (value for key, value in found.items() if key.startswith("ask "))
    pytest.importorskip("llguidance")
    assert json.loads(asked["reply"]).keys() == {"kind", "sure"} and len(asked["yes"]) == 2


def test_two_rounds_are_drawn_and_a_cancel_ends_them(found):
    (painted,) = (value for key, value in found.items() if key.startswith("paint "))
    assert painted["steps"] == ["GENERATE", "EDIT"] and painted["evaluations"] == 2
    assert any(key.startswith("cancel ") for key in found)
