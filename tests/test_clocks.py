"""Which clock is read where: one that is set back, or that goes on while the machine sleeps, ends no run."""

from __future__ import annotations

import ast
from pathlib import Path

from .syntax import tree_of

ROOT = Path(__file__).parents[1]
THAT_CAN_BE_SET = {"time": {"time", "time_ns"}, "datetime": {"now", "utcnow", "today"}, "date": {"today"}}
"""Module or class -> its functions."""
ALLOWED = {
    "clvr_core/http_json/wire.py": "a date in a header of a server",
    "clvr_core/merge/run.py": "compared with the times of files",
    "clvr_core/serve/service.py": "the date in an answer, and in the name of a folder",
    "clvr_core/storage/lock.py": "told to the artist, and used for nothing",
}


def test_budgets_and_waits_go_by_a_clock_that_nobody_can_set():
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("clvr_core", "nodes")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(tree_of(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in THAT_CAN_BE_SET.get(ast.unparse(node.value), ())
    }
    assert found == set(ALLOWED)
