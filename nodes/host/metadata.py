"""Metadata of pictures and workflows: a canvas carries the workflow beside its trajectory, and the workflow that other
nodes save names the run, so that either file, dropped on the graph, opens both.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from comfy.cli_args import args

from ...clvr_core.run.run_folder import BEST, RunFolder
from ...clvr_core.storage.png import read_png, write_png
from .progress import display_node_id
from .run_folders import name_of
from .sockets import Run

PROPERTY = "clvr_run"
"""Property of a node in a workflow: the run that it showed last. web/comfy/node.js reads it."""


def png_texts(hidden: Any) -> dict[str, str]:
    """Return the PNG text chunks `prompt` and `workflow`; none without a workflow, as in headless use, or under
    --disable-metadata.
    """
    extra = hidden.extra_pnginfo or {}
    if args.disable_metadata or "workflow" not in extra:
        return {}
    return {"prompt": json.dumps(hidden.prompt), "workflow": json.dumps(extra["workflow"])}


def attach(folder: RunFolder, hidden: Any) -> None:
    """Embed the workflow in every canvas drawn in this folder from now on, and name the run in the workflow."""
    name_run(folder.path, hidden)
    folder.texts = png_texts(hidden)


def embed_in_best(run: Run, hidden: Any) -> None:
    """Write this prompt's workflow into the run's best picture, which may have been drawn under another one."""
    path, texts = run.folder / BEST, png_texts(hidden)
    if not texts or not path.is_file():
        return
    picture, present = read_png(path)
    if any(present.get(key) != value for key, value in texts.items()):
        write_png(path, picture, present | texts)


def name_run(folder: Path, hidden: Any) -> None:
    """Set PROPERTY on the executing node in the workflow that all nodes of this prompt save."""
    name = name_of(folder)
    for node in _find_node((hidden.extra_pnginfo or {}).get("workflow"), display_node_id()):
        node["properties"] = {**(node.get("properties") or {}), PROPERTY: name}


def _find_node(workflow: Any, number: str) -> list[dict[str, Any]]:
    """Return the node with this id in a list; "12:5" is node 5 of the subgraph of node 12. Empty if there is none."""
    *outer, last = number.split(":")
    try:
        subgraphs = {each["id"]: each for each in workflow.get("definitions", {}).get("subgraphs", ())}
        level = workflow
        for each in outer:
            level = subgraphs[next(node["type"] for node in level["nodes"] if str(node["id"]) == each)]
        return [
            node
            for node in level["nodes"]
            if str(node["id"]) == last and isinstance(node.get("properties") or {}, dict)
        ]
    except (AttributeError, KeyError, TypeError, StopIteration):
        return []
