"""The compiled kernel, built as the package builds it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

import pytest

from clvr_core.merge import native

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def extension():
    """What the package's own build compiles, and how."""
    (found,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
    return found


@pytest.fixture(scope="session")
def built(tmp_path_factory, extension):
    if not (compiler := shutil.which("cc")):
        pytest.skip("no C compiler here")
    out = tmp_path_factory.mktemp("kernel") / "_kernel.so"
    flags = [*extension["extra-compile-args"], "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, *(ROOT / source for source in extension["sources"]), "-o", out], check=True)
    return native.load(out)
