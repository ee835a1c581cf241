"""Merges of further checkpoints, by sum, by elected signs and without the share along the distilled delta."""

from __future__ import annotations

import json
from contextlib import closing
from math import fsum

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from clvr_core.cli import main
from clvr_core.errors import BadInput
from clvr_core.merge import engine, formula, native
from clvr_core.merge.header import RECIPE
from clvr_core.merge.orthogonal import share_along
from clvr_core.merge.plan import make_plan
from clvr_core.merge.recipe import Block, Lora, MergeRecipe
from clvr_core.merge.run import made_before, merge, verify
from clvr_core.merge.survey import survey
from clvr_core.weights import dtypes
from clvr_core.weights.checkpoint import File
from tests.merge import klein
from tests.merge.test_lowrank import factors, named
from tests.merge.test_merge import FORMS, written


@pytest.fixture
def five(tmp_path):
    """base, aligned, distilled and two more checkpoints, as files and in memory."""
    tensors = [*klein.three(), klein.moved(klein.weights(), 8, 0.02), klein.moved(klein.weights(), 9, 0.03)]
    paths = written(tmp_path, ("bfl", "diffusers", "bfl"), tensors)
    for number, each in enumerate(tensors[3:], 1):
        paths.append(klein.save(tmp_path / f"more{number}.safetensors", FORMS["comfyui"](each)))
    return paths, tensors


def recipe_of(paths, **how) -> MergeRecipe:
    return MergeRecipe(
        *paths[:3], alpha=0.7, beta=0.8, added=(Lora(paths[3], 0.5), Lora(paths[4], -0.25)), dtype="fp32", **how
    )


def terms(tensors, name: str) -> tuple[torch.Tensor, list[torch.Tensor]]:
    base, *others = (each[name].float() for each in tensors)
    strengths = torch.tensor([0.7, 0.8, 0.5, -0.25])
    return base, [(other - base) * strength for other, strength in zip(others, strengths)]


def added(values: list[torch.Tensor]) -> torch.Tensor:
    whole = values[0]
    for value in values[1:]:
        whole = whole + value
    return whole


def elected(values: list[torch.Tensor]) -> torch.Tensor:
    signs = added(values).sign()
    return added([torch.where((value.sign() == signs) & (signs != 0), value, 0.0) for value in values])


@pytest.mark.parametrize("combine, sum_of", [("sum", added), ("ties", elected)])
@pytest.mark.parametrize("kernel", [True, False], ids=["kernel", "torch"])
def test_further_checkpoints_are_added_in_the_order_of_the_contract(
    five,
    tmp_path,
    built,
    monkeypatch,
    combine,
    sum_of,
    kernel,
):
    monkeypatch.setattr(native, "kernel", lambda: built if kernel else None)
    paths, tensors = five
    with make_plan(recipe_of(paths, combine=combine)) as plan:
        merge(plan, tmp_path / "out.safetensors")
    for name, value in load_file(tmp_path / "out.safetensors").items():
        base, values = terms(tensors, name)
        assert klein.same_bits(value, base + sum_of(values)), name


def test_the_orthogonal_part_is_perpendicular_to_the_distilled_delta(five, tmp_path, monkeypatch):
    paths, tensors = five
    with make_plan(recipe_of(paths, combine="orthogonal")) as plan:
        merge(plan, tmp_path / "out.safetensors")
    merged = load_file(tmp_path / "out.safetensors")
    name = "single_blocks.1.linear2.weight"
    base, values = terms(tensors, name)
    distilled = values[1].double().flatten()
    beside = (merged[name].double() - base.double()).flatten() - distilled
    assert abs(beside @ distilled) < 1e-5 * distilled.norm() * beside.norm()
    others = added([values[0], values[2], values[3]]).double().flatten()
    share = others @ distilled / (distilled @ distilled)
    assert torch.allclose(beside, others - share * distilled, atol=1e-7)
    assert abs(share) > 1e-3, "the sum was not perpendicular"


def test_the_share_does_not_depend_on_the_order_of_a_sum(five, monkeypatch):
    paths, _ = five
    with make_plan(recipe_of(paths, combine="orthogonal")) as plan:
        segments = [each for each in plan.segments if each.count > 1000]
        before = [share_along(segment) for segment in segments]
        dot = np.dot
        monkeypatch.setattr(np, "dot", lambda left, right: dot(left[::-1], right[::-1]))
        assert [share_along(segment) for segment in segments] == before
        monkeypatch.setattr(np, "dot", lambda left, right: fsum((left * right).tolist()))
        assert [share_along(segment) for segment in segments] == before


@pytest.mark.parametrize("combine", ["ties", "orthogonal"])
def test_the_recipe_is_recorded_verified_and_known_again(five, tmp_path, combine):
    paths, _ = five
    lora = klein.save(tmp_path / "l.safetensors", named(factors()))
    recipe = recipe_of(paths, combine=combine, loras=(Lora(lora, 0.5),), blocks=(Block("txt_in", 0.5),))
    with make_plan(recipe) as plan:
        out = merge(plan, tmp_path / "out.safetensors", threads=1).out
        again = merge(plan, tmp_path / "again.safetensors", threads=3).out
        assert made_before(plan, out)
        assert out.read_bytes()[-plan.nbytes :] == again.read_bytes()[-plan.nbytes :]
    with make_plan(recipe_of(paths)) as plan:
        assert not made_before(plan, out)
    found = verify(out, {})
    assert ("added 2", str(paths[4])) in [(role, str(path)) for role, path in found]
    with closing(File(out)) as file:
        told = json.loads(file.metadata[RECIPE])
        assert (told["v"], told["combine"]) == (2, combine) and "added - base" in file.metadata["dswm.formula"]
    paths[4].rename(tmp_path / "elsewhere.safetensors")
    with pytest.raises(BadInput, match="give it with --add"):
        verify(out, {})
    words = ["merge", "--verify", str(out), "--add", str(paths[3]), "--add", str(tmp_path / "elsewhere.safetensors")]
    assert main(words) == 0


@pytest.mark.parametrize("implementation", ["c", "torch", "numpy"])
@pytest.mark.parametrize("inputs, low_rank", [(1, True), (2, False), (3, True), (8, True)])
def test_every_implementation_elects_the_same_signs(request, implementation, inputs, low_rank):
    if implementation == "c":
        made = engine.KernelEngine(request.getfixturevalue("built"))
    else:
        made = engine.TorchEngine() if implementation == "torch" else engine.Engine()
    random = np.random.default_rng(inputs)
    values = [random.integers(-3, 4, 1501).astype(np.float32) for _ in range(inputs)]
    low = random.integers(-1, 2, 1501).astype(np.float32) if low_rank else None
    strengths = (0.7, -0.3, 1.0, 0.5, 0.25, 0.1, 2.0)[: inputs - 1]
    right = formula.combine(values[0], low_rank=low, more=list(zip(values[1:], strengths)), ties=True)
    rows = [memoryview(dtypes.encode(each, "BF16")) for each in values]
    roles = ("aligned", "distilled", "a", "b", "c", "d", "e")[: inputs - 1]
    block = engine.Block(rows, [("BF16", None)] * inputs, roles, strengths, low, 1501, ties=True)
    assert made.merge(block, "F32")
    assert bytes(made.window[: 4 * 1501]) == right.tobytes()
    plain = formula.combine(values[0], low_rank=low, more=list(zip(values[1:], strengths)))
    assert (right != plain).any() or inputs < 3


def test_the_report_says_for_each_two_deltas_how_they_get_along(five, tmp_path):
    paths, tensors = five
    report = tmp_path / "r.json"
    words = ["--base", paths[0], "--aligned", paths[1], "--distilled", paths[2], "--add", f"{paths[3]}:0.5"]
    assert main(["merge", *map(str, words), "--out", str(tmp_path / "out.safetensors"), "--report", str(report)]) == 0
    told = json.loads(report.read_text())
    found = told["conflicts"]["img_in.weight"]
    assert list(found) == ["aligned, distilled", "aligned, added 1", "distilled, added 1"]
    base, _, distilled, more = (each["img_in.weight"].double().flatten() for each in tensors[:4])
    one, two = distilled - base, more - base
    assert found["distilled, added 1"]["cosine"] == pytest.approx(float(one @ two / one.norm() / two.norm()), abs=1e-3)
    both = (one != 0) & (two != 0)
    alike = float((one.sign() == two.sign())[both].double().mean())
    assert found["distilled, added 1"]["sign_agreement"] == pytest.approx(alike, abs=1e-3)
    norms = [
        sum(float(each[name].double().norm() ** 2) for name in each)
        for each in ({name: tensors[3][name].double() - tensors[0][name].double() for name in tensors[0]}, tensors[0])
    ]
    assert told["model"]["added 1"]["relative_norm"] == pytest.approx((norms[0] / norms[1]) ** 0.5, rel=1e-3)
    assert told["survival"]["img_in.weight"].keys() == {"aligned", "distilled", "added 1"}


def test_what_cannot_be_combined_is_refused(five, tmp_path):
    paths, _ = five
    with pytest.raises(BadInput, match="--add is given 6 times; at most 5"):
        MergeRecipe(paths[0], added=(Lora(paths[3]),) * 6)
    for recipe in (
        MergeRecipe(paths[0], paths[1], combine="orthogonal"),
        MergeRecipe(paths[0], distilled=paths[2], combine="orthogonal"),
    ):
        with pytest.raises(BadInput, match="--combine orthogonal keeps what the others do"):
            make_plan(recipe)
    lora = klein.save(tmp_path / "l.safetensors", named(factors()))
    with pytest.raises(BadInput, match="cannot be the added 1; give a full checkpoint as --add, a LoRA as --lora"):
        make_plan(MergeRecipe(paths[0], added=(Lora(lora),)))
    other = klein.save(tmp_path / "other.safetensors", klein.weights(77))
    with (
        make_plan(MergeRecipe(paths[0], added=(Lora(other),))) as plan,
        pytest.raises(BadInput, match="was not derived"),
    ):
        survey(plan)
