"""What the pack costs those who have it installed and do not use it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.comfy.server import ROOT


@pytest.fixture(scope="module")
def loading(comfy_folder):
    command = [os.environ.get("COMFYUI_PYTHON", sys.executable), ROOT / "tests" / "comfy" / "loading.py", ROOT]
    done = subprocess.run(command, cwd=comfy_folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_pack_loads_in_less_than_half_a_second(loading):
    assert loading["loaded"] and loading["seconds"] < 0.5


def test_no_model_library_is_imported_until_a_node_needs_it(loading):
    brought = {name.partition(".")[0] for name in loading["modules"]}
    assert not brought & {"diffusers", "transformers", "accelerate", "torch", "matplotlib"}
