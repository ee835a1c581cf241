"""What is given in the place of a model and is none."""

from __future__ import annotations

import pytest
import torch

from clvr_core.errors import BadInput
from clvr_core.merge.plan import make_plan
from clvr_core.merge.recipe import Lora, MergeRecipe
from tests.merge import klein
from tests.merge.test_lowrank import factors, named, setup


def test_a_model_of_nunchaku_and_a_vae_are_called_what_they_are(tmp_path):
    _, _, base, _ = setup(tmp_path)
    lora = klein.save(tmp_path / "lora.safetensors", named(factors()))
    quantised = {
        "x.qweight": torch.ones(4, 2, dtype=torch.int8),
        "x.lora_down": torch.ones(4, 2),
        "x.lora_up": torch.ones(4, 2),
    }
    quantised = klein.save(tmp_path / "n.safetensors", quantised)
    vae = {"encoder.conv_in.weight": torch.ones(4, 3, 3, 3), "decoder.conv_in.weight": torch.ones(4, 4, 3, 3)}
    vae = klein.save(tmp_path / "vae.safetensors", vae)
    text = klein.save(tmp_path / "te.safetensors", {"model.embed_tokens.weight": torch.ones(4, 4)})
    for recipe in (MergeRecipe(quantised, loras=(Lora(lora),)), MergeRecipe(base, quantised)):
        with pytest.raises(BadInput, match=r"n\.safetensors: x\.qweight is I8 of nunchaku \(SVDQuant\)"):
            make_plan(recipe)
    with pytest.raises(BadInput, match=r"vae\.safetensors is a VAE, and a LoRA is for a diffusion model"):
        make_plan(MergeRecipe(vae, loras=(Lora(lora),)))
    for other, kind in ((vae, "a VAE"), (text, "a text encoder")):
        with pytest.raises(
            BadInput, match=f"--base .* is a diffusion model and --distilled .* is {kind}, which cannot"
        ):
            make_plan(MergeRecipe(base, distilled=other))
