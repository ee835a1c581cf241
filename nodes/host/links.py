"""Links between the nodes of the prompt that ComfyUI executes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

BOUNDARIES = ("CLVR_LoopStart", "CLVR_Reason")
"""Nodes through which a run enters the body of a loop. Their inputs are left out of a digest: the run's own journal
records what they give.
"""


def is_link(value: object) -> bool:
    """Return whether an input's value is a link, [node id, output index], and not a widget's value."""
    return (
        isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], (int, float))
    )


def provenance(dynprompt: Any, node: str, name: str) -> str:
    """Return a digest of everything that the input `name` of this node depends on; empty if it is not linked.

    The digest covers the type and widgets of every node upstream, up to BOUNDARIES, and the fingerprint that a node
    gives of a file it reads.
    """
    known: dict[str, str] = {}
    source = dynprompt.get_node(node)["inputs"].get(name)
    if not is_link(source):
        return ""
    todo = [source[0]]
    while todo:
        at = dynprompt.get_node(todo[-1])
        bounds = at["class_type"] in BOUNDARIES
        inputs = {} if bounds else at["inputs"]
        missing = [value[0] for value in inputs.values() if is_link(value) and value[0] not in known]
        if missing:
            todo += missing
            continue
        resolved = {
            key: [known[value[0]], value[1]] if is_link(value) else value for key, value in sorted(inputs.items())
        }
        changed = [at["is_changed"]] if "is_changed" in at and not bounds else []
        content = json.dumps([at["class_type"], resolved, *changed], default=str)
        known[todo.pop()] = hashlib.sha256(content.encode()).hexdigest()
    return f"{known[source[0]][:32]}:{source[1]}"
