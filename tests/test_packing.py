"""What goes out to the users of ComfyUI's registry: the files under version control without those that .comfyignore names."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
LARGEST = 76_000_000
"""Bytes: what draws in the embedded world and its reader take 54 MB of them, its learned controller and judge 14."""


def git(*words: str) -> set[str]:
    """The files that `git ls-files` lists."""
    done = subprocess.run(["git", "-C", ROOT, "ls-files", "-z", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a clone of the repository: what is packed cannot be told")
    return set(done.stdout.split("\0")) - {""}


def packed() -> set[str]:
    """As comfy-cli packs."""
    return git() - git("--cached", "--ignored", f"--exclude-from={ROOT / '.comfyignore'}")


def test_what_only_developers_need_stays_at_home():
    tops = {name.partition("/")[0] for name in packed()}
    needed = {"__init__.py", "LICENSE", "NOTICE", "README.md", "CHANGELOG.md", "pyproject.toml", "requirements.txt"}
    assert tops == needed | {"clvr_core", "locales", "nodes", "web", "workflows", "subgraphs"}


def test_all_that_a_node_may_need_is_packed():
    homes = ("clvr_core/", "nodes/", "web/", "locales/", "workflows/", "subgraphs/")
    assert {name for name in git() if name.startswith(homes)} <= packed()
    size = sum((ROOT / name).stat().st_size for name in packed())
    assert size < LARGEST, f"{size:,} bytes"
    learned = sum((ROOT / name).stat().st_size for name in packed() if name.startswith("clvr_core/stickers/vlm/"))
    assert size - learned < 60_000_000, f"{size - learned:,} bytes"


def test_the_package_is_not_too_large(tmp_path):
    """As comfy-cli builds it: a zip of what is packed."""
    built = tmp_path / "node.zip"
    with zipfile.ZipFile(built, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as package:
        for name in packed():
            package.write(ROOT / name, name)
    assert built.stat().st_size < LARGEST
    with zipfile.ZipFile(built) as package:
        assert {"__init__.py", "pyproject.toml"} <= set(package.namelist()) == packed()
        assert sum(each.file_size for each in package.infolist()) < LARGEST


def test_the_icon_and_the_banner_have_the_sizes_that_the_registry_asks_for():
    with Image.open(ROOT / "docs" / "icon.png") as icon, Image.open(ROOT / "docs" / "banner.png") as banner:
        assert icon.width == icon.height <= 400
        assert banner.width * 9 == banner.height * 21
    assert all((ROOT / "docs" / name).stat().st_size < 200_000 for name in ("icon.png", "banner.png"))


def test_the_registry_finds_the_icon_and_the_banner():
    tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
    held = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["comfy"]
    empty = [name for name in ("Icon", "Banner") if not held[name]]
    if empty:
        pytest.skip(
            f"pyproject.toml: {' and '.join(empty)} of [tool.comfy] are empty until the repository has an address; "
            "then they are those of docs/icon.png and docs/banner.png in it"
        )
    assert held["Icon"].startswith("https://") and held["Icon"].endswith("/docs/icon.png"), held["Icon"]
    assert held["Banner"].startswith("https://") and held["Banner"].endswith("/docs/banner.png"), held["Banner"]
