"""The house: what is installed, what is promised in its papers, and that they agree."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import clvr_core
from clvr_core.world import EMBEDDED, world_named

ROOT = Path(__file__).parents[1]
HOSTS = {
    "127.0.0.1",
    "arxiv.org",
    "docs.comfy.org",
    "download.pytorch.org",
    "example.com",
    "github.com",
    "huggingface.co",
    "json-schema.org",
    "keepachangelog.com",
    "semver.org",
    "www.apache.org",
    "www.w3.org",
}
"""Whose pages a file may link to. Package registries are for pip's own configuration to name."""


def tracked() -> list[Path]:
    """Every file under version control; without git, every file that is not in a hidden folder or made by a build."""
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=False
    ).stdout.split("\0")
    files = [ROOT / name for name in listed if name]
    if not files:
        made = re.compile(
            r"/(\.(?!ci|git)[^/]*|__pycache__|build|dist|[^/]*\.egg-info|out[^/]*|probe|first-light)/|/\.git/"
        )
        files = [path for path in ROOT.rglob("*") if not made.search(f"/{path.relative_to(ROOT).as_posix()}")]
    return [path for path in files if path.is_file()]


def texts() -> dict[str, str]:
    found = {}
    for path in tracked():
        data = path.read_bytes()
        if b"\0" not in data:
            found[path.relative_to(ROOT).as_posix()] = data.decode()
    return found


def readme_blocks(language: str) -> list[str]:
    return [
        block.strip("\n")
        for block in re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    ]


def requirements(lines) -> dict[str, str]:
    """Name -> bound, of lines that name packages."""
    kept = (line.partition("#")[0].partition(";")[0].strip() for line in lines)
    parts = (re.fullmatch(r"([A-Za-z0-9_.-]+(?:\[\w+\])?)(.*)", line) for line in kept if line)
    return {part[1].lower().replace("_", "-"): part[2] for part in parts}


def file_requirements(name: str) -> dict[str, str]:
    return requirements((ROOT / name).read_text().splitlines())


def project() -> dict[str, dict[str, str]]:
    """The dependencies of pyproject.toml and of its extras, read without a TOML parser: Python 3.10 has none."""
    text = (ROOT / "pyproject.toml").read_text()
    groups = {"": text.partition("\ndependencies = [")[2].partition("]\n")[0]}
    section = text.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    groups |= dict(re.findall(r"^(\w+) = \[(.*)\]$", section, re.M))
    return {name: requirements(re.findall(r'"([^"]+)"', listed)) for name, listed in groups.items()}


def test_comfyui_never_gets_a_torch_or_an_upper_bound_from_us():
    wanted = file_requirements("requirements.txt")
    assert not {"torch", "torchvision", "torchaudio", "triton"} & set(wanted)
    assert all(re.fullmatch(r">=\d[\d.]*", bound) for bound in wanted.values()), wanted


def test_pyproject_asks_for_what_requirements_asks_for():
    assert list(project()[""].items()) == list(file_requirements("requirements.txt").items())


def test_everything_asked_for_is_pinned():
    pins = file_requirements("constraints.txt")
    assert all(re.fullmatch(r"==\d[\d.]*", bound) for bound in pins.values()), pins
    asked = {name.partition("[")[0] for group in project().values() for name in group} - {"clvr"}
    assert {"torch", "pytest"} <= asked
    assert asked <= set(pins)


def test_each_pinned_package_has_a_pin_for_every_python():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    for name in file_requirements("constraints.txt"):
        markers = sorted(
            line.partition(";")[2].strip()
            for line in lines
            if re.split(r"==", line)[0].lower().replace("_", "-") == name
        )
        assert markers in ([""], ['python_version < "3.11"', 'python_version >= "3.11"']), name


def test_the_first_two_commands_of_the_readme_are_one_line_each():
    first, second = readme_blocks("sh")[:2]
    assert "\n" not in first + second
    assert first.startswith('pip install -c constraints.txt ".[run]" && clvr generate ')
    assert second == 'pip install -c constraints.txt ".[test]" && python -m pytest -n auto --dist loadfile'


def test_ci_runs_the_second_command_of_the_readme():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    shown = subprocess.run([script, "--show"], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines() == readme_blocks("sh")[1:2]


def test_the_brief_of_the_readme_is_in_the_grammar():
    import shlex

    words = shlex.split(readme_blocks("sh")[0])
    assert world_named().parse(words[words.index("generate") + 1]).total == 7


@pytest.mark.parametrize(
    "module",
    ["clvr_core", "clvr_core.cli", "clvr_core.run.session", "clvr_core.models.registry", f"clvr_core.{EMBEDDED}"],
)
def test_importing_the_core_loads_no_model_library(module):
    heavy = ("torch", "transformers", "diffusers", "accelerate", "matplotlib", "comfy")
    code = f"import sys, {module}; print(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == ""


def test_only_the_nodes_name_comfyui():
    pattern = re.compile(r"^\s*(?:from|import)\s+(comfy\w*|folder_paths|server|nodes)\b", re.M)
    assert [name for name, text in texts().items() if name.startswith("clvr_core/") and pattern.search(text)] == []


def test_no_file_names_a_machine_or_a_registry():
    # The slash stands apart, so that this file does not name them either.
    folders = re.compile(r"(?<![\w.])" + "/" + r"(?:root|work|home|Users|opt/pypi|opt/wheels)(?![\w-])")
    host = re.compile(r"https?://([\w.-]+)")
    for name, text in texts().items():
        assert not folders.search(text), (name, folders.search(text))
        assert set(host.findall(text)) <= HOSTS, (name, set(host.findall(text)) - HOSTS)


def test_no_module_is_longer_than_600_lines():
    long = {name: text.count("\n") for name, text in texts().items() if name.endswith(".py") and text.count("\n") > 600}
    assert long == {}


def test_python_is_written_in_ascii():
    """A Python on Windows may read a file in a code page of its own."""
    beyond = re.compile(r"[^\x00-\x7f]")
    assert {
        name: beyond.findall(text) for name, text in texts().items() if name.endswith(".py") and not text.isascii()
    } == {}


def test_the_licence_is_apache_2():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text()


def test_the_version_is_in_one_place():
    assert re.fullmatch(r"\d+\.\d+\.\d+", clvr_core.__version__)
    assert clvr_core.__version__ in (ROOT / "CHANGELOG.md").read_text()
    assert not re.search(r"^version = \"", (ROOT / "pyproject.toml").read_text(), re.M)


@pytest.mark.weights
def test_the_weights_load_with_the_oldest_transformers_asked_for():
    """transformers 5 saves a tokenizer under names that 4.57 cannot read; 5 reads the older names too."""
    index, config = (world_named().base / name for name in ("model_index.json", "tokenizer/tokenizer_config.json"))
    assert json.loads(index.read_text())["tokenizer"] == ["transformers", "PreTrainedTokenizerFast"]
    assert json.loads(config.read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert "extra_special_tokens" not in json.loads(config.read_text())


def test_nothing_is_left_to_fill_in():
    assert [name for name, text in texts().items() if name.endswith(".md") and "TODO-" + "MEASURED" in text] == []


@pytest.fixture
def door(monkeypatch):
    """The pack as ComfyUI imports it: by its folder, under a name of ComfyUI's choice."""
    name = "clvr_pack_under_test"
    spec = importlib.util.spec_from_file_location(name, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    yield module
    for loaded in [key for key in sys.modules if key.startswith(name + ".")]:
        del sys.modules[loaded]


def test_the_door_opens_without_comfyui(door):
    assert (ROOT / door.WEB_DIRECTORY).is_dir()
    assert inspect.iscoroutinefunction(door.comfy_entrypoint)
    assert not hasattr(door, "NODE_CLASS_MAPPINGS")
