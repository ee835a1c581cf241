"""The benchmark of real sizes at tiny size: it runs end to end, counts what it should, and its sizes are those published."""

from __future__ import annotations

import importlib
import itertools
import json
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("gpu_loop")


@pytest.fixture
def models(bench):
    return sys.modules["gpu_models"]


@pytest.fixture
def gpu(bench, monkeypatch):
    """The CUDA branch with everything on the CPU, bfloat16 as there. Events are 1 ms apart, a graph is the call."""
    moments = itertools.count()

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at = next(moments)

        def elapsed_time(self, end) -> float:
            return float(end.at - self.at)

    monkeypatch.setattr(bench, "here", bench.Gpu)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Stand-in")
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 5_000_000_000)
    for name, value in {"where": "cpu", "product": 64, "block": 1 << 16, "compiles": {"backend": "eager"}}.items():
        monkeypatch.setattr(bench.Gpu, name, value)
    monkeypatch.setattr(sys.modules["gpu_clock"], "cuda_graph", lambda step: step)
    # What is the same on a CPU, and is tried there.
    monkeypatch.setattr(bench, "floors", lambda *_: dict.fromkeys(bench.STAGES, 0.001))
    monkeypatch.setattr(bench, "BASE", bench.Sampling(5, 4.0))


def written(path: Path) -> dict:
    return json.loads(path.read_text())


def test_it_runs_end_to_end_and_every_stage_has_time_and_a_floor(bench, tmp_path, capsys):
    bench.main(["--tiny", "--rounds", "2", "--repeat", "1", "--json", str(tmp_path / "out.json")])
    printed, found = capsys.readouterr().out, written(tmp_path / "out.json")
    merged, base, floors = (found[name] for name in ("2 rounds, merged", "2 rounds, base", "floors of 2 rounds"))
    assert set(merged) == {*bench.STAGES, "framework", "total"} and all(f"| {name} |" in printed for name in merged)
    assert all(merged[name] > 0 for name in (*bench.STAGES, "total"))
    assert sum(merged[name] for name in merged if name != "total") == pytest.approx(merged["total"], rel=0.01)
    assert set(floors) == set(bench.STAGES) and all(floors.values())
    assert base["denoise"] > 0 and "base(28x2) : merged(4) is" in printed
    assert found["failed"] == {} and "| VLM decode, a token |" in printed and "denoise, 1 references: " in printed


def test_the_branch_for_a_gpu_runs_with_stand_ins_for_cuda(bench, gpu, tmp_path, capsys):
    bench.main(["--tiny", "--rounds", "2", "--repeat", "1", "--json", str(tmp_path / "out.json")])
    printed, found = capsys.readouterr().out, written(tmp_path / "out.json")
    assert found["failed"] == {} and found["device"] == "Stand-in" and found["weights"]["bytes"] == 5_000_000_000
    assert found["2 rounds, base"]["denoise"] > 0 and found["2 rounds, merged"]["denoise"] > 0
    for way in ("launched one by one", "CUDA graph", "compiled, CUDA graph"):
        assert found[f"VLM decode, {way}"]["ms"] > 0 and f"VLM decode, {way}: " in printed
    assert {"denoise, compiled, 0 references", "denoise, compiled, 1 references", "2 rounds, base"} <= found.keys()


def test_what_fails_says_why_and_the_rest_goes_on(bench, models, gpu, tmp_path, capsys, monkeypatch):
    def refused(step):
        raise RuntimeError("CUDA error: out of graphs\nmore")

    def broken(self, **how):
        raise ValueError("no compiler")

    monkeypatch.setattr(sys.modules["gpu_clock"], "cuda_graph", refused)
    monkeypatch.setattr(models.Flux2Transformer2DModel, "compile_repeated_blocks", broken)
    monkeypatch.setattr(bench, "floors", lambda *_: refused(None))
    bench.main(["--tiny", "--rounds", "2", "--repeat", "1", "--json", str(tmp_path / "out.json")])
    printed, found = capsys.readouterr().out, written(tmp_path / "out.json")
    why = "RuntimeWarning: replies are written slowly, without a CUDA graph: CUDA error: out of graphs"
    assert f"VLM decode, CUDA graph: failed: {why}\n" in printed
    assert "denoise, compiling: failed: ValueError: no compiler" in printed and "more" not in printed
    unrecorded = {"VLM decode, CUDA graph", "VLM decode, compiled, CUDA graph"}
    assert set(found["failed"]) == {"floors of 2 rounds", "denoise, compiling", *unrecorded}
    assert found["2 rounds, merged"]["VLM decode"] > 0 and found["2 rounds, base"]["denoise"] > 0


def test_when_the_time_is_spent_what_was_measured_is_there(bench, tmp_path, capsys, monkeypatch):
    spent = iter([0.0, 1.0])
    monkeypatch.setattr(bench.Sections, "spent", lambda self: next(spent, 1000.0))
    bench.main(["--tiny", "--rounds", "2", "--seconds", "100", "--json", str(tmp_path / "out.json")])
    printed, found = capsys.readouterr().out, written(tmp_path / "out.json")
    assert {"limits", "weights"} <= found.keys() and "floors of 2 rounds" not in found
    assert "2 rounds, merged: left out, since 1000 s are spent of 100" in printed


def test_each_section_is_in_the_file_before_the_next_begins(bench, gpu, tmp_path, monkeypatch):
    def cut(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "denoising", cut)
    with pytest.raises(KeyboardInterrupt):
        bench.main(["--tiny", "--rounds", "2", "--no-compile", "--json", str(tmp_path / "out.json")])
    assert {"limits", "weights", "floors of 2 rounds", "VLM decode, launched one by one"} <= written(
        tmp_path / "out.json"
    ).keys()


@pytest.mark.parametrize(("sampling", "evaluations", "prompts"), [("MERGED", 4, 1), ("BASE", 56, 2)])
def test_a_trajectory_evaluates_the_transformer_as_often_as_its_sampling_says(bench, sampling, evaluations, prompts):
    clock = bench.Clock(bench.Cpu())
    vlm, executor = bench.FixedVlm(bench.TINY, clock), bench.hand(bench.TINY, clock)
    bench.trajectory(vlm, executor, getattr(bench, sampling), 2, 64)
    guided = evaluations == 56
    assert clock.counts["denoise"] == 2 * evaluations and clock.counts["text encode"] == prompts == 1 + guided
    assert clock.counts["VAE"] == 2, "two canvases are decoded, and none is encoded"
    assert clock.counts["VLM prefill"] == clock.counts["VLM decode"] == 3, "the goals and two actions"


def test_prompts_of_a_run_share_their_beginning_and_those_of_two_runs_do_not(bench):
    vlm = bench.FixedVlm(bench.TINY, bench.Clock(bench.Cpu()))
    lengths = []
    vlm.model.model.language_model.register_forward_pre_hook(
        lambda module, _, named: lengths.append(named["inputs_embeds"].shape[1]), with_kwargs=True
    )
    with torch.inference_mode():
        for run in (1, 1, 2):
            vlm.run = run
            vlm.reader.finish(vlm.reader.read(vlm.prompt(bench.TINY.prompt, ())))
    assert lengths == [66, 6, 66], "of the second prompt only its question is new"


@pytest.mark.parametrize(("name", "klein", "vlm"), [("4b", 3.876e9, 4.438e9), ("9b", 9.079e9, 8.767e9)])
def test_its_sizes_are_those_published_and_its_weights_are_never_larger(bench, models, name, klein, vlm):
    size, meta = bench.SIZES[name], type("Meta", (bench.Gpu,), {"where": "meta", "__init__": lambda self: None})()
    makers = (
        (lambda: models.Flux2Transformer2DModel(**size.transformer)),
        (lambda: models.Qwen3VLForConditionalGeneration(models.vlm_config(size))),
    )
    made = [models.random_weights(make, meta) for make in makers]
    assert [sum(each.numel() for each in model.parameters()) for model in made] == pytest.approx([klein, vlm], rel=1e-3)
    assert {each.dtype for model in made for each in model.parameters()} == {torch.bfloat16}
    assert {each.device.type for model in made for each in (*model.parameters(), *model.buffers())} == {"meta"}
