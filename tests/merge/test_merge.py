"""Whole merges of small checkpoints, compared bit for bit with the contract written down in torch."""

from __future__ import annotations

import hashlib
import json
import re
from itertools import product

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from clvr_core.errors import BadInput
from clvr_core.merge import engine
from clvr_core.merge.plan import make_plan
from clvr_core.merge.recipe import Block, Lora, MergeRecipe
from clvr_core.merge.run import merge
from tests.merge import klein
from tests.weights.test_checkpoint import sharded


def merged(folder, recipe, name="out.safetensors", **how):
    out = folder / name
    with make_plan(recipe) as plan:
        merge(plan, out, **how)
    return load_file(out)


FORMS = {
    "bfl": lambda each: each,
    "comfyui": lambda each: {f"model.diffusion_model.{name}": value for name, value in each.items()},
    "prefix": lambda each: {f"diffusion_model.{name}": value for name, value in each.items()},
    "diffusers": klein.to_diffusers,
    "pipeline": lambda each: {f"transformer.{name}": value for name, value in klein.to_diffusers(each).items()},
}
"""What a file of FLUX.2 may look like."""


def written(folder, layouts=("bfl", "bfl", "bfl"), tensors=None):
    """base, aligned and distilled as files, each in its own layout."""
    paths = []
    for role, layout, each in zip(("base", "aligned", "distilled"), layouts, tensors or klein.three()):
        path = folder / f"{role}-{layout}.safetensors"
        paths.append(path if path.exists() else klein.save(path, FORMS[layout](each)))
    return paths


def test_every_pair_of_layouts_gives_the_bits_of_the_contract(tmp_path):
    """Each two of base, aligned and distilled meet in every pair of layouts, and each base in every output layout."""
    base, aligned, distilled = klein.three()
    expected = {name: klein.contract(base[name], aligned[name], distilled[name], 1.0, 0.8) for name in base}
    wishes = {"base": None, "bfl": "bfl", "diffusers": "diffusers"}
    tried = set()
    for first, second in product(range(len(FORMS)), repeat=2):
        inputs = [list(FORMS)[place % len(FORMS)] for place in (first, second, first + second)]
        wish = list(wishes)[second % 3]
        of_bfl = inputs[0] in ("bfl", "comfyui", "prefix")
        form = inputs[0] if wish == "base" or (wish == "bfl") is of_bfl else wish
        right = FORMS[form](expected)
        recipe = MergeRecipe(*written(tmp_path, inputs), beta=0.8, layout=wish)
        found = merged(tmp_path, recipe, f"{first}{second}.safetensors", sha256=False)
        assert found.keys() == right.keys(), (inputs, wish)
        assert all(klein.same_bits(found[name], right[name]) for name in right), (inputs, wish)
        tried |= {(*places, inputs[places[0]], inputs[places[1]]) for places in ((0, 1), (0, 2), (1, 2))}
    assert len(tried) == 3 * len(FORMS) ** 2


@pytest.mark.parametrize(
    "sizes", [{"double": 5, "single": 20}, {"double": 8, "single": 24}], ids=["klein-4b", "klein-9b"]
)
def test_all_blocks_of_both_sizes_of_klein_are_merged_across_layouts(tmp_path, sizes):
    tensors = klein.three(hidden=8, text=16, **sizes)
    found = merged(tmp_path, MergeRecipe(*written(tmp_path, ("bfl", "diffusers", "comfyui"), tensors), alpha=0.5))
    assert len(found) == 9 + 12 * sizes["double"] + 4 * sizes["single"]
    for name, base in tensors[0].items():
        assert klein.same_bits(found[name], klein.contract(base, tensors[1][name], tensors[2][name], 0.5)), name


def test_shards_in_a_diffusers_folder_give_the_bytes_of_single_files(tmp_path):
    base, aligned, distilled = klein.three()
    paths = written(tmp_path)
    folders = [tmp_path / f"{role}-pipe" for role in ("base", "aligned", "distilled")]
    for folder, each in zip(folders, (base, aligned, distilled)):
        sharded(folder / "transformer", klein.to_diffusers(each))
    one = merged(tmp_path, MergeRecipe(*paths), "one.safetensors")
    many = merged(tmp_path, MergeRecipe(*folders, layout="bfl"), "many.safetensors")
    assert one.keys() == many.keys() and all(klein.same_bits(one[name], many[name]) for name in one)


def test_diffusers_loads_the_merged_file_itself(tmp_path):
    from diffusers import Flux2Transformer2DModel

    config = {
        "in_channels": klein.CHANNELS,
        "num_layers": 1,
        "num_single_layers": 2,
        "attention_head_dim": klein.HEAD,
        "num_attention_heads": klein.HIDDEN // klein.HEAD,
        "joint_attention_dim": klein.TEXT,
        "timestep_guidance_channels": 256,
        "axes_dims_rope": [2, 2, 2, 2],
        "guidance_embeds": False,
    }
    base, aligned, distilled = klein.three(dtype=torch.float32)
    found = merged(
        tmp_path,
        MergeRecipe(*written(tmp_path, ("bfl", "bfl", "diffusers"), (base, aligned, distilled)), layout="diffusers"),
    )
    model = Flux2Transformer2DModel(**config)
    model.load_state_dict(found, strict=True)
    by_hand = klein.to_diffusers(
        {name: klein.contract(base[name], aligned[name], distilled[name], dtype=torch.float32) for name in base}
    )
    torch.manual_seed(0)
    inputs = {
        "hidden_states": torch.randn(1, 4, klein.CHANNELS),
        "encoder_hidden_states": torch.randn(1, 3, klein.TEXT),
        "timestep": torch.tensor([0.5]),
        "img_ids": torch.zeros(1, 4, 4),
        "txt_ids": torch.zeros(1, 3, 4),
    }
    with torch.no_grad():
        left = model(**inputs).sample
        model.load_state_dict(by_hand)
        assert torch.equal(left, model(**inputs).sample) and left.isfinite().all()


def nasty(base):
    """A model so near to zero in places that base + (other - base) cannot give it back, and with negative zeros."""
    found = klein.moved(base, 5, 0.02)
    for value in found.values():
        flat = value.view(-1)
        flat[::3] *= 2.0**-30
        flat[1::7] = -0.0
    return found


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_identities_hold_bit_for_bit(tmp_path, dtype):
    base = klein.weights(0, dtype)
    other = nasty(base)
    same, path, again = (
        klein.save(tmp_path / f"{name}.safetensors", each) for name, each in (("b", base), ("x", other), ("b2", base))
    )
    alone = merged(tmp_path, MergeRecipe(same, again, path, limit=2), "1.safetensors")
    assert all(klein.same_bits(alone[name], other[name]) for name in base), "aligned = base gives distilled"
    alone = merged(tmp_path, MergeRecipe(same, path, again, limit=2), "2.safetensors")
    assert all(klein.same_bits(alone[name], other[name]) for name in base), "distilled = base gives aligned"
    alone = merged(tmp_path, MergeRecipe(same, path, path, alpha=0.0, beta=0.0), "3.safetensors")
    assert all(klein.same_bits(alone[name], base[name]) for name in base), "strengths of 0 give the base"


def test_the_bytes_do_not_depend_on_threads_blocks_or_windows(tmp_path, monkeypatch):
    paths = written(tmp_path)
    for rounding in ("nearest", "stochastic"):
        sums = set()
        for number, (threads, block, window) in enumerate(
            ((1, 1 << 18, 4 << 20), (2, 1024, 4096), (8, 999, 8192), (3, 1 << 18, 4096))
        ):
            for module in (engine, __import__("clvr_core.merge.stream", fromlist=["x"])):
                monkeypatch.setattr(module, "BLOCK", block)
                monkeypatch.setattr(module, "WINDOW", window)
            monkeypatch.setattr(engine, "ROW", 4 << 18)
            folder = tmp_path / f"{rounding}-{number}"
            folder.mkdir()
            merged(folder, MergeRecipe(*paths, alpha=0.7, rounding=rounding, seed=3), threads=threads)
            sums.add(hashlib.sha256((folder / "out.safetensors").read_bytes()).hexdigest())
        assert len(sums) == 1, rounding


@pytest.mark.parametrize("wish", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float32])
def test_dtypes_in_and_out(tmp_path, stored, wish):
    base, aligned, distilled = klein.three(stored)
    distilled = {name: value.to(torch.float16) for name, value in distilled.items()}
    out = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[wish]
    found = merged(tmp_path, MergeRecipe(*written(tmp_path, tensors=(base, aligned, distilled)), alpha=0.5, dtype=wish))
    for name in base:
        assert klein.same_bits(
            found[name], klein.contract(base[name], aligned[name], distilled[name], 0.5, 1.0, dtype=out)
        ), name


def scaled(tensors, old=False):
    """As ComfyUI stores scaled fp8, or as it did before."""
    found = {"scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn)} if old else {}
    for name, value in tensors.items():
        if value.dim() < 2 or "blocks" not in name:
            found[name] = value
            continue
        scale = value.float().abs().max() / 448
        layer = name.removesuffix(".weight")
        found[name] = (value.float() / scale).clamp(-448, 448).to(torch.float8_e4m3fn)
        found[f"{layer}.scale_weight" if old else f"{layer}.weight_scale"] = scale
        found[f"{layer}.scale_input" if old else f"{layer}.input_scale"] = torch.tensor(1.0)
    return found


def dequantised(tensors):
    kinds = (".weight_scale", ".scale_weight", ".input_scale", ".scale_input", "scaled_fp8")
    found = {}
    for name, value in tensors.items():
        if not name.endswith(kinds):
            layer = name.removesuffix(".weight")
            scale = tensors.get(f"{layer}.weight_scale", tensors.get(f"{layer}.scale_weight"))
            found[name] = (
                value.float() if scale is None or value.dtype != torch.float8_e4m3fn else value.float() * scale
            )
    return found


@pytest.mark.parametrize("old", [False, True])
def test_scaled_fp8_is_read_with_its_scales_and_written_as_bf16(tmp_path, old):
    base, aligned, distilled = klein.three()
    eights = scaled(base, old)
    paths = [klein.save(tmp_path / "b.safetensors", eights), *written(tmp_path, tensors=(base, aligned, distilled))[1:]]
    with make_plan(MergeRecipe(*paths, fp8="dequantise")) as plan:
        warnings = merge(plan, tmp_path / "out.safetensors").found.warnings
    assert any("calibrated input scales" in each for each in warnings)
    found = load_file(tmp_path / "out.safetensors")
    values = dequantised(eights)
    assert found.keys() == base.keys()
    for name in base:
        assert klein.same_bits(found[name], klein.contract(values[name], aligned[name], distilled[name])), name


def test_scaled_fp8_of_diffusers_keeps_three_scales_in_one_fused_tensor(tmp_path):
    base, aligned, distilled = klein.three()
    eights = scaled(klein.to_diffusers(base))
    paths = [klein.save(tmp_path / "b.safetensors", eights), *written(tmp_path, tensors=(base, aligned, distilled))[1:]]
    found = merged(tmp_path, MergeRecipe(*paths, layout="bfl", fp8="dequantise"))
    right = klein.to_diffusers(found)
    values, others = dequantised(eights), [klein.to_diffusers(each) for each in (aligned, distilled)]
    assert right.keys() == values.keys()
    for name in right:
        assert klein.same_bits(right[name], klein.contract(values[name], *(each[name] for each in others))), name


def test_every_quantised_form_is_merged_by_its_values_in_any_layout(tmp_path):
    """Three forms of 8 bits in one fused qkv, and fp8 with a scale for each row in the other matrices."""
    from tests.weights.test_quantised import E5, hadamard, mark

    base, aligned, distilled = klein.three()
    values, files = klein.to_diffusers(base), {}
    for name, value in values.items():
        layer = name.removesuffix(".weight")
        if value.dim() < 2 or "blocks" not in name:
            files[name] = value
            continue
        whole = value.float()
        rows = whole.abs().amax(1, keepdim=True) / 120
        if layer.endswith("to_k"):
            turned = (whole.double() @ hadamard(16)).float()
            files[name] = (turned / rows).round().clamp(-127, 127).to(torch.int8)
            files[f"{layer}.comfy_quant"] = mark(format="int8_tensorwise", convrot=True, convrot_groupsize=16)
            codes = files[name].double() @ hadamard(16)
        else:
            files[name] = (whole / rows).to(E5 if layer.endswith("to_v") else torch.float8_e4m3fn)
            codes = files[name].double()
        files[f"{layer}.weight_scale"] = rows
        values[name] = (codes * rows.double()).float()
    paths = [klein.save(tmp_path / "b.safetensors", files), *written(tmp_path, tensors=(base, aligned, distilled))[1:]]
    right = [klein.to_diffusers(each) for each in (aligned, distilled)]
    for number, layout in enumerate(("bfl", "diffusers")):
        found = merged(tmp_path, MergeRecipe(*paths, layout=layout, fp8="dequantise"), f"{number}.safetensors")
        found = klein.to_diffusers(found) if layout == "bfl" else found
        assert found.keys() == values.keys()
        for name in values:
            assert klein.same_bits(found[name], klein.contract(values[name], *(each[name] for each in right))), name


def test_a_lora_on_integers_is_refused_unless_they_are_left_out(tmp_path):
    base = {"a.weight": torch.ones(8, 4, dtype=torch.int8), "b.weight": torch.ones(8, 4)}
    lora = {
        f"{name}.lora_{part}.weight": torch.ones(size) for name in "ab" for part, size in (("A", (2, 4)), ("B", (8, 2)))
    }
    paths = [klein.save(tmp_path / f"{number}.safetensors", each) for number, each in enumerate((base, lora))]
    with pytest.raises(
        BadInput, match=r"0\.safetensors: a\.weight is I8 without scales of any known quantiser, and a LoRA"
    ):
        make_plan(MergeRecipe(paths[0], loras=(Lora(paths[1]),)))
    found = merged(tmp_path, MergeRecipe(paths[0], loras=(Lora(paths[1]),), exclude=("a",)))
    assert klein.same_bits(found["a.weight"], base["a.weight"]) and (found["b.weight"] == 3).all()


def test_fp8_is_written_when_asked_with_new_scales(tmp_path):
    base, aligned, distilled = klein.three()
    merged(tmp_path, MergeRecipe(*written(tmp_path), dtype="fp8"))
    found = load_file(tmp_path / "out.safetensors")
    marks = {
        name.removesuffix(".comfy_quant"): bytes(value.tolist())
        for name, value in found.items()
        if name.endswith(".comfy_quant")
    }
    layers = marks.keys()
    assert {f"{layer}.weight" for layer in layers} == {
        name for name in base if "blocks" in name and base[name].dim() == 2
    }
    assert {json.loads(mark)["format"] for mark in marks.values()} == {"float8_e4m3fn"}
    assert found.keys() == base.keys() | {
        f"{layer}.{more}" for layer in layers for more in ("weight_scale", "comfy_quant")
    }
    for name in base:
        exact = klein.contract(base[name], aligned[name], distilled[name], dtype=torch.float32)
        layer = name.removesuffix(".weight")
        if layer in layers:
            scale = exact.abs().max() / 448
            assert torch.equal(found[f"{layer}.weight_scale"], scale)
            assert klein.same_bits(found[name], (exact / scale).clamp(-448, 448).to(torch.float8_e4m3fn)), name
        else:
            assert klein.same_bits(found[name], exact.bfloat16()), name
    # And read again.
    again = merged(
        tmp_path,
        MergeRecipe(tmp_path / "out.safetensors", tmp_path / "aligned-bfl.safetensors", fp8="dequantise"),
        "again.safetensors",
    )
    values = dequantised({name: value for name, value in found.items() if not name.endswith("comfy_quant")})
    assert all(klein.same_bits(again[name], klein.contract(values[name], aligned[name])) for name in base)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float8_e4m3fn])
def test_of_a_whole_checkpoint_only_the_diffusion_models_matrices_become_fp8(tmp_path, stored):
    """Whatever the text encoder and the VAE are stored in."""
    base, aligned, _ = (klein.all_in_one(each) for each in klein.three())
    beside = {name for name in base if not name.startswith("model.diffusion_model.")}
    base |= {name: base[name].to(stored) for name in beside}
    paths = [klein.save(tmp_path / f"{number}.safetensors", each) for number, each in enumerate((base, aligned))]
    found = merged(tmp_path, MergeRecipe(*paths, dtype="fp8", fp8="dequantise"))
    eight = {name for name, value in found.items() if value.dtype == torch.float8_e4m3fn}
    assert eight == {name for name in base if "_blocks." in name and base[name].dim() == 2}
    assert {found[name].dtype for name in beside} == {torch.bfloat16}
    scales = {name for name in found if name.endswith(("weight_scale", "comfy_quant"))}
    assert len(scales) == 2 * len(eight) and all(name.startswith("model.diffusion_model.") for name in scales)


def other_models():
    """Tiny models of other families, by their own classes."""
    import diffusers

    rope = {"axes_dims_rope": (2, 2, 4)}
    heads = {"attention_head_dim": 8, "num_attention_heads": 2}
    yield (
        "FLUX.1",
        diffusers.FluxTransformer2DModel(
            in_channels=4,
            num_layers=1,
            num_single_layers=1,
            joint_attention_dim=16,
            pooled_projection_dim=16,
            guidance_embeds=True,
            **rope,
            **heads,
        ),
    )
    yield (
        "Qwen-Image",
        diffusers.QwenImageTransformer2DModel(
            in_channels=4, out_channels=4, num_layers=1, joint_attention_dim=16, **rope, **heads
        ),
    )
    yield (
        "Z-Image",
        diffusers.ZImageTransformer2DModel(
            in_channels=4,
            dim=16,
            n_layers=1,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=16,
            axes_dims=[2, 2, 4],
            axes_lens=[8, 8, 8],
        ),
    )
    yield (
        "SDXL",
        diffusers.UNet2DConditionModel(
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            cross_attention_dim=16,
            attention_head_dim=4,
            norm_num_groups=4,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=64,
        ),
    )


def test_models_of_other_families_are_merged_key_by_key(tmp_path):
    torch.manual_seed(0)
    for name, model in other_models():
        base = {key: value.bfloat16() for key, value in model.state_dict().items()}
        aligned, distilled = klein.moved(base, 1, 0.02), klein.moved(base, 2, 0.02)
        assert len(base) > 40, name
        (folder := tmp_path / name).mkdir()
        found = merged(folder, MergeRecipe(*written(folder, tensors=(base, aligned, distilled)), alpha=0.7))
        assert found.keys() == base.keys(), name
        for key in base:
            assert klein.same_bits(found[key], klein.contract(base[key], aligned[key], distilled[key], 0.7)), (
                name,
                key,
            )


def test_another_model_is_merged_key_by_key_and_its_integers_are_copied(tmp_path):
    base = {
        "input_blocks.1.0.weight": torch.randn(8, 4, 3, 3),
        "out.bias": torch.randn(8),
        "scale": torch.tensor(2.0),
        "positions": torch.arange(5),
        "flag": torch.tensor([True]),
        "empty": torch.zeros(0, 3),
    }
    other = {name: value * 1.01 if value.is_floating_point() else value for name, value in base.items()}
    prefixed = {f"unet.{name}": value for name, value in other.items()}
    found = merged(
        tmp_path,
        MergeRecipe(
            klein.save(tmp_path / "b.safetensors", base),
            distilled=klein.save(tmp_path / "d.safetensors", prefixed),
            beta=0.5,
        ),
    )
    assert found.keys() == base.keys()
    for name, value in base.items():
        right = (
            klein.contract(value, distilled=other[name], beta=0.5, dtype=torch.float32)
            if value.is_floating_point()
            else value
        )
        assert klein.same_bits(found[name], right), name
    changed = other | {"positions": torch.arange(5) + 1}
    with pytest.raises(BadInput, match=r"positions \(I64\) differs from .*b\.safetensors, and integers are not merged"):
        merged(
            tmp_path,
            MergeRecipe(tmp_path / "b.safetensors", distilled=klein.save(tmp_path / "e.safetensors", changed)),
            "no.safetensors",
        )


def test_strengths_by_block_by_pattern_and_by_tensor(tmp_path):
    base, aligned, distilled = klein.three()
    blocks = (
        Block("single_blocks.*", 0.5, 0.25),
        Block("single_blocks.1", 0.1),
        Block("txt_in", 0.0),
        Block("*.linear2.weight", 2.0, 3.0),
    )
    recipe = MergeRecipe(
        *written(tmp_path, ("bfl", "bfl", "diffusers")), alpha=0.8, beta=0.9, blocks=blocks, exclude=("time_in",)
    )
    found = merged(tmp_path, recipe)

    def strengths(name):
        factors = {
            "single_blocks.0": (0.5, 0.25),
            "single_blocks.1": (0.1, 1.0),
            "txt_in.weight": (0.0, 1.0),
            "time_in": (0.0, 0.0),
        }
        align, distil = next((pair for start, pair in factors.items() if name.startswith(start)), (1.0, 1.0))
        if name.endswith("linear2.weight"):
            align, distil = 2.0, 3.0
        return 0.8 * align, 0.9 * distil

    for name in base:
        assert klein.same_bits(
            found[name], klein.contract(base[name], aligned[name], distilled[name], *strengths(name))
        ), name


def test_include_leaves_the_rest_as_in_the_base(tmp_path):
    base, _, distilled = klein.three()
    found = merged(
        tmp_path, MergeRecipe(*written(tmp_path)[::2], include=("double_blocks",))
    )  # the second path is aligned's place
    for name in base:
        assert klein.same_bits(found[name], (distilled if name.startswith("double_blocks") else base)[name]), name


def test_a_pattern_that_matches_nothing_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"'double_block\.0' matches nothing .* double_blocks\.0"):
        make_plan(MergeRecipe(*written(tmp_path), blocks=(Block("double_block.0", 0.5),)))


def test_different_keys_are_listed_with_the_nearest_name(tmp_path):
    base, aligned, _ = klein.three()
    aligned["img_inn.weight"] = aligned.pop("img_in.weight")
    paths = written(tmp_path, tensors=(base, aligned))
    with pytest.raises(BadInput) as caught:
        make_plan(MergeRecipe(*paths))
    assert (
        "1 missing (-), 1 too many (+): -img_in.weight (near img_inn.weight), +img_inn.weight (near img_in.weight);"
        in str(caught.value)
    )
    many = klein.weights(double=4, single=6)
    with pytest.raises(BadInput) as caught:
        make_plan(MergeRecipe(paths[0], klein.save(tmp_path / "many.safetensors", many)))
    assert str(caught.value).count("+") == 21 and "more; use a base of the same model" in str(caught.value)


@pytest.mark.parametrize("whole", ["base", "distilled", "both"])
def test_what_matches_is_merged_and_the_rest_passed_by_in_words(tmp_path, whole):
    """A whole checkpoint beside a file of the diffusion model alone, in either place, with averaged copies and buffers."""
    base, _, distilled = klein.three()
    inputs = {"base": base, "distilled": distilled}
    for number, role in enumerate(inputs):
        if whole in (role, "both"):
            more = {
                "model_ema.img_inweight": torch.ones(3),
                "betas": torch.ones(5),
                "model_ema.num_updates": torch.tensor(7),
            }
            more = {name: value + number for name, value in more.items()}
            inputs[role] = klein.all_in_one(inputs[role], seed=number) | more
    paths = {role: klein.save(tmp_path / f"{role}.safetensors", each) for role, each in inputs.items()}
    with make_plan(MergeRecipe(paths["base"], distilled=paths["distilled"], beta=0.5)) as plan:
        warnings = merge(plan, tmp_path / "out.safetensors").found.warnings
    found = load_file(tmp_path / "out.safetensors")
    assert found.keys() == inputs["base"].keys()
    prefix = "model.diffusion_model." if whole != "distilled" else ""
    for name in base:
        right = klein.contract(base[name], distilled=distilled[name], beta=0.5)
        assert klein.same_bits(found[prefix + name], right), name
    for name, value in inputs["base"].items():
        if name.startswith(("model_ema.", "betas")) or (whole == "base" and not name.startswith(prefix)):
            assert klein.same_bits(found[name], value), name
    told = {
        "base": "text_encoders (2 tensors), vae (2 tensors), model_ema (2 tensors), betas (1 tensor) of the base keep their values",
        "distilled": "text_encoders (2 tensors), vae (2 tensors), model_ema (2 tensors), betas (1 tensor) of distilled.saf",
        "both": "model_ema (2 tensors) of the base keep their values",
    }[whole]
    assert len(warnings) == 1 and sorted(re.findall(r"\w+ \(\d", told)) == sorted(re.findall(r"\w+ \(\d", warnings[0]))
    assert told.rpartition(")")[2] in warnings[0]


def test_another_size_of_the_model_is_refused(tmp_path):
    paths = [klein.save(tmp_path / f"{hidden}.safetensors", klein.weights(hidden=hidden)) for hidden in (16, 24)]
    with pytest.raises(
        BadInput, match=r"other shapes .* in 21 tensors: double_blocks.*use one size of one model, 4B or 9B"
    ):
        make_plan(MergeRecipe(*paths))


def test_metadata_tells_how_the_file_was_made_and_nothing_of_this_machine(tmp_path):
    paths = written(tmp_path, ("comfyui", "bfl", "diffusers"))
    merged(tmp_path, MergeRecipe(*paths, beta=0.8))
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        found = file.metadata()
    recipe = json.loads(found["dswm.recipe"])
    assert (recipe["alpha"], recipe["beta"]) == (1.0, 0.8)
    for entry, path in zip(recipe["inputs"], paths):
        (part,) = entry["files"]
        assert part == {
            "name": path.name,
            "size": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
    assert found["modelspec.sai_model_spec"] == "1.0.0" and found["modelspec.title"] == "out"
    assert found["modelspec.merged_from"] == "base-comfyui, aligned-bfl, distilled-diffusers"
    assert found["dswm.formula"].startswith("merged = base + alpha * (aligned - base)")
    assert str(tmp_path) not in json.dumps(found)


def test_safetensors_reads_the_file_and_its_data_starts_on_a_page(tmp_path):
    merged(tmp_path, MergeRecipe(*written(tmp_path)))
    raw = (tmp_path / "out.safetensors").read_bytes()
    assert (8 + int.from_bytes(raw[:8], "little")) % 4096 == 0
