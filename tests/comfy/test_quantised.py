"""Quantised weights as ComfyUI's own quantiser writes them."""

from __future__ import annotations

import subprocess
from math import prod
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from clvr_core.merge.inputs import Part, values_of
from clvr_core.weights.checkpoint import open_checkpoint
from clvr_core.weights.quantised import dequantised
from tests.comfy.server import PYTHON


def test_every_format_of_comfyui_is_read_as_comfyui_reads_it(comfy_folder, tmp_path):
    path = tmp_path / "x.safetensors"
    subprocess.run([PYTHON, Path(__file__).with_name("quantise.py"), path], check=True, cwd=comfy_folder)
    right = {name: value for name, value in load_file(path).items() if name.endswith(".right")}
    checkpoint = open_checkpoint(path)
    weights = {name: value for name, value in checkpoint.tensors.items() if name not in right}
    found = dequantised(checkpoint.with_tensors(weights))[0].tensors
    assert len(found) == len(right) == 5
    for name, tensor in found.items():
        values = values_of(Part(tensor, 0, tensor.shape), 0, prod(tensor.shape)).reshape(tensor.shape)
        expected = right[name.replace(".weight", ".right")].numpy()
        # ComfyUI rotates in fp32 and rounds each sum, where here the sums are exact.
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-7 if "rotated" in name else 0)
    checkpoint.close()
