from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from clvr_pack.nodes.host.review_queue import REVIEWS
from clvr_pack.nodes.host.sockets import ExecutorHandle
from clvr_pack.nodes.loop.graph_session import CACHE

from tests.nodes.graph import Patient
from tests.nodes.pack import stubs


class Host:
    """The stubbed ComfyUI of one test."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.server = stubs["server"].PromptServer()
        self.memory = stubs["comfy.model_management"]
        self.Cancelled = self.memory.InterruptProcessingException

    @property
    def runs(self) -> Path:
        return self.base / "output" / "clvr"

    @property
    def texts(self) -> list[str]:
        """What was shown on nodes."""
        return [text for _, text in self.server.texts]

    def events(self, name: str) -> list[Any]:
        return [data for event, data, _ in self.server.sent if event == name]


@pytest.fixture(autouse=True)
def host(tmp_path, monkeypatch):
    """A ComfyUI with empty folders and a server that records what it sends."""
    host = Host(tmp_path / "comfy")
    for name in ("output", "input", "temp", "user", "models"):
        (host.base / name).mkdir(parents=True)
    monkeypatch.setattr(stubs["folder_paths"], "base", host.base)
    monkeypatch.setattr(stubs["server"].PromptServer, "instance", host.server)
    monkeypatch.setattr(host.memory, "interrupted", False)
    monkeypatch.setattr(host.memory, "current_loaded_models", [])
    monkeypatch.setattr(stubs["comfy.utils"].ProgressBar, "shown", [])
    monkeypatch.setattr(stubs["comfy.samplers"].CFGGuider, "made", [])
    yield host
    CACHE.drop()
    REVIEWS.open.clear()
    REVIEWS.tabs.clear()


@pytest.fixture
def executor() -> ExecutorHandle:
    return ExecutorHandle(Patient(), 64, 64, lambda text: None, "weights", step=16)
