from __future__ import annotations

from typing import NamedTuple

from _missing import missing

__getattr__ = missing(__name__)


class ExecutionContext(NamedTuple):
    prompt_id: str
    node_id: str


current: ExecutionContext | None = None
"""Which node is executing; tests/nodes/graph.py sets it."""


def get_executing_context() -> ExecutionContext | None:
    return current
