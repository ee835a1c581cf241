"""What models take and how they share a device: pure decisions, and sizes from headers."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from safetensors.torch import save_file

from clvr_core.doctor import examine
from clvr_core.errors import BadInput
from clvr_core.models.memory_plan import (
    HEADROOM,
    NONE,
    MemoryPlan,
    Weights,
    available,
    model_weights,
    peak,
    pipeline_weights,
    plan,
)
from clvr_core.models.presets import VARIABLE, presets
from clvr_core.models.registry import load_models

GB = 1_000_000_000
BOTH = (
    Weights("VLM", round(8.9 * GB), "controller"),
    Weights("DiT", round(7.8 * GB)),
    Weights("text encoder", round(6.2 * GB)),
    Weights("VAE", round(0.2 * GB)),
)


@pytest.mark.parametrize(
    ("free", "mode"),
    [
        (80, "resident"),
        (26.6, "resident"),
        (26.5, "sequential"),
        (17.7, "sequential"),
        (17.6, "offloaded"),
        (11.3, "offloaded"),
    ],
)
def test_the_fastest_mode_that_fits_is_chosen(free, mode):
    assert plan(BOTH, round(free * GB)).mode == mode and plan(BOTH, round(free * GB)).fits


def test_layers_are_streamed_where_a_part_alone_is_too_large_and_it_is_said_where_nothing_fits():
    large = (Weights("VLM", 4 * GB, "controller"), Weights("DiT", 18 * GB))
    assert plan(large, 12 * GB).mode == "streamed" and plan(large, 12 * GB).fits
    assert plan(BOTH, round(11.2 * GB)).mode == "streamed" and plan(BOTH, round(11.2 * GB)).fits
    tight = plan(BOTH, 10 * GB)
    assert tight.mode == "streamed" and not tight.fits
    assert tight.summary.endswith(
        "10.0 GB free: too little for VLM; choose a smaller model, fp8, or put it behind a server"
    )


def test_a_verifier_of_its_own_takes_its_own_turn():
    three = (*BOTH, Weights("verifier", 12 * GB, "verifier"))
    assert peak(three, "resident") == sum(each.nbytes for each in three)
    assert peak(three, "sequential") == round(14.2 * GB) and peak(three, "offloaded") == 12 * GB
    assert peak(BOTH, "offloaded") == round(8.9 * GB) == peak(BOTH, "streamed")


def test_what_was_asked_for_is_done_and_told():
    assert plan(BOTH, 80 * GB, "offloaded").mode == "offloaded"
    assert plan(BOTH, None).mode == "resident" and "free" not in plan(BOTH, None).summary
    assert plan((), 1).mode == "resident" and plan((), 1).fits
    assert plan(BOTH, 25 * GB).summary == (
        "VLM 8.9 GB, DiT 7.8 GB, text encoder 6.2 GB, VAE 0.2 GB; 25.0 GB free: they take turns on the device"
    )
    assert plan(BOTH, 80 * GB).summary.endswith("80.0 GB free: both fit")
    assert plan(BOTH[1:], 80 * GB).summary.endswith("it fits")


def test_whoever_works_has_its_own_room_beside_the_weights():
    assert peak(BOTH, "resident", HEADROOM) == round(26.6 * GB) and peak(BOTH, "sequential", HEADROOM) == round(
        17.7 * GB
    )
    assert peak(BOTH[:1], "resident", HEADROOM) == round(10.9 * GB) and peak(BOTH, "streamed", HEADROOM) == round(
        10.9 * GB
    )
    assert peak(BOTH[1:], "streamed", HEADROOM) == round(3.5 * GB) and peak((), "streamed", HEADROOM) == 0
    assert plan(BOTH, 25 * GB, headroom=NONE).mode == "resident"


def test_sizes_are_those_of_the_numbers_as_they_will_be_held(tmp_path):
    parts = {
        "transformer": {"a.weight": torch.zeros(10, 10), "b": torch.zeros(4, dtype=torch.int64)},
        "text_encoder": {f"model.layers.{number}.weight": torch.zeros(3) for number in range(30)}
        | {"lm_head.weight": torch.zeros(50)},
        "vae": {"w": torch.zeros(5)},
        "tokenizer": {},
    }
    for name, held in parts.items():
        (tmp_path / name).mkdir()
        if held:
            save_file(held, tmp_path / name / "model.safetensors")
    save_file({"a.weight": torch.zeros(7)}, tmp_path / "transformer" / "model.fp16.safetensors")
    assert pipeline_weights(tmp_path, 2) == [
        Weights("text encoder", 280),
        Weights("DiT", 232),
        Weights("VAE", 10),
    ]
    assert pipeline_weights(tmp_path, 2, storage=1, layers=27)[:2] == [
        Weights("text encoder", 162),
        Weights("DiT", 132),
    ]
    save_file({"x": torch.zeros(100, dtype=torch.bfloat16)}, tmp_path / "merged.safetensors")
    assert Weights("DiT", 400) in pipeline_weights(tmp_path, 4, {"transformer": tmp_path / "merged.safetensors"})


def test_shards_are_added_up_and_a_damaged_index_is_named(tmp_path):
    for number in (1, 2):
        save_file({f"w{number}": torch.zeros(10)}, tmp_path / f"model-{number}.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w1": "model-1.safetensors", "w2": "model-2.safetensors"}}))
    assert model_weights(tmp_path, 2) == Weights("VLM", 40, "controller")
    index.write_text("{}")
    with pytest.raises(BadInput, match=r"index.json is damaged"):
        model_weights(tmp_path, 2)


class TestPresets:
    def test_each_says_what_it_is_and_stays_within_the_memory_it_names(self):
        cards = {"klein-4b": (12, 16), "klein-4b-dswm": (12, 16), "klein-9b": (24, 24)}
        for name, (least, most) in cards.items():
            preset = presets()[name]
            assert f"{least}" in preset.about and f"{most} GB" in preset.about
            assert plan(preset.weights, least * GB).fits and plan(preset.weights, most * GB).mode in (
                "sequential",
                "offloaded",
            )
            assert not plan(preset.weights, (least - 5) * GB).fits
        assert presets()["server"].weights == ()

    def test_the_published_sizes_are_those_of_the_configs(self):
        from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel

        settings = {"klein-4b": (5, 20, 24, 7680), "klein-9b": (8, 24, 32, 12288)}
        for name, (double, single, heads, words) in settings.items():
            with torch.device("meta"):
                model = Flux2Transformer2DModel(
                    num_layers=double,
                    num_single_layers=single,
                    attention_head_dim=128,
                    num_attention_heads=heads,
                    joint_attention_dim=words,
                    guidance_embeds=False,
                )
                vae = AutoencoderKLFlux2()
            sizes = {each.name: each.nbytes / GB for each in presets()[name].weights}
            item = 1 if name == "klein-9b" else 2
            assert sizes["DiT"] == pytest.approx(item * sum(each.numel() for each in model.parameters()) / GB, abs=0.01)
            assert sizes["VAE"] == pytest.approx(2 * sum(each.numel() for each in vae.parameters()) / GB, abs=0.01)

    def test_weights_that_are_not_there_are_said_in_a_sentence(self, tmp_path, monkeypatch):
        monkeypatch.delenv(VARIABLE, raising=False)
        with pytest.raises(
            BadInput, match=r"--models klein-4b needs Qwen3-VL-4B-Instruct and FLUX.2-klein-4B in .*; put what is"
        ):
            load_models("klein-4b", str(tmp_path))
        monkeypatch.setenv(VARIABLE, str(tmp_path))
        (tmp_path / "Qwen3-VL-4B-Instruct").mkdir()
        with pytest.raises(BadInput, match=rf"needs FLUX.2-klein-4B in {tmp_path}"):
            load_models("klein-4b")

    def test_they_become_settings_once_all_is_there(self, tmp_path):
        for name in ("Qwen3-VL-4B-Instruct", "FLUX.2-klein-base-4B", "klein-4b-dswm.safetensors"):
            (tmp_path / name).mkdir()
        config = presets()["klein-4b-dswm"].config(str(tmp_path))
        settings = config.executor
        assert (settings.steps, settings.guidance, settings.transformer) == (
            4,
            1.0,
            str(tmp_path / "klein-4b-dswm.safetensors"),
        )
        assert config.controller.folder == str(tmp_path / "Qwen3-VL-4B-Instruct") and config.memory == "auto"
        assert presets()["server"].config().executor.url == "http://127.0.0.1:8001/v1"

    def test_the_doctor_tells_what_each_would_take(self, tmp_path):
        found = {finding.name: finding for finding in examine(str(tmp_path))}
        finding = found["models: klein-4b"]
        assert (
            not finding.ok
            and "VLM 8.9 GB, DiT 7.8 GB, text encoder 6.2 GB, VAE 0.2 GB" in finding.detail
            and "--weights" in finding.detail
        )
        assert found["models: server"].ok and {f"models: {name}" for name in presets()} <= found.keys()

    def test_a_plan_is_a_value(self):
        assert dataclasses.replace(plan(BOTH, 25 * GB), free=None) == MemoryPlan("sequential", BOTH, None, True)


def test_memory_that_only_caches_files_counts_as_free(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(
        "MemTotal:       24731648 kB\nMemFree:         2400000 kB\nMemAvailable:   22000000 kB\nHugePages_Total:       0\n"
    )
    assert available(meminfo) == 22000000 * 1024
    assert available(tmp_path / "another system") is None


@pytest.mark.parametrize("kind", ["nvfp4", "int8", "mxfp8", "fp8"])
def test_a_quantised_file_counts_as_the_numbers_it_is_loaded_as(tmp_path, kind):
    from tests.weights.test_quantised import COLUMNS, FORMATS, ROWS

    tensors, _ = FORMATS[kind]()
    save_file(tensors, tmp_path / "model.safetensors")
    (found,) = pipeline_weights(None, 2, {"transformer": tmp_path / "model.safetensors"})
    assert found.nbytes == 2 * ROWS * COLUMNS
