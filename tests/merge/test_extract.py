"""`clvr extract`: a LoRA from the difference of two checkpoints, which a merge turns back into that difference."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from clvr_core.cli import main
from clvr_core.errors import BadInput
from clvr_core.merge import extract as extraction
from clvr_core.merge.extract import RECIPE, extract
from clvr_core.merge.plan import make_plan
from clvr_core.merge.recipe import Lora, MergeRecipe
from clvr_core.merge.run import merge
from clvr_core.weights.checkpoint import File
from tests.merge import klein
from tests.merge.test_merge import FORMS


def decaying(shape: tuple[int, ...], seed: int, size: float = 4e-4) -> torch.Tensor:
    """A matrix whose singular values fall as those of a trained difference do."""
    random = np.random.default_rng(seed)
    rows, columns = shape[0], int(np.prod(shape[1:]))
    low = min(rows, columns)
    left, right = (np.linalg.qr(random.standard_normal((many, low)))[0] for many in (rows, columns))
    values = (np.arange(low) + 1.0) ** -0.8 * size * np.sqrt(rows * columns)
    return torch.from_numpy(((left * values) @ right.T).reshape(shape).astype(np.float32))


def pair(folder: Path, forms=("bfl", "bfl"), norms: bool = False) -> list[Path]:
    base = klein.weights(dtype=torch.float32)
    tuned = {
        name: value + (decaying(value.shape, seed) if value.ndim > 1 else torch.full_like(value, 0.01 * norms))
        for seed, (name, value) in enumerate(base.items())
    }
    return [
        klein.save(folder / f"{role}.safetensors", FORMS[form](each))
        for role, form, each in zip(("base", "tuned"), forms, (base, tuned))
    ]


def change(base: Path, other: Path) -> dict[str, torch.Tensor]:
    before, after = load_file(base), load_file(other)
    return {name: (after[name] - before[name]).double() for name in before}


def norm(values) -> float:
    return sum(float((each**2).sum()) for each in values) ** 0.5


def best(delta: torch.Tensor, rank: int) -> float:
    """The squared norm that the best matrix of this rank holds."""
    return float((torch.linalg.svdvals(delta.reshape(len(delta), -1)) ** 2)[:rank].sum())


@pytest.mark.parametrize("forms", [("bfl", "bfl"), ("comfyui", "diffusers"), ("diffusers", "bfl")], ids=str)
def test_applying_the_lora_gives_the_difference_back_to_the_share_that_it_says(tmp_path, forms):
    base, tuned = pair(tmp_path, forms)
    said = extract(base, tuned, tmp_path / "l.safetensors", rank=4, dtype="fp32")
    with make_plan(MergeRecipe(base, loras=(Lora(said.out),))) as plan:
        merge(plan, tmp_path / "back.safetensors", sha256=False)
    with make_plan(MergeRecipe(base, distilled=tuned)) as plan:
        merge(plan, tmp_path / "whole.safetensors", sha256=False)
    back, whole = change(base, tmp_path / "back.safetensors"), change(base, tmp_path / "whole.safetensors")
    assert said.held == pytest.approx(norm(back.values()) / norm(whole.values()), rel=1e-3) and 0.5 < said.held < 0.99
    rest = norm(whole[name] - back[name] for name in whole)
    assert rest / norm(whole.values()) == pytest.approx((1 - said.held**2) ** 0.5, rel=1e-2), (
        "what is left out is the rest"
    )
    if forms[0] == "bfl":
        right = sum(best(delta, 4) for delta in whole.values() if delta.ndim > 1) ** 0.5 / norm(whole.values())
        assert said.held == pytest.approx(right, rel=1e-3), "no LoRA of this rank holds more"


def test_a_share_of_energy_chooses_the_smallest_rank_that_holds_it(tmp_path):
    base, tuned = pair(tmp_path)
    deltas = [delta for delta in change(base, tuned).values() if delta.ndim > 1]
    held = [sum(best(delta, rank) for delta in deltas) / norm(deltas) ** 2 for rank in range(1, 17)]
    said = extract(base, tuned, tmp_path / "l.safetensors", energy=0.8)
    assert said.rank == next(rank for rank, share in enumerate(held, 1) if share >= 0.8) and not said.warnings[1:]
    assert {tensor.shape[0] for name, tensor in load_file(said.out).items() if "lora_A" in name} == {said.rank}
    short = extract(base, tuned, tmp_path / "s.safetensors", rank=2, energy=0.99)
    assert short.rank == 2 and any("rank 2 holds" in each for each in short.warnings)


def test_weights_in_bf16_are_streamed_some_rows_at_a_time(tmp_path, monkeypatch):
    base, _, distilled = (klein.save(tmp_path / f"{n}.safetensors", each) for n, each in enumerate(klein.three()))
    whole = extract(base, distilled, tmp_path / "whole.safetensors", rank=3)
    monkeypatch.setattr(extraction, "ROWS", 100)
    parts = extract(base, distilled, tmp_path / "parts.safetensors", rank=3)
    assert parts.held == pytest.approx(whole.held, rel=1e-5)
    assert {str(tensor.dtype) for tensor in load_file(parts.out).values()} == {"torch.bfloat16"}
    with closing(File(parts.out)) as file:
        told = json.loads(file.metadata[RECIPE])
    assert told["rank"] == 3 and told["held"] == float(f"{parts.held:.4g}") and told["tuned"] == "2.safetensors"


def test_the_file_is_read_by_diffusers_and_has_the_names_of_comfyui(tmp_path):
    from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_flux2_lora_to_diffusers as convert

    base, tuned = pair(tmp_path)
    extract(base, tuned, tmp_path / "l.safetensors", rank=2)
    extract(base, tuned, tmp_path / "d.safetensors", rank=2, layout="diffusers")
    comfyui, diffusers = load_file(tmp_path / "l.safetensors"), load_file(tmp_path / "d.safetensors")
    weights = {f"diffusion_model.{name}" for name in load_file(base)}
    assert {name.partition(".lora_")[0] + ".weight" for name in comfyui} <= weights
    read = convert(dict(comfyui))
    assert {name: value.shape for name, value in diffusers.items()} == {
        name: value.shape for name, value in read.items()
    }


PLAIN = {
    "kohya": {"double_blocks.0.img_mod.lin.weight": (12, 8), "single_blocks.0.linear1.weight": (8, 8)},
    "unet": {"input_blocks.1.0.in_layers.2.weight": (8, 4, 3, 3), "middle_block.1.proj_in.weight": (8, 8)},
    "own": {"transformer_blocks.0.attn.to_q.weight": (8, 8), "single_transformer_blocks.0.proj_mlp.weight": (8, 8)},
    "comfyui": {"layers.0.attention.qkv.weight": (24, 8), "x_embedder.weight": (8, 8)},
}
BEGINNINGS = {"kohya": "lora_unet_", "unet": "lora_unet_", "own": "transformer.", "comfyui": "diffusion_model."}


@pytest.mark.parametrize("family", PLAIN)
def test_each_family_has_names_that_both_programs_read(tmp_path, family):
    base = {
        name: torch.randn(shape, generator=torch.Generator().manual_seed(1)) for name, shape in PLAIN[family].items()
    }
    tuned = {name: value + decaying(value.shape, 3, 0.01) for name, value in base.items()}
    paths = [klein.save(tmp_path / f"{role}.safetensors", each) for role, each in (("b", base), ("t", tuned))]
    said = extract(*paths, tmp_path / "l.safetensors", rank=3, dtype="fp32")
    factors = load_file(said.out)
    assert all(name.startswith(BEGINNINGS[family]) for name in factors) and len(factors) == 2 * len(base)
    if family == "unet":
        assert factors["lora_unet_input_blocks_1_0_in_layers_2.lora_down.weight"].shape == (3, 4, 3, 3)
        assert factors["lora_unet_input_blocks_1_0_in_layers_2.lora_up.weight"].shape == (8, 3, 1, 1)
    with make_plan(MergeRecipe(paths[0], loras=(Lora(said.out),))) as plan:
        merge(plan, tmp_path / "back.safetensors", sha256=False)
    back = change(paths[0], tmp_path / "back.safetensors")
    assert norm(back.values()) / norm(change(*paths).values()) == pytest.approx(said.held, rel=1e-3)


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["--rank", "0"], "--rank is 0"),
        (["--energy", "1.5"], r"--energy is 1\.5"),
        (["--tuned", "base.safetensors"], "nothing to extract"),
        (["--exclude", "*"], "nothing to extract"),
        (["--out", "base.safetensors"], "is the input"),
        (["--out", "l.pt"], "must end in .safetensors"),
    ],
)
def test_wishes_that_cannot_be_met_are_one_sentence(tmp_path, capsys, monkeypatch, words, sentence):
    pair(tmp_path)
    monkeypatch.chdir(tmp_path)
    given = {"--base": "base.safetensors", "--tuned": "tuned.safetensors", "--out": "l.safetensors"}
    given |= {words[0]: words[1]}
    assert main(["extract", *(word for each in given.items() for word in each)]) == 2
    with pytest.raises(BadInput, match=sentence):
        raise BadInput(capsys.readouterr().err)
    assert not (tmp_path / "l.safetensors").exists()


def test_the_difference_to_weights_of_8_bits_is_refused_unless_it_is_asked_for(tmp_path):
    base, tuned = pair(tmp_path)
    coarse = {
        name: value.to(torch.float8_e4m3fn) if value.ndim > 1 else value for name, value in load_file(base).items()
    }
    klein.save(base, coarse)
    with pytest.raises(BadInput, match="--fp8 dequantise to take it all the same"):
        extract(base, tuned, tmp_path / "l.safetensors", rank=2)
    assert extract(base, tuned, tmp_path / "l.safetensors", rank=2, fp8="dequantise").rank == 2


def test_what_is_printed(tmp_path, capsys):
    base, tuned = pair(tmp_path, norms=True)
    words = [
        "extract",
        "--base",
        str(base),
        "--tuned",
        str(tuned),
        "--rank",
        "4",
        "--out",
        str(tmp_path / "l.safetensors"),
    ]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "rank 4 holds" in said.out and "tensors differ that a LoRA cannot hold" in said.err
    assert main([*words, "--overwrite", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rank"] == 4 and 0 < found["held"] < 1 and len(found["left"]) == 8
    assert found["bytes"] == (tmp_path / "l.safetensors").stat().st_size
