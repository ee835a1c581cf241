"""The folder of caches, and the order in which files go to the processes of pytest-xdist: first those of the browser and
ComfyUI, which have few but long tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clvr_core.http_json import client
from tests.waiting import Clock

LONG = "web", "comfy"


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the tests, and the processes that they start, out of the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("CLVR_CACHE", str(folder))
        yield folder


def pytest_configure(config: pytest.Config) -> None:
    # Else it leaves the files with the fewest tests for the end, when one process waits for the other.
    config.option.loadscopereorder = False


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.parent.name) if item.path.parent.name in LONG else len(LONG))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which servers are waited for, moved by the waiting alone."""
    clock = Clock()
    monkeypatch.setattr(client, "time", clock)
    return clock
