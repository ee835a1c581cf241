from __future__ import annotations

from types import SimpleNamespace

from _missing import missing

__getattr__ = missing(__name__)

state = SimpleNamespace(dynprompt=None)
"""Of the prompt that is executing; tests/nodes/graph.py sets it."""


def get_progress_state() -> SimpleNamespace:
    return state
