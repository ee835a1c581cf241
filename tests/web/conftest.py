"""Node, its modules and a browser. Where one of them is missing, the tests that need it are skipped with a line that says so."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@pytest.fixture(scope="session")
def node() -> str:
    """Node, with what package-lock.json names beside it."""
    found = shutil.which("node")
    if not found:
        pytest.skip("node is not installed: the tests of web/ need it")
    if not (HERE / "node_modules" / "jsdom").is_dir():
        pytest.skip("the npm modules of tests/web are not installed: run `npm ci --ignore-scripts` there")
    return found


@pytest.fixture(scope="session")
def chromium() -> str:
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        pytest.skip("no Chromium is installed, nor named by CHROMIUM: the tests in a browser need one")
    return found


@pytest.fixture(scope="session")
def run_node(node):
    """Runs Node in tests/web; what it printed is the message where it fails."""

    def run(*arguments: str, timeout: float = 1200, **environment: object) -> str:
        variables = os.environ | {name: str(value) for name, value in environment.items()}
        done = subprocess.run(
            [node, *arguments], cwd=HERE, env=variables, capture_output=True, text=True, timeout=timeout
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-12_000:]
        return done.stdout

    return run


@pytest.fixture(scope="session")
def comfy_folder() -> Path:
    folder = os.environ.get("COMFYUI_DIR")
    if not folder:
        pytest.skip("COMFYUI_DIR is not set: the tests of the viewer in ComfyUI need a checkout of it")
    return Path(folder)
