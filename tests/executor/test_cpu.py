"""Decoding in bfloat16 on a processor that has it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from clvr_core.executor import cpu
from clvr_core.executor.klein import KleinExecutor
from clvr_core.protocols import DrawRequest
from clvr_core.stickers.neural import FOLDER
from clvr_core.stickers.scene import CANVAS

REQUEST = DrawRequest("a red cat and a blue dog", 3, (), CANVAS, CANVAS)


@pytest.mark.parametrize(
    ("able", "expected"), [({"amx_bf16": True}, True), ({"avx512_bf16": True, "amx_bf16": False}, True), ({}, False)]
)
def test_a_processor_has_bfloat16_if_it_says_so(monkeypatch, able, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    cpu.has_bfloat16.cache_clear()
    assert cpu.has_bfloat16() is expected
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    cpu.has_bfloat16.cache_clear()
    assert cpu.has_bfloat16() is False, "a torch that cannot tell"


@pytest.fixture(autouse=True)
def forgotten():
    yield
    cpu.has_bfloat16.cache_clear()


def test_the_decoder_draws_the_same_within_a_few_levels_and_only_where_it_is_asked_to(monkeypatch):
    seen = []

    def drawn(bfloat16: bool, has: bool) -> np.ndarray:
        monkeypatch.setattr(cpu, "has_bfloat16", lambda: False)
        plain = KleinExecutor.load(FOLDER.parent / "merged")
        monkeypatch.setattr(cpu, "has_bfloat16", lambda: has)
        executor = KleinExecutor(plain.pipe, replace(plain.recipe, bfloat16=bfloat16))
        conv = executor.pipe.vae.decoder.conv_out
        conv.register_forward_hook(lambda module, given, made: seen.append(made.dtype))
        return executor.draw([REQUEST])[0].picture.astype(int)

    plain, quick, without = drawn(False, True), drawn(True, True), drawn(True, False)
    assert seen == [torch.float32, torch.bfloat16, torch.float32]
    assert (plain == without).all() and 0 < np.abs(plain - quick).mean() < 1
