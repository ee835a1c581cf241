from __future__ import annotations

from typing import Any

from _missing import missing

__getattr__ = missing(__name__)


def is_link(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)


class GraphBuilder:
    prefix = ""
    """Of the ids of the nodes that are made; tests/nodes/graph.py sets it to the id of the node that expands."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}

    def node(self, class_type: str, id: str) -> Node:
        name = f"{self.prefix}.0.0.{id}"
        return self.nodes.setdefault(name, Node(name, class_type))

    def finalize(self) -> dict[str, dict[str, Any]]:
        return {name: node.serialize() for name, node in self.nodes.items()}


class Node:
    def __init__(self, id: str, class_type: str) -> None:
        self.id, self.class_type, self.inputs, self.display_id = id, class_type, {}, None

    def out(self, index: int) -> list:
        return [self.id, index]

    def set_input(self, key: str, value: Any) -> None:
        self.inputs[key] = value

    def set_override_display_id(self, display_id: str) -> None:
        self.display_id = display_id

    def serialize(self) -> dict[str, Any]:
        return {"class_type": self.class_type, "inputs": self.inputs, "override_display_id": self.display_id}
