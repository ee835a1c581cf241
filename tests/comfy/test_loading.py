"""The pack as it is packed: that it is all there, and what it brings to those who have it installed and do not use it.

How long it takes to load is told by benchmarks/pack_load.py.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.comfy.server import PYTHON, ROOT
from tests.nodes.papers import GONE, SCHEMAS
from tests.test_packing import packed

MODULES_BAR, PACKAGES_BAR = 128, 9
"""Modules of the pack that loading it may bring, and packages of others, with those that ComfyUI reads it with."""


def copied(folder: Path) -> Path:
    """The pack as a user has it, in this folder."""
    pack = folder / "clvr"
    for name in packed():
        (pack / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, pack / name)
    return pack


@pytest.fixture(scope="module")
def loading(comfy_folder, tmp_path_factory):
    pack = copied(tmp_path_factory.mktemp("packed"))
    command = [PYTHON, ROOT / "tests" / "comfy" / "loading.py", pack]
    done = subprocess.run(command, cwd=comfy_folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1]) | {"pack": str(pack)}


def test_the_pack_loads_and_brings_few_modules(loading):
    own = {name for name in loading["modules"] if name.startswith(loading["pack"])}
    others = {name.partition(".")[0] for name in loading["modules"]} - sys.stdlib_module_names - {loading["pack"]}
    assert loading["loaded"] and len(own) <= MODULES_BAR and len(others) <= PACKAGES_BAR, sorted(others)


def test_every_node_of_the_pack_is_there(loading):
    assert set(loading["nodes"]) == {
        name for name, told in json.loads((ROOT / SCHEMAS).read_text()).items() if not told.get(GONE)
    }


def test_no_model_library_is_imported_until_a_node_needs_it(loading):
    brought = {name.partition(".")[0] for name in loading["modules"]}
    assert not brought & {"diffusers", "transformers", "accelerate", "torch", "matplotlib"}
