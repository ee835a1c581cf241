"""The workflow goes into the pictures of a run, beside the trajectory, and the run's name into the workflow that other nodes save: whatever
is dropped on the graph opens both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from comfy.cli_args import args

from ...clvr_core.run.run_folder import BEST, RunFolder
from ...clvr_core.storage.png import read_png, write_png
from ..loop.host_session import runs, visible_node
from .sockets import Run

PROPERTY = "clvr_run"
"""Of a node in a workflow: the run that it showed last, as in web/comfy/node.js."""


def texts_of(hidden: Any) -> dict[str, str]:
    """What a picture is to carry beside the trajectory: nothing where no workflow is known, as in headless use, nor where ComfyUI was told
    to write none."""
    told = hidden.extra_pnginfo or {}
    if args.disable_metadata or "workflow" not in told:
        return {}
    return {"prompt": json.dumps(hidden.prompt), "workflow": json.dumps(told["workflow"])}


def carry(folder: RunFolder, hidden: Any) -> None:
    """What is drawn in this folder from now on, and what other nodes save from now on, opens workflow and run."""
    remember(folder.path, hidden)
    folder.texts = texts_of(hidden)


def carry_workflow(run: Run, hidden: Any) -> None:
    """Into the picture that is handed over, drawn under this workflow or under another."""
    path, texts = run.folder / BEST, texts_of(hidden)
    if not texts or not path.is_file():
        return
    picture, had = read_png(path)
    if any(had.get(key) != value for key, value in texts.items()):
        write_png(path, picture, had | texts)


def remember(folder: Path, hidden: Any) -> None:
    """The workflow, as all nodes of this prompt save it from now on, names the run on the node at work. ComfyUI offers extra_pnginfo for
    such notes."""
    name = folder.relative_to(runs()).as_posix()
    for node in _nodes((hidden.extra_pnginfo or {}).get("workflow"), visible_node()):
        node["properties"] = {**(node.get("properties") or {}), PROPERTY: name}


def _nodes(workflow: Any, number: str) -> list[dict[str, Any]]:
    """The node of this number, `12:5` being number 5 in the subgraph 12; none in a workflow of another form."""
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
