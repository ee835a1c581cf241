"""The pack, imported as `clvr_pack` without ComfyUI.

The folder stub_comfy stands in for ComfyUI while nodes/ is imported. Afterwards its modules leave sys.modules, so that
no other test in this process meets them; `stubs` has them by name. `clvr_pack.clvr_core` is clvr_core itself, so that
classes are the same on both sides.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import pkgutil
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]
STUBS = Path(__file__).parent / "stub_comfy"
NAME = "clvr_pack"


class _SharedCore(MetaPathFinder, Loader):
    """Imports clvr_pack.clvr_core.x as clvr_core.x."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if f"{name}.".startswith(f"{NAME}.clvr_core.") else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(spec.name.removeprefix(f"{NAME}."))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has set the spec of the alias.
        module.__spec__ = module.__spec__.loader_state


def _load() -> None:
    sys.meta_path.insert(0, _SharedCore())
    spec = importlib.util.spec_from_file_location(NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    pack = sys.modules[NAME] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)
    names = {path.name.removesuffix(".py") for path in STUBS.iterdir()}
    present = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in names}
    sys.path.insert(0, str(STUBS))
    try:
        # All of it, since what only a node at work needs is imported there, when the stubs are gone.
        for module in pkgutil.walk_packages([str(ROOT / "nodes")], f"{NAME}.nodes."):
            importlib.import_module(module.name)
    finally:
        sys.path.remove(str(STUBS))
        loaded = [name for name in sys.modules if name.partition(".")[0] in names]
        pack.stubs = {name: sys.modules.pop(name) for name in loaded}
        sys.modules.update(present)


def _nodes() -> dict[str, type]:
    listed = asyncio.run(sys.modules[f"{NAME}.nodes"].ClvrExtension().get_node_list())
    return {node.define_schema().node_id: node for node in listed}


if NAME not in sys.modules:
    _load()
    sys.modules[NAME].NODES = _nodes()
stubs: dict[str, ModuleType] = sys.modules[NAME].stubs
"""Module of ComfyUI -> its stub."""
NODES: dict[str, type] = sys.modules[NAME].NODES
"""Node id -> class, as ComfyUI gets them: with their inputs checked."""
