"""What importing the core may load, and which part may know of which."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "clvr_core"
FRAMEWORKS = {"torch", "transformers", "diffusers"}
HOST = {"folder_paths", "server", "nodes", "execution"}
"""Modules of ComfyUI, beside everything that begins with comfy."""


def loaded_by(module: str) -> set[str]:
    code = f"import json, sys, {module}; print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    return set(json.loads(subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout))


def imports(path: Path) -> Iterator[str]:
    """Absolute names of all the file imports, inside functions too; relative ones from clvr_core on."""
    package = ("clvr_core", *path.relative_to(CORE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join((*(package[: len(package) - node.level + 1] if node.level else ()), *filter(None, [node.module])))
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("__import__", "import_module", "importlib.import_module"):
            yield ast.literal_eval(node.args[0])


def files(*parts: str) -> list[Path]:
    """The files of parts of the core, each a module or a package; of the whole core if none is named."""
    chosen = [CORE / part for part in parts] or [CORE]
    found = [file for path in chosen for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")])]
    assert found and all(file.is_file() for file in found), parts
    return found


def inside(path: Path) -> set[str]:
    """The parts of the core that the file imports: brief, policy, ..."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("clvr_core.")}


@pytest.mark.parametrize("module", ["clvr_core", "clvr_core.policy", "clvr_core.loop", "clvr_core.session", "clvr_core.cli"])
def test_importing_loads_no_model_library(module):
    assert not loaded_by(module) & FRAMEWORKS


def test_the_door_of_the_core_loads_nothing_at_all():
    assert not loaded_by("clvr_core") & {"numpy", "PIL"}


def test_the_scan_sees_imports_of_every_form():
    assert {"clvr_core.brief", "clvr_core.trajectory"} <= set(imports(CORE / "loop.py"))
    assert {"clvr_core.policy.rules", "clvr_core.brief.Brief"} <= set(imports(CORE / "policy" / "base.py"))
    assert "clvr_core.shapes" in set(imports(CORE / "models.py")), "an import inside a function"


def test_nothing_in_the_core_imports_the_host():
    for path in files():
        named = {name.split(".")[0] for name in imports(path)}
        assert not {name for name in named if name.startswith("comfy") or name in HOST}, path.name


def test_nothing_at_the_top_of_a_module_imports_a_model_library_but_where_models_live():
    for path in files("policy", "controller", "verifier", "vlm", "report", *(path.stem for path in CORE.glob("*.py"))):
        tops = [node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, (ast.Import, ast.ImportFrom))]
        named = {alias.name for node in tops for alias in node.names} | {getattr(node, "module", None) or "" for node in tops}
        assert not {name.split(".")[0] for name in named} & FRAMEWORKS, path.name


def test_the_loop_and_its_parts_do_not_name_the_embedded_world():
    for path in files("loop", "policy", "controller", "verifier", "executor"):
        assert not {name for name in imports(path) if "shapes" in name.split(".")}, path.name


PURE = {"__future__", "collections", "dataclasses", "math", "re", "typing"}
"""Of the standard library: what neither reads nor writes."""


def test_policy_knows_only_what_was_asked_and_what_happened():
    for path in files("policy"):
        assert inside(path) <= {"brief", "trajectory", "errors", "policy"}, path.name
        assert {name.split(".")[0] for name in imports(path)} <= PURE | {"clvr_core"}, path.name


BELOW = {
    "errors": set(),
    "brief": {"errors"},
    "trajectory": {"brief"},
    "records": set(),
    "protocols": set(),
    "templates": set(),
    "policy": {"brief", "trajectory", "errors"},
    "vlm": {"errors", "protocols", "records"},
    "controller": {"brief", "trajectory", "errors", "protocols", "records", "templates", "vlm"},
    "verifier": {"brief", "trajectory", "errors", "protocols", "records", "templates", "vlm"},
    "executor": {"brief", "trajectory", "errors", "protocols", "records", "merge", "vlm"},
    "loop": {"brief", "trajectory", "policy", "controller", "verifier", "executor"},
}
"""What each part may import beside itself. Nothing here leads back up."""


@pytest.mark.parametrize("part", BELOW)
def test_imports_lead_downwards(part):
    for path in files(part):
        assert inside(path) <= BELOW[part] | {part}, path.name
