"""On the path of a Python, makes it one in which diffusers was never installed."""

from __future__ import annotations

from importlib.machinery import PathFinder

find_spec = PathFinder.find_spec


def without(name: str, *rest):
    return None if name.partition(".")[0] == "diffusers" else find_spec(name, *rest)


PathFinder.find_spec = without
