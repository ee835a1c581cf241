"""DSWM Merge on a real ComfyUI: tiny Klein-shaped checkpoints that its own loader takes, and its own Save Model as the judge."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from clvr_core.merge.plan import make_plan
from clvr_core.merge.recipe import MergeRecipe
from clvr_core.merge.run import merge
from tests.comfy.graphs import go
from tests.comfy.server import Comfy, Refused, error_of
from tests.merge import klein
from tests.merge.test_lowrank import delta, named
from tests.pixels import close
from tests.waiting import until

NUMBER = itertools.count()
BLOCKS = "single_blocks.* = 0.5, 0.25\n\ndouble_blocks.0=2\ntxt_in = 0, 0"
MODULE = "single_blocks.1.linear2"
BASE, DISTILLED, MERGED = (f"stickers {name} (embedded)" for name in ("base", "distilled", "merged"))
LORA = "stickers aligned LoRA (embedded)"


@pytest.fixture(scope="module")
def three(comfy) -> tuple[dict[str, torch.Tensor], ...]:
    """base, aligned and distilled, which lie in ComfyUI's model folders, the last in diffusers' layout too; and a LoRA."""
    found = klein.three(**klein.LOADABLE)
    models = comfy.base / "models"
    (models / "loras").mkdir(exist_ok=True)
    (folder := models / "diffusion_models" / "merge").mkdir(parents=True, exist_ok=True)
    for name, each in zip(("base", "aligned", "distilled"), found):
        klein.save(folder / f"{name}.safetensors", each)
    klein.save(folder / "base-diffusers.safetensors", klein.to_diffusers(found[0]))
    klein.save(folder / "other.safetensors", klein.weights(**klein.LOADABLE | {"hidden": 384}))
    klein.save(models / "loras" / "small.safetensors", named(lora()))
    with make_plan(MergeRecipe(folder / "base.safetensors", folder / "aligned.safetensors", dtype="fp8")) as plan:
        merge(plan, folder / "eight.safetensors")
    return found


def lora() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    random = torch.Generator().manual_seed(7)
    pair = torch.randn(4, 1024, generator=random) * 0.01, torch.randn(256, 4, generator=random) * 0.1
    return {MODULE: tuple(each.bfloat16() for each in pair)}


def asked(**inputs) -> dict:
    return {
        "base": "base",
        "distilled": "distilled",
        "aligned": "aligned",
        "lora": "none",
        "lora_strength": 1.0,
        "alpha": 1.0,
        "beta": 1.0,
    } | inputs


def files(name: str, then: dict | None = None, **inputs) -> dict:
    """The merge of files is node 1, its summary node 2."""
    inputs = asked(**inputs)
    for role in ("base", "distilled", "aligned"):
        if inputs[role] != "none" and "/" not in inputs[role]:
            inputs[role] = f"merge/{inputs[role]}.safetensors"
    nodes = {"1": {"class_type": "CLVR_DSWMMerge", "inputs": {"name": name, **inputs}}}
    return nodes | {"2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 2]}}} | (then or {})


def saved(model: list, prefix: str) -> dict:
    return {
        "9": {"class_type": "ModelSave", "inputs": {"model": model, "filename_prefix": f"diffusion_models/{prefix}"}}
    }


def loaded(name, number: str = "3") -> dict:
    return {number: {"class_type": "UNETLoader", "inputs": {"unet_name": name, "weight_dtype": "default"}}}


def written(comfy: Comfy, prefix: str) -> dict[str, torch.Tensor]:
    """What Save Model wrote, by Black Forest Labs' names."""
    found = load_file(out(comfy, f"{prefix}_00001_"))
    return {
        name.removeprefix("model.diffusion_model.").replace("_norm.weight", "_norm.scale"): value
        for name, value in found.items()
    }


def out(comfy: Comfy, name: str) -> Path:
    return comfy.base / "output" / "diffusion_models" / f"{name}.safetensors"


def live(
    *, base: str = "base", aligned: str = "", distilled: str = "", aligned_lora: bool = False, **inputs
) -> tuple[dict, str]:
    """Loaders 3 to 5, the merge of models as node 8, Save Model as node 9, and the prefix it saves under."""
    nodes, links = {}, {}
    for number, (role, name) in enumerate({"base": base, "aligned": aligned, "distilled": distilled}.items(), 3):
        if name:
            nodes |= loaded(f"merge/{name}.safetensors", str(number))
            links[role] = [str(number), 0]
    if aligned_lora:
        nodes["6"] = {
            "class_type": "LoraLoaderModelOnly",
            "inputs": {"model": ["3", 0], "lora_name": "small.safetensors", "strength_model": 1.0},
        }
        links["aligned"] = ["6", 0]
    nodes["8"] = {"class_type": "CLVR_DSWMMergeLive", "inputs": {"alpha": 1.0, "beta": 1.0, **links, **inputs}}
    prefix = f"live-{next(NUMBER)}"
    return nodes | saved(["8", 0], prefix), prefix


def strengths(name: str) -> tuple[float, float]:
    """Of BLOCKS."""
    starts = {"single_blocks": (0.5, 0.25), "double_blocks.0": (2.0, 1.0), "txt_in": (0.0, 0.0)}
    return next((pair for start, pair in starts.items() if name.startswith(f"{start}.")), (1.0, 1.0))


def merged(three, name: str, alpha: float, beta: float, dtype: torch.dtype) -> torch.Tensor:
    align, distil = strengths(name)
    return klein.contract(*(each[name] for each in three), alpha * align, beta * distil, dtype=dtype)


def failed(comfy: Comfy, nodes: dict) -> str:
    entry = comfy.run(nodes)
    assert entry["status"]["status_str"] == "error"
    return error_of(entry)


def test_the_stock_loader_takes_the_merged_file_in_the_same_graph(comfy, three):
    entry = go(comfy, files("here", loaded(["1", 0]) | saved(["3", 0], "here-saved"), alpha=0.7, blocks=BLOCKS))
    found, through = load_file(out(comfy, "here")), written(comfy, "here-saved")
    assert found.keys() == through.keys() == three[0].keys()
    for name in found:
        assert klein.same_bits(found[name], merged(three, name, 0.7, 1.0, torch.bfloat16)), name
        assert torch.equal(through[name].float(), found[name].float()), name
    assert entry["outputs"]["1"]["images"], "the report is shown on the node"
    said = "".join(entry["outputs"]["2"]["text"])
    assert "here.safetensors" in said and "cosine" in said and "expected   2 to 3 %" in said


def test_the_merged_file_is_in_the_loaders_list_at_once(comfy, three):
    go(comfy, files("listed"))
    options = comfy.get("/object_info/UNETLoader")["UNETLoader"]["input"]["required"]["unet_name"][0]
    assert "listed.safetensors" in options
    go(comfy, loaded("listed.safetensors") | saved(["3", 0], "listed-saved"))
    assert written(comfy, "listed-saved").keys() == three[0].keys()


def test_a_base_in_diffusers_layout_comes_out_as_the_loader_reads_it(comfy, three):
    go(comfy, files("as-bfl"))
    go(comfy, files("as-diffusers", base="base-diffusers"))
    one, two = (load_file(out(comfy, name)) for name in ("as-bfl", "as-diffusers"))
    assert one.keys() == two.keys() and all(klein.same_bits(one[name], two[name]) for name in one)


def test_the_same_merge_is_not_written_twice_and_another_of_the_name_only_when_asked(comfy, three):
    go(comfy, files("again"))
    before = out(comfy, "again").stat()
    comfy.forget()
    said = "".join(go(comfy, files("again"))["outputs"]["2"]["text"])
    after = out(comfy, "again").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns) and "is this merge already" in said
    assert "again.safetensors exists; choose another name, or give overwrite" in failed(comfy, files("again", beta=0.5))
    go(comfy, files("again", beta=0.5, overwrite=True))
    assert out(comfy, "again").stat().st_ino != before.st_ino


def test_a_lora_is_merged_or_kept_for_the_stock_loader_of_loras(comfy, three):
    base, _, distilled = three
    name = f"{MODULE}.weight"
    go(comfy, files("baked", aligned="none", lora="small.safetensors", lora_strength=0.5, dtype="fp32"))
    baked = load_file(out(comfy, "baked"))
    right = klein.contract(base[name], distilled=distilled[name], low=delta(lora()[MODULE], 0.5), dtype=torch.float32)
    assert klein.same_bits(baked[name], right)
    go(comfy, files("kept", aligned="none", lora="small.safetensors", lora_strength=0.5, keep_lora=True))
    assert all(klein.same_bits(value, distilled[key]) for key, value in load_file(out(comfy, "kept")).items())
    patched = {
        "4": {
            "class_type": "LoraLoaderModelOnly",
            "inputs": {"model": ["3", 0], "lora_name": "kept.safetensors", "strength_model": 1.0},
        }
    }
    go(comfy, loaded("kept.safetensors") | patched | saved(["4", 0], "kept-saved"))
    torch.testing.assert_close(written(comfy, "kept-saved")[name].float(), right, rtol=0, atol=1e-7)


def test_fp8_files_are_refused_or_dequantised_by_choice(comfy, three):
    said = failed(comfy, files("eight", aligned="none", base="eight"))
    assert (
        "base is eight.safetensors, whose fp8 weights" in said
        and "set fp8 to dequantise" in said
        and not out(comfy, "eight").exists()
    )
    go(comfy, files("eight", aligned="none", base="eight", fp8="dequantise"))
    assert {value.dtype for value in load_file(out(comfy, "eight")).values()} == {torch.bfloat16}


def test_the_loader_reads_the_fp8_matrices_of_a_whole_checkpoint_with_their_scales(comfy, three):
    """Its text encoder stays in bf16: ComfyUI reads no scales there."""
    folder = comfy.base / "models" / "diffusion_models" / "merge"
    paths = [
        klein.save(folder / f"whole-{number}.safetensors", klein.all_in_one(each)) for number, each in enumerate(three)
    ]
    with make_plan(MergeRecipe(*paths, dtype="fp8")) as plan:
        merge(plan, folder / "whole.safetensors")
    go(comfy, loaded("merge/whole.safetensors") | saved(["3", 0], "whole-saved"))
    file, found = load_file(folder / "whole.safetensors"), written(comfy, "whole-saved")
    inside = {name: value for name, value in file.items() if name.startswith("model.diffusion_model.")}
    eight = [name for name, value in inside.items() if value.dtype == torch.float8_e4m3fn]
    assert len(eight) == 12 and not any(
        value.dtype == torch.float8_e4m3fn for value in (file[n] for n in file.keys() - inside)
    )
    for name, value in inside.items():
        if not name.endswith("comfy_quant"):  # what is not fp8 is saved in the dtype that it is computed in
            assert klein.same_bits(found[name.removeprefix("model.diffusion_model.")].to(value.dtype), value), name


def test_files_that_do_not_fit_are_refused_in_the_words_of_the_widgets(comfy, three):
    assert "other shapes than" in failed(comfy, files("no", aligned="other"))
    assert "there is nothing to merge into the base; give aligned, distilled or lora" in failed(
        comfy, files("no", aligned="none", distilled="none")
    )
    assert "the pattern 'double_block.9' matches nothing" in failed(comfy, files("no", blocks="double_block.9 = 1"))
    assert "limit is 1%; give the base it was made from, or raise limit" in failed(comfy, files("no", limit=0.01))
    assert not out(comfy, "no").exists()


def test_a_name_that_the_loader_would_find_elsewhere_is_refused(comfy, three):
    klein.save(comfy.base / "models" / "diffusion_models" / "taken.safetensors", three[0])
    assert "the loader would take instead; choose another" in failed(comfy, files("taken"))
    assert not out(comfy, "taken").exists()


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"name": "../out"}, "name is '../out'"),
        ({"name": "a/b"}, "name is 'a/b'"),
        ({"name": ""}, "name is ''"),
        ({"name": "x" * 1_000_000}, "name is 'xxx"),
        ({"blocks": "x = 1\n" * 2_000_000}, "blocks has 12,000,000 characters"),
        ({"blocks": "nonsense"}, "blocks: 'nonsense' is not PATTERN=ALIGN"),
        ({"base": "../../secret.safetensors"}, "not in list"),
        ({"lora": "/etc/passwd"}, "not in list"),
        ({"alpha": 1e9}, "bigger than max"),
        ({"fp8": "maybe"}, "not in list"),
    ],
)
def test_what_no_widget_can_say_is_refused_before_anything_runs(comfy, three, inputs, says):
    before = sorted((comfy.base / "output").rglob("*"))
    nodes = files("hostile", **{key: value for key, value in inputs.items() if key != "name"})
    nodes["1"]["inputs"] |= {key: inputs[key] for key in ("name", "base") if key in inputs}
    del nodes["2"]
    with pytest.raises(Refused) as refused:
        comfy.run(nodes)
    assert says in json.dumps(json.loads(str(refused.value))["node_errors"])
    assert sorted((comfy.base / "output").rglob("*")) == before


def test_a_link_that_the_owner_put_into_a_model_folder_is_read(comfy, three):
    elsewhere = klein.save(comfy.base / "elsewhere.safetensors", three[0])
    link = comfy.base / "models" / "diffusion_models" / "merge" / "link.sft"
    if not link.exists():
        link.symlink_to(elsewhere)
    go(comfy, files("linked", base="merge/link.sft"))
    go(comfy, files("unlinked"))
    one, two = (load_file(out(comfy, name)) for name in ("linked", "unlinked"))
    assert all(klein.same_bits(one[name], two[name]) for name in two)


MORE = {
    "more_loras": "one more",
    "more_loras.lora_2": "small.safetensors",
    "more_loras.strength_2": -0.25,
    "more_loras.more_3": "one more",
    "more_loras.more_3.lora_3": "small.safetensors",
    "more_loras.more_3.strength_3": 0.5,
    "more_loras.more_3.more_4": "none",
}
"""With the first LoRA at 0.75 the sum is 1."""


def test_a_growing_list_of_loras_with_a_factor(comfy, three):
    first = {"lora": "small.safetensors", "lora_strength": 0.75, "lora_factor": 0.5}
    go(comfy, files("list", aligned="none", dtype="fp32", **first, **MORE))
    name = f"{MODULE}.weight"
    right = klein.contract(
        three[0][name], distilled=three[2][name], low=delta(lora()[MODULE], 0.5), dtype=torch.float32
    )
    torch.testing.assert_close(load_file(out(comfy, "list"))[name], right, rtol=0, atol=1e-6)


def test_a_file_that_is_no_choice_of_the_list_is_refused(comfy, three):
    with pytest.raises(Refused) as refused:
        comfy.run(files("no", **MORE | {"more_loras.more_3.lora_3": "/etc/passwd"}))
    assert "not in list" in str(refused.value)


def test_a_preset_and_the_recipe_of_a_merged_file(comfy, three):
    go(comfy, files("styled", preset="style", alpha=0.5))
    found = load_file(out(comfy, "styled"))
    for name, value in found.items():
        alpha = 0.5 * name.startswith("single_blocks.1.")
        assert klein.same_bits(value, klein.contract(*(each[name] for each in three), alpha, 1.0)), name
    go(comfy, files("styled-again", aligned="none", distilled="none", recipe_of="styled.safetensors"))
    again = load_file(out(comfy, "styled-again"))
    assert all(klein.same_bits(value, found[name]) for name, value in again.items())


def sparse(path: Path, first: bytes) -> None:
    """1.3 GB of zeros that take no disk, each tensor beginning with these bytes."""
    size, header, end = 32 << 20, {}, 0
    for index in range(40):
        header[f"blocks.{index}.weight"] = {"dtype": "BF16", "shape": [4096, 4096], "data_offsets": [end, end + size]}
        end += size
    klein.raw_file(path, header, b"")
    start = path.stat().st_size
    os.truncate(path, start + end)
    with path.open("r+b") as file:
        for index in range(40):
            file.seek(start + index * size)
            file.write(first)


def test_cancel_stops_a_merge_of_files_and_leaves_nothing(comfy, three):
    folder = comfy.base / "models" / "diffusion_models" / "merge"
    for name, first in (("zeros", b"\0\x3f" * 8), ("ones", b"\x80\x3f" * 8)):
        sparse(folder / f"{name}.safetensors", first)
    prompt = comfy.queue(files("cancelled", base="zeros", distilled="ones", aligned="none", limit=100.0))
    parts = out(comfy, "x").parent
    until(lambda: list(parts.glob(".cancelled*.part")) or out(comfy, "cancelled").exists(), "the merge", every=0.01)
    comfy.interrupt()
    entry = comfy.wait(prompt)
    assert any(kind == "execution_interrupted" for kind, _ in entry["status"]["messages"]), entry["status"]
    assert not [path.name for path in parts.iterdir() if "cancelled" in path.name]


def test_a_live_merge_has_the_bits_of_the_contract(comfy, three):
    """Loaded on a CPU the weights are fp32, so nothing is rounded that the file's merge would not round."""
    nodes, prefix = live(aligned="aligned", distilled="distilled", alpha=0.7, beta=0.8, blocks=BLOCKS)
    go(comfy, nodes)
    found = written(comfy, prefix)
    for name in three[0]:
        right = merged(three, name, 0.7, 0.8, torch.float32)
        assert torch.equal(found[name].float(), right.to(found[name].dtype).float()), name


def drawn(number: int, model: list) -> dict:
    """Four steps of the stock sampler, saved as picture-NUMBER."""
    sampled = {"seed": 3, "steps": 4, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    links = {"model": model, "positive": ["12", 0], "negative": ["12", 0], "latent_image": ["14", 0]}
    return {
        "11": {"class_type": "Tiny_TextEncoder", "inputs": {"kind": "klein"}},
        "12": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["11", 0], "text": "a barn"}},
        "13": {"class_type": "VAELoader", "inputs": {"vae_name": "taef2"}},
        "14": {"class_type": "EmptyFlux2LatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        f"{number}1": {"class_type": "KSampler", "inputs": sampled | links},
        f"{number}2": {"class_type": "VAEDecode", "inputs": {"samples": [f"{number}1", 0], "vae": ["13", 0]}},
        f"{number}3": {
            "class_type": "SaveImage",
            "inputs": {"images": [f"{number}2", 0], "filename_prefix": f"picture-{number}"},
        },
    }


def test_the_merged_file_and_the_live_merge_draw_the_same_picture(comfy, three):
    """In one graph with the merge: the file's model, the live one, and the base, which draws another picture."""
    nodes, _ = live(aligned="aligned", distilled="distilled", alpha=0.7, blocks=BLOCKS)
    del nodes["9"]
    nodes |= files("drawn", loaded(["1", 0], "7"), alpha=0.7, blocks=BLOCKS, dtype="fp32")
    entry = go(comfy, nodes | drawn(2, ["7", 0]) | drawn(4, ["8", 0]) | drawn(6, ["3", 0]))
    of_file, of_live, of_base = (picture_of(comfy, entry, f"{number}3") for number in (2, 4, 6))
    assert of_file.shape == (64, 64, 3) and of_file.std() > 1
    assert (of_file == of_live).all() and (of_file != of_base).any()


def test_one_delta_alone_and_strengths_of_none(comfy, three):
    base, _, distilled = three
    nodes, prefix = live(distilled="distilled", beta=0.5)
    nothing, untouched = live(distilled="distilled", beta=0.0)
    go(comfy, nodes)
    go(comfy, nothing)
    found, same = written(comfy, prefix), written(comfy, untouched)
    for name in base:
        right = klein.contract(base[name], distilled=distilled[name], beta=0.5, dtype=torch.float32)
        assert torch.equal(found[name].float(), right.to(found[name].dtype).float()), name
        assert torch.equal(same[name].float(), base[name].float()), name


def test_a_lora_goes_on_the_aligned_side_of_a_live_merge(comfy, three):
    base, _, distilled = three
    nodes, prefix = live(distilled="distilled", aligned_lora=True, alpha=0.5)
    go(comfy, nodes)
    found, name = written(comfy, prefix), f"{MODULE}.weight"
    right = klein.contract(base[name], distilled=distilled[name], low=delta(lora()[MODULE], 0.5), dtype=torch.float32)
    torch.testing.assert_close(found[name].float(), right, rtol=0, atol=1e-7)
    assert not torch.equal(found[name].float(), distilled[name].float())
    assert torch.equal(found["txt_in.weight"].float(), distilled["txt_in.weight"].float())


def test_quantised_models_are_refused_or_dequantised_by_choice(comfy, three):
    nodes, _ = live(base="base", distilled="eight")
    assert "distilled has quantised weights" in failed(comfy, nodes)
    nodes, prefix = live(base="base", distilled="eight", fp8="dequantise")
    go(comfy, nodes)
    found, name = written(comfy, prefix), "single_blocks.0.linear1.weight"
    eight = load_file(comfy.base / "models" / "diffusion_models" / "merge" / "eight.safetensors")
    right = eight[name].float() * eight["single_blocks.0.linear1.weight_scale"]
    torch.testing.assert_close(found[name].float(), right, rtol=5e-3, atol=1e-6)


def test_models_that_do_not_fit_are_refused_and_not_left_out_in_silence(comfy, three):
    for inputs, said in (
        (
            {"distilled": "other"},
            "distilled is not a model of the base's kind: 0 weights missing (-), 0 too many (+), ",
        ),
        ({}, "there is nothing to merge into the base; link distilled or aligned"),
        (
            {"distilled": "distilled", "blocks": "double_block.0 = 1"},
            "'double_block.0' matches nothing in base; its blocks are like double_blocks.0",
        ),
    ):
        nodes, _ = live(**inputs)
        assert said in failed(comfy, nodes)


def test_a_live_merge_adds_a_list_of_loras_with_the_factor_of_the_block(comfy, three):
    base, _, distilled = three
    name, listed = f"{MODULE}.weight", {"loras": "one more", "loras.lora_1": "small.safetensors"}
    listed |= {"loras.strength_1": 2.0, "loras.more_2": "none", "lora_factor": 0.5}
    nodes, prefix = live(distilled="distilled", **listed, preset="style", blocks="single_blocks.1 = 0.5, 1")
    go(comfy, nodes)
    found = written(comfy, prefix)
    right = klein.contract(base[name], distilled=distilled[name], low=delta(lora()[MODULE], 0.5), dtype=torch.float32)
    torch.testing.assert_close(found[name].float(), right, rtol=0, atol=1e-7)
    structure, untouched = live(**listed, preset="structure")
    go(comfy, structure)
    assert torch.equal(written(comfy, untouched)[name].float(), base[name].float())
    klein.save(comfy.base / "models" / "loras" / "foreign.safetensors", {"x.lora_A.weight": torch.ones(1, 4)})
    nodes, _ = live(**listed | {"loras.lora_1": "foreign.safetensors"})
    assert "foreign.safetensors has nothing that ComfyUI can load into base" in failed(comfy, nodes)


def stickers(weights: str) -> dict:
    return {"class_type": "CLVR_StickerWeights", "inputs": {"weights": weights}}


def with_stickers(number: int, **inputs) -> dict:
    """One shot of Sticker Models, saved as stickers-NUMBER."""
    settings = {
        "prompt": "two large pink cats in the bottom row at night",
        "strategy": "oneshot",
        "seed": 3,
        "rounds": 1,
    }
    settings |= {"patience": 1, "candidates": 0, "evaluations": 0}
    links = {"vlm": [f"{number}0", 0], "executor": [f"{number}0", 1]}
    return {
        f"{number}0": {"class_type": "CLVR_ShapesModels", "inputs": {"judge_error": 0.0, **inputs}},
        f"{number}1": {"class_type": "CLVR_Generate", "inputs": settings | links},
        f"{number}2": {
            "class_type": "SaveImage",
            "inputs": {"images": [f"{number}1", 0], "filename_prefix": f"stickers-{number}"},
        },
    }


@pytest.mark.weights
def test_the_embedded_weights_loaded_and_merged_draw_as_the_merge_that_is_installed(comfy):
    """It was merged with these strengths and then rounded to bf16, in which a processor that has it decodes too."""
    merged = {"base": ["3", 0], "distilled": ["4", 0], "alpha": 1.0, "beta": 0.85}
    merged |= {"loras": "one more", "loras.lora_1": LORA, "loras.strength_1": 1.0, "loras.more_2": "none"}
    nodes = {"3": stickers(BASE), "4": stickers(DISTILLED), "5": stickers(MERGED)}
    nodes["8"] = {"class_type": "CLVR_DSWMMergeLive", "inputs": merged}
    nodes |= with_stickers(2) | with_stickers(4, model=["5", 0]) | with_stickers(6, model=["8", 0])
    entry = go(comfy, nodes | with_stickers(8, model=["4", 0]))
    own, loaded_again, of_live, of_distilled = (picture_of(comfy, entry, f"{number}2") for number in (2, 4, 6, 8))
    assert close(own, loaded_again)
    difference = abs(of_live.astype(float) - own).mean()
    assert difference < 0.4 < abs(of_distilled.astype(float) - own).mean()


def test_weights_of_other_models_are_refused_where_stickers_are_meant(comfy, three):
    nodes = {"3": stickers("merge/base.safetensors")} | with_stickers(2, model=["3", 0])
    assert "weights is base.safetensors, which is no transformer of the stickers world: " in failed(comfy, nodes)
    nodes = loaded("merge/base.safetensors") | with_stickers(2, model=["3", 0])
    assert "model is no transformer of the stickers world: " in failed(comfy, nodes)


def picture_of(comfy: Comfy, entry: dict, node: str) -> np.ndarray:
    (image,) = entry["outputs"][node]["images"]
    with Image.open(comfy.base / "output" / image["filename"]) as picture:
        return np.array(picture)
