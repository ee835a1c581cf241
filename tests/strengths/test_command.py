"""`clvr merge --search` with the embedded models: weights are merged in memory, drawn with, judged, and written."""

from __future__ import annotations

import json

import pytest
import torch

from clvr_core.cli import main
from clvr_core.errors import BadInput
from clvr_core.executor.weights import merged_state, reload
from clvr_core.merge.recipe import Lora, MergeRecipe
from clvr_core.weights.checkpoint import File
from tests.stickers.test_shipped import BASE, DISTILLED, LORA, MERGED, beta

pytestmark = pytest.mark.weights

INPUTS = ["--base", str(BASE / "transformer"), "--distilled", str(DISTILLED / "transformer")]
BRIEF = "three green triangles and a yellow cross"


def searched(tmp_path, *more: str) -> list[str]:
    folder = ["--search-folder", str(tmp_path / "search")]
    return ["merge", "--search", *INPUTS, "--lora", f"{LORA}:0.8", "--brief", BRIEF, *folder, *more]


def test_a_search_is_merged_with_its_best_strengths_and_gone_on_with(tmp_path, capsys):
    grid = ["--betas", "1,0", "--lora-factors", "1", "--seeds", "1"]
    assert main(searched(tmp_path, *grid)) == 0
    said = capsys.readouterr().out
    assert said.startswith("1 comparisons in both orders, 0 without an answer; 1 of 1 rounds; 8 evaluations")
    assert (tmp_path / "search" / "sheet.png").exists()
    best = json.loads((tmp_path / "search" / "search.json").read_text())["best"]
    assert best == {"alpha": 1.0, "beta": 1.0, "lora": 1.0}, "without the distilled difference 4 steps are noise"
    assert f"--lora {LORA}:0.8 --beta 1 --out merged.safetensors" in said
    out = tmp_path / "out.safetensors"
    assert main([*searched(tmp_path, *grid), "--json", "--out", str(out)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["out"] == str(out)
    file = File(out)
    recorded = json.loads(file.metadata["dswm.recipe"])
    file.close()
    assert (recorded["beta"], recorded["inputs"][-1]["strength"]) == (1.0, 0.8)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--alphas", "1,0.5"], "--alphas is 1,0.5, and there is no --aligned"),
        (["--betas", "1,x"], "--betas is '1,x'; give numbers with commas"),
        (["--lora-factors", "1"], "the grid has 1 point"),
        (["--seeds", "0"], "--seeds is 0"),
        (["--briefs", "missing.txt"], "--briefs missing.txt cannot be read"),
        (["--dry-run"], "--search draws pictures; leave --verify and --dry-run out"),
    ],
)
def test_arguments_that_do_not_fit_are_one_line_and_exit_2(tmp_path, capsys, more, words):
    assert main(searched(tmp_path, *more)) == 2
    assert words in capsys.readouterr().err


def test_a_search_without_a_brief_is_refused(tmp_path, capsys):
    assert main(["merge", "--search", *INPUTS, "--betas", "1,0.5"]) == 2
    assert "--brief is missing: say in words what the pictures should show" in capsys.readouterr().err


def test_merged_weights_are_those_of_the_file_and_others_are_refused():
    from diffusers import Flux2Transformer2DModel

    module = Flux2Transformer2DModel.from_pretrained(BASE / "transformer")
    recipe = MergeRecipe(
        BASE / "transformer",
        distilled=DISTILLED / "transformer",
        loras=(Lora(LORA),),
        beta=beta(),
        layout="diffusers",
        dtype="bf16",
    )
    reload(module, merged_state(recipe))
    right = Flux2Transformer2DModel.from_pretrained(MERGED / "transformer")
    for name, value in module.state_dict().items():
        assert torch.equal(value, right.state_dict()[name]), name
    before = module.proj_out.weight.clone()
    with pytest.raises(BadInput, match=r"do not fit the models' own diffusion model: proj_out.weight is \(1, 1\)"):
        reload(module, {**module.state_dict(), "proj_out.weight": torch.ones(1, 1)})
    assert torch.equal(module.proj_out.weight, before)
