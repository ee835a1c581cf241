"""What a stub says of something that it does not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def missing(module: str) -> Callable[[str], Any]:
    """Make a module's __getattr__."""

    def getter(name: str) -> Any:
        raise AttributeError(
            f"the stub of {module} has no {name!r}; add it to tests/nodes/stub_comfy if a node uses ComfyUI's"
        )

    return getter
