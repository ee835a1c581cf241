"""The benchmark of real sizes at tiny size: it runs end to end, counts what it should, and its sizes are those published."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_loop.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("gpu_loop", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_loop"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["gpu_loop"]


def test_it_runs_end_to_end_and_every_stage_has_time_and_a_floor(bench, tmp_path, capsys):
    bench.main(["--tiny", "--rounds", "2", "--repeat", "1", "--json", str(tmp_path / "out.json")])
    printed = capsys.readouterr().out
    run = json.loads((tmp_path / "out.json").read_text())["runs"]["2"]
    merged, base = run["merged"], run["base"]
    assert set(merged) == {*bench.STAGES, "framework", "total"} and all(f"| {name} |" in printed for name in merged)
    assert all(merged[name] > 0 for name in ("VLM prefill", "decisions", "text encode", "denoise", "VAE", "total"))
    assert sum(merged[name] for name in merged if name != "total") == pytest.approx(merged["total"], rel=0.01)
    assert set(run["floors"]) >= set(bench.STAGES) and all(run["floors"][name] > 0 for name in bench.STAGES)
    assert base["denoise"] > merged["denoise"] and "base(28x2) : merged(4) is" in printed


@pytest.mark.parametrize(("sampling", "evaluations", "prompts"), [("MERGED", 4, 1), ("BASE", 56, 2)])
def test_a_trajectory_evaluates_the_transformer_as_often_as_its_sampling_says(bench, sampling, evaluations, prompts):
    clock = bench.Clock("cpu")
    vlm, executor = bench.FixedVlm(bench.TINY, clock, "cpu"), bench.hand(bench.TINY, clock, "cpu", False)
    bench.trajectory(vlm, executor, getattr(bench, sampling), 2, 64)
    guided = evaluations == 56
    assert clock.counts["denoise"] == 2 * evaluations and clock.counts["text encode"] == prompts == 1 + guided
    assert clock.counts["VAE"] == 2, "two canvases are decoded, and none is encoded"
    assert clock.counts["VLM prefill"] == 3, "the goals and two actions"


@pytest.mark.parametrize(("name", "klein", "vlm"), [("4b", 3.876e9, 4.438e9), ("9b", 9.079e9, 8.767e9)])
def test_its_sizes_are_those_published(bench, name, klein, vlm):
    size = bench.SIZES[name]
    with torch.device("meta"):
        models = bench.Flux2Transformer2DModel(**size.transformer), bench.Qwen3VLForConditionalGeneration(bench.vlm_config(size))
    assert [sum(each.numel() for each in model.parameters()) for model in models] == pytest.approx([klein, vlm], rel=1e-3)
