"""Quick training computes less exactly and leaves everything else as it was."""

from __future__ import annotations

import json
import os
import shutil
from functools import partialmethod

import pytest
import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from safetensors.torch import load_file
from torch._inductor.runtime.cache_dir_utils import default_cache_dir

from clvr_core.errors import BadInput
from clvr_core.executor.klein import KleinExecutor
from clvr_core.training.compile import CACHE, attention_in_float, compile_blocks, keep_apart
from clvr_core.training.sampler import Condition, TrainingSampler, predict
from clvr_core.training.sft import sft
from clvr_core.training.stage import RECORD
from tests.training.world import WORLD

CPU = torch.device("cpu")


def told(sampler):
    noise = torch.randn(3, 9, sampler.pipe.transformer.config.in_channels, generator=torch.Generator().manual_seed(1))
    return noise, torch.tensor([0.9, 0.5, 0.1]), Condition(sampler.text(["a red cat"]).expand(3, -1, -1))


def outcome(sampler):
    """What it predicts, and the gradient of the square of that."""
    transformer = sampler.pipe.transformer.requires_grad_(True)
    transformer.zero_grad()
    velocity = predict(transformer, *told(sampler))
    velocity.square().mean().backward()
    return velocity.detach(), torch.cat(
        [each.grad.flatten() for each in transformer.parameters() if each.grad is not None]
    )


C_PLUS_PLUS = pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
NIGHTLY = pytest.mark.skipif(not os.environ.get("CLVR_NIGHTLY"), reason="to compile takes a minute: done each night")


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=NIGHTLY)])
@C_PLUS_PLUS
def test_compiled_in_bfloat16_it_predicts_and_learns_nearly_the_same(tiny, monkeypatch, backend):
    """Traced as one graph a block, which is then run as it is, or compiled to the machine's code."""
    whole = partialmethod(ModelMixin.compile_repeated_blocks, backend=backend)
    monkeypatch.setattr(ModelMixin, "compile_repeated_blocks", whole)
    sampler = TrainingSampler(KleinExecutor.load(tiny))
    names = list(sampler.pipe.transformer.state_dict())
    velocity, gradient = outcome(sampler)
    attention = F.scaled_dot_product_attention
    compile_blocks(sampler.pipe.transformer, CPU)
    quick, downhill = outcome(sampler)
    assert quick.dtype == torch.float32 and not torch.equal(quick, velocity)
    assert (quick - velocity).norm() < 0.02 * velocity.norm()
    assert F.cosine_similarity(downhill, gradient, dim=0) > 0.999
    assert F.scaled_dot_product_attention is attention
    assert list(sampler.pipe.transformer.state_dict()) == names
    assert all(each.dtype == torch.float32 for each in sampler.pipe.transformer.parameters())


def test_attention_is_computed_in_float_and_given_back_as_it_came():
    query, key, value = torch.randn(3, 2, 4, 8, 16, generator=torch.Generator().manual_seed(2)).bfloat16()
    exact = F.scaled_dot_product_attention(query.float(), key.float(), value.float(), scale=0.3)
    with attention_in_float(), torch.autocast("cpu", torch.bfloat16):
        found = F.scaled_dot_product_attention(query, key, value, scale=0.3)
    assert found.dtype == torch.bfloat16 and torch.equal(found, exact.bfloat16())


def test_attention_is_put_back_after_an_error():
    before = F.scaled_dot_product_attention
    with pytest.raises(ValueError), attention_in_float():
        raise ValueError
    assert F.scaled_dot_product_attention is before


def test_without_a_compiler_it_says_what_to_do(tiny, monkeypatch):
    import torch._inductor.cpp_builder as builder
    from torch._inductor.exc import InvalidCxxCompiler

    def none():
        raise InvalidCxxCompiler

    monkeypatch.setattr(builder, "get_cpp_compiler", none)
    with pytest.raises(BadInput, match=r"--quick .* no C\+\+ compiler.*install g\+\+, or leave --quick out"):
        compile_blocks(KleinExecutor.load(tiny).pipe.transformer, CPU)


def test_a_stage_says_that_it_was_quick_and_its_lora_is_read_like_any_other(tiny, rows, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(
        "diffusers.ModelMixin.compile_repeated_blocks", lambda self, **options: compiled.append(options)
    )
    config = tmp_path / "sft.json"
    config.write_text(json.dumps({"batch": 2, "lora": {"rank": 2, "alpha": 2}, "schedule": {"steps": 2, "lr": 0.01}}))
    lora = sft(tmp_path / "run", tiny, rows, config, seed=1, world=WORLD, quick=True)
    assert json.loads((lora / RECORD).read_text())["quick"] and compiled == [{"fullgraph": True}]
    state = load_file(lora / "pytorch_lora_weights.safetensors")
    assert all(value.dtype == torch.float32 for value in state.values()) and any(
        value.abs().max() > 0 for value in state.values()
    )


@pytest.mark.parametrize(("named", "apart"), [(None, True), ("usual", True), ("/elsewhere", False)])
def test_kernels_for_another_cpu_are_not_found_again(monkeypatch, named, apart):
    usual = default_cache_dir()
    if named is None:
        monkeypatch.delenv(CACHE, raising=False)
    else:
        monkeypatch.setenv(CACHE, usual if named == "usual" else named)
    keep_apart()
    mine = os.environ[CACHE]
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "OTHER")
    monkeypatch.setenv(CACHE, usual) if apart else None
    keep_apart()
    assert (os.environ[CACHE] == f"{usual}-other" != mine) if apart else (os.environ[CACHE] == mine == "/elsewhere")
