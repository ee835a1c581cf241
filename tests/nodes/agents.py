"""docs/agents.json: what a program may set in each API workflow, and where it finds what came out.

    python -m tests.nodes.agents

Made from the workflows and from the schemas of the nodes, so that types, limits, defaults and words are those of the
nodes themselves.
"""

from __future__ import annotations

import json
from typing import Any

from tests.nodes.papers import ROOT, inputs, object_info

WORKFLOWS = "workflows/api"
PAGE = "docs/agents.json"
RUNS, SIZE = ("CLVR_Generate", "CLVR_Quick"), ("CLVR_Executor",)
"""Nodes whose inputs a program may set: all of those that make runs, and the size of the executor."""
SIZES = ("width", "height", "steps")
TYPES = {"INT": "integer", "FLOAT": "number", "STRING": "string", "BOOLEAN": "boolean"}
OUTPUTS = {
    "SaveImage": ("picture", "images", "the best picture, as files for /view"),
    "PreviewAny": ("summary", "text", "what came out, in a sentence, and warnings in lines of their own"),
    **dict.fromkeys(RUNS, ("run", "clvr_run", "name of the run, for /clvr/lines and /clvr/canvas")),
}
"""Class of a node -> name of the output, key in the history's `outputs` of the node, words."""


def described(workflow: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    """Return inputs as a JSON Schema of an object, with the node and the input of each, and outputs by name."""
    properties, found = {}, {}
    for number, node in workflow.items():
        kind = node["class_type"]
        if kind in (*RUNS, *SIZE):
            for name, type_, options, _ in inputs(info[kind]):
                if (kind in RUNS or name in SIZES) and (schema := _schema(type_, options)):
                    value = node["inputs"].get(name, schema.get("default"))
                    if not isinstance(value, list):
                        properties[name] = {**schema, "default": value, "x-node": number}
        if kind in OUTPUTS and OUTPUTS[kind][0] not in found:
            name, key, words = OUTPUTS[kind]
            found[name] = {"node": number, "key": key, "description": words}
    return {
        "inputs": {"type": "object", "properties": properties, "required": ["prompt"], "additionalProperties": False},
        "outputs": found,
    }


def _schema(kind: Any, options: dict[str, Any]) -> dict[str, Any] | None:
    """Return the JSON Schema of a widget; None for an input without one."""
    choices = kind if isinstance(kind, list) else options.get("options")
    if isinstance(choices, list):
        limits: dict[str, Any] = {"type": "string", "enum": choices}
    elif kind in TYPES:
        named = {"min": "minimum", "max": "maximum"}
        limits = {"type": TYPES[kind]} | {named[key]: options[key] for key in named if key in options}
    else:
        return None
    return (
        limits
        | {"description": " ".join(options["tooltip"].split())}
        | {key: options[key] for key in ("default",) if key in options}
    )


def page(info: dict[str, Any] | None = None) -> str:
    info = info or object_info()
    paths = sorted((ROOT / WORKFLOWS).glob("*.json"))
    found = {path.name: described(json.loads(path.read_text("utf-8")), info) for path in paths}
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def write() -> None:
    (ROOT / PAGE).write_text(page(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write()
