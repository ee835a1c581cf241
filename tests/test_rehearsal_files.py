"""The files of benchmarks/rehearsal.py have the published sizes, and this project's own readers take them."""

from __future__ import annotations

import sys
from argparse import Namespace
from itertools import groupby
from pathlib import Path

import pytest

from clvr_core.weights.checkpoint import open_checkpoint
from clvr_core.weights.quantised import dequantised

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import rehearsal
import rehearsal_files

sys.path.pop(0)


def test_sizes_are_those_of_the_published_files():
    """docs/models.md has 7.75 GB of the diffusion model and 8.04 GB of the text encoder in bf16."""
    found = {name: (file.nbytes / 1e9, file.parameters / 1e9) for name, file in rehearsal_files.files(False).items()}
    assert found["DiT"] == pytest.approx((7.75, 3.876), abs=0.005)
    assert found["text encoder"] == pytest.approx((8.045, 4.022), abs=0.005)
    assert found["VLM"] == pytest.approx((8.876, 4.438), abs=0.005) and found["VAE"] == pytest.approx(
        (0.336, 0.084), abs=0.001
    )
    scaled = rehearsal_files.files(True)
    assert scaled["DiT"].name == "flux-2-klein-4b-fp8.safetensors" and scaled["DiT"].nbytes == pytest.approx(
        4.07e9, rel=0.01
    )


def test_a_written_file_is_read_with_its_scales(tmp_path):
    file = rehearsal_files.klein(True, rehearsal_files.WIDTHS["tiny"])
    rehearsal_files.write(file, tmp_path / "x.safetensors")
    checkpoint = open_checkpoint(tmp_path / "x.safetensors")
    found = dequantised(checkpoint)[0].tensors
    weights = {name for name, tensor in file.tensors.items() if tensor.dtype in ("BF16", "F8_E4M3")}
    assert set(found) == weights and len(weights) < len(file.tensors)
    assert (tmp_path / "x.safetensors").stat().st_size > file.nbytes and len(list(tmp_path.iterdir())) == 1
    checkpoint.close()


@pytest.mark.parametrize("stages", [("detect", "ask", "encode", "paint"), ("paint", "ask", "detect", "encode")])
def test_models_that_are_removed_come_one_after_the_other(stages):
    parts = ["VAE", "DiT", "text encoder", "VLM"]
    steps = rehearsal.steps_of(Namespace(stages=stages, parts=parts, remove=True))
    large = [model for _, needed in steps for model in needed if model != "VAE"]
    assert len(steps) == 7 and [model for model, _ in groupby(large)] == ["DiT", "text encoder", "VLM"]
    kept = rehearsal.steps_of(Namespace(stages=stages, parts=parts, remove=False))
    assert list(dict.fromkeys(stage for stage, _ in kept)) == list(stages)
