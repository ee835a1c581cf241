"""What tells a MODEL, CLIP or VAE from another: which nodes made it, and what its weights hold, patches included."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from comfy_execution.utils import get_executing_context

from ..host.links import provenance

SAMPLES = 16
"""Of each tensor. A merge, a fine-tune or a LoRA changes nearly every one of those that it touches."""


def fingerprint(dynprompt, patchers: dict[str, Any]) -> str:
    """`patchers`: by the input of the node at work that they came through. The same after a restart of the server, wherever the weights
    lie at the moment; another when a file of the same name holds something else, or a strength of a LoRA is changed."""
    digest, node = hashlib.sha256(), get_executing_context().node_id
    for name, patcher in patchers.items():
        digest.update(provenance(dynprompt, node, name).encode())
        # Not get_key_patches, which fails on scaled fp8. What is backed up is the weight without the patches that are in place now.
        for key, weight in sorted(patcher.model_state_dict().items()):
            digest.update(key.encode())
            _feed(digest, patcher.backup[key].weight if key in patcher.backup else weight)
            _feed(digest, patcher.patches.get(key, ()))
    return digest.hexdigest()


def _feed(digest, value: Any) -> None:
    """Tensors by some of their values, functions not at all: the nodes that set them are told apart by their widgets."""
    if isinstance(value, torch.Tensor):
        held = getattr(value, "_qdata", value).detach()
        digest.update(f"{tuple(value.shape)} {held.dtype}".encode())
        flat = held.reshape(-1)
        if flat.numel() and not flat.is_meta:
            some = flat[:: max(1, flat.numel() // SAMPLES)][:SAMPLES]
            digest.update(some.contiguous().cpu().view(torch.uint8).numpy().tobytes())
    elif isinstance(value, (list, tuple)):
        digest.update(f"[{len(value)}".encode())
        for item in value:
            _feed(digest, item)
    elif hasattr(value, "weights"):  # a LoRA, LoKr, ... of core's weight adapters
        digest.update(type(value).__name__.encode())
        _feed(digest, value.weights)
    elif not callable(value):
        digest.update(repr(value).encode())
