"""Weights from a folder, from the hub's cache, from a single file of ComfyUI's, with LoRAs on top."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from clvr_core.errors import BadInput
from clvr_core.executor.weights import ALIGNMENT, align, flux2, in_diffusers_layout, located, settings_of, state_of
from clvr_core.merge.recipe import Lora
from clvr_core.models.config import ExecutorSettings
from clvr_core.models.executors import load_executor
from clvr_core.protocols import DrawRequest
from clvr_core.weights.layout import atoms_of, tensor_of
from tests.executor.test_klein import one_thread, pictures, tiny
from tests.pixels import CLOSE, apart, close

__all__ = ["one_thread"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "klein"
    tiny().save_pretrained(folder)
    # The tiny text encoder has three layers, and reads no more than 128 tokens.
    recipe = {"generate": {"steps": 1}, "edit": {"steps": 1}, "text_layers": [1, 2, 3], "text_lengths": [128]}
    (folder / "clvr_recipe.json").write_text(json.dumps(recipe))
    return folder


def bfl(state: dict[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    """diffusers' tensors as Black Forest Labs cut and name them."""
    atoms = {}
    for name, tensor in state.items():
        pieces = atoms_of(name, "diffusers")
        atoms |= zip(pieces, tensor.chunk(len(pieces)))
    found = {}
    for name in {tensor_of(atom, "bfl") for atom in atoms}:
        found[prefix + name] = torch.cat([atoms[atom] for atom in atoms_of(name, "bfl")]).contiguous()
    return found


@pytest.fixture(scope="module")
def single(folder, tmp_path_factory):
    state = load_file(next((folder / "transformer").glob("*.safetensors")))
    path = tmp_path_factory.mktemp("files") / "klein.safetensors"
    save_file(bfl(state, "model.diffusion_model."), path)
    return path


def test_a_single_file_of_comfyui_becomes_the_same_model_to_the_bit(folder, single):
    model, own = flux2(single, torch.float32), tiny().transformer
    assert {name: value for name, value in model.config.items() if name in own.config and not name.startswith("_")} == {
        name: value for name, value in own.config.items() if not name.startswith("_")
    }
    state = own.state_dict()
    assert model.state_dict().keys() == state.keys() and all(
        torch.equal(value, state[name]) for name, value in model.state_dict().items()
    )
    for held in (state, bfl(state)):
        named = in_diffusers_layout(held)
        assert named.keys() == state.keys() and all(torch.equal(value, state[name]) for name, value in named.items())
    half = flux2(single, torch.bfloat16).state_dict()
    assert all(torch.equal(value, state[name].bfloat16()) for name, value in half.items())


def test_the_executor_draws_with_the_file_in_place_of_the_folders_own(folder, single, tmp_path):
    bare = tmp_path / "bare"
    import shutil

    shutil.copytree(
        folder,
        bare,
        ignore=lambda at, names: [name for name in names if "transformer" in at and name.endswith("safetensors")],
    )
    request = DrawRequest("a red circle", 1)
    own = load_executor(ExecutorSettings(folder=str(folder), dtype="float32"), "cpu")
    other = load_executor(ExecutorSettings(folder=str(bare), transformer=str(single), dtype="float32"), "cpu")
    assert close(pictures(own, request)[0], pictures(other, request)[0])
    assert (own.name, other.name) == ("klein", "bare + klein.safetensors")


def test_a_lora_is_in_the_weights_at_its_strength(folder, single, tmp_path):
    module = "single_blocks.0.linear2"
    state = state_of(single, torch.float32)
    rows, columns = state["single_transformer_blocks.0.attn.to_out.weight"].shape
    random = torch.Generator().manual_seed(1)
    down, up = torch.randn(4, columns, generator=random) * 0.02, torch.randn(rows, 4, generator=random) * 0.02
    path = tmp_path / "style.safetensors"
    names = {f"diffusion_model.{module}.lora_A.weight": down, f"diffusion_model.{module}.lora_B.weight": up}
    save_file(names, path)
    changed = state_of(single, torch.float32, [Lora(path, 0.5)])
    name = "single_transformer_blocks.0.attn.to_out.weight"
    assert torch.allclose(changed[name], state[name] + 0.5 * up @ down, atol=1e-6)
    assert all(torch.equal(changed[other], state[other]) for other in state if other != name)
    painted = [
        pictures(
            load_executor(ExecutorSettings(folder=str(folder), loras=loras, dtype="float32"), "cpu"),
            DrawRequest("a red circle", 1),
        )[0]
        for loras in ((), (f"{path}:0.0",), (f"{path}:30",))
    ]
    assert close(painted[0], painted[1]) and apart(painted[0], painted[2]) > CLOSE


@pytest.mark.parametrize(
    "loss", ["x_embedder.weight", "transformer_blocks.0.attn.to_k.weight", "norm_out.linear.weight"]
)
def test_a_file_that_is_no_whole_flux2_is_refused(folder, tmp_path, loss):
    state = load_file(next((folder / "transformer").glob("*.safetensors")))
    save_file({name: value for name, value in state.items() if name != loss}, tmp_path / "cut.safetensors")
    with pytest.raises(BadInput, match=r"cut.safetensors is no whole FLUX.2 transformer"):
        flux2(tmp_path / "cut.safetensors", torch.float32)


def test_published_sizes_are_told_from_shapes_alone():
    from diffusers import Flux2Transformer2DModel

    sizes = {
        "num_layers": 5,
        "num_single_layers": 20,
        "attention_head_dim": 128,
        "num_attention_heads": 24,
        "joint_attention_dim": 7680,
    }
    with torch.device("meta"):
        model = Flux2Transformer2DModel(**sizes, guidance_embeds=False)
    found = settings_of({name: tuple(value.shape) for name, value in model.state_dict().items()})
    assert found == {name: model.config[name] for name in found} and len(found) == 11


class TestHub:
    @pytest.fixture
    def cache(self, folder, tmp_path, monkeypatch):
        import huggingface_hub

        place = tmp_path / "models--acme--klein"
        (place / "refs").mkdir(parents=True)
        (place / "refs" / "main").write_text("0" * 40)
        (place / "snapshots").mkdir()
        (place / "snapshots" / ("0" * 40)).symlink_to(folder)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        return place

    def test_a_name_is_found_in_the_cache_without_the_network(self, cache, folder, monkeypatch):
        monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it asks the network"))
        assert located("", "acme/klein").resolve() == folder
        executor = load_executor(ExecutorSettings(hub="acme/klein", dtype="float32"), "cpu")
        assert executor.name == "acme/klein"

    def test_one_that_is_not_there_is_said_with_what_to_do(self, cache, monkeypatch):
        monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it asks the network"))
        with pytest.raises(
            BadInput, match=r"acme/other is not in the hub's cache .* hf download acme/other, or set download = true"
        ):
            located("", "acme/other")

    def test_a_folder_that_is_not_there_is_named(self, tmp_path):
        with pytest.raises(BadInput, match=r"none is not a folder; give the one that holds model_index.json"):
            located(str(tmp_path / "none"))


def test_on_a_cpu_every_weight_starts_where_torch_itself_would_put_it(folder):
    executor = load_executor(ExecutorSettings(folder=str(folder), dtype="float32"), "cpu")
    parts = [part for part in executor.pipe.components.values() if isinstance(part, torch.nn.Module)]
    places = [tensor.data_ptr() % ALIGNMENT for part in parts for tensor in (*part.parameters(), *part.buffers())]
    assert len(places) > 100 and set(places) == {0}


def test_aligning_changes_no_value_and_no_stride():
    memory = torch.arange(4 * 3 * 5 * 5 + 1, dtype=torch.float32)[1:]
    layer = torch.nn.Conv2d(3, 4, 5)
    layer.weight.data = memory.view(4, 3, 5, 5).to(memory_format=torch.channels_last)
    layer.bias.data = torch.arange(5, dtype=torch.float32)[1:]
    before, strides = [each.clone() for each in layer.parameters()], [each.stride() for each in layer.parameters()]
    align(layer)
    assert all(torch.equal(one, other) for one, other in zip(before, layer.parameters()))
    assert [each.stride() for each in layer.parameters()] == strides
    assert {each.data_ptr() % ALIGNMENT for each in layer.parameters()} == {0}
