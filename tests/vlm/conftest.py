"""Tiny models of real classes, made once for all tests here."""

from __future__ import annotations

from pathlib import Path

import pytest

from clvr_core.vlm.local import Local, LocalVlm, load_local


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    from tests.vlm import tiny

    place = tmp_path_factory.mktemp("models")
    return {name: tiny.save(place / name, tiny.MODELS[name]) for name in tiny.HERE}


@pytest.fixture(scope="session")
def qwen3_vl(folders) -> Path:
    return folders["qwen3-vl"]


@pytest.fixture(scope="session")
def loaded(folders) -> dict[str, LocalVlm]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield {name: load_local(Local(str(folder), "cpu", "float32")) for name, folder in folders.items()}
    torch.set_num_threads(before)
