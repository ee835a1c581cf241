"""Presets: which tensors of Klein each word changes, and that a merged file keeps the blocks and not the word."""

from __future__ import annotations

import json

import pytest

from clvr_core.errors import BadInput
from clvr_core.merge.plan import make_plan
from clvr_core.merge.presets import PRESETS, preset_blocks
from clvr_core.merge.recipe import Block, MergeRecipe, factors
from clvr_core.merge.run import merge
from clvr_core.weights.checkpoint import File
from tests.merge import klein
from tests.merge.test_merge import written

SIZES = {"4B": (5, 20), "9B": (8, 24)}


def names(size: str) -> list[str]:
    double, single = SIZES[size]
    return [name.removesuffix(".weight") for name in klein.shapes(double=double, single=single)]


def blocks(size: str) -> list[str]:
    double, single = SIZES[size]
    return [*(f"double_blocks.{i}" for i in range(double)), *(f"single_blocks.{i}" for i in range(single)), "txt_in"]


def changed(preset: str, size: str) -> set[str]:
    found = preset_blocks(preset, blocks(size))
    return {name for name in names(size) if factors(found, (name,))[0]}


@pytest.mark.parametrize(("size", "half"), [("4B", 10), ("9B", 12)])
def test_the_words_mean_the_documented_blocks(size, half):
    double, single = SIZES[size]
    structure, style = changed("structure", size), changed("style", size)
    assert not structure & style
    starts = {".".join(name.split(".")[:2]) for name in structure}
    assert starts == {f"double_blocks.{i}" for i in range(double)} | {f"single_blocks.{i}" for i in range(half)}
    assert {".".join(name.split(".")[:2]) for name in style} == {f"single_blocks.{i}" for i in range(half, single)}
    assert f"{half} to {single - 1}" in PRESETS["style"].words and f"0 to {half - 1}" in PRESETS["structure"].words
    text = changed("text", size)
    assert {name.split(".")[2].split("_")[0] for name in text if name != "txt_in"} == {"txt"} and "txt_in" in text
    left = set(names(size)) - changed("steps", size)
    assert {name.split(".")[0] for name in left} == {
        "time_in",
        "final_layer",
        "double_stream_modulation_img",
        "double_stream_modulation_txt",
        "single_stream_modulation",
    }


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_leaves_the_distilled_delta_whole(preset):
    assert {block.distil for block in preset_blocks(preset, blocks("4B"))} == {1.0}


def test_blocks_of_ones_own_come_after_the_preset_and_the_file_records_all(tmp_path):
    base, aligned, distilled = written(tmp_path)
    own = (Block("img_in", 0.5),)
    out = tmp_path / "out.safetensors"
    with make_plan(MergeRecipe(base, aligned, distilled, blocks=own, preset="style")) as plan:
        by_name = {segment.atom: segment for segment in plan.segments}
        merge(plan, out)
    assert by_name["x_embedder.weight"].alpha == 0.5 and by_name["x_embedder.weight"].beta == 1.0
    assert by_name["single_transformer_blocks.1.attn.to_out.weight"].alpha == 1.0
    assert by_name["single_transformer_blocks.0.attn.to_out.weight"].aligned is None
    file = File(out)
    recorded = json.loads(file.metadata["dswm.recipe"])
    file.close()
    assert recorded["blocks"] == [["*", 0.0, 1.0], ["single_blocks.1", 1.0, 1.0], ["img_in", 0.5, 1.0]]
    assert "preset" not in recorded


def test_other_models_and_words_are_refused(tmp_path):
    with pytest.raises(BadInput, match=r"--preset is 'mood'; choose from all, structure, style"):
        preset_blocks("mood", blocks("4B"))
    with pytest.raises(BadInput, match=r"names blocks of FLUX.2 Klein, and this base has none"):
        preset_blocks("style", ["transformer_blocks.0", "proj_out"])
