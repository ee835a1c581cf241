"""Each kind of LoRA against its own formula in fp64, on a matrix, a convolution, a bias and a norm."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from clvr_core.errors import BadInput
from clvr_core.merge.plan import make_plan
from clvr_core.merge.recipe import Lora, MergeRecipe
from tests.merge import klein
from tests.merge.test_merge import merged

STRENGTH = 0.5
random = np.random.default_rng(5)


def some(*shape: int) -> torch.Tensor:
    return torch.from_numpy(random.standard_normal(shape).astype(np.float32)).bfloat16()


BASE = {
    "a.weight": some(8, 6).float(),
    "a.bias": some(8).float(),
    "c.weight": some(8, 4, 3, 3).float(),
    "n.weight": some(8).float(),
    "n.bias": some(8).float(),
}
A, B, C = some(2, 6), some(8, 2), some(2, 4)
DOWN, UP, MID = some(2, 4, 1, 1), some(8, 2, 1, 1), some(2, 2, 3, 3)
HADA = {"hada_w1_a": some(8, 2), "hada_w1_b": some(2, 6), "hada_w2_a": some(8, 2), "hada_w2_b": some(2, 6)}
CONV = {"hada_w1_a": some(2, 8), "hada_w1_b": some(2, 4), "hada_w2_a": some(2, 8), "hada_w2_b": some(2, 4)}
CORES = {"hada_t1": some(2, 2, 3, 3), "hada_t2": some(2, 2, 3, 3)}
KRON = {"lokr_w1": some(2, 2), "lokr_w2_a": some(2, 4), "lokr_w2_b": some(2, 2), "lokr_t2": some(2, 2, 3, 3)}
WHOLE, ROWS = some(8, 6), some(8)
LORA = {"a.lora_A.weight": A, "a.lora_B.weight": B}
MAGNITUDE = some(8).abs() + 1


def tucker(core, right, left):
    return torch.einsum("ijkl,jr,ip->prkl", core.double(), right.double(), left.double())


def hada():
    w = {name: value.double() for name, value in HADA.items()}
    return (w["hada_w1_a"] @ w["hada_w1_b"]) * (w["hada_w2_a"] @ w["hada_w2_b"])


def hada_conv():
    one, two = (tucker(CORES[f"hada_t{n}"], CONV[f"hada_w{n}_b"], CONV[f"hada_w{n}_a"]) for n in (1, 2))
    return one * two


def kron():
    two = tucker(KRON["lokr_t2"], KRON["lokr_w2_b"], KRON["lokr_w2_a"])
    return torch.kron(KRON["lokr_w1"].double()[:, :, None, None], two.contiguous())


def dora(name, low, magnitude, axes):
    """magnitude * (W + D) / |W + D| - W, the norm over these axes."""
    weight = BASE[name].double()
    moved = weight + low
    return magnitude.double() * moved / moved.square().sum(axes, keepdim=True).sqrt() - weight


def product():
    return B.double() @ A.double()


CASES = {
    "LoRA with a Tucker core": (
        {"c.lora_down.weight": DOWN, "c.lora_up.weight": UP, "c.lora_mid.weight": MID, "c.alpha": torch.tensor(4.0)},
        {"c.weight": lambda: 2 * tucker(MID, DOWN[:, :, 0, 0], UP[:, :, 0, 0].T)},
    ),
    "LoHa": (
        {f"lycoris_a.{name}": value for name, value in HADA.items()} | {"lycoris_a.alpha": torch.tensor(1.0)},
        {"a.weight": lambda: 0.5 * hada()},
    ),
    "LoHa with Tucker cores": (
        {f"lycoris_c.{name}": value for name, value in (CONV | CORES).items()},
        {"c.weight": hada_conv},
    ),
    "LoKr with a Tucker core": (
        {f"lycoris_c.{name}": value for name, value in KRON.items()} | {"lycoris_c.alpha": torch.tensor(1.0)},
        {"c.weight": lambda: 0.5 * kron()},
    ),
    "whole differences": (
        {"diffusion_model.a.diff": WHOLE, "diffusion_model.a.diff_b": ROWS, "n.w_norm": ROWS, "n.b_norm": ROWS},
        {"a.weight": WHOLE.double, "a.bias": ROWS.double, "n.weight": ROWS.double, "n.bias": ROWS.double},
    ),
    "a LoRA and the difference of its bias": (
        LORA | {"a.diff_b": ROWS, "a.alpha": torch.tensor(4.0)},
        {"a.weight": lambda: 2 * product(), "a.bias": ROWS.double},
    ),
    "a LoRA with a bias of its own": (
        LORA | {"a.lora_B.bias": ROWS, "a.alpha": torch.tensor(4.0)},
        {"a.weight": lambda: 2 * product(), "a.bias": lambda: 2 * ROWS.double()},
    ),
    "DoRA by rows": (
        LORA | {"a.dora_scale": MAGNITUDE[:, None]},
        {"a.weight": lambda: dora("a.weight", product(), MAGNITUDE[:, None], (1,))},
    ),
    "DoRA of PEFT": (
        {f"base_model.model.{name}": value for name, value in LORA.items()}
        | {"base_model.model.a.lora_magnitude_vector.weight": MAGNITUDE},
        {"a.weight": lambda: dora("a.weight", product(), MAGNITUDE[:, None], (1,))},
    ),
    "DoRA by input channels": (
        LORA | {"a.dora_scale": MAGNITUDE[None, :6]},
        {"a.weight": lambda: dora("a.weight", product(), MAGNITUDE[None, :6], (0,))},
    ),
    "DoRA of a convolution by input channels": (
        {"c.lora_down.weight": DOWN, "c.lora_up.weight": UP, "c.lora_mid.weight": MID}
        | {"c.dora_scale": MAGNITUDE[None, :4, None, None]},
        {
            "c.weight": lambda: dora(
                "c.weight", tucker(MID, DOWN[:, :, 0, 0], UP[:, :, 0, 0].T), MAGNITUDE[None, :4, None, None], (0, 2, 3)
            )
        },
    ),
    "DoRA of a LoHa": (
        {f"a.{name}": value for name, value in HADA.items()} | {"a.dora_scale": MAGNITUDE[:, None]},
        {"a.weight": lambda: dora("a.weight", hada(), MAGNITUDE[:, None], (1,))},
    ),
}


def merged_with(folder, tensors, base=BASE, **how):
    tensors = {name: value.clone() for name, value in tensors.items()}
    paths = [klein.save(folder / f"{number}.safetensors", each) for number, each in enumerate((base, tensors))]
    return merged(folder, MergeRecipe(paths[0], loras=(Lora(paths[1], STRENGTH),)), sha256=False, **how)


@pytest.mark.parametrize("kind", CASES)
def test_a_kind_of_lora_is_merged_as_its_formula_says(tmp_path, kind):
    tensors, deltas = CASES[kind]
    found = merged_with(tmp_path, tensors)
    for name, value in BASE.items():
        if name in deltas:
            right = (value.double() + STRENGTH * deltas[name]()).float()
            torch.testing.assert_close(found[name], right, rtol=1e-6, atol=1e-6, msg=f"{kind}: {name}")
            assert not torch.equal(found[name], value)
        else:
            assert klein.same_bits(found[name], value), name


def test_a_dora_on_split_projections_has_the_norms_of_its_own_rows(tmp_path):
    """FLUX.2: q, k and v of diffusers on one fused weight, in pieces that do not begin at a row of the window."""
    base = klein.weights()
    down, up, magnitude = some(2, 16), some(16, 2), some(16).abs() + 1
    module = "transformer.transformer_blocks.0.attn.to_k"
    tensors = {
        f"{module}.lora_A.weight": down,
        f"{module}.lora_B.weight": up,
        f"{module}.dora_scale": magnitude[:, None],
    }
    found = merged_with(tmp_path, tensors, base)
    name = "double_blocks.0.img_attn.qkv.weight"
    weight = base[name][16:32].double()
    moved = weight + up.double() @ down.double()
    moved = magnitude.double()[:, None] * moved / moved.norm(dim=1, keepdim=True)
    right = (weight + STRENGTH * (moved - weight)).bfloat16()
    torch.testing.assert_close(found[name][16:32], right, rtol=2**-8, atol=1e-6)
    for rows in (slice(0, 16), slice(32, 48)):
        assert klein.same_bits(found[name][rows], base[name][rows])


def test_a_dora_by_its_settings_needs_its_magnitudes(tmp_path):
    paths = [
        klein.save(tmp_path / "b.safetensors", BASE),
        klein.save(tmp_path / "l.safetensors", LORA, {"lora_adapter_metadata": json.dumps({"use_dora": True})}),
    ]
    with pytest.raises(BadInput, match="is a DoRA by its settings and has no magnitudes"):
        make_plan(MergeRecipe(paths[0], loras=(Lora(paths[1]),)))


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({f"a.{name}": value for name, value in (HADA | {"hada_w2_b": some(2, 5)}).items()}, "have different shapes"),
        ({f"a.{name}": value for name, value in (HADA | {"hada_w2_b": some(3, 6)}).items()}, "do not multiply"),
        ({"a.lora_B.bias": ROWS}, "has only bias"),
        (LORA | {"a.diff": WHOLE}, "are of several kinds"),
        ({"a.dora_scale": MAGNITUDE[:, None]}, "has only"),
        ({"a.diff": some(8, 5)}, "a delta of 8 x 5, the base has 8 x 6"),
    ],
)
def test_what_is_not_whole_is_refused_by_name(tmp_path, tensors, words):
    with pytest.raises(BadInput, match=words):
        merged_with(tmp_path, tensors)
