"""MODELs of other packs' loaders, by those packs' own classes: CLVR_GGUF names the folder of ComfyUI-GGUF (city96's)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.comfy.server import PYTHON


def test_a_gguf_model_is_known_by_its_weights_and_loras(comfy_folder, tmp_path):
    pack = os.environ.get("CLVR_GGUF")
    if not pack:
        pytest.skip(
            "CLVR_GGUF is not set: this needs the folder of ComfyUI-GGUF, and its package gguf in ComfyUI's Python"
        )
    command = [PYTHON, Path(__file__).with_name("gguf_model.py"), pack, tmp_path]
    path = os.pathsep.join(filter(None, [str(comfy_folder), os.environ.get("CLVR_GGUF_LIBRARY")]))
    done = subprocess.run(
        command, cwd=comfy_folder, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["class"], found["model"]) == ("GGUFModelPatcher", "Flux2")
    assert found["first"] == found["again"] and found["before"] == found["lora"] == found["at work"]
    assert len({found[name] for name in ("first", "second", "lora", "more")}) == 4
