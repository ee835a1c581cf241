"""What a tab is told before a run: how long, and how the models share the memory."""

from __future__ import annotations

import re

import pytest

from clvr_core.models.memory_plan import file_weights, pipeline_weights
from clvr_core.weights.shared import files_of
from clvr_core.world import world_named
from tests.comfy.graphs import begun_by, in_one
from tests.comfy.server import Comfy, Refused
from tests.comfy.test_vision import FILE

pytestmark = pytest.mark.weights

DIT = "flux-2-klein-4b.safetensors"
EYES = [["2", "CLVR_VisionModel", {}], ["3", "CLIPLoader", {"clip_name": FILE, "type": "stable_diffusion"}]]


def hand(dtype: str = "default", clip: str = FILE, number: str = "6") -> list:
    loader = [
        ["5", "UNETLoader", {"unet_name": DIT, "weight_dtype": dtype}],
        [number, "CLIPLoader", {"clip_name": clip}],
    ]
    return [["4", "CLVR_Executor", {"recipe": "klein"}], *loader]


def memory(comfy: Comfy, **linked: object) -> str:
    return comfy.post("/clvr/forecast", {"linked": linked})["memory"]["told"]


def size(comfy: Comfy, folder: str, file: str) -> int:
    return (comfy.base / "models" / folder / file).stat().st_size


def megabytes(nbytes: float) -> str:
    return f"{nbytes / 1e6:.0f} MB" if nbytes < 5e7 else f"{nbytes / 1e9:.1f} GB"


def test_the_models_are_weighed_by_the_files_that_their_loaders_name(comfy):
    eyes = size(comfy, "text_encoders", FILE)
    # On a CPU ComfyUI loads a diffusion model of 16 bits as fp32.
    dit = file_weights(comfy.base / "models" / "diffusion_models" / DIT, "DiT", wide=True).nbytes
    told = memory(comfy, vlm=EYES, executor=hand())
    sizes = f"VLM {megabytes(eyes)}, DiT {megabytes(dit)}, text encoder {megabytes(eyes)}"
    assert re.fullmatch(rf"cpu: {re.escape(sizes)}; [\d.]+ GB free: both fit", told)


def test_numbers_that_are_held_in_8_bits_are_weighed_so(comfy):
    half = megabytes(size(comfy, "diffusion_models", DIT) / 2)
    assert f"DiT {half}," in memory(comfy, executor=hand("fp8_e4m3fn"))


def test_a_loader_that_serves_both_counts_once(comfy):
    told = memory(comfy, vlm=EYES, executor=hand(number="3"))
    assert told.count("VLM") == 1 and "text encoder" not in told


def test_the_embedded_models_and_those_behind_a_server(comfy):
    stickers = [["1", "CLVR_ShapesModels", {}]]
    files = files_of(world_named().merged).values()
    weights = sum(path.stat().st_size for path in files if path.suffix == ".safetensors")
    assert weights > sum(each.nbytes for each in pipeline_weights(world_named().merged, 2)) / 4
    told = memory(comfy, vlm=stickers, executor=stickers)
    assert re.fullmatch(rf"cpu: embedded models {megabytes(weights)}; [\d.]+ GB free: it fits", told)
    assert memory(comfy, vlm=[["1", "CLVR_ServerModel", {"server": "mine"}]], executor=hand()).endswith(
        "; the VLM is behind a server"
    )


@pytest.mark.parametrize(
    "linked",
    [{}, {"vlm": 5}, {"vlm": [5, [], ["1", "x"], ["1", "x", 5]]}, {"vlm": None, "executor": "x"}, [], "x", None],
    ids=str,
)
def test_nothing_is_weighed_where_nothing_is_linked_or_what_came_is_nonsense(comfy, linked):
    told = comfy.post("/clvr/forecast", {"linked": linked})["memory"]
    assert re.fullmatch(r"cpu: [\d.]+ GB free", told["told"]) and told["fits"]


@pytest.mark.parametrize("file", ["../../secret.safetensors", "/etc/passwd", "gone.safetensors", "", 5, ["x"], None])
def test_only_what_comfyui_lists_is_weighed(comfy, file):
    (comfy.base / "secret.safetensors").write_bytes(b"x" * 1000)
    told = memory(comfy, executor=[["5", "UNETLoader", {"unet_name": file}]])
    assert re.fullmatch(r"cpu: [\d.]+ GB free; how large the executor is, is not known", told)


@pytest.mark.parametrize(
    "asked", [{"rounds": 0}, {"rounds": "many"}, {"strategy": "magic"}, {"width": None}, {"rounds": float("inf")}]
)
def test_a_run_that_cannot_be_is_refused(comfy, asked):
    with pytest.raises(Refused, match="error"):
        comfy.post("/clvr/forecast", asked)


def test_earlier_runs_tell_the_time(comfy):
    asked = {"strategy": "strokes", "rounds": 4, "candidates": 1, "width": 72, "height": 64}
    assert "seconds" not in comfy.post("/clvr/forecast", asked)
    begun_by(comfy, in_one(77, {"width": 72, "height": 64}, rounds=2))
    told = comfy.post("/clvr/forecast", asked)
    assert told["seconds"] > 0 and told["runs"] == 1 and told["rounds"] == 4
