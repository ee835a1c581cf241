"""CLVR Quick on a real ComfyUI: with the embedded models, and with tiny files of the real classes, found by their names."""

from __future__ import annotations

import numpy as np
import pytest

from clvr_core.run.run_folder import BEST
from clvr_core.storage.png import read_png
from tests.comfy.graphs import PROMPT, begun_by, go, runs, saved, told
from tests.comfy.server import Refused, error_of

NINE = {"model": "flux-2-klein-9b.safetensors", "vlm": "qwen3vl_8b_seeing.safetensors"}
"""Written by the packs of the tests, with a text encoder and a VAE whose names are found."""


def quick(**inputs) -> dict:
    settings = {"prompt": PROMPT, "model": "auto", "vlm": "auto", "vae": "auto", "width": 64, "height": 64}
    settings |= {"seed": 1, "rounds": 1, "text_encoder": "auto", "recipe": "auto", "strategy": "oneshot"}
    return {
        "1": {"class_type": "CLVR_Quick", "inputs": settings | {"candidates": 0, "review": 0} | inputs},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "quick"}},
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["1", 2]}},
    }


def embedded(**inputs) -> dict:
    return quick(**{"model": "embedded (no download)", "seed": 701} | inputs)


@pytest.mark.weights
def test_a_prompt_becomes_a_picture_of_the_embedded_models(comfy):
    before = runs(comfy)
    entry = go(comfy, embedded())
    (folder,) = (path for path in runs(comfy) if path not in before)
    assert np.array_equal(saved(comfy, entry, "2"), read_png(folder / BEST)[0])
    assert "goals met" in "".join(entry["outputs"]["3"]["text"])
    # What its viewer needs is shown on the node itself, not on one that it becomes.
    (shown,) = (number for number, output in entry["outputs"].items() if output.get("clvr_run") == [folder.name])
    assert entry["meta"][shown]["display_node"] == "1" and entry["outputs"][shown]["images"]
    go(comfy, embedded())
    assert len(runs(comfy)) == len(before) + 1


@pytest.mark.weights
def test_with_a_larger_budget_the_run_goes_on(comfy):
    folder = begun_by(comfy, embedded(strategy="clvr", seed=702))
    before = runs(comfy)
    go(comfy, embedded(strategy="clvr", seed=702, rounds=2))
    assert runs(comfy) == before and told(folder).brief.budget.rounds == 2


def test_files_are_found_by_their_names_and_loaded_by_comfyuis_own_loaders(comfy):
    """With random weights its replies say nothing of use, and the run ends with a picture all the same."""
    said = len(comfy.log.read_text())
    folder = begun_by(comfy, quick(**NINE, prompt="a lighthouse"))
    run = told(folder)
    assert (
        run.models["executor"].startswith("Flux2 by klein, 4 steps") and "qwen3vl_8b_seeing" in run.models["controller"]
    )
    assert run.cost.evaluations == 4 and read_png(folder / BEST)[0].shape == (64, 64, 3)
    loaded = [line for line in comfy.log.read_text()[said:].splitlines() if line.startswith("tiny: loaded")]
    assert loaded == ["tiny: loaded qwen_3_8b_tiny.safetensors", "tiny: loaded qwen3vl_8b_seeing.safetensors"]
    # Another prompt finds the models where they are.
    begun_by(comfy, quick(**NINE, prompt="a red boat"))
    assert comfy.log.read_text()[said:].count("tiny: loaded") == 2


def test_what_is_missing_is_said_on_the_node_with_its_links(comfy):
    before = runs(comfy)
    entry = comfy.run(quick(model="flux-2-klein-4b.safetensors", vlm=NINE["vlm"]))
    words = error_of(entry)
    assert words.startswith(
        "FLUX.2 Klein 4B needs files that are not here: qwen_3_4b.safetensors (8.0 GB) from https://"
    )
    assert "models/text_encoders" in words and "8 to 12 GB qwen_3_4b_fp8_mixed" in words and runs(comfy) == before
    (failure,) = (body for kind, body in entry["status"]["messages"] if kind == "execution_error")
    assert failure["node_id"] == "1" and failure["node_type"] == "CLVR_Quick"


def test_a_file_of_a_workflow_that_is_not_here_is_refused_with_its_link(comfy):
    with pytest.raises(Refused) as refused:
        comfy.run(quick(vlm="qwen3vl_4b_fp8_scaled.safetensors"))
    assert "is not in models/text_encoders; put qwen3vl_4b_fp8_scaled.safetensors (5.2 GB) from https" in str(
        refused.value
    )


@pytest.mark.weights
def test_words_that_the_embedded_models_cannot_draw_are_answered_with_the_models_that_can(comfy):
    words = error_of(comfy.run(embedded(prompt="a portrait of a queen in oil")))
    assert "NOUN" in words and "flux-2-klein-4b-fp8.safetensors" in words
