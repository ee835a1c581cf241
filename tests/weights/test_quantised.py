"""Quantised weights: each public format against its own formula, and what has no known formula refused by name."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from clvr_core.errors import BadInput
from clvr_core.weights.checkpoint import open_checkpoint
from clvr_core.weights.quantised import dequantised, steps_of
from tests.merge import klein

E4, E5 = torch.float8_e4m3fn, torch.float8_e5m2
ROWS, COLUMNS = 160, 192


def mark(**settings) -> torch.Tensor:
    return torch.tensor(list(json.dumps(settings).encode()), dtype=torch.uint8)


def random(*shape, seed=0, size=1.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32)) * size


def tiled(scales: torch.Tensor) -> torch.Tensor:
    """The order of cuBLAS: in a tile of 128 x 4 the scale of row r and column c is at (r % 32) * 16 + (r // 32) * 4 + c."""
    rows, columns = scales.shape
    down, across = -(-rows // 128), -(-columns // 4)
    found = torch.zeros(down * across * 512, dtype=torch.uint8)
    raw = scales.view(torch.uint8)
    for r in range(rows):
        for c in range(columns):
            place = (r // 128 * across + c // 4) * 512 + (r % 32) * 16 + (r % 128 // 32) * 4 + c % 4
            found[place] = raw[r, c]
    return found.view(scales.dtype).reshape(down * 128, across * 4)


def hadamard(size: int) -> torch.Tensor:
    four = torch.tensor([[1, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]], dtype=torch.float64) / 2
    found = four
    while len(found) < size:
        found = torch.kron(found, four)
    return found


def plain(dtype=E4, scale_name=None, scale=None, **more):
    """An fp8 weight, the tensors beside it, and its values."""
    codes = random(ROWS, COLUMNS, size=20).to(dtype)
    tensors = {"a.weight": codes, **more}
    if scale_name:
        tensors[f"a.{scale_name}"] = scale
    return tensors, codes.double()


def with_scale(dtype, scale_name, scale, factor=None, **more):
    tensors, codes = plain(dtype, scale_name, scale, **more)
    return tensors, codes * (scale.double() if factor is None else factor)


def block_scaled():
    scale = random(2, 2).abs() + 0.1
    whole = scale.double().repeat_interleave(128, 0)[:ROWS].repeat_interleave(128, 1)[:, :COLUMNS]
    return with_scale(E4, "weight_scale_inv", scale, whole)


def mxfp8():
    codes = torch.from_numpy(np.random.default_rng(1).integers(110, 140, (ROWS, COLUMNS // 32), np.uint8))
    factor = torch.exp2(codes.double() - 127).repeat_interleave(32, 1)
    return with_scale(
        E4, "weight_scale", tiled(codes).view(torch.float8_e8m0fnu), factor, **{"a.comfy_quant": mark(format="mxfp8")}
    )


def nvfp4():
    nibbles = torch.from_numpy(np.random.default_rng(1).integers(0, 16, (ROWS, COLUMNS), np.uint8))
    size = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6], dtype=torch.float64)
    values = torch.cat([size, -size])[nibbles.long()]
    scale = (random(ROWS, COLUMNS // 16).abs() * 50 + 1).to(E4)
    second = torch.tensor(0.0123)
    whole = (scale.float() * second).double().repeat_interleave(16, 1)
    tensors = {
        "a.weight": nibbles[:, ::2] << 4 | nibbles[:, 1::2],
        "a.weight_scale": tiled(scale),
        "a.weight_scale_2": second,
        "a.comfy_quant": mark(format="nvfp4"),
    }
    return tensors, values * whole


def int8(scale, **settings):
    codes = torch.from_numpy(np.random.default_rng(1).integers(-127, 128, (ROWS, COLUMNS), np.int8))
    values = codes.double()
    if group := settings.get("convrot_groupsize"):
        values = (values.reshape(-1, group) @ hadamard(group)).reshape(ROWS, COLUMNS)
    tensors = {
        "a.weight": codes,
        "a.weight_scale": scale,
        "a.comfy_quant": mark(format="int8_tensorwise", **settings),
    }
    return tensors, values * scale.double()


ROW_SCALES = random(ROWS, 1).abs() + 0.01
FORMATS = {
    "fp8": plain,
    "fp8 e5m2": lambda: plain(E5),
    "scale fp32": lambda: with_scale(E4, "weight_scale", torch.tensor(0.3)),
    "scale bf16": lambda: with_scale(E4, "weight_scale", torch.tensor(0.3).bfloat16()),
    "scale fp16, old name": lambda: with_scale(
        E4, "scale_weight", torch.tensor([0.3]).half(), scaled_fp8=torch.ones(2)
    ),
    "e5m2 scaled": lambda: with_scale(
        E5, "weight_scale", torch.tensor(0.3), **{"a.comfy_quant": mark(format="float8_e5m2")}
    ),
    "rows": lambda: with_scale(E4, "weight_scale", ROW_SCALES),
    "rows, one axis": lambda: with_scale(E5, "weight_scale", ROW_SCALES[:, 0], ROW_SCALES.double()),
    "rows in bf16": lambda: with_scale(E4, "weight_scale", ROW_SCALES.bfloat16()),
    "blocks": block_scaled,
    "mxfp8": mxfp8,
    "nvfp4": nvfp4,
    "int8": lambda: int8(torch.tensor(0.02)),
    "int8 rows": lambda: int8(ROW_SCALES),
    "int8 rotated": lambda: int8(ROW_SCALES, convrot=True, convrot_groupsize=16),
}


def opened(folder, tensors, metadata=None):
    return open_checkpoint(klein.save(folder / "x.safetensors", tensors, metadata))


def values_of(tensor, first, count):
    from clvr_core.merge.plan import Part
    from clvr_core.merge.survey import values_of

    return values_of(Part(tensor, 0, tensor.shape), first, count)


@pytest.mark.parametrize("name", FORMATS)
def test_a_public_format_is_read_as_its_formula_says(tmp_path, name):
    tensors, right = FORMATS[name]()
    checkpoint = opened(tmp_path, tensors)
    found, calibrated = dequantised(checkpoint)
    assert list(found.tensors) == ["a.weight"] and not calibrated
    tensor = found.tensors["a.weight"]
    assert tensor.shape == (ROWS, COLUMNS)
    values = values_of(tensor, 0, ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    np.testing.assert_array_equal(values, right.float().numpy())
    for first, count in ((0, 1), (7, 3), (191, 2), (ROWS * COLUMNS - 5, 5), (1000, 4097)):
        np.testing.assert_array_equal(values_of(tensor, first, count), values.reshape(-1)[first : first + count])
    assert not any(file.changed for file in checkpoint.files)
    checkpoint.close()


def steps(tensor) -> np.ndarray:
    found = steps_of(tensor, 0, ROWS * COLUMNS)
    assert found is not None
    return found.reshape(ROWS, COLUMNS)


@pytest.mark.parametrize("dtype", [E4, E5])
@pytest.mark.parametrize("scale", [None, torch.tensor(0.3), ROW_SCALES])
def test_the_step_of_fp8_is_the_distance_to_the_next_code(tmp_path, dtype, scale):
    tensors, values = plain(dtype, "weight_scale" if scale is not None else None, scale)
    checkpoint = opened(tmp_path, tensors)
    after = (tensors["a.weight"].view(torch.uint8) + 1).view(dtype).double()
    right = (after.abs() - values.abs()) * (1 if scale is None else scale.double())
    np.testing.assert_array_equal(steps(dequantised(checkpoint)[0].tensors["a.weight"]), right.float())
    checkpoint.close()


def test_the_step_of_int8_is_its_scale_and_of_nvfp4_half_to_two_scales(tmp_path):
    for number, name in enumerate(("int8 rotated", "nvfp4")):
        (tmp_path / str(number)).mkdir()
        tensors, values = FORMATS[name]()
        checkpoint = opened(tmp_path / str(number), tensors)
        found = steps(dequantised(checkpoint)[0].tensors["a.weight"])
        if name == "nvfp4":
            halves = values.numpy() / (found / 2)  # of each value, a whole number of half steps
            np.testing.assert_allclose(halves, np.rint(halves), atol=1e-4)
            assert set(np.rint(np.abs(halves)).astype(int).reshape(-1)) == {0, 2, 4, 6}
        else:
            np.testing.assert_array_equal(found, np.broadcast_to(ROW_SCALES, (ROWS, COLUMNS)))
        checkpoint.close()


E4_WEIGHT, I8_WEIGHT = torch.ones(4, 4).to(E4), torch.ones(4, 4, dtype=torch.int8)


@pytest.mark.parametrize(
    ("tensors", "metadata", "words"),
    [
        (
            {"a.weight": torch.ones(2, 2, dtype=torch.uint8), "a.weight_scale_2": torch.ones(())},
            {},
            "scales of no public format",
        ),
        (
            {"a.weight": torch.ones(2, 2)},
            {"_quantization_metadata": '{"layers": {"a": {"format": "nvfp4"}}}'},
            r"quantised as 'nvfp4' \(F32 with no scale\)",
        ),
        (
            {"a.weight": torch.ones(2, 2), "a.weight_scale": torch.ones(())},
            {},
            r"scales of no public format .*\(F32 with a\.weight_scale",
        ),
        (
            {"a.weight": I8_WEIGHT, "a.weight_scale": torch.ones(())},
            {},
            r"scales of no public format .*\(I8 with a\.weight_scale",
        ),
        (
            {"a.weight": I8_WEIGHT, "a.weight_scale": torch.ones(4, 1), "a.comfy_quant": mark(format="convrot_w4a4")},
            {},
            "quantised as 'convrot_w4a4'",
        ),
        (
            {
                "a.weight": I8_WEIGHT,
                "a.weight_scale": torch.ones(4, 1),
                "a.comfy_quant": mark(format="int8_tensorwise", convrot=True, convrot_groupsize=5),
            },
            {},
            "rotated in groups of 5",
        ),
        (
            {"a.weight": I8_WEIGHT, "a.SCB": torch.ones(4)},
            {},
            r"a\.weight is I8 of bitsandbytes, with a\.SCB \(F32 \[4\]\)",
        ),
        ({"a.weight": I8_WEIGHT, "a.scale": torch.ones(4, 1)}, {}, "is I8 of SDNQ"),
        (
            {
                "a.weight": torch.ones(4, 4, dtype=torch.uint8),
                "a.scale": torch.ones(4, 1),
                "a.zero_point": torch.ones(4),
            },
            {},
            "is U8 of SDNQ",
        ),
        (
            {"a.weight._data": E4_WEIGHT, "a.weight._scale": torch.ones(4, 1)},
            {},
            r"a\.weight\._data is F8_E4M3 of optimum-quanto",
        ),
        ({"a.weight": E4_WEIGHT, "a.weight_zero_point": torch.ones(4, 1)}, {}, "F8_E4M3 of compressed-tensors"),
        ({"a.weight": E4_WEIGHT, "a.weight_amax": torch.ones(4, 1)}, {}, r"an unknown quantiser, with a\.weight_amax"),
        ({"a.weight": torch.ones(4, dtype=torch.uint8), "a.weight.absmax": torch.ones(1)}, {}, "U8 of bitsandbytes"),
        (
            {
                "a.qweight": torch.ones(4, 2, dtype=torch.int8),
                "a.lora_down": torch.ones(4, 2),
                "a.lora_up": torch.ones(4, 2),
            },
            {},
            r"a\.qweight is I8 of nunchaku \(SVDQuant\)",
        ),
        ({"a.qweight": torch.ones(4, 2, dtype=torch.int32), "a.qzeros": torch.ones(4, 2)}, {}, "I32 of GPTQ or AWQ"),
        ({"a.weight": torch.ones(2, 2, dtype=torch.float64)}, {}, "F64"),
        (
            {"a.weight": E4_WEIGHT, "a.weight_scale": torch.ones(4, 1).to(torch.float8_e8m0fnu)},
            {},
            "scales of no public format",
        ),
        ({"a.weight": E4_WEIGHT, "a.weight_scale": torch.ones(3, 1)}, {}, r"has the shape \[3, 1\]"),
        (
            {
                "a.weight": torch.ones(4, 32).to(E4),
                "a.weight_scale": torch.ones(4, 1).to(torch.float8_e8m0fnu),
                "a.comfy_quant": mark(format="mxfp8"),
            },
            {},
            "in 1 tiles of 512",
        ),
        ({"a.weight": E4_WEIGHT, "a.weight_scale": torch.tensor(float("nan"))}, {}, "positive number"),
        ({"a.weight": E4_WEIGHT, "a.weight_scale": torch.tensor(1)}, {}, "scales of no public format"),
    ],
)
def test_what_has_no_public_formula_is_refused_with_tensor_dtype_and_quantiser(tmp_path, tensors, metadata, words):
    found = opened(tmp_path, tensors, metadata)
    with pytest.raises(BadInput, match=words) as caught:
        dequantised(found)
    assert "use the bf16, fp16 or scaled fp8 safetensors" in str(caught.value) or "copy" in str(caught.value)
    found.close()


def test_a_damaged_grid_of_scales_is_found_when_it_is_read(tmp_path):
    checkpoint = opened(
        tmp_path, {"a.weight": E4_WEIGHT, "a.weight_scale": torch.tensor([[1.0], [2.0], [-1.0], [1.0]])}
    )
    tensor = dequantised(checkpoint)[0].tensors["a.weight"]
    with pytest.raises(BadInput, match=r"a\.weight_scale holds scales that are no positive numbers"):
        values_of(tensor, 0, 4)
    checkpoint.close()


@pytest.mark.parametrize(
    "tensors",
    [
        {"norm.weight": torch.ones(4).to(E4), "norm.bias": torch.ones(4).to(E4), "norm.running_mean": torch.ones(4)},
        {"conv.weight": I8_WEIGHT},
        {
            "spiece_model": torch.ones(9, dtype=torch.uint8),
            "attn.in_proj_weight": E4_WEIGHT,
            "logit_scale": torch.ones(()),
        },
    ],
)
def test_eight_bits_without_a_quantiser_are_left_as_they_are(tmp_path, tensors):
    checkpoint = opened(tmp_path, tensors)
    assert dequantised(checkpoint)[0].tensors == checkpoint.tensors
    checkpoint.close()
