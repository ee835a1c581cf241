"""The folder of caches, and how files go to the processes of pytest-xdist: those of the browser and ComfyUI first, which
have few but long tests, and with few processes all of ComfyUI to one of them, so that one server is started for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clvr_core.http_json import client
from tests.waiting import Clock

LONG = "comfy", "web"
FEW = 3
"""Processes up to which the tests of ComfyUI stay together: their time is then no more than the others' share."""


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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Deal out files, and the folder of the tests of ComfyUI as if it were one."""
    from xdist.scheduler import LoadFileScheduling

    class ByServer(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            together = self.numnodes <= FEW and file.startswith("tests/comfy/")
            return "tests/comfy" if together else file

    return ByServer(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.parent.name) if item.path.parent.name in LONG else len(LONG))


@pytest.fixture
def exact_eyes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge that comes with the embedded world is the sticker world's, and sees what its oracle drew without weights."""
    from clvr_core.world import World
    from tests.stickers.oracle import load_vlm

    monkeypatch.setattr(World, "vlm", lambda world, exact=False: load_vlm())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which servers are waited for, moved by the waiting alone."""
    clock = Clock()
    monkeypatch.setattr(client, "time", clock)
    return clock
