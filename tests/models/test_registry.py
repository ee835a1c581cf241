"""Models from a file brought to one device: in each way they draw the same, and in turns they leave for each other."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from clvr_core import cli
from clvr_core.errors import BadInput
from clvr_core.executor.generic import GenericExecutor
from clvr_core.executor.remote import RemoteExecutor
from clvr_core.models.config import ExecutorSettings
from clvr_core.models.device_sharing import unwrap
from clvr_core.models.executors import load_executor, place, tile, weights_of
from clvr_core.models.memory_plan import Weights
from clvr_core.models.registry import _here, load_models
from clvr_core.run.run_folder import BEST, read_trajectory
from clvr_core.vlm.local import Local
from tests.executor.images import drawing, serving_images
from tests.executor.small import asked
from tests.executor.test_klein import noisy, one_thread, pictures, tiny
from tests.pixels import apart, close
from tests.stickers.oracle import OracleExecutor
from tests.stickers.test_art import needs_art

__all__ = ["one_thread"]
RECIPE = {
    "generate": {"steps": 2, "guidance": 2.5},
    "edit": {"steps": 2},
    "text_layers": [1, 2, 3],
    "text_lengths": [128],
    "given_latents": True,
    "inpaint": True,
}
MASK = np.zeros((96, 96), np.uint8)
MASK[:, :32] = 255
REQUESTS = (
    asked("a red circle", 1),
    asked("more", 2, (noisy(1),)),
    asked("more", 2, (noisy(1),), mask=MASK),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "klein"
    tiny().save_pretrained(folder)
    (folder / "clvr_recipe.json").write_text(json.dumps(RECIPE))
    return folder


@pytest.fixture(scope="module")
def resident(folder):
    return pictures(load_executor(ExecutorSettings(folder=str(folder), dtype="float32"), "cpu"), *REQUESTS)


@pytest.mark.parametrize("mode", ["offloaded", "streamed", "sequential"])
def test_in_each_way_the_same_is_drawn(folder, resident, mode):
    executor = load_executor(ExecutorSettings(folder=str(folder), dtype="float32"), "cpu", mode)
    for _ in range(2):
        assert all(close(one, other) for one, other in zip(resident, pictures(executor, *REQUESTS)))


class Full:
    """A pipeline for which the device has room in no way but on the CPU."""

    components: ClassVar[dict] = {}

    def __init__(self) -> None:
        self.places: list[str] = []

    def to(self, device: str) -> None:
        self.places.append(device)
        if device != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


def test_an_executor_that_does_not_fit_is_on_the_cpu_again_and_it_is_said_what_to_set():
    pipe = Full()
    with pytest.raises(
        BadInput, match=r"executor does not fit into the memory of cpu:0; close .* memory to offloaded or streamed in"
    ):
        place(pipe, "cpu:0", "resident", torch.float32)
    assert pipe.places == ["cpu:0", "cpu"]


@pytest.mark.parametrize(
    ("settings", "device", "here"),
    [
        ("cuda:0", "cuda", True),
        ("cuda", "cuda:0", True),
        ("cuda:1", "cuda", False),
        ("auto", "cuda:0", True),
        ("auto", "cuda:1", False),
        ("auto", "cpu", False),
        ("cpu", "cuda", False),
        ("no such device", "cuda", False),
    ],
)
def test_one_device_is_known_by_each_of_its_names(monkeypatch, settings, device, here):
    monkeypatch.setattr("clvr_core.models.executors.device_of", lambda name: "cuda" if name == "auto" else name)
    assert _here(Local("x", device=settings), device) == here


def test_in_fp8_the_transformer_takes_half_and_draws_nearly_the_same(folder, resident):
    executor = load_executor(ExecutorSettings(folder=str(folder), dtype="float32", storage="fp8"), "cpu")
    stored = {each.dtype for each in executor.pipe.transformer.transformer_blocks.parameters()}
    assert torch.float8_e4m3fn in stored and executor.pipe.vae.dtype == torch.float32
    found = pictures(executor, *REQUESTS)
    assert 0 < apart(found[0], resident[0]) < 100 and executor.name == 'klein {"storage": "fp8"}'


def test_in_tiles_the_vae_decodes_no_more_than_a_tile_at_once(folder, resident, monkeypatch):
    monkeypatch.setattr("clvr_core.models.executors.TILE", 64)
    executor = load_executor(ExecutorSettings(folder=str(folder), dtype="float32", tiled_vae=True), "cpu")
    vae, sizes = executor.pipe.vae, []
    vae.decoder.register_forward_hook(lambda module, given, made: sizes.append(made.shape[-1]))
    found = pictures(executor, *REQUESTS)
    assert max(sizes) == 64 < found[0].shape[1] and executor.name == 'klein {"tiled_vae": true}'
    assert not np.array_equal(found[0], resident[0])  # random weights attend over the whole picture
    with pytest.raises(BadInput, match="the VAE of SimpleNamespace, a NoneType, has no tiles; remove tiled_vae from"):
        tile(SimpleNamespace(vae=None), 512)


def test_its_weights_are_known_before_they_are_loaded(folder):
    parts = {each.name: each.nbytes for each in weights_of(ExecutorSettings(folder=str(folder), dtype="bfloat16"))}
    pipe = tiny()
    for part, name in (("transformer", "DiT"), ("text_encoder", "text encoder")):
        assert parts[name] == 2 * sum(each.numel() for each in getattr(pipe, part).parameters())
    assert weights_of(ExecutorSettings(kind="embedded")) == () and Weights("DiT", parts["DiT"] // 2) in weights_of(
        ExecutorSettings(folder=str(folder), storage="fp8")
    )


def test_any_pipeline_is_loaded_by_what_its_folder_says(folder):
    executor = load_executor(ExecutorSettings(kind="generic", folder=str(folder), dtype="float32", steps=3), "cpu")
    assert type(executor) is GenericExecutor and type(executor.pipe).__name__ == "Flux2KleinPipeline"
    assert executor.nfe(REQUESTS[0]) == 6, "the pipeline's own guidance is 4"
    with pytest.raises(BadInput, match="holds a Flux2KleinPipeline, not a QwenImageEditPlusPipeline"):
        load_executor(ExecutorSettings(kind="qwen-edit", folder=str(folder), dtype="float32"), "cpu")


CONFIG = """
memory = "{memory}"
[controller]
folder = "{eye}"
device = "cpu"
dtype = "float32"
image_side = 128
max_tokens = 60
[executor]
folder = "{klein}"
device = "cpu"
dtype = "float32"
width = 96
height = 96
"""


def test_a_run_by_turns_says_so_and_its_models_come_and_go(folder, tmp_path, monkeypatch, capsys):
    from tests.vlm import tiny as vlms

    monkeypatch.setattr("clvr_core.vlm.sight.check_sight", lambda vlm: None)
    monkeypatch.setattr("clvr_core.models.memory_plan.free_bytes", lambda device: 16 << 30)
    eye = vlms.save(tmp_path / "eye", vlms.qwen3_vl)
    capsys.readouterr()
    path = tmp_path / "clvr.toml"
    path.write_text(CONFIG.format(memory="sequential", eye=eye, klein=folder))
    moves = []
    monkeypatch.setattr("clvr_core.vlm.local.LocalVlm.move", lambda self, to: moves.append(("controller", to)))
    monkeypatch.setattr("clvr_core.executor.klein.KleinExecutor.move", lambda self, to: moves.append(("executor", to)))
    words = ["generate", "a red circle", "--models", str(path), "--out", str(tmp_path / "run"), "--rounds", "1"]
    assert cli.main(words) in (cli.DONE, cli.NOT_MET) and (tmp_path / "run" / BEST).exists()
    printed = capsys.readouterr().err
    assert printed.startswith("memory: ") and "VLM 1 MB, " in printed and "they take turns on the device" in printed
    assert moves[:3] == [("controller", "cpu"), ("controller", "cpu"), ("executor", "cpu")]
    assert all(leaves[0] != comes[0] for leaves, comes in zip(moves[1::2], moves[2::2]))


def test_an_executor_whose_parts_take_turns_leaves_too_when_another_comes(folder, tmp_path, monkeypatch):
    from tests.vlm import tiny as vlms

    monkeypatch.setattr("clvr_core.vlm.sight.check_sight", lambda vlm: None)
    path = tmp_path / "clvr.toml"
    path.write_text(CONFIG.format(memory="offloaded", eye=vlms.save(tmp_path / "eye", vlms.qwen3_vl), klein=folder))
    models, left = load_models(str(path)), []
    turns = models.executor._turns
    with turns.of("executor"):
        monkeypatch.setattr(unwrap(models.executor).pipe, "maybe_free_model_hooks", lambda: left.append(turns.holder))
    with turns.of("controller"):
        assert left == ["executor"]


def test_a_server_for_pictures_beside_the_controller_of_the_embedded_world(exact_eyes, tmp_path):
    path = tmp_path / "clvr.toml"
    with serving_images(drawing(OracleExecutor())) as server:
        path.write_text(
            f'[controller]\nkind = "embedded"\n[executor]\nurl = "{server.url}"\nwidth = 192\nheight = 192\n'
        )
        models = load_models(str(path))
        assert isinstance(models.executor, RemoteExecutor) and (models.width, models.height, models.memory) == (
            192,
            192,
            "",
        )
        with pytest.raises(BadInput, match="the word 'llama'"):
            models.check("a photo of a llama")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('memory = "half"', "memory is 'half'; choose from auto, resident, sequential, offloaded, streamed"),
        ('[executor]\nurl = "http://127.0.0.1:1/v1"\nwidth = 100', "width is 100; it must be a multiple of 16"),
        (
            '[executor]\nurl = "http://127.0.0.1:1/v1"\nparallel = 0',
            "parallel of the server http://127.0.0.1:1/v1 is 0",
        ),
        ('[executor]\nurl = "127.0.0.1"', "server address '127.0.0.1' is not one"),
        ('[executor]\nurl = "http://127.0.0.1:1/v1"\nfolder = "x"', "executor.folder is not a setting"),
        ('[executor]\nfolder = "x"\nhub = "a/b"', "needs a folder, .* or a hub name; it has both"),
        ('[executor]\nhub = "klein"', "hub is 'klein'; write it as owner/name"),
        ('[executor]\nfolder = "x"\nsteps = 0', "steps is 0; it must be between 1 and 1000"),
        ('[executor]\nfolder = "x"\nloras = "style.safetensors"', r"executor.loras: expected a list"),
        ('[executor]\nfolder = "x"\nstorage = "int4"', "'int4' is none of , fp8"),
    ],
)
def test_what_an_executor_cannot_be_is_named(tmp_path, text, says):
    path = tmp_path / "clvr.toml"
    path.write_text(
        (text if "[executor]" in text else text + '\n[executor]\nkind = "embedded"')
        + '\n[controller]\nkind = "embedded"\n'
    )
    with pytest.raises(BadInput, match=says):
        load_models(str(path))


@needs_art
def test_simulated_models_draw_the_worlds_pictures_without_weights(tmp_path):
    said = "a red cat top left and a blue dog bottom right at night"
    assert cli.main(["generate", said, "--models", "simulated", "--out", str(tmp_path / "run")]) == 0
    trajectory = read_trajectory(tmp_path / "run")
    assert set(trajectory.models.values()) == {"stickers", "simulated"}
    assert np.asarray(Image.open(tmp_path / "run" / BEST)).shape == (192, 192, 3)


@needs_art
def test_a_data_set_of_simulated_models_needs_no_second_judge(tmp_path):
    made = tmp_path / "set"
    assert cli.main(["synthesize", "--models", "simulated", "--count", "1", "--out", str(made)]) == 0
    assert (made / "trajectories.jsonl").exists()
