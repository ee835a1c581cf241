"""ComfyUI's own models as the hand of the loop, with tiny random weights of FLUX.2 Klein's classes."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clvr_core.executor.masks import mask_of
from clvr_core.run.run_folder import BEST, RunFolder, trajectory_from
from clvr_core.storage.png import read_png
from clvr_core.trajectory import seed_for
from tests.comfy.graphs import runs
from tests.comfy.server import Comfy, error_of
from tests.pixels import close
from tests.waiting import until

SIZE = 128
SAMPLERS = ("euler", "euler_ancestral", "dpmpp_2m", "dpmpp_2m_sde", "res_multistep", "lcm", "deis", "er_sde")
FIRST = {"kind": "GENERATE", "scene_prompt": "a barn", "goals": ["g1"]}
SECOND = {"kind": "EDIT", "edit_prompt": "add a cat", "references": [0], "goals": ["g2"]}
THIRD = {"kind": "EDIT", "edit_prompt": "add a moon", "references": [1, 0], "goals": ["g3"]}
SCRIPT = {"goals": ["a barn", "a cat", "a moon"], "actions": [FIRST, SECOND, THIRD], "met": ["100", "110", "111"]}


NUMBER = itertools.count()


def models(script: dict = SCRIPT, **inputs) -> dict:
    """Nodes 1 to 5; the executor is 5. The vision model is a fresh one each time."""
    return {
        "1": {
            "class_type": "UNETLoader",
            "inputs": {"unet_name": "flux-2-klein-4b.safetensors", "weight_dtype": "default"},
        },
        "2": {"class_type": "Tiny_TextEncoder", "inputs": {"kind": "klein"}},
        "3": {"class_type": "VAELoader", "inputs": {"vae_name": "taef2"}},
        "4": {"class_type": "Tiny_Eyes", "inputs": {"script": json.dumps(script | {"number": next(NUMBER)})}},
        "5": {
            "class_type": "CLVR_Executor",
            "inputs": {
                "model": ["1", 0],
                "clip": ["2", 0],
                "vae": ["3", 0],
                "recipe": "klein",
                "width": SIZE,
                "height": SIZE,
            }
            | {"steps": 0, "guidance": 0.0, "sampler": "euler", "scheduler": "recipe", "edit_strength": 0.0}
            | inputs,
        },
    }


def brief(**inputs) -> dict:
    settings = {
        "prompt": "a barn, a cat and a moon",
        "strategy": "director",
        "seed": 1,
        "rounds": 3,
        "patience": 4,
        "candidates": 1,
    }
    # The edits of random weights change the whole picture; none is repaired here.
    return {"vlm": ["4", 0], "executor": ["5", 0], "evaluations": 0, "tolerance": 0.0} | settings | inputs


def in_one(*, script: dict = SCRIPT, executor: dict | None = None, **inputs) -> dict:
    return models(script, **executor or {}) | {
        "6": {"class_type": "CLVR_Generate", "inputs": brief(**{"review": 0} | inputs)},
        "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": "executor"}},
    }


def loop(*body: dict, **inputs) -> dict:
    """With these nodes in the body; candidates come from node 20."""
    nodes = {
        "11": {"class_type": "CLVR_Brief", "inputs": brief(**inputs)},
        "12": {"class_type": "CLVR_LoopStart", "inputs": {"trajectory": ["11", 0]}},
        "13": {"class_type": "CLVR_Reason", "inputs": {"trajectory": ["12", 1], "vlm": ["4", 0]}},
        "14": {
            "class_type": "CLVR_Verify",
            "inputs": {"trajectory": ["13", 0], "vlm": ["4", 0], "candidates": ["20", 0]},
        },
        "15": {"class_type": "CLVR_LoopEnd", "inputs": {"flow": ["12", 0], "trajectory": ["14", 0]}},
        "16": {"class_type": "SaveImage", "inputs": {"images": ["15", 0], "filename_prefix": "executor"}},
    }
    for part in body:
        nodes |= part
    return models() | nodes


EXECUTE = {"20": {"class_type": "CLVR_ExecuteStep", "inputs": {"trajectory": ["13", 0], "executor": ["5", 0]}}}
ELSEWHERE = {
    "20": {
        "class_type": "CLVR_ExecuteStep",
        "inputs": {"trajectory": ["13", 0], "executor": ["5", 0], "mask": ["19", 0]},
    },
    "19": {"class_type": "InvertMask", "inputs": {"mask": ["13", 6]}},
}
STOCK = {
    "21": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["2", 0], "text": ["13", 1]}},
    "22": {
        "class_type": "CLVR_ApplyReferences",
        "inputs": {"conditioning": ["21", 0], "vae": ["3", 0], "trajectory": ["13", 0]},
    },
    "23": {"class_type": "BasicGuider", "inputs": {"model": ["1", 0], "conditioning": ["22", 0]}},
    "24": {"class_type": "RandomNoise", "inputs": {"noise_seed": ["13", 7]}},
    "25": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
    "26": {"class_type": "Flux2Scheduler", "inputs": {"steps": 4, "width": SIZE, "height": SIZE}},
    "27": {"class_type": "EmptyFlux2LatentImage", "inputs": {"width": SIZE, "height": SIZE, "batch_size": 1}},
    "28": {
        "class_type": "SamplerCustomAdvanced",
        "inputs": {
            "noise": ["24", 0],
            "guider": ["23", 0],
            "sampler": ["25", 0],
            "sigmas": ["26", 0],
            "latent_image": ["27", 0],
        },
    },
    "20": {"class_type": "VAEDecode", "inputs": {"samples": ["28", 0], "vae": ["3", 0]}},
}


def go(comfy: Comfy, prompt: dict) -> dict:
    entry = comfy.run(prompt)
    assert entry["status"]["status_str"] == "success", error_of(entry)
    return entry


def begun_by(comfy: Comfy, prompt: dict) -> Path:
    before = runs(comfy)
    go(comfy, prompt)
    (folder,) = (path for path in runs(comfy) if path not in before)
    return folder


def told(folder: Path):
    return trajectory_from(RunFolder.open(folder).lines)


def canvases(folder: Path) -> list[np.ndarray]:
    return [read_png(path)[0] for path in sorted(folder.glob("canvas-*.png"))]


@pytest.fixture(scope="module")
def by_executor(comfy) -> Path:
    return begun_by(comfy, loop(EXECUTE))


def test_it_paints_and_edits_to_the_goals(by_executor):
    run = told(by_executor)
    assert [step.action.kind for step in run.steps] == ["GENERATE", "EDIT", "EDIT"] and run.outcome.met
    assert [step.action.references for step in run.steps] == [(), (0,), (1, 0)]
    assert run.cost.evaluations == 12 and "Flux2 by klein, 4 steps" in run.models["executor"]
    pictures = canvases(by_executor)
    assert [picture.shape for picture in pictures] == [(SIZE, SIZE, 3)] * 3 and (by_executor / BEST).exists()
    assert all(picture.std() > 1 for picture in pictures)


def test_a_stock_sampler_as_the_body_draws_the_same_pictures_over_all_rounds(comfy):
    """So Apply References gives a sampler what the Executor gives itself, in the first round, with one and with two references, where
    neither keeps latents."""
    prompt = loop(EXECUTE)
    prompt["5"]["inputs"]["keep_latents"] = False
    by_executor = begun_by(comfy, prompt)
    stock = begun_by(comfy, without_executor(loop(STOCK, width=SIZE, height=SIZE)))
    run = told(stock)
    assert [step.action for step in run.steps] == [step.action for step in told(by_executor).steps]
    assert run.models["executor"] == "the graph"
    for ours, theirs in zip(canvases(by_executor), canvases(stock), strict=True):
        assert np.array_equal(ours, theirs)


def stock_round(first: int, words: str, seed: int, *latents: int) -> dict:
    """A stock sampler from noise; its latent is that of node `first` + 7. latents: nodes whose latents are the references."""
    nodes, conditioning = (
        {f"{first}": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["2", 0], "text": words}}},
        [f"{first}", 0],
    )
    for number, latent in enumerate(latents, first + 1):
        inputs = {"conditioning": conditioning, "latent": [f"{latent}", 0]}
        nodes[f"{number}"], conditioning = {"class_type": "ReferenceLatent", "inputs": inputs}, [f"{number}", 0]
    rest = {
        str(int(name) - 23 + first + 3): json.loads(json.dumps(STOCK[name]))
        for name in ("23", "24", "25", "26", "27", "28")
    }
    guider, noise, *_, sampler = rest.values()
    guider["inputs"]["conditioning"], noise["inputs"]["noise_seed"] = conditioning, seed
    links = {"noise": 4, "guider": 3, "sampler": 5, "sigmas": 6, "latent_image": 7}
    sampler["inputs"] = {name: [f"{first + place}", 0] for name, place in links.items()}
    return nodes | rest


def test_a_canvas_goes_back_in_as_the_latent_that_it_was_decoded_from(comfy, by_executor):
    """Equal, to the bit, to stock samplers whose latents never leave the graph; in the graph of nodes and in the one node alike."""
    seeds = [seed_for(1, number, 0) for number in range(3)]
    rounds = stock_round(100, "a barn", seeds[0]) | stock_round(120, "add a cat", seeds[1], 108)
    rounds |= stock_round(140, "add a moon", seeds[2], 128, 108)
    decode = {"class_type": "VAEDecode", "inputs": {"samples": ["148", 0], "vae": ["3", 0]}}
    prompt = models() | rounds | {"160": decode}
    del prompt["4"], prompt["5"]
    prompt["161"] = {"class_type": "SaveImage", "inputs": {"images": ["160", 0], "filename_prefix": "stock"}}
    (saved,) = go(comfy, prompt)["outputs"]["161"]["images"]
    theirs = np.asarray(Image.open(comfy.base / "output" / saved["filename"]).convert("RGB"), int)
    in_nodes, in_one_node = canvases(by_executor)[-1], canvases(begun_by(comfy, in_one()))[-1]
    assert np.array_equal(in_nodes, in_one_node)
    # SaveImage cuts what the run rounds.
    assert set(np.unique(in_nodes - theirs)) <= {0, 1}
    encoded = begun_by(comfy, in_one(executor={"keep_latents": False}))
    assert np.abs(canvases(encoded)[-1].astype(int) - in_nodes).max() > 1, "the round trip through the VAE shows"
    assert [candidate.latent != "" for step in told(by_executor).steps for candidate in step.candidates] == [True] * 3


def without_executor(prompt: dict) -> dict:
    del prompt["11"]["inputs"]["executor"], prompt["5"]
    return prompt


@pytest.mark.parametrize("elsewhere", [False, True])
def test_confined_to_a_region_every_other_pixel_stays_bit_for_bit(comfy, elsewhere):
    """To the one that the action names, or to that of a mask that is linked in its place."""
    prompt = loop(ELSEWHERE if elsewhere else EXECUTE, seed=68, rounds=2)
    edit = SECOND | {"region": [0.5, 0.0, 1.0, 0.5]}
    prompt["4"]["inputs"]["script"] = json.dumps(SCRIPT | {"actions": [FIRST, edit], "number": next(NUMBER)})
    before, after = canvases(begun_by(comfy, prompt))
    may = mask_of((0.5, 0.0, 1.0, 0.5), SIZE, SIZE) > 0
    changed = (before != after).any(axis=2)
    assert changed[may != elsewhere].mean() > 0.02 and not changed[may == elsewhere].any()


def test_the_same_request_gives_the_same_picture_whatever_is_drawn_beside_it(comfy, by_executor):
    beside = canvases(begun_by(comfy, in_one(strategy="best-of-n", candidates=2)))
    alone = canvases(begun_by(comfy, in_one(strategy="oneshot")))
    assert len(beside) == 2 and close(beside[0], alone[0]) and not np.array_equal(beside[0], beside[1])


def counted(script: dict = SCRIPT, **executor) -> dict:
    """As `in_one`, with models that tell of their work."""
    prompt = in_one(script=script, executor={"model": ["9", 0], "clip": ["9", 1], "vae": ["9", 2], **executor})
    return prompt | {
        "9": {"class_type": "Tiny_Counted", "inputs": {"model": ["1", 0], "clip": ["2", 0], "vae": ["3", 0]}}
    }


def work(comfy: Comfy, prompt: dict) -> tuple[Path, list[str]]:
    """The run, and what its models told."""
    before = len(comfy.log.read_text())
    folder = begun_by(comfy, prompt)
    return folder, re.findall(r"^tiny: (.*)$", comfy.log.read_text()[before:], re.M)


def test_each_text_and_each_canvas_is_encoded_once_and_the_models_take_turns(comfy):
    third = THIRD | {"references": [2, 0]}
    prompt = counted(
        SCRIPT | {"actions": [FIRST, SECOND, third], "met": ["100", "100", "110", "110", "111"]}, width=64, height=64
    )
    prompt["6"]["inputs"] |= {"seed": 60, "candidates": 2}
    _, told = work(comfy, prompt)
    told = [line.partition(" at")[0] for line in told]
    drawing = ["evaluated 2"] * 4 + ["decoded"] * 2
    # Two pictures a round; the third action looks at the canvas of the second, and at the first.
    assert told == ["text", *drawing] * 3, "latents that are known need no encoding"
    prompt["5"]["inputs"]["keep_latents"] = False
    prompt["4"]["inputs"]["script"] = json.dumps(json.loads(prompt["4"]["inputs"]["script"]) | {"number": next(NUMBER)})
    _, told = work(comfy, prompt)
    told = [line.partition(" at")[0] for line in told]
    # The first is encoded already when the third action looks at it.
    assert told == ["text", *drawing, "text", "encoded", *drawing, "text", "encoded", *drawing]


@pytest.mark.parametrize(("sampler", "guidance"), [("euler", 1.0), ("res_multistep", 3.0), ("er_sde", 1.0)])
def test_candidates_in_one_batch_are_those_that_are_drawn_one_by_one(comfy, sampler, guidance):
    """Two rounds, the second with a reference. A sampler that adds noise of its own is given one picture at a time."""
    script = SCRIPT | {"met": ["100"] * 3 + ["110"] * 3}
    prompt = counted(script, sampler=sampler, guidance=guidance, steps=2, width=64, height=64)
    prompt["6"]["inputs"] |= {"rounds": 2, "candidates": 3, "seed": 69}
    folder, told = work(comfy, prompt)
    together = "evaluated 6" if guidance > 1 else "evaluated 3" if sampler == "euler" else "evaluated 1"
    assert {line.partition(" at")[0] for line in told if "evaluated" in line} == {together}
    prompt["8"] = {"class_type": "Tiny_OneByOne", "inputs": {"executor": ["5", 0]}}
    prompt["6"]["inputs"]["executor"] = ["8", 0]
    prompt["4"]["inputs"]["script"] = json.dumps(script | {"number": next(NUMBER)})  # one that has seen nothing
    alone, told = work(comfy, prompt)
    assert {line.partition(" at")[0] for line in told if "evaluated" in line} == {
        f"evaluated {2 if guidance > 1 else 1}"
    }
    assert len(canvases(folder)) == 6 and all(map(close, canvases(folder), canvases(alone)))


def test_in_tiles_the_pictures_differ_a_little_and_the_run_is_another(comfy):
    prompt = counted(steps=1, width=128, height=64)
    prompt["6"]["inputs"] |= {"strategy": "oneshot", "seed": 70}
    whole = begun_by(comfy, prompt)
    prompt["5"]["inputs"]["tiled_vae"] = True
    tiled = begun_by(comfy, prompt)
    (one,), (other,) = canvases(whole), canvases(tiled)
    assert one.shape == other.shape and abs(one.astype(int) - other.astype(int)).mean() < 3


@pytest.mark.parametrize(("sampler", "guidance"), [*((sampler, 1.0) for sampler in SAMPLERS), ("euler", 3.0)])
def test_what_a_picture_costs_is_known_before_it_is_drawn(comfy, sampler, guidance):
    prompt = counted(sampler=sampler, guidance=guidance, steps=2, width=64, height=64)
    prompt["6"]["inputs"] |= {"strategy": "oneshot", "seed": 61}
    folder, told = work(comfy, prompt)
    spent = sum(int(line.split()[1]) for line in told if line.startswith("evaluated"))
    assert spent == trajectory_from(RunFolder.open(folder).lines).cost.evaluations == (4 if guidance > 1 else 2)


@pytest.mark.parametrize(
    ("recipe", "strength", "least", "most"),
    [("generic", 0.3, 0.3, 0.8), ("generic", 0.0, 0.8, 0.99), ("klein", 0.0, 1.0, 1.0)],
)
def test_an_edit_begins_from_the_canvas_noised_as_far_as_the_recipe_says(comfy, recipe, strength, least, most):
    prompt = counted(recipe=recipe, steps=4, guidance=1.0, edit_strength=strength, width=64, height=64)
    prompt["6"]["inputs"] |= {"rounds": 2, "seed": 62}
    _, told = work(comfy, prompt)
    levels = [float(line.split()[-1]) for line in told if line.startswith("evaluated")]
    assert len(levels) == 8 and levels[0] == 1.0, "the first picture comes from noise alone"
    assert least <= levels[4] <= most, levels


def test_qwen_image_edit_shows_the_canvas_to_its_text_encoder_too(comfy):
    prompt = counted(recipe="qwen-edit", steps=2, width=64, height=64)
    prompt["9"]["inputs"] = {"model": ["8", 0], "clip": ["8", 1], "vae": ["8", 2]}
    prompt["8"] = {"class_type": "Tiny_QwenEdit", "inputs": {}}
    prompt["6"]["inputs"] |= {"rounds": 2, "seed": 67}
    folder, told = work(comfy, prompt)
    # Both branches of guidance by themselves, as their texts differ in length.
    pictures, drawing = canvases(folder), ["evaluated 1"] * 4 + ["decoded"]
    assert [line.partition(" at")[0] for line in told] == [
        "text",
        "text",
        *drawing,
        "encoded",
        "text",
        "encoded",
        "text",
        *drawing,
    ]
    assert pictures[0].shape == pictures[1].shape == (64, 64, 3) and not np.array_equal(*pictures)
    assert [step.cost.evaluations for step in trajectory_from(RunFolder.open(folder).lines).steps] == [4, 4]


def test_cancel_takes_effect_between_two_sampler_steps(comfy):
    before, said = runs(comfy), len(comfy.log.read_text())
    prompt = counted(steps=200)
    prompt["6"]["inputs"] |= {"seed": 63}
    queued = comfy.queue(prompt)
    until(lambda: "tiny: evaluated" in comfy.log.read_text()[said:], "the first step")
    comfy.interrupt()
    entry = comfy.wait(queued)
    assert any(kind == "execution_interrupted" for kind, _ in entry["status"]["messages"]), entry["status"]
    (folder,) = (path for path in runs(comfy) if path not in before)
    steps = comfy.log.read_text()[said:].count("tiny: evaluated")
    assert steps < 200 and not list(folder.glob("*.png")), "200 steps were not waited for"


def test_what_a_prompt_is_too_long_for_is_said(comfy):
    folder = begun_by(comfy, in_one(prompt="a barn and a cat " * 200, strategy="oneshot", executor={"steps": 1}))
    assert any("reads 512; left out" in warning for warning in told(folder).warnings), told(folder).warnings


def drawn_by(comfy: Comfy, unet: str = "flux-2-klein-4b", lora: float | None = None, **executor) -> dict[Path, bytes]:
    """The runs that are new with these models, each with its best picture; none if an earlier run was known again."""
    prompt = in_one(executor={"steps": 1, "width": 64, "height": 64, **executor}, strategy="oneshot", seed=64)
    prompt["1"]["inputs"]["unet_name"] = f"{unet}.safetensors"
    if lora is not None:
        inputs = {"model": ["1", 0], "lora_name": "tiny.safetensors", "strength_model": lora}
        prompt |= {"8": {"class_type": "LoraLoaderModelOnly", "inputs": inputs}}
        prompt["5"]["inputs"]["model"] = ["8", 0]
    before = runs(comfy)
    go(comfy, prompt)
    return {path: read_png(path / BEST)[0].tobytes() for path in runs(comfy) if path not in before}


def test_a_run_is_known_again_by_its_weights_and_no_other(comfy, bare):
    first = drawn_by(comfy)
    assert len(first) == 1 and not drawn_by(comfy)
    changes = [{"lora": 0.5}, {"lora": 0.9}, {"guidance": 2.0}, {"unet": "flux-2-klein-base-4b"}]
    others = [drawn_by(comfy, **change) for change in changes]
    assert [len(other) for other in others] == [1] * 4
    assert len({picture for other in [first, *others] for picture in other.values()}) == 5
    file = comfy.base / "models" / "diffusion_models" / "flux-2-klein-base-4b.safetensors"
    held = file.read_bytes()
    file.write_bytes(file.with_name("flux-2-klein-4b.safetensors").read_bytes())
    try:
        assert not drawn_by(bare) and not drawn_by(bare, lora=0.5), "another server, the same weights"
        assert drawn_by(bare, unet="flux-2-klein-base-4b"), "the same name, other weights"
    finally:
        file.write_bytes(held)


def from_picture(comfy: Comfy, width: int, height: int, prompt: dict, node: str) -> tuple[np.ndarray, dict]:
    """The picture, and the graph with it at the image input of the node."""
    picture = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(picture).save(comfy.base / "input" / f"given-{width}.png")
    prompt["30"] = {"class_type": "LoadImage", "inputs": {"image": f"given-{width}.png"}}
    prompt[node]["inputs"]["image"] = ["30", 0]
    return picture, prompt


EDITS = SCRIPT | {"actions": [SECOND, SECOND, THIRD], "met": ["100", "110", "111"]}


def test_a_picture_to_begin_from_is_judged_kept_bit_for_bit_and_edited(comfy):
    picture, prompt = from_picture(comfy, 96, 64, in_one(script=EDITS, seed=65), "6")
    folder = begun_by(comfy, prompt)
    run, pictures = told(folder), canvases(folder)
    assert [step.action.kind for step in run.steps] == ["GIVEN", "EDIT", "EDIT"] and run.outcome.met
    assert np.array_equal(pictures[0], picture) and pictures[1].shape == pictures[2].shape == (64, 96, 3)
    assert [candidate.nfe for step in run.steps for candidate in step.candidates] == [0, 4, 4]


def test_a_larger_one_is_scaled_down_in_a_graph_that_goes_on_where_it_was(comfy):
    def by_hand(rounds: int) -> dict:
        prompt = loop(EXECUTE, seed=66, rounds=rounds)
        prompt["4"]["inputs"]["script"] = json.dumps(EDITS)
        return from_picture(comfy, 200, 120, prompt, "11")[1]

    folder = begun_by(comfy, by_hand(1))
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("canvas-*.png")}
    assert len(before) == 2 and canvases(folder)[0].shape == (96, 160, 3), "16384 pixels at most, sides multiples of 16"
    go(comfy, by_hand(3))
    after = {path.name: path.stat().st_mtime_ns for path in folder.glob("canvas-*.png")}
    assert before.items() < after.items() and told(folder).outcome.met
