"""Names and cuts of FLUX.2. The judges are diffusers' model and its own converter of single files."""

from __future__ import annotations

import pytest
import torch

from clvr_core.weights.layout import atoms_of, block_of, layout_of, prefix_of, tensor_of
from tests.merge import klein


@pytest.fixture(scope="module")
def model():
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    return diffusers.Flux2Transformer2DModel(
        in_channels=klein.CHANNELS,
        num_layers=2,
        num_single_layers=3,
        attention_head_dim=klein.HEAD,
        num_attention_heads=klein.HIDDEN // klein.HEAD,
        joint_attention_dim=klein.TEXT,
        timestep_guidance_channels=256,
        axes_dims_rope=(2, 2, 2, 2),
        guidance_embeds=True,
    )


def test_the_shapes_of_these_tests_are_those_of_the_real_model(model):
    made = klein.to_diffusers(klein.weights(double=2, single=3, guidance=True))
    assert {name: value.shape for name, value in made.items()} == {
        name: value.shape for name, value in model.state_dict().items()
    }


def test_cutting_bfl_tensors_into_atoms_gives_diffusers_tensors():
    bfl = klein.weights(double=2, single=3, guidance=True)
    diffusers = klein.to_diffusers(bfl)

    def cut(tensors, layout):
        found = {}
        for name, value in tensors.items():
            pieces = atoms_of(name, layout)
            found |= dict(zip(pieces, value.chunk(len(pieces))))
        return found

    left, right = cut(bfl, "bfl"), cut(diffusers, "diffusers")
    assert left.keys() == right.keys()
    assert all(torch.equal(left[atom], right[atom]) for atom in left)


def test_every_tensor_is_found_again_from_its_atoms():
    bfl = klein.weights(double=2, single=3, guidance=True)
    for tensors, layout in ((bfl, "bfl"), (klein.to_diffusers(bfl), "diffusers")):
        assert layout_of(tensors) == layout
        for name in tensors:
            assert {tensor_of(atom, layout) for atom in atoms_of(name, layout)} == {name}


def test_norms_of_newer_comfyui_files_are_the_same_atoms():
    assert atoms_of("single_blocks.1.norm.key_norm.weight", "bfl") == atoms_of(
        "single_blocks.1.norm.key_norm.scale", "bfl"
    )


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "diffusion_model."])
def test_prefixes_are_found(prefix):
    assert prefix_of(prefix + name for name in klein.shapes()) == prefix


@pytest.mark.parametrize(
    ("name", "layout", "block"),
    [
        ("double_blocks.3.img_attn.qkv.weight", "bfl", "double_blocks.3"),
        ("transformer_blocks.3.attn.to_q.weight", "diffusers", "double_blocks.3"),
        ("single_transformer_blocks.11.attn.to_out.weight", "diffusers", "single_blocks.11"),
        ("context_embedder.weight", "diffusers", "txt_in"),
        ("norm_out.linear.weight", "diffusers", "final_layer"),
        ("input_blocks.4.1.proj_in.weight", "plain", "input_blocks.4"),
        ("layers.7.attention.to_q.weight", "plain", "layers.7"),
        ("patch_embedding.weight", "plain", "patch_embedding"),
    ],
)
def test_blocks_go_by_bfl_names(name, layout, block):
    assert {block_of(atom, layout) for atom in atoms_of(name, layout)} == {block}
