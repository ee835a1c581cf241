"""LoRA and LoKr in the naming of each trainer, against products in fp64. diffusers' own converters are the judges of the names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from clvr_core.errors import BadInput
from clvr_core.merge.plan import make_plan
from clvr_core.merge.recipe import Block, Lora, MergeRecipe
from clvr_core.merge.run import merge
from tests.merge import klein
from tests.merge.test_merge import merged

ROOT = Path(__file__).parents[2]
RANK = 3
MODULES = (
    "double_blocks.0.img_attn.qkv",
    "double_blocks.0.txt_attn.qkv",
    "double_blocks.0.img_attn.proj",
    "double_blocks.0.txt_mlp.0",
    "single_blocks.0.linear1",
    "single_blocks.1.linear2",
    "txt_in",
)


def factors(modules=MODULES, rank=RANK, seed=4, size=0.01):
    random = np.random.default_rng(seed)
    sizes = klein.shapes()
    found = {}
    for module in modules:
        rows, columns = sizes[f"{module}.weight"]
        down, up = (
            torch.from_numpy(random.standard_normal(shape).astype(np.float32)) * size**0.5
            for shape in ((rank, columns), (rows, rank))
        )
        found[module] = (down.bfloat16(), up.bfloat16())
    return found


def named(pairs, prefix="diffusion_model.", parts=("lora_A.weight", "lora_B.weight"), alpha=None, encoded=False):
    found = {}
    for module, pair in pairs.items():
        name = prefix + (module.replace(".", "_") if encoded else module)
        found |= {f"{name}.{part}": value for part, value in zip(parts, pair)}
        if alpha is not None:
            found[f"{name}.alpha"] = torch.tensor(float(alpha))
    return found


def delta(pair, scale):
    down, up = (each.double() for each in pair)
    return (up @ down * scale).float()


def setup(folder, form=lambda each: each):
    base, _, distilled = klein.three()
    return (
        base,
        distilled,
        klein.save(folder / "b.safetensors", form(base)),
        klein.save(folder / "d.safetensors", form(distilled)),
    )


def expected(base, distilled, pairs, scale):
    return {
        name: klein.contract(base[name], distilled=distilled[name], low=delta(pairs[module], scale))
        if (module := name.removesuffix(".weight")) in pairs
        else distilled[name]
        for name in base
    }


def check(found, right):
    assert found.keys() == right.keys()
    for name in right:
        assert klein.same_bits(found[name], right[name]), name


@pytest.mark.parametrize(
    ("how", "metadata", "scale"),
    [
        ({}, {}, 1.0),
        (
            {
                "prefix": "base_model.model.diffusion_model.",
                "parts": ("lora_A.default.weight", "lora_B.default.weight"),
            },
            {},
            1.0,
        ),
        ({"prefix": "transformer.", "parts": ("lora.down.weight", "lora.up.weight"), "alpha": 6}, {}, 2.0),
        (
            {"prefix": "lora_unet_", "parts": ("lora_down.weight", "lora_up.weight"), "alpha": 1.5, "encoded": True},
            {},
            0.5,
        ),
        (
            {"prefix": "", "parts": ("lora_A.weight", "lora_B.weight")},
            {"transformer.lora_alpha": 12, "transformer.r": RANK},
            4.0,
        ),
        ({}, {"lora_alpha": 3, "use_rslora": True}, 3 / 3**0.5),
    ],
)
def test_namings_and_scales(tmp_path, how, metadata, scale):
    base, distilled, *paths = setup(tmp_path)
    pairs = factors()
    file = klein.save(
        tmp_path / "lora.safetensors",
        named(pairs, **how),
        {"lora_adapter_metadata": json.dumps(metadata)} if metadata else None,
    )
    check(
        merged(tmp_path, MergeRecipe(paths[0], distilled=paths[1], loras=(Lora(file, 0.7),))),
        expected(base, distilled, pairs, 0.7 * scale),
    )


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.uint8, torch.float16])
def test_an_alpha_may_be_a_whole_number(tmp_path, dtype):
    base, distilled, *paths = setup(tmp_path)
    pairs = factors()
    tensors = named(pairs, alpha=6)
    tensors = {name: value.to(dtype) if name.endswith("alpha") else value for name, value in tensors.items()}
    file = klein.save(tmp_path / "lora.safetensors", tensors)
    check(
        merged(tmp_path, MergeRecipe(paths[0], distilled=paths[1], loras=(Lora(file),))),
        expected(base, distilled, pairs, 2.0),
    )


def test_alpha_by_module_and_from_the_settings_beside_the_file(tmp_path):
    base, distilled, *paths = setup(tmp_path)
    pairs = factors(("txt_in", "img_in"))
    file = klein.save(tmp_path / "adapter_model.safetensors", named(pairs, "base_model.model."))
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 6, "alpha_pattern": {"img_in": 3}}))
    right = expected(base, distilled, {"txt_in": pairs["txt_in"]}, 2.0)
    right["img_in.weight"] = expected(base, distilled, pairs, 1.0)["img_in.weight"]
    check(merged(tmp_path, MergeRecipe(*paths[:1], distilled=paths[1], loras=(Lora(file),))), right)


def test_a_lora_as_aligned_has_the_strength_alpha(tmp_path):
    base, distilled, *paths = setup(tmp_path)
    pairs = factors()
    file = klein.save(tmp_path / "lora.safetensors", named(pairs))
    check(merged(tmp_path, MergeRecipe(paths[0], file, paths[1], alpha=0.3)), expected(base, distilled, pairs, 0.3))


@pytest.mark.parametrize("naming", ["bfl", "kohya"])
def test_diffusers_own_conversion_of_a_lora_merges_to_the_same_bits(tmp_path, naming):
    from diffusers.loaders import lora_conversion_utils as judge

    _, _, *paths = setup(tmp_path)
    if naming == "bfl":
        ours = named(factors())
        theirs = judge._convert_non_diffusers_flux2_lora_to_diffusers(dict(ours))
    else:
        ours = named(factors(), "lora_unet_", ("lora_down.weight", "lora_up.weight"), RANK, True)
        theirs = judge._convert_kohya_flux2_lora_to_diffusers(dict(ours))
    assert not any("double_blocks" in name for name in theirs)
    left, right = (
        klein.save(tmp_path / f"{name}.safetensors", {key: value.clone() for key, value in each.items()})
        for name, each in (("o", ours), ("t", theirs))
    )
    for number, layout in enumerate(("bfl", "diffusers")):
        one, two = (
            merged(
                tmp_path,
                MergeRecipe(paths[0], distilled=paths[1], loras=(Lora(file),), layout=layout),
                f"{number}{file.name}",
            )
            for file in (left, right)
        )
        check(one, two)


def test_the_last_modulation_swaps_halves_in_a_lora_too(tmp_path):
    base, distilled, *paths = setup(tmp_path)
    (down, up) = factors(("final_layer.adaLN_modulation.1",))["final_layer.adaLN_modulation.1"]
    right = expected(base, distilled, {"final_layer.adaLN_modulation.1": (down, up)}, 1.0)
    shift, scale = up.chunk(2)
    file = klein.save(
        tmp_path / "lora.safetensors", named({"norm_out.linear": (down, torch.cat([scale, shift]))}, "transformer.")
    )
    check(merged(tmp_path, MergeRecipe(paths[0], distilled=paths[1], loras=(Lora(file),))), right)


@pytest.mark.parametrize("form", ["bfl", "diffusers"])
def test_a_merged_lora_is_the_lora_applied_to_distilled_within_one_rounding(tmp_path, form):
    base, distilled, *paths = setup(tmp_path, klein.to_diffusers if form == "diffusers" else lambda each: each)
    pairs = factors()
    found = merged(
        tmp_path,
        MergeRecipe(
            paths[0],
            distilled=paths[1],
            loras=(Lora(klein.save(tmp_path / "l.safetensors", named(pairs))),),
            layout="bfl",
        ),
    )
    for module, pair in pairs.items():
        exact = distilled[f"{module}.weight"].double() + delta(pair, 1.0).double()
        size = torch.maximum(exact.abs(), base[f"{module}.weight"].double().abs())
        step = 2.0 ** (torch.frexp(size)[1] - 8).double()
        assert ((found[f"{module}.weight"].double() - exact).abs() <= step / 2 * 1.001).all(), module


def test_several_loras_and_factors_by_block(tmp_path):
    base, distilled, *paths = setup(tmp_path)
    one, two = factors(seed=5), factors(MODULES[:3], rank=5, seed=6)
    files = [klein.save(tmp_path / f"{number}.safetensors", named(each)) for number, each in enumerate((one, two))]
    recipe = MergeRecipe(
        paths[0],
        distilled=paths[1],
        loras=(Lora(files[0], 0.5), Lora(files[1], -0.25)),
        blocks=(Block("double_blocks.0", 0.5), Block("single_blocks.*", 0)),
    )
    found = merged(tmp_path, recipe)
    for name in base:
        module = name.removesuffix(".weight")
        factor = 0.5 if module.startswith("double") else 0.0 if module.startswith("single") else 1.0
        deltas = [
            delta(pairs[module], scale * factor)
            for pairs, scale in ((one, 0.5), (two, -0.25))
            if module in pairs and factor
        ]
        right = (
            klein.contract(base[name], distilled=distilled[name], low=sum(deltas[1:], deltas[0]))
            if deltas
            else distilled[name]
        )
        assert klein.same_bits(found[name], right), name


@pytest.mark.parametrize("decomposed", ["no", "w2", "both"])
def test_lokr(tmp_path, decomposed):
    base, distilled, *paths = setup(tmp_path)
    random = np.random.default_rng(8)

    def matrix(*shape):
        return torch.from_numpy(random.standard_normal(shape).astype(np.float32) * 0.1).bfloat16()

    shapes = {
        "double_blocks.0.img_attn.qkv": ((6, 4), (8, 4)),
        "txt_in": ((4, 6), (4, 4)),
        "single_blocks.1.linear2": ((2, 8), (8, 8)),
    }
    tensors, right = {}, {name: distilled[name] for name in base}
    for module, (first, second) in shapes.items():
        w1, w2 = matrix(*first), matrix(*second)
        parts = {"lokr_w1": w1, "lokr_w2": w2, "alpha": torch.tensor(5.0)}
        scale = 1.0
        if decomposed != "no":
            a, b = matrix(second[0], 2), matrix(2, second[1])
            del parts["lokr_w2"]
            parts |= {"lokr_w2_a": a, "lokr_w2_b": b}
            w2, scale = a.double() @ b.double(), 5.0 / 2
        if decomposed == "both":
            a, b = matrix(first[0], 2), matrix(2, first[1])
            del parts["lokr_w1"]
            parts |= {"lokr_w1_a": a, "lokr_w1_b": b}
            w1 = a.double() @ b.double()
        tensors |= {f"diffusion_model.{module}.{part}": value for part, value in parts.items()}
        low = (torch.kron(w1.double(), w2.double()) * (0.5 * scale)).float()
        name = f"{module}.weight"
        right[name] = klein.contract(base[name], distilled=distilled[name], low=low)
    file = klein.save(tmp_path / "lokr.safetensors", tensors)
    check(merged(tmp_path, MergeRecipe(paths[0], distilled=paths[1], loras=(Lora(file, 0.5),))), right)
    # Split into q, k, v, a Kronecker product is cut by rows, which has no factors of its own.
    split = merged(
        tmp_path,
        MergeRecipe(paths[0], distilled=paths[1], loras=(Lora(file, 0.5),), layout="diffusers"),
        "split.safetensors",
    )
    check(split, klein.to_diffusers(right))


def test_lokr_in_lycoris_naming_of_diffusers_modules(tmp_path):
    base, distilled, *paths = setup(tmp_path)
    w1, w2 = torch.randn(4, 2) * 0.1, torch.randn(4, 8) * 0.1
    module = "lycoris_transformer_blocks_0_attn_to_k"
    file = klein.save(tmp_path / "l.safetensors", {f"{module}.lokr_w1": w1, f"{module}.lokr_w2": w2})
    found = merged(tmp_path, MergeRecipe(paths[0], distilled=paths[1], loras=(Lora(file),)))
    low = torch.zeros(48, 16)
    low[16:32] = torch.kron(w1.double(), w2.double()).float()
    name = "double_blocks.0.img_attn.qkv.weight"
    rows = slice(16, 32)
    assert klein.same_bits(found[name][rows], klein.contract(base[name], distilled=distilled[name], low=low)[rows])
    assert klein.same_bits(found[name][:16], distilled[name][:16])


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({}, 1.0),
        ({"peft_type": "LOKR", "r": 4, "alpha": 8}, 2.0),
        (
            {
                "peft_type": "LOKR",
                "r": 4,
                "alpha": 8,
                "alpha_pattern": {"txt_in": 2},
                "rank_pattern": {r"^txt_in$": 16},
            },
            0.125,
        ),
        ({"peft_type": "LOKR", "r": 4, "alpha": 8, "alpha_pattern": {"t_in": 2, "^in": 3}}, 2.0),
    ],
)
def test_lokr_of_peft_is_scaled_by_its_settings_also_where_no_factor_is_a_product(tmp_path, settings, scale):
    """peft's LoKrLayer: scaling = alpha / r, of whole factors too, which LyCORIS does not do."""
    base, distilled, *paths = setup(tmp_path)
    w1, w2 = (
        torch.from_numpy(np.random.default_rng(4).standard_normal(shape).astype(np.float32)) * 0.1
        for shape in ((4, 6), (4, 4))
    )
    names = {"base_model.model.txt_in.lokr_w1": w1, "base_model.model.txt_in.lokr_w2": w2}
    file = klein.save(tmp_path / "adapter_model.safetensors", names)
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    right = dict(distilled)
    low = (torch.kron(w1.double(), w2.double()) * (0.5 * scale)).float()
    right["txt_in.weight"] = klein.contract(base["txt_in.weight"], distilled=distilled["txt_in.weight"], low=low)
    check(merged(tmp_path, MergeRecipe(paths[0], distilled=paths[1], loras=(Lora(file, 0.5),))), right)


def test_kohya_names_of_lokr(tmp_path):
    base, distilled, *paths = setup(tmp_path)
    w1, w2 = torch.full((4, 6), 0.01), torch.full((4, 4), 0.02)
    file = klein.save(tmp_path / "l.safetensors", {"lora_unet_txt_in.lokr_w1": w1, "lora_unet_txt_in.lokr_w2": w2})
    right = dict(distilled)
    low = torch.kron(w1.double(), w2.double()).float()
    right["txt_in.weight"] = klein.contract(base["txt_in.weight"], distilled=distilled["txt_in.weight"], low=low)
    check(merged(tmp_path, MergeRecipe(paths[0], distilled=paths[1], loras=(Lora(file),))), right)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lora_alpha": "8"}, "an alpha or a rank is no number"),
        ({"alpha": 8, "r": 0}, "a rank is 0"),
        (
            {"lora_alpha": 8, "alpha_pattern": {"(txt|img)_in": 4}},
            r"by the pattern '\(txt\|img\)_in', and only names are read",
        ),
        ({"use_dora": True}, "is a DoRA"),
    ],
)
def test_settings_that_cannot_be_followed_are_refused(tmp_path, settings, words):
    _, _, *paths = setup(tmp_path)
    file = klein.save(
        tmp_path / "l.safetensors", named(factors(("txt_in",))), {"lora_adapter_metadata": json.dumps(settings)}
    )
    with pytest.raises(BadInput, match=words) as caught:
        make_plan(MergeRecipe(paths[0], distilled=paths[1], loras=(Lora(file),)))
    assert str(file) in str(caught.value)


def test_convolutions(tmp_path):
    base = {"down_blocks.0.conv.weight": torch.randn(6, 4, 3, 3), "mid.weight": torch.randn(5, 5)}
    down, up = (torch.randn(2, 4, 3, 3) * 0.1).bfloat16(), (torch.randn(6, 2, 1, 1) * 0.1).bfloat16()
    file = klein.save(
        tmp_path / "l.safetensors",
        named({"down_blocks.0.conv": (down, up)}, "lora_unet_", ("lora_down.weight", "lora_up.weight"), 1, True),
    )
    found = merged(tmp_path, MergeRecipe(klein.save(tmp_path / "b.safetensors", base), loras=(Lora(file),)))
    low = delta((down.flatten(1), up.flatten(1)), 0.5).view(6, 4, 3, 3)
    assert klein.same_bits(
        found["down_blocks.0.conv.weight"],
        klein.contract(base["down_blocks.0.conv.weight"], low=low, dtype=torch.float32),
    )
    assert klein.same_bits(found["mid.weight"], base["mid.weight"])


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (
            {
                "lora_te_text_model_encoder.lora_down.weight": torch.ones(2, 4),
                "lora_te_text_model_encoder.lora_up.weight": torch.ones(4, 2),
            },
            "1 of 1 modules fit no weight",
        ),
        ({"txt_in.lora_A.weight": torch.ones(2, 24)}, "has only A of lora_A and lora_B"),
        ({"txt_in.lora_A.weight": torch.ones(2, 24), "txt_in.lora_B.weight": torch.ones(16, 3)}, "do not multiply"),
        (
            {"txt_in.lora_A.weight": torch.ones(2, 20), "txt_in.lora_B.weight": torch.ones(16, 2)},
            "a delta of 16 x 20, the base has 16 x 24",
        ),
        (
            {
                "txt_in.lora_A.weight": torch.ones(2, 24),
                "txt_in.lora_B.weight": torch.ones(16, 2),
                "txt_in.dora_scale": torch.ones(15, 1),
            },
            r"dora_scale \[15, 1\] is no magnitude for each of 16 rows",
        ),
        ({"txt_in.hada_w1_a": torch.ones(2, 2), "txt_in.lora_A.weight": torch.ones(2, 24)}, "of several kinds"),
        ({"txt_in.hada_w1_a": torch.ones(2, 2)}, "lacks hada_w1_b, hada_w2_a, hada_w2_b"),
        ({"txt_in.set_weight": torch.ones(16, 24)}, "of a value that replaces the weight"),
        ({"txt_in.oft_blocks": torch.ones(2, 2)}, "of OFT"),
        ({"txt_in.diff_b": torch.ones(16)}, "changes a bias, and the base has none there"),
        ({"txt_in.lokr_w1": torch.ones(2, 2)}, "lacks lokr_w2"),
        (
            {
                f"{module}.lora_{part}.weight": torch.ones(shape)
                for module in ("txt_in", "context_embedder")
                for part, shape in (("A", (2, 24)), ("B", (16, 2)))
            },
            "given a second time",
        ),
        (
            {"txt_in.lora_A.weight": torch.full((2, 24), float("nan")), "txt_in.lora_B.weight": torch.ones(16, 2)},
            "48 values that are NaN",
        ),
        (
            {
                "txt_in.lora_A.weight": torch.ones(2, 24),
                "txt_in.lora_B.weight": torch.ones(16, 2),
                "txt_in.alpha": torch.tensor(float("inf")),
            },
            "not one finite number",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path, tensors, words):
    _, _, *paths = setup(tmp_path)
    file = klein.save(tmp_path / "lora.safetensors", tensors)
    with pytest.raises(BadInput, match=words) as caught:
        merged(tmp_path, MergeRecipe(paths[0], distilled=paths[1], loras=(Lora(file),)))
    assert str(file) in str(caught.value)
    assert not (tmp_path / "out.safetensors").exists()


def test_a_checkpoint_as_lora_and_a_lora_as_base_are_refused(tmp_path):
    _, _, base, distilled = setup(tmp_path)
    file = klein.save(tmp_path / "lora.safetensors", named(factors()))
    with pytest.raises(BadInput, match="no factor of a LoRA"):
        make_plan(MergeRecipe(base, loras=(Lora(distilled),)))
    with pytest.raises(BadInput, match="is a LoRA and cannot be the base"):
        make_plan(MergeRecipe(file, distilled=distilled))


@pytest.mark.parametrize("layout", ["bfl", "diffusers"])
def test_keep_lora_writes_one_lora_of_strength_1_beside_the_merged_file(tmp_path, layout):
    _, distilled, *paths = setup(tmp_path)
    one, two = factors(seed=5), factors(MODULES[:2], rank=2, seed=6)
    theirs = named(
        {"transformer_blocks.0.attn.to_k": factors(("single_blocks.0.linear2",))["single_blocks.0.linear2"]},
        "transformer.",
    )
    theirs["transformer.transformer_blocks.0.attn.to_k.lora_A.weight"] = torch.ones(RANK, 16)
    files = [
        klein.save(tmp_path / f"{number}.safetensors", each)
        for number, each in enumerate((named(one, alpha=6), named(two), theirs))
    ]
    loras = (Lora(files[0], 0.5), Lora(files[1], 2.0), Lora(files[2], 0.1))
    kept = MergeRecipe(paths[0], distilled=paths[1], loras=loras, keep_lora=True, layout=layout)
    with make_plan(kept) as plan:
        done = merge(plan, tmp_path / "kept.safetensors")
    assert done.kept == tmp_path / "kept.lora.safetensors"
    check(load_file(done.out), klein.to_diffusers(distilled) if layout == "diffusers" else distilled)
    again = MergeRecipe(done.out, loras=(Lora(done.kept),), dtype="fp32")
    baked = MergeRecipe(paths[0], distilled=paths[1], loras=loras, layout=layout, dtype="fp32")
    left, right = merged(tmp_path, again, "again.safetensors"), merged(tmp_path, baked, "baked.safetensors")
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=0, atol=3e-8)
    ranks = {value.shape[0] for name, value in load_file(done.kept).items() if "lora_A" in name}
    assert max(ranks) <= RANK + 2 + RANK, "a fused LoRA keeps its rank"


def again_with_another_lora(folder):
    """A merge that kept its LoRA, and one with a LoRA of another strength to be made in its place."""
    _, _, *paths = setup(folder)
    file = klein.save(folder / "l.safetensors", named(factors()))
    (folder / "out").mkdir()
    recipes = [
        MergeRecipe(paths[0], distilled=paths[1], loras=(Lora(file, strength),), keep_lora=True)
        for strength in (1.0, 2.0)
    ]
    out = folder / "out" / "kept.safetensors"
    with make_plan(recipes[0]) as plan:
        merge(plan, out)
    return recipes[1], out


def pair(out):
    return tuple(path.read_bytes() if path.exists() else None for path in (out, out.with_name("kept.lora.safetensors")))


def test_at_no_moment_is_a_kept_lora_beside_the_checkpoint_of_another(tmp_path, monkeypatch):
    recipe, out = again_with_another_lora(tmp_path)
    before, seen, rename = pair(out), [], os.replace

    def watched(*paths):
        rename(*paths)
        seen.append(pair(out))

    monkeypatch.setattr(os, "replace", watched)
    with make_plan(recipe) as plan:
        merge(plan, out, overwrite=True)
    after = pair(out)
    assert before[0] != after[0] and before[1] != after[1] and seen[-1] == after
    assert set(seen) <= {(before[0], None), (after[0], None), after}
    assert {path.name for path in out.parent.iterdir()} == {"kept.safetensors", "kept.lora.safetensors"}


def test_a_checkpoint_that_cannot_take_its_place_leaves_the_lora_as_it_was(tmp_path, monkeypatch):
    recipe, out = again_with_another_lora(tmp_path)
    before, rename = pair(out), os.replace

    def in_use(source, place):
        if place == out:
            raise PermissionError(13, "it is open elsewhere")
        rename(source, place)

    monkeypatch.setattr(os, "replace", in_use)
    with make_plan(recipe) as plan, pytest.raises(BadInput, match=r"it is open elsewhere; .* nothing was changed"):
        merge(plan, out, overwrite=True)
    assert pair(out) == before and len(list(out.parent.iterdir())) == 2


def test_keep_lora_without_a_lora_or_with_lokr_is_refused(tmp_path):
    _, _, *paths = setup(tmp_path)
    with pytest.raises(BadInput, match="--keep-lora has nothing to keep"):
        make_plan(MergeRecipe(paths[0], distilled=paths[1], keep_lora=True))
    file = klein.save(
        tmp_path / "l.safetensors", {"txt_in.lokr_w1": torch.ones(4, 6), "txt_in.lokr_w2": torch.ones(4, 4)}
    )
    with pytest.raises(BadInput, match="is a LoKr"):
        make_plan(MergeRecipe(paths[0], distilled=paths[1], loras=(Lora(file),), keep_lora=True))


@pytest.mark.parametrize(
    "other",
    [
        {"ATEN_CPU_CAPABILITY": "default", "OPENBLAS_CORETYPE": "Nehalem"},
        {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
    ],
)
def test_the_bits_are_the_same_on_another_processor(tmp_path, other):
    """Instruction sets are chosen by torch and by numpy's BLAS at the start, and can be forbidden there."""
    _, _, *paths = setup(tmp_path)
    pairs = {module: tuple(each.float() * 1.1 for each in pair) for module, pair in factors(rank=33).items()}
    lora = klein.save(tmp_path / "lora.safetensors", named(pairs))
    recipe = MergeRecipe(paths[0], distilled=paths[1], loras=(Lora(lora, 0.7),), beta=0.9, dtype="fp32")
    merged(tmp_path, recipe)
    out = tmp_path / "other" / "out.safetensors"
    out.parent.mkdir()
    words = [
        "merge",
        "--base",
        paths[0],
        "--distilled",
        paths[1],
        "--lora",
        f"{lora}:0.7",
        "--beta",
        "0.9",
        "--dtype",
        "fp32",
        "--out",
        out,
    ]
    subprocess.run(
        [sys.executable, "-m", "clvr_core.cli", *words],
        cwd=ROOT,
        env=os.environ | other,
        check=True,
        capture_output=True,
    )
    assert out.read_bytes() == (tmp_path / "out.safetensors").read_bytes()
