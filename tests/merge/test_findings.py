"""What is said about the deltas: norms, cosine, conflicts, survival, outliers; and what is refused because of it."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor
from safetensors.torch import load_file

from clvr_core.errors import BadInput
from clvr_core.merge.picture import COLORS, picture
from clvr_core.merge.plan import make_plan
from clvr_core.merge.recipe import Lora, MergeRecipe
from clvr_core.merge.report import merge_report, merge_summary, save_report
from clvr_core.merge.run import merge
from clvr_core.merge.survey import survey
from tests.merge import klein
from tests.merge.test_lowrank import factors, named
from tests.merge.test_merge import written


def found_in(folder, recipe, **how):
    with make_plan(recipe) as plan:
        done = merge(plan, folder / "out.safetensors", overwrite=True, **how)
        return merge_report(plan, done.found, done.seconds, done.read, done.nbytes)


def whole(tensors, names):
    return torch.cat([tensors[name].double().flatten() for name in names])


@pytest.mark.parametrize("measured", [True, False])
def test_figures_are_those_of_the_whole_tensors(tmp_path, measured):
    base, aligned, distilled = klein.three()
    values = found_in(
        tmp_path, MergeRecipe(*written(tmp_path, ("bfl", "diffusers", "bfl")), alpha=0.7), measured=measured
    )
    assert values["sampled"] is not measured
    for block, figures in (("single_blocks.1", values["blocks"]["single_blocks.1"]), ("", values["model"])):
        names = [name for name in base if name.startswith(block)]
        b, a, d = (whole(each, names) for each in (base, aligned, distilled))
        da, dd = a - b, d - b
        assert figures["parameters"] == len(b)
        assert figures["aligned"]["relative_norm"] == pytest.approx(float(da.norm() / b.norm()), rel=2e-3)
        assert figures["distilled"]["relative_norm"] == pytest.approx(float(dd.norm() / b.norm()), rel=2e-3)
        assert figures["cosine"] == pytest.approx(float(da @ dd / da.norm() / dd.norm()), abs=2e-4)
        both = (da != 0) & (dd != 0)
        assert figures["sign_conflicts"] == pytest.approx(float(((da * dd)[both] < 0).double().mean()), abs=2e-3)
    merged = load_file(tmp_path / "out.safetensors")
    name = "single_blocks.0.linear1.weight"
    b, a, d, out = (each[name].double() for each in (base, aligned, distilled, merged))
    wanted = np.float64(np.float32(0.7)) * (a - b)
    kept = 1 + ((out - (b + wanted + (d - b))) * wanted).sum() / wanted.square().sum()
    assert values["survival"][name]["aligned"] == pytest.approx(float(kept), rel=1e-3)


def test_signs_that_conflict_and_the_cosine_of_opposite_deltas(tmp_path):
    base = klein.weights(dtype=torch.float32)
    aligned = klein.moved(base, 1, 0.02)
    opposite = {name: base[name] - 2 * (aligned[name] - base[name]) for name in base}
    values = found_in(tmp_path, MergeRecipe(*written(tmp_path, tensors=(base, aligned, opposite))))
    assert values["model"]["cosine"] == pytest.approx(-1, abs=1e-3) and values["model"][
        "sign_conflicts"
    ] == pytest.approx(1, abs=1e-3)


def test_the_largest_outlier_is_found_where_it_is(tmp_path):
    base, aligned, distilled = klein.three()
    name = "double_blocks.0.txt_mlp.2.weight"
    distilled[name][3, 5] = base[name][3, 5] + 0.5
    values = found_in(tmp_path, MergeRecipe(*written(tmp_path, tensors=(base, aligned, distilled))), measured=True)
    first = values["outliers"][0]
    assert (first["tensor"], first["delta"], first["element"]) == (name, "distilled", 3 * base[name].shape[1] + 5)
    assert first["times_rms"] > 20 and first["value"] == pytest.approx(0.5, abs=0.01)


def small_lora(folder, relative=3e-4):
    base, _, distilled = klein.three(hidden=64)
    down, up = (torch.randn(shape, generator=torch.Generator().manual_seed(1)) for shape in ((8, 64), (9 * 64, 8)))
    module = "single_blocks.0.linear1"
    up *= relative * base[f"{module}.weight"].float().norm() / (up @ down).norm()
    paths = [klein.save(folder / f"{name}.safetensors", each) for name, each in (("b", base), ("d", distilled))]
    return MergeRecipe(
        paths[0], distilled=paths[1], loras=(Lora(klein.save(folder / "l.safetensors", named({module: (down, up)}))),)
    )


def survival(values):
    return values["survival"]["single_blocks.0.linear1.weight"]["lora"]


def test_a_delta_that_rounding_swallows_is_measured_and_warned_of(tmp_path):
    recipe = small_lora(tmp_path)
    values = found_in(tmp_path, recipe, measured=True)
    assert survival(values) < 0.4
    (warning,) = values["warnings"]
    assert (
        "of the lora delta survives rounding to bf16; below 90% in 1 of 1 tensors, least in single_blocks.0.linear1.weight"
        in warning
    )
    assert "try --rounding stochastic, --dtype fp32, --keep-lora" in warning


def test_stochastic_rounding_and_fp32_keep_it(tmp_path):
    from dataclasses import replace

    recipe = small_lora(tmp_path)
    values = found_in(tmp_path, replace(recipe, dtype="fp32"), measured=True)
    assert survival(values) == pytest.approx(1, abs=1e-3) and values["warnings"] == []
    kept = [
        survival(found_in(tmp_path, replace(recipe, rounding="stochastic", seed=seed), measured=True))
        for seed in range(6)
    ]
    assert np.mean(kept) == pytest.approx(1, abs=0.1)
    assert len(set(kept)) == 6, "each seed rounds in its own way"


def test_weights_of_another_base_are_refused_unless_the_limit_says_otherwise(tmp_path):
    paths = [klein.save(tmp_path / f"{seed}.safetensors", klein.weights(seed)) for seed in (0, 1)]
    with (
        make_plan(MergeRecipe(paths[0], distilled=paths[1])) as plan,
        pytest.raises(BadInput, match=r"was not derived from .*differ by 1[34]\d% of the base's norm"),
    ):
        merge(plan, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
    found_in(tmp_path, MergeRecipe(paths[0], distilled=paths[1], limit=3.0))


def test_the_base_given_as_distilled_is_told(tmp_path):
    base = klein.weights()
    paths = [
        klein.save(tmp_path / f"{name}.safetensors", each)
        for name, each in (("b", base), ("a", klein.moved(base, 1, 0.02)), ("c", base))
    ]
    values = found_in(tmp_path, MergeRecipe(*paths))
    assert values["warnings"] == ["the distilled weights are those of the base; is it the right file?"]


def test_nothing_to_merge_and_strengths_that_are_none_are_refused(tmp_path):
    with pytest.raises(BadInput, match="nothing to merge into the base"):
        MergeRecipe(tmp_path / "b.safetensors")
    with pytest.raises(BadInput, match="--alpha is nan"):
        MergeRecipe(tmp_path / "b.safetensors", tmp_path / "a.safetensors", alpha=float("nan"))


def test_the_sample_of_a_large_tensor_estimates_it(tmp_path):
    base = {"a.0.weight": torch.randn(700, 300, generator=torch.Generator().manual_seed(0))}
    other = {
        "a.0.weight": base["a.0.weight"] + 0.03 * torch.randn(700, 300, generator=torch.Generator().manual_seed(1))
    }
    paths = [klein.save(tmp_path / f"{name}.safetensors", each) for name, each in (("b", base), ("d", other))]
    with make_plan(MergeRecipe(paths[0], distilled=paths[1])) as plan:
        found = survey(plan).findings()
    measures = found.blocks["a.0"]
    assert measures.count == pytest.approx(210_000) and measures.relative_norm("distilled") == pytest.approx(
        0.03, rel=0.05
    )


def test_a_difference_that_the_sample_misses_is_merged_all_the_same(tmp_path):
    base = {"a.weight": torch.ones(400, 300)}
    other = {"a.weight": base["a.weight"].clone()}
    other["a.weight"][77, 123] = 3.0
    paths = [klein.save(tmp_path / f"{name}.safetensors", each) for name, each in (("b", base), ("d", other))]
    found_in(tmp_path, MergeRecipe(paths[0], distilled=paths[1]))
    assert klein.same_bits(load_file(tmp_path / "out.safetensors")["a.weight"], other["a.weight"])


def test_report_and_plot_are_written_and_the_papers_expectation_stands_beside(tmp_path):
    recipe = MergeRecipe(
        *written(tmp_path), loras=(Lora(klein.save(tmp_path / "l.safetensors", named(factors())), 0.1),)
    )
    values = found_in(tmp_path, recipe, measured=True)
    picture = save_report(values, tmp_path / "r.json")
    saved = json.loads((tmp_path / "r.json").read_text())
    assert saved == values
    assert "2 to 3 %" in saved["expected"]["relative_norm"]
    assert set(saved["blocks"]) >= {"double_blocks.0", "single_blocks.0", "single_blocks.1", "txt_in", "final_layer"}
    assert saved["seconds"] > 0 and saved["bytes_written"] > saved["bytes_read"] / 3.5 > 0
    with Image.open(picture) as image:
        assert image.size[0] > 600 and len(set(image.convert("RGB").resize((60, 60)).getdata())) > 10
    text = merge_summary(values)
    assert "expected" in text and "survives rounding" in text and "cosine" in text


def test_the_picture_shows_each_delta_where_it_is(tmp_path):
    """One block's norm is moved, and its points move up; a role that is not there has no colour."""
    values = found_in(tmp_path, MergeRecipe(*written(tmp_path)), measured=True)

    def rows(role, begin=0):
        found = picture(values)[begin:240].astype(int)
        near = np.abs(found - np.array(ImageColor.getrgb(COLORS[role]))).sum(axis=2) < 12
        return np.flatnonzero(near.any(axis=1))

    below_the_legend = 60
    before = rows("distilled", below_the_legend)
    assert len(before) and not len(rows("lora")), "no LoRA, no line, no legend"
    values["blocks"]["txt_in"]["distilled"]["relative_norm"] *= 3
    assert rows("distilled", below_the_legend).min() < before.min() - 5
    assert picture(values).shape[1] > 600


def test_blocks_come_by_number(tmp_path):
    values = found_in(tmp_path, MergeRecipe(*written(tmp_path, tensors=klein.three(hidden=8, single=11))))
    assert [name for name in values["blocks"] if name.startswith("single_b")] == [
        f"single_blocks.{number}" for number in range(11)
    ]


E4 = torch.float8_e4m3fn


def test_the_noise_of_fp8_stands_beside_the_norm_and_its_delta_is_refused_unless_asked_for(tmp_path):
    """bf16 base, fp8 distilled: the noise is the distance of the fp8 values from those that they were rounded from."""
    base, aligned, distilled = klein.three()
    eight = {name: value.to(E4) if value.dim() > 1 else value for name, value in distilled.items()}
    noise, norm, size = (
        sum(float((one[name].double() - two[name].double()).square().sum()) for name in base) ** 0.5
        for one, two in ((eight, distilled), (eight, base), (base, {name: value * 0 for name, value in base.items()}))
    )
    paths = written(tmp_path, tensors=(base, aligned, eight))
    with pytest.raises(BadInput) as caught:
        found_in(tmp_path, MergeRecipe(*paths))
    floor = float(re.search(r"rounding alone makes ([\d.]+)%", str(caught.value))[1]) / 100
    assert floor == pytest.approx(noise / size, rel=0.05)
    assert f"the distilled delta is {norm / size:.2%}" in str(caught.value)
    assert f"{paths[2]} has weights of 8 bits" in str(caught.value) and "--fp8 dequantise" in str(caught.value)
    for measured in (False, True):
        values = found_in(tmp_path, MergeRecipe(*paths, fp8="dequantise"), measured=measured)
        assert values["model"]["distilled"]["noise_floor"] == pytest.approx(floor, rel=1e-2)
        assert "noise_floor" not in values["model"]["aligned"]
        assert any("its square is noise" in each for each in values["warnings"])
        assert f"noise of 8 bits alone {100 * floor:.3g} %" in merge_summary(values)


def test_fp8_without_a_difference_of_checkpoints_is_not_refused(tmp_path):
    base, _, distilled = klein.three()
    eight, file = ({name: value.to(E4) for name, value in each.items()} for each in (base, distilled))
    paths = [klein.save(tmp_path / f"{number}.safetensors", each) for number, each in enumerate((eight, base, file))]
    lora = klein.save(tmp_path / "l.safetensors", named(factors()))
    assert not found_in(tmp_path, MergeRecipe(paths[0], loras=(Lora(lora),), dtype="fp32"))["warnings"]
    # Nothing but the distilled weights themselves in bf16:
    found_in(tmp_path, MergeRecipe(paths[1], distilled=paths[2]))
    assert all(
        torch.equal(value, file[name].bfloat16()) for name, value in load_file(tmp_path / "out.safetensors").items()
    )
    with pytest.raises(BadInput, match=r"0\.safetensors has weights of 8 bits"):
        found_in(tmp_path, MergeRecipe(paths[0], distilled=paths[1], beta=0.5))


def test_codes_of_fp8_without_their_scales_are_warned_of(tmp_path):
    base, _, _ = klein.three()
    codes = {name: (value.float() / value.abs().max() * 448).to(E4) for name, value in base.items()}
    lora = klein.save(tmp_path / "l.safetensors", named(factors()))
    path = klein.save(tmp_path / "b.safetensors", codes)
    (said,) = found_in(tmp_path, MergeRecipe(path, loras=(Lora(lora),), dtype="fp32"))["warnings"]
    matrices = sum(value.dim() > 1 for value in base.values())
    assert (
        said.startswith(f"{matrices} quantised matrices of the base weights are far larger")
        and "scales missing" in said
    )


def test_what_fp8_leaves_of_the_deltas_is_measured_with_its_scales(tmp_path):
    paths = written(tmp_path)
    sampled, measured = (found_in(tmp_path, MergeRecipe(*paths, dtype="fp8"), measured=each) for each in (False, True))
    for role in ("aligned", "distilled"):
        assert 0 < measured["model"][role]["survival"] < 2
    name = "single_blocks.0.linear1.weight"  # small enough to be sampled whole
    assert sampled["survival"][name] == measured["survival"][name]
