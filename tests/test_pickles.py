"""Nothing in the project unpickles: a pickle runs the code of whoever wrote it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from .syntax import tree_of

ROOT = Path(__file__).parents[1]
MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CHECKPOINTS = {"torch.distributed.checkpoint"}
CALLS = {
    "load_state": "accelerate unpickles a state; use clvr_core/training/state.py",
    "save_state": "accelerate pickles a state; use clvr_core/training/state.py",
    "register_for_checkpointing": "accelerate unpickles what is registered; use clvr_core/training/state.py",
    "read_pickle": "pandas unpickles",
}


CANDIDATES = {*CALLS, "load", "save", "import_module", "__import__", "allow_pickle", "weights_only", "use_safetensors"}
"""Names of functions and of arguments at which a call is looked at."""


def _last(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def faults(source: str) -> Iterator[str]:
    for node in ast.walk(tree_of(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
            yield from (name for name in names if name.split(".")[0] in MODULES or name in CHECKPOINTS)
        if not isinstance(node, ast.Call) or not CANDIDATES & {_last(node.func), *(each.arg for each in node.keywords)}:
            continue
        said = ast.unparse(node.func)
        settings = {each.arg: ast.unparse(each.value) for each in node.keywords}
        name = said.rpartition(".")[2]
        if name in CALLS and "." in said:
            yield CALLS[name]
        if said in ("torch.load", "torch.jit.load", "torch.hub.load") and settings.get("weights_only") != "True":
            yield f"{said} without weights_only=True"
        for setting, bad in (("allow_pickle", "True"), ("weights_only", "False"), ("use_safetensors", "False")):
            if settings.get(setting) == bad:
                yield f"{said} with {setting}={bad}"
        if said in ("torch.save", "importlib.import_module", "__import__") and (
            said == "torch.save" or (node.args and ast.unparse(node.args[0]).strip("'\"").split(".")[0] in MODULES)
        ):
            yield said


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import os, dill",
        "from torch.distributed.checkpoint import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "numpy.load(path, allow_pickle=True)",
        "accelerator.load_state(folder)",
        "accelerator.register_for_checkpointing(ema)",
        "importlib.import_module('pickle')",
        "Model.from_pretrained(folder, use_safetensors=False)",
        "torch.save(state, path)",
    ],
)
def test_the_search_finds(source):
    assert list(faults(source))


@pytest.mark.parametrize(
    "source", ["torch.load(path, weights_only=True)", "numpy.load(path)", "load_file(path)", "model.load_state_dict(x)"]
)
def test_the_search_leaves(source):
    assert not list(faults(source))


def test_nothing_in_the_sources_unpickles():
    folders = ("clvr_core", "nodes", "benchmarks", "examples", "docs")
    files = [*ROOT.glob("*.py"), *(path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))]
    found = {str(path.relative_to(ROOT)): list(faults(path.read_text("utf-8"))) for path in files}
    assert len(files) > 200 and {name: said for name, said in found.items() if said} == {}
