"""What goes out to the users of ComfyUI's registry: the files under version control without those that .comfyignore names."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


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
    needed = {"__init__.py", "LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "requirements.txt"}
    assert tops == needed | {"clvr_core", "locales", "nodes", "web", "example_workflows"}


def test_all_that_a_node_may_need_is_packed():
    homes = ("clvr_core/", "nodes/", "web/", "locales/", "example_workflows/")
    assert {name for name in git() if name.startswith(homes)} <= packed()
    size = sum((ROOT / name).stat().st_size for name in packed())
    # The embedded weights alone, base, distilled, aligned and merged, may take 40 MB; they take 29.
    assert size < 40_000_000, f"{size:,} bytes"
