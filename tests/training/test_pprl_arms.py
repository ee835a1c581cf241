"""benchmarks/pprl_arms.py: each case once for every LoRA, from the same noise, and differences by pairs."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import pprl_arms
from clvr_core.executor.klein import KleinExecutor
from clvr_core.training.adapter import Lora, attach, gathered, save_lora


@pytest.fixture(scope="module")
def lora(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora")
    transformer = KleinExecutor.load(tiny).pipe.transformer
    attach(transformer, Lora(2, 2))
    save_lora(transformer, gathered(transformer), folder)
    return folder


def test_a_lora_that_changes_nothing_is_level_with_the_weights_alone(tiny, rows, lora, tmp_path, monkeypatch):
    monkeypatch.setattr(pprl_arms, "AT_ONCE", 3)
    path = tmp_path / "arms.json"
    order = ["--data", str(rows), "--start", str(tiny), "--lora", "base=-", "--lora", f"zero={lora}"]
    found = pprl_arms.main([*order, "--briefs", "4", "--steps", "1", "--rank", "2", "--json", str(path)])
    assert found["cases"] == {"briefs": 4, "first canvases": 1, "edits": 2}
    assert found["right"]["base"] == found["right"]["zero"] and found["differences"]["base - zero"] == [0, 0, 0]
    assert json.loads(path.read_text())["right"] == found["right"]


def test_the_interval_is_that_of_the_pairs():
    wins = {"a": {"briefs": [1] * 60 + [0] * 40}, "b": {"briefs": [1] * 40 + [0] * 60}}
    gap, low, high = pprl_arms.compared(wins)["a - b"]
    assert gap == pytest.approx(0.2) and 0.1 < low < 0.2 < high < 0.3
    mixed = {"a": {"edits": list(np.tile([0, 1], 50))}, "b": {"edits": list(np.tile([1, 0], 50))}}
    gap, low, high = pprl_arms.compared(mixed)["a - b"]
    assert gap == 0 and low < -0.1 and high > 0.1
