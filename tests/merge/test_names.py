"""LoRAs in any naming on any layout. diffusers' converters of checkpoints are the judges of which rows belong together."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders import single_file_utils as judge
from safetensors.torch import load_file

from clvr_core.errors import BadInput
from clvr_core.merge.names import Names
from clvr_core.merge.plan import make_plan
from clvr_core.merge.recipe import Lora, MergeRecipe
from clvr_core.merge.run import merge
from tests.merge import klein
from tests.merge.test_lowrank import check, delta, factors, named, setup
from tests.merge.test_merge import merged


def flux() -> dict[str, int]:
    """Rows of the weights of FLUX.1 in the naming of its authors; diffusers' converter takes its real width only."""
    h = 3072
    rows = {"img_in": h, "txt_in": h, "final_layer.linear": 64, "final_layer.adaLN_modulation.1": 2 * h}
    rows |= {f"{part}_in.{layer}_layer": h for part in ("time", "vector", "guidance") for layer in ("in", "out")}
    for stream in ("img", "txt"):
        block = f"double_blocks.0.{stream}_"
        rows |= {f"{block}mod.lin": 6 * h, f"{block}attn.qkv": 3 * h, f"{block}attn.proj": h}
        rows |= {f"{block}mlp.0": 4 * h, f"{block}mlp.2": h}
        rows |= {f"{block}attn.norm.{each}_norm": 128 for each in ("query", "key")}
    rows |= {"single_blocks.0.linear1": 7 * h, "single_blocks.0.linear2": h, "single_blocks.0.modulation.lin": 3 * h}
    return rows | {f"single_blocks.0.norm.{each}_norm": 128 for each in ("query", "key")}


def z_image() -> dict[str, int]:
    rows = {"x_embedder": 16, "cap_embedder.0": 8, "cap_embedder.1": 16, "t_embedder.mlp.0": 8, "t_embedder.mlp.2": 8}
    rows |= {"final_layer.linear": 4, "final_layer.adaLN_modulation.1": 16}
    for block in ("layers.0", "layers.11", "noise_refiner.1", "context_refiner.0"):
        rows |= {
            f"{block}.attention.{part}": 48 if part == "qkv" else 16 for part in ("qkv", "out", "q_norm", "k_norm")
        }
        rows |= {f"{block}.feed_forward.w{number}": 40 for number in (1, 2, 3)} | {f"{block}.adaLN_modulation.0": 64}
    return rows


def native_of(rows: dict[str, int]) -> dict[str, torch.Tensor]:
    """Weights of one column whose rows are all different."""
    found, start = {}, 0
    for module, count in rows.items():
        kind = "scale" if module.endswith(("query_norm", "key_norm")) else "weight"
        found[f"{module}.{kind}"] = torch.arange(start, start + count)[:, None]
        start += count
    return found


def shapes_of(tensors: dict[str, torch.Tensor], columns: int) -> dict[str, tuple[int, ...]]:
    return {name: (len(value), columns) for name, value in tensors.items()}


def gathered(names: Names, module: str, tensors: dict[str, torch.Tensor]) -> list[int]:
    """The rows of the base that the rows of a delta of this module are added to, in their order."""
    places = sorted(names.find(module), key=lambda place: place.source)
    assert places, module
    rows = [tensors[place.atom][place.first : place.first + place.rows, 0] for place in places]
    assert [place.source for place in places] == [sum(map(len, rows[:index])) for index in range(len(rows))]
    return torch.cat(rows).tolist()


def with_biases(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return tensors | {
        f"{name.removesuffix('weight')}bias": value for name, value in tensors.items() if "weight" in name
    }


FAMILIES = {
    "FLUX.1": (flux, judge.convert_flux_transformer_checkpoint_to_diffusers, 3072),
    "Z-Image": (z_image, judge.convert_z_image_transformer_checkpoint_to_diffusers, 16),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_both_namings_of_a_family_find_the_same_rows_on_either_layout(family):
    rows, convert, columns = FAMILIES[family]
    native = native_of(rows())
    theirs = {name: value for name, value in convert(with_biases(native)).items() if name.endswith("weight")}
    on_native, on_theirs = (Names("plain", shapes_of(each, columns)) for each in (native, theirs))
    for name, value in theirs.items():
        module = name.removesuffix(".weight")
        for spelt in (f"transformer.{module}", "lora_transformer_" + module.replace(".", "_"), module):
            assert gathered(on_native, spelt, native) == value[:, 0].tolist(), spelt
    for name, value in native.items():
        module = name.rpartition(".")[0]
        for spelt in (f"diffusion_model.{module}", "lora_unet_" + module.replace(".", "_"), module.replace(".", "_")):
            assert gathered(on_theirs, spelt, theirs) == value[:, 0].tolist(), spelt


UNETS = {
    "SDXL": {
        "block_out_channels": (8, 16, 16),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": [1, 2, 3],
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 64,
        "use_linear_projection": True,
    },
    "SD 1.5": {
        "block_out_channels": (8, 8, 16, 16),
        "down_block_types": (*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
    },
}


@pytest.mark.parametrize("family", UNETS)
def test_a_unet_has_the_same_weights_in_both_namings(family):
    with torch.device("meta"):
        model = UNet2DConditionModel(cross_attention_dim=8, attention_head_dim=4, norm_num_groups=4, **UNETS[family])
    state = {name: tuple(value.shape) for name, value in model.state_dict().items() if name.endswith(".weight")}
    on_theirs = Names("plain", state)
    prefixes = ("input_blocks.", "output_blocks.", "middle_block.", "time_embed.", "label_emb.", "out.")
    native = {module: found[0].atom for module, found in on_theirs._exact.items() if module.startswith(prefixes)}
    # Of the two names that an upsampler may have, the block's has the right one.
    native = {
        module: atom
        for module, atom in native.items()
        if not module.endswith(".conv") or (".1.conv" in module) != (f"{module[:-6]}1.proj_in" in native)
    }
    checkpoint = {
        f"model.diffusion_model.{module}.weight": torch.tensor([index]) for index, module in enumerate(native)
    }
    theirs = judge.convert_ldm_unet_checkpoint(with_biases(checkpoint), model.config)
    theirs = {name: value for name, value in theirs.items() if name.endswith(".weight")}
    assert theirs.keys() == state.keys()
    on_native = Names("plain", {f"{module}.weight": state[atom] for module, atom in native.items()})
    for module, atom in native.items():
        assert theirs[atom] == checkpoint[f"model.diffusion_model.{module}.weight"], module
        name = atom.removesuffix(".weight")
        for spelt in (f"unet.{name}", "lora_unet_" + name.replace(".", "_")):
            assert [place.atom for place in on_native.find(spelt)] == [f"{module}.weight"], spelt
        assert [place.atom for place in on_theirs.find("lora_unet_" + module.replace(".", "_"))] == [atom]
    old = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.processor"
    assert on_native.find(f"{old}.to_out") == on_native.find("middle_block_1_transformer_blocks_0_attn1_to_out_0") != ()


@pytest.mark.parametrize(
    ("name", "atom"),
    [
        ("double_blocks.0.img_attn_qkv", "transformer_blocks.0.attn.to_q.weight"),
        ("diffusion_model.single_blocks.0.linear1", "single_transformer_blocks.0.attn.to_qkv_mlp_proj.weight"),
        (
            "base_model.model.transformer.single_transformer_blocks.1.attn.to_out",
            "single_transformer_blocks.1.attn.to_out.weight",
        ),
        ("lora_transformer_transformer_blocks_0_attn_to_added_qkv", "transformer_blocks.0.attn.add_q_proj.weight"),
        ("lycoris_transformer_blocks_0_ff_linear_in", "transformer_blocks.0.ff.linear_in.weight"),
    ],
)
def test_names_of_flux2_by_every_trainer(name, atom):
    from clvr_core.weights.layout import atoms_of

    shapes = klein.shapes()
    atoms = {
        each: (shape[0] // len(atoms_of(key, "bfl")), *shape[1:])
        for key, shape in shapes.items()
        for each in atoms_of(key, "bfl")
    }
    assert Names("bfl", atoms).find(name)[0].atom == atom


def test_qwen_image_has_one_naming_that_kohya_encodes():
    names = Names(
        "plain",
        {"transformer_blocks.3.img_mlp.net.0.proj.weight": (8, 4), "transformer_blocks.3.attn.to_out.0.weight": (4, 4)},
    )
    for spelt in (
        "lora_unet_transformer_blocks_3_img_mlp_net_0_proj",
        "transformer.transformer_blocks.3.img_mlp.net.0.proj",
    ):
        assert names.find(spelt)[0].atom == "transformer_blocks.3.img_mlp.net.0.proj.weight"
    assert names.find("diffusion_model.transformer_blocks.3.attn.to_out.0")[0].rows == 4


def test_a_split_lora_is_added_to_its_rows_of_a_fused_weight(tmp_path):
    """Z-Image: q and v of diffusers on ComfyUI's file, and ComfyUI's qkv on diffusers' file."""
    native = {name: torch.randn(len(value), 16) for name, value in native_of(z_image()).items()}
    theirs = {name: value.clone() for name, value in FAMILIES["Z-Image"][1](dict(native)).items()}
    paths = [klein.save(tmp_path / f"{number}.safetensors", each) for number, each in enumerate((native, theirs))]
    pair = torch.randn(2, 16).bfloat16(), torch.randn(48, 2).bfloat16()
    q, v = ((pair[0].clone(), up.clone()) for up in (pair[1][:16], pair[1][32:]))
    block = "layers.11.attention."
    split = klein.save(tmp_path / "s.safetensors", named({f"{block}to_q": q, f"{block}to_v": v}, "transformer."))
    fused = klein.save(tmp_path / "f.safetensors", named({f"{block}qkv": pair}))
    low = delta(pair, 0.5)
    right = dict(theirs)
    for index, name in enumerate(("to_q", "to_k", "to_v")):
        name = f"{block}{name}.weight"
        right[name] = klein.contract(theirs[name], low=low[16 * index : 16 * index + 16], dtype=torch.float32)
    check(merged(tmp_path, MergeRecipe(paths[1], loras=(Lora(fused, 0.5),))), right)
    found = merged(tmp_path, MergeRecipe(paths[0], loras=(Lora(split, 0.5),)), "native.safetensors")
    name, still = f"{block}qkv.weight", low.clone()
    still[16:32] = 0
    assert klein.same_bits(found[name], klein.contract(native[name], low=still, dtype=torch.float32))
    kept = MergeRecipe(paths[0], loras=(Lora(split, 0.5),), keep_lora=True)
    with make_plan(kept) as plan:
        done = merge(plan, tmp_path / "kept.safetensors")
    parts = load_file(done.kept)
    product = parts[f"diffusion_model.{block}qkv.lora_B.weight"] @ parts[f"diffusion_model.{block}qkv.lora_A.weight"]
    torch.testing.assert_close(product, still, rtol=1e-4, atol=1e-5)


ENCODER = "lora_te1_text_model_encoder_layers_0_mlp_fc1"


def test_parts_of_text_encoders_are_merged_where_the_base_holds_them(tmp_path):
    clip, open_clip = "conditioner.embedders.0.transformer.text_model.", "conditioner.embedders.1.model.transformer."
    base = {
        "model.diffusion_model.input_blocks.0.0.weight": torch.randn(4, 4, 3, 3),
        f"{clip}encoder.layers.0.mlp.fc1.weight": torch.randn(12, 8),
        f"{open_clip}resblocks.0.attn.in_proj_weight": torch.randn(24, 8),
        f"{open_clip}resblocks.0.mlp.c_proj.weight": torch.randn(8, 12),
    }
    pairs = {name: (torch.randn(2, columns).bfloat16(), torch.randn(rows, 2).bfloat16()) for name, rows, columns in (
        (ENCODER, 12, 8),
        ("lora_te2_text_model_encoder_layers_0_self_attn_k_proj", 8, 8),
        ("text_encoder_2.text_model.encoder.layers.0.mlp.fc2", 8, 12),
    )}  # fmt: skip
    paths = [klein.save(tmp_path / "b.safetensors", base), klein.save(tmp_path / "l.safetensors", named(pairs, ""))]
    with make_plan(MergeRecipe(paths[0], loras=(Lora(paths[1]),))) as plan:
        assert merge(plan, tmp_path / "out.safetensors").found.warnings == ()
    found, deltas = load_file(tmp_path / "out.safetensors"), [delta(pair, 1.0) for pair in pairs.values()]
    attention = torch.zeros(24, 8)
    attention[8:16] = deltas[1]
    for name, low in zip(list(base)[1:], (deltas[0], attention, deltas[2])):
        assert klein.same_bits(found[name], klein.contract(base[name], low=low, dtype=torch.float32)), name


def test_parts_of_text_encoders_and_embeddings_are_passed_by_in_words_where_the_base_has_none(tmp_path):
    base, distilled, *paths = setup(tmp_path)
    pairs = factors(("txt_in",))
    beside = {
        each: (torch.ones(2, 8), torch.ones(12, 2)) for each in (ENCODER, "text_encoders.t5xxl.transformer.shared")
    }
    tensors = named(pairs) | named(beside, "") | {"bundle_emb.tok.qwen_out": torch.ones(4, 16)}
    file = klein.save(tmp_path / "l.safetensors", tensors)
    with make_plan(MergeRecipe(paths[0], distilled=paths[1], loras=(Lora(file),))) as plan:
        (said,) = merge(plan, tmp_path / "out.safetensors").found.warnings
    assert said == (
        "l.safetensors: 2 modules of text encoders are left out, as the base holds none of theirs (te1, text_encoders.t5xxl)"
    )
    low = delta(pairs["txt_in"], 1.0)
    right = klein.contract(base["txt_in.weight"], distilled=distilled["txt_in.weight"], low=low)
    assert klein.same_bits(load_file(tmp_path / "out.safetensors")["txt_in.weight"], right)
    whole = klein.save(tmp_path / "whole.safetensors", klein.all_in_one(base))
    wrong = named(pairs) | named(
        {"text_encoder.model.layers.7.mlp.up_proj": (torch.ones(2, 16), torch.ones(32, 2))}, ""
    )
    wrong = klein.save(tmp_path / "w.safetensors", wrong)
    with pytest.raises(BadInput, match=r"1 of 2 modules fit no weight of the base \(text_encoder\.model\.layers\.7"):
        make_plan(MergeRecipe(whole, loras=(Lora(wrong),)))


def test_any_name_of_an_adapter_is_read_and_two_in_one_file_are_refused(tmp_path):
    base, distilled, *paths = setup(tmp_path)
    pairs = factors()
    parts = ("lora_A.style-2.weight", "lora_B.style-2.weight")
    file = klein.save(tmp_path / "l.safetensors", named(pairs, "base_model.model.", parts))
    right = {
        name: klein.contract(base[name], distilled=distilled[name], low=delta(pairs[module], 1.0))
        if (module := name.removesuffix(".weight")) in pairs
        else distilled[name]
        for name in base
    }
    check(merged(tmp_path, MergeRecipe(paths[0], distilled=paths[1], loras=(Lora(file),))), right)
    two = named(pairs) | named(pairs, parts=("lora_A.b.weight", "lora_B.b.weight"))
    two = klein.save(tmp_path / "t.safetensors", {name: value.clone() for name, value in two.items()})
    with pytest.raises(BadInput, match="is a second adapter for diffusion_model"):
        make_plan(MergeRecipe(paths[0], distilled=paths[1], loras=(Lora(two),)))
