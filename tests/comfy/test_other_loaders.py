"""MODELs of other packs' loaders, by those packs' own classes.

CLVR_GGUF names the folder of ComfyUI-GGUF (city96's). CLVR_NUNCHAKU names that of ComfyUI-nunchaku, and CLVR_NUNCHAKU_LIBRARY
that of nunchaku's sources, whose compiled part is not needed.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.comfy.server import PYTHON


def found_by(script: str, pack: str, comfy_folder, tmp_path, library: str | None) -> dict[str, str]:
    """What the script prints of the pack's MODELs."""
    command = [PYTHON, Path(__file__).with_name(script), pack, tmp_path]
    path = os.pathsep.join(filter(None, [str(comfy_folder), library]))
    done = subprocess.run(
        command, cwd=comfy_folder, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_gguf_model_is_known_by_its_weights_and_loras(comfy_folder, tmp_path):
    pack = os.environ.get("CLVR_GGUF")
    if not pack:
        pytest.skip(
            "CLVR_GGUF is not set: this needs the folder of ComfyUI-GGUF, and its package gguf in ComfyUI's Python"
        )
    found = found_by("gguf_model.py", pack, comfy_folder, tmp_path, os.environ.get("CLVR_GGUF_LIBRARY"))
    assert (found["class"], found["model"]) == ("GGUFModelPatcher", "Flux2")
    assert found["first"] == found["again"] and found["before"] == found["lora"] == found["at work"]
    assert len({found[name] for name in ("first", "second", "lora", "more")}) == 4


def test_a_nunchaku_model_is_known_by_its_packed_weights(comfy_folder, tmp_path):
    pack, library = os.environ.get("CLVR_NUNCHAKU"), os.environ.get("CLVR_NUNCHAKU_LIBRARY")
    if not pack or not library:
        pytest.skip(
            "CLVR_NUNCHAKU and CLVR_NUNCHAKU_LIBRARY are not set: this needs ComfyUI-nunchaku and nunchaku's sources"
        )
    found = found_by("nunchaku_model.py", pack, comfy_folder, tmp_path, library)
    assert (found["patcher"], found["model"]) == ("NunchakuModelPatcher", "NunchakuQwenImage")
    assert found["quantised"] == "torch.int8"
    assert {found[name] for name in ("again", "cloned", "at work", "put away")} == {found["first"]}
    assert len({found[name] for name in ("first", "second", "packed", "scales")}) == 4
    assert "model_name" in found["widgets"], "the forecast weighs the file that it names"
