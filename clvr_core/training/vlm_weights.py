"""The embedded model's weights: how new ones begin, and how a run's are read and put into the package."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import BadInput
from .vlm_model import FOLDER
from .vlm_symbols import SPREAD

SHARDS = {"model-00001-of-00002.safetensors": "model.visual.", "model-00002-of-00002.safetensors": ""}
"""Weights by file: those whose name begins so and are in no file before."""
MARKS = "training/marks.safetensors"
"""What reads off visual tokens and names in training, which only a training that goes on needs: in a folder of its own, since
some load whatever weights lie beside each other."""
WRITES = ("o_proj.weight", "down_proj.weight", "attn.proj.weight", "mlp.linear_fc2.weight")
"""How the names of matrices end that write to the residual."""
LIKE = 2
"""Layers of the text part that begin with keys like their queries."""


def start_well(model: nn.Module) -> None:
    """Give the matrices of a new model the spread that suits its width; those that write to the residual less. The first
    layers of the text part look for what is like the asking token, and nothing is added by the deep stack."""
    depth = 2 * sum(name.endswith(("o_proj.weight", "attn.proj.weight")) for name, _ in model.named_parameters()) / 2
    with torch.no_grad():
        for name, each in model.named_parameters():
            if each.ndim == 2 and "embed" not in name:
                writes = name.endswith(WRITES)
                each.normal_(0, (each.shape[1] * (depth if writes else 1)) ** -0.5)
        text: Any = model.get_submodule("model.language_model")
        text.norm.weight.fill_(1 / (SPREAD * text.config.hidden_size**0.5))
        for layer in text.layers[:LIKE]:
            query, key = layer.self_attn.q_proj.weight, layer.self_attn.k_proj.weight
            groups = query.view(len(key) // layer.self_attn.head_dim, -1, layer.self_attn.head_dim, key.shape[1])
            key.copy_(groups[:, 0].reshape(key.shape))
        for merger in model.get_submodule("model.visual").deepstack_merger_list:  # pyright: ignore[reportGeneralTypeIssues]
            merger.linear_fc2.weight.zero_()
            merger.linear_fc2.bias.zero_()


def deepen(model: nn.Module, names: Sequence[str]) -> None:
    """Let layers that a model has beyond those of the weights it goes on from add nothing at first. names: of their tensors."""
    with torch.no_grad():
        for name in names:
            each = model.get_parameter(name)
            if name.endswith(WRITES):
                each.zero_()
            elif each.ndim == 2:
                each.normal_(0, each.shape[1] ** -0.5)


def load_weights(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of both files in float32. Raises FileNotFoundError if one is missing."""
    from safetensors.torch import load_file

    return {name: each.float() for file in SHARDS for name, each in load_file(folder / file).items()}


def words_digest() -> str:
    """SHA-256 of the tokenizer's file: the same number means the same tokens."""
    return hashlib.sha256((FOLDER / "tokenizer.json").read_bytes()).hexdigest()


def publish(out: Path, folder: Path = FOLDER, usual: bool = False) -> None:
    """Copy the weights, the curve and the settings of a run into the folder of the tokenizer, with the index by which
    transformers finds them. usual: they steer and judge where `embedded` is named, not only `embedded-neural`.

    Raises FileNotFoundError if one is missing, and BadInput if the weights know other tokens."""
    from safetensors import safe_open

    run = json.loads((out / "run.json").read_text())
    if run.get("tokenizer") != words_digest():
        raise BadInput(f"the weights in {out} were made with another tokenizer than that in {FOLDER}; train them again")
    index: dict[str, str] = {}
    for file in SHARDS:
        (folder / file).write_bytes((out / file).read_bytes())
        with safe_open(folder / file, "pt") as opened:
            index |= dict.fromkeys(opened.keys(), file)
    size = sum((folder / file).stat().st_size for file in SHARDS)
    whole = {"metadata": {"total_size": size}, "weight_map": dict(sorted(index.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(whole, indent=2) + "\n")
    (folder / MARKS).parent.mkdir(exist_ok=True)
    for file in (MARKS, "curve.jsonl"):
        (folder / file).write_bytes((out / file).read_bytes())
    (folder / "run.json").write_text(json.dumps(run | {"usual": usual}, indent=2) + "\n")
