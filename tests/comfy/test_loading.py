"""The pack as it is packed: that it is all there, and what it costs those who have it installed and do not use it."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from tests.comfy.papers import GONE, SCHEMAS
from tests.comfy.server import PYTHON, ROOT
from tests.test_packing import packed


@pytest.fixture(scope="module")
def loading(comfy_folder, tmp_path_factory):
    pack = tmp_path_factory.mktemp("packed") / "clvr"
    for name in packed():
        (pack / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, pack / name)
    command = [PYTHON, ROOT / "tests" / "comfy" / "loading.py", pack]
    done = subprocess.run(command, cwd=comfy_folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_pack_loads_in_less_than_half_a_second(loading):
    assert loading["loaded"] and loading["seconds"] < 0.5


def test_every_node_of_the_pack_is_there(loading):
    assert set(loading["nodes"]) == {name for name, told in json.loads((ROOT / SCHEMAS).read_text()).items() if not told.get(GONE)}


def test_no_model_library_is_imported_until_a_node_needs_it(loading):
    brought = {name.partition(".")[0] for name in loading["modules"]}
    assert not brought & {"diffusers", "transformers", "accelerate", "torch", "matplotlib"}
