"""What is shipped beside the base draws as it was measured to."""

from __future__ import annotations

import random

import pytest
import torch
from safetensors.torch import load_file

from clvr_core.cli import main
from clvr_core.models.registry import load_models
from clvr_core.protocols import DrawRequest
from clvr_core.shapes import ALIGNED, DISTILLED, MERGED, WEIGHTS
from clvr_core.shapes.perceive import check_edit, perceive
from clvr_core.shapes.phrases import instruct
from clvr_core.shapes.render import render
from clvr_core.shapes.sampling import random_brief, random_edit, random_scene
from clvr_core.shapes.scene import apply

pytestmark = pytest.mark.weights


@pytest.mark.parametrize("name", ["shapes-distilled", "shapes"])
def test_the_few_step_weights_draw_and_edit_in_four_evaluations(name):
    executor, rng = load_models(name).executor, random.Random(7)
    briefs = [random_brief(rng, 1 + index % 2) for index in range(16)]
    drawings = executor.draw([DrawRequest(prompt, rng.randrange(2**31)) for _, _, prompt in briefs])
    held = [spec.holds(perceive(drawing.picture).things) for (_, spec, _), drawing in zip(briefs, drawings)]
    assert {drawing.nfe for drawing in drawings} == {4} and sum(held) >= 12
    scenes = [random_scene(rng, 4) for _ in range(16)]
    edits = [random_edit(rng, scene, "recolor") for scene in scenes]
    pictures = [render(scene) for scene in scenes]
    requests = [
        DrawRequest(instruct(edit, scene), rng.randrange(2**31), (picture,))
        for edit, scene, picture in zip(edits, scenes, pictures)
    ]
    drawings = executor.draw(requests)
    done = [
        check_edit(picture, drawing.picture, apply(edit, scene), edit.cells).success
        for scene, edit, picture, drawing in zip(scenes, edits, pictures, drawings)
    ]
    assert {drawing.nfe for drawing in drawings} == {4} and sum(done) >= 14


def test_the_merged_weights_are_what_the_merge_makes_of_the_other_three(tmp_path):
    file, out = "transformer/diffusion_pytorch_model.safetensors", tmp_path / "merged.safetensors"
    given = [
        "--base",
        WEIGHTS / file,
        "--distilled",
        DISTILLED / file,
        "--lora",
        ALIGNED / "pytorch_lora_weights.safetensors",
    ]
    assert main(["merge", *map(str, given), "--beta", "0.85", "--out", str(out), "--json"]) == 0
    made, shipped = load_file(out), load_file(MERGED / file)
    assert made.keys() == shipped.keys() and all(torch.equal(made[name], shipped[name]) for name in made)


def test_all_that_is_shipped_takes_less_than_40_mb():
    assert (
        sum(path.stat().st_size for folder in (WEIGHTS, DISTILLED, ALIGNED, MERGED) for path in folder.rglob("*"))
        < 40 * 2**20
    )
