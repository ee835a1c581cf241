"""What importing the core may load, and which part of the core and of nodes/ may import which."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .syntax import tree_of

ROOT = Path(__file__).parents[1]
CORE, NODES = ROOT / "clvr_core", ROOT / "nodes"
FRAMEWORKS = {"torch", "transformers", "diffusers"}
HOST = {"folder_paths", "server", "nodes", "execution"}
"""Modules of ComfyUI besides everything that begins with comfy; `nodes` is also the name of this repository's nodes."""


def loaded_by(module: str) -> set[str]:
    code = f"import json, sys, {module}; print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    return set(
        json.loads(
            subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        )
    )


def imports(path: Path) -> Iterator[str]:
    """Yield the absolute name of everything the file imports, inside functions too; relative imports begin with
    clvr_core or nodes."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(tree_of(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(
                (*(package[: len(package) - node.level + 1] if node.level else ()), *filter(None, [node.module]))
            )
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "__import__",
            "import_module",
            "importlib.import_module",
        ):
            yield ast.literal_eval(node.args[0])


def files(*parts: str) -> list[Path]:
    """The files of parts of the core, each a module or a package; of the whole core if none is named."""
    chosen = [CORE / part for part in parts] or [CORE]
    found = [
        file for path in chosen for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")])
    ]
    assert found and all(file.is_file() for file in found), parts
    return found


def inside(path: Path) -> set[str]:
    """The parts of the core that the file imports: brief, policy, ..."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("clvr_core.")} - {"__version__"}


@pytest.mark.parametrize(
    "module", ["clvr_core", "clvr_core.policy", "clvr_core.run.loop", "clvr_core.run.session", "clvr_core.cli"]
)
def test_importing_loads_no_model_library(module):
    assert not loaded_by(module) & FRAMEWORKS


def test_the_door_of_the_core_loads_nothing_at_all():
    assert not loaded_by("clvr_core") & {"numpy", "PIL"}


def modules_of(*words: str) -> set[str]:
    """The modules of the core that a command line has loaded at its end."""
    code = f"""import json, sys
from clvr_core.cli import main
try:
    main({list(words)})
except SystemExit:
    pass
print(json.dumps([name for name in sys.modules if name.startswith("clvr_core.")]))"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_command_line_loads_the_modules_of_no_command_before_one_is_named():
    assert modules_of("--version") == {f"clvr_core.{name}" for name in ("cli", "errors", "signals")}


def test_a_merge_loads_the_modules_of_no_other_command():
    loaded = modules_of("merge", "--base", "none", "--distilled", "none", "--out", "o.safetensors")
    parts = {name.split(".")[1] for name in loaded}
    assert "merge" in parts
    assert not parts & {"doctor", "evaluation", "fleet", "protocols", "run", "strengths", "training"}


def test_the_scan_sees_imports_of_every_form():
    assert {"clvr_core.brief", "clvr_core.trajectory"} <= set(imports(CORE / "run" / "loop.py"))
    assert {"clvr_core.policy.rules", "clvr_core.brief.Brief"} <= set(imports(CORE / "policy" / "base.py"))
    assert "clvr_core.stickers.grammar" in set(imports(CORE / "world.py")), "an import inside a function"


def test_nothing_in_the_core_imports_the_host_or_the_nodes():
    for path in files():
        named = {name.split(".")[0] for name in imports(path)}
        assert not {name for name in named if name.startswith("comfy") or name in HOST}, path.name


def test_nothing_at_the_top_of_a_module_imports_a_model_library_but_where_models_live():
    light = "policy", "controller", "verifier", "vlm", "storage", "report", "run", "models"
    for path in files(*light, *(path.stem for path in CORE.glob("*.py"))):
        tops = [
            node for node in tree_of(path.read_text("utf-8")).body if isinstance(node, (ast.Import, ast.ImportFrom))
        ]
        named = {alias.name for node in tops for alias in node.names} | {
            getattr(node, "module", None) or "" for node in tops
        }
        assert not {name.split(".")[0] for name in named} & FRAMEWORKS, path.name


PURE = {"__future__", "collections", "dataclasses", "itertools", "math", "re", "typing"}
"""Of the standard library: what neither reads nor writes."""


def test_policy_uses_nothing_that_reads_or_writes():
    for path in files("policy"):
        assert {name.split(".")[0] for name in imports(path)} <= PURE | {"clvr_core"}, path.name


FLOORS = (
    {
        "errors",
        "forwarding",
        "reading",
        "records",
        "protocols",
        "text",
        "http_json",
        "templates",
        "progress",
        "signals",
    },
    {"brief", "brief_arguments", "brief_list", "checklist", "trajectory"},
    {"storage", "weights"},
    {"policy", "controller", "verifier", "vlm", "witness", "report"},
    {"executor", "merge"},
    {"run"},
    {"stickers", "schema"},
    {"world"},
    {"models"},
    {"fleet"},
    {"training", "synthesis", "evaluation", "strengths"},
    {"batch", "comfyui_queue", "doctor", "serve"},
    {"cli"},
)
"""The parts of the core from the ground up. A part imports parts of lower floors."""

SAME_FLOOR = {
    "records": {"text"},
    "http_json": {"errors", "progress", "reading", "text"},
    "protocols": {"errors"},
    "forwarding": {"errors", "protocols"},
    "brief_arguments": {"brief"},
    "checklist": {"brief"},
    "trajectory": {"brief"},
    "controller": {"vlm"},
    "verifier": {"vlm", "witness"},
    "executor": {"merge"},
    "comfyui_queue": {"batch"},
    "training": {"synthesis", "evaluation"},
}
"""What a part imports of its own floor. Nothing here leads back."""

NOT_BELOW = {
    "policy": {"brief", "trajectory", "errors"},
    "vlm": {"errors", "http_json", "protocols", "records", "text"},
}
"""Parts that may import only these, although more lies below them: policy is pure, and a model knows of no run."""


def parts() -> set[str]:
    return {path.stem for path in CORE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()} - {
        "__init__"
    }


def test_every_part_of_the_core_has_one_floor():
    assert sorted(part for floor in FLOORS for part in floor) == sorted(parts())


@pytest.mark.parametrize("part", sorted(parts()))
def test_imports_lead_downwards(part):
    height = next(index for index, floor in enumerate(FLOORS) if part in floor)
    below = NOT_BELOW.get(part, set().union(*FLOORS[:height])) | SAME_FLOOR.get(part, set()) | {part}
    for path in files(part):
        assert inside(path) <= below, f"{path.relative_to(CORE)} imports {inside(path) - below}"


def test_no_rule_is_wider_than_what_is_imported():
    for rules in (SAME_FLOOR, NOT_BELOW):
        for part, allowed in rules.items():
            assert allowed <= set().union(*map(inside, files(part))), part


NODE_FLOORS = (
    {"host"},
    {"vlm", "executor", "merge"},
    {"stickers", "witness"},
    {"loop"},
    {"quick"},
    {"routes"},
    {"benchmark", "trajectories", "replaced", "strengths"},
    {"__init__"},
)
"""The rooms and modules of nodes/ from the ground up. One imports from lower floors only; two of one floor do not
import each other."""


def rooms() -> dict[str, list[Path]]:
    """Room or module of nodes/ -> its files."""
    return {
        path.stem: [path] if path.is_file() else sorted(path.rglob("*.py"))
        for path in NODES.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }


def test_every_room_of_the_nodes_has_one_floor():
    assert sorted(room for floor in NODE_FLOORS for room in floor) == sorted(rooms())


@pytest.mark.parametrize("room", sorted(rooms()))
def test_the_nodes_import_downwards(room):
    height = next(index for index, floor in enumerate(NODE_FLOORS) if room in floor)
    below = set().union(*NODE_FLOORS[:height]) | {room}
    for path in rooms()[room]:
        used = {name.split(".")[1] for name in imports(path) if name.startswith("nodes.")}
        assert used <= below, f"{path.relative_to(ROOT)} imports {used - below}"
