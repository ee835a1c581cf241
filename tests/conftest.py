"""The order in which files go to the processes of pytest-xdist: first those of the browser and ComfyUI, which have few but long tests."""

from __future__ import annotations

import pytest

LONG = "web", "comfy"


def pytest_configure(config: pytest.Config) -> None:
    # Else it leaves the files with the fewest tests for the end, when one process waits for the other.
    config.option.loadscopereorder = False


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.parent.name) if item.path.parent.name in LONG else len(LONG))
