"""Runs that began when the command line had other defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..brief import Brief


def as_begun(brief: Brief, lines: Sequence[Mapping[str, Any]]) -> Brief:
    """Return the brief with what a run on record does otherwise because it began before edits were counted, or before
    runs were guided unless told otherwise.

    lines: of its journal; empty for a new run, whose brief stays.
    """
    if not lines:
        return brief
    recorded = lines[0].get("brief", {})
    if "depth" not in recorded.get("budget", {}):
        brief = replace(brief, budget=replace(brief.budget, depth=None))
    return brief if recorded.get("guided") else replace(brief, guided=False)
