"""Tiny models of real classes, made once for all tests here."""

from __future__ import annotations

from pathlib import Path

import pytest

from clvr_core.vlm.local import Local, LocalVlm, load_local


@pytest.fixture(scope="session")
def qwen3_vl(tmp_path_factory) -> Path:
    from tests.vlm import tiny

    return tiny.save(tmp_path_factory.mktemp("models") / "qwen3-vl", tiny.qwen3_vl)


@pytest.fixture(scope="session")
def qwen3_5(tmp_path_factory) -> Path:
    from tests.vlm import tiny

    return tiny.save(tmp_path_factory.mktemp("models") / "qwen3.5", tiny.qwen3_5)


@pytest.fixture(scope="session")
def loaded(qwen3_vl, qwen3_5) -> dict[str, LocalVlm]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield {folder.name: load_local(Local(str(folder), "cpu", "float32")) for folder in (qwen3_vl, qwen3_5)}
    torch.set_num_threads(before)
