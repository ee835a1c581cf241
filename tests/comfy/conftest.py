from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from tests.comfy.server import Comfy


@pytest.fixture(scope="session")
def comfy_folder() -> Path:
    folder = os.environ.get("COMFYUI_DIR")
    if not folder:
        pytest.skip("COMFYUI_DIR is not set: the graph tests need a checkout of ComfyUI")
    assert (Path(folder) / "main.py").exists(), f"COMFYUI_DIR is {folder}, and there is no main.py in it"
    return Path(folder)


@pytest.fixture(scope="session")
def comfy(comfy_folder, tmp_path_factory):
    """One ComfyUI for all the tests of the session, with packs of nodes for them beside this one."""
    base = tmp_path_factory.mktemp("comfy")
    (base / "custom_nodes").mkdir()
    (base / "custom_nodes" / "clvr_tiny").symlink_to(Path(__file__).parent / "tiny", target_is_directory=True)
    for name in ("tiny_vision.py", "tiny_families.py"):
        (base / "custom_nodes" / name).symlink_to(Path(__file__).with_name(name))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(lent(base)))
        with Comfy(base) as server:
            yield server


@pytest.fixture(scope="session")
def bare(comfy):
    """Another server on the same folders, in whose Python there is no diffusers."""
    with Comfy(comfy.base, PYTHONPATH=str(Path(__file__).parent / "blocked")) as server:
        yield server


def lent(base: Path) -> Path:
    """llguidance, if it is installed here: ComfyUI's Python may be without it."""
    place = base / "lent"
    place.mkdir()
    if spec := importlib.util.find_spec("llguidance"):
        packages = Path(spec.origin).parents[1]
        for path in packages.glob("llguidance*"):
            (place / path.name).symlink_to(path)
    return place
