"""Fingerprints of MODEL, CLIP and VAE: of the nodes that made them, and of their weights with patches."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from comfy_execution.utils import get_executing_context

from ..host.links import provenance

SAMPLES = 16
"""Values of each tensor that are read. A merge, a fine-tune or a LoRA changes nearly every value of a tensor that it
changes.
"""


def fingerprint(dynprompt, patchers: dict[str, Any]) -> str:
    """Return a digest of these models. `patchers`: input of the executing node -> its ModelPatcher.

    The digest is the same after a restart and on any device. It changes if a file of the same name has other weights,
    or if the strength of a LoRA changes.
    """
    digest, node = hashlib.sha256(), get_executing_context().node_id
    for name, patcher in patchers.items():
        digest.update(provenance(dynprompt, node, name).encode())
        # Not get_key_patches, which fails on scaled fp8. The backup holds the weight without the patches applied now.
        parameters: dict[str, torch.Tensor] = {}
        for key, weight in sorted(patcher.model_state_dict().items()):
            digest.update(key.encode())
            if weight.is_meta:  # ComfyUI-GGUF gives sizes alone; its weights are in the parameters
                parameters = parameters or dict(patcher.model.named_parameters())
                weight = parameters.get(key, weight)
            _feed(digest, patcher.backup[key].weight if key in patcher.backup else weight)
            _feed(digest, patcher.patches.get(key, ()))
    return digest.hexdigest()


def _feed(digest, value: Any) -> None:
    """Add a value to the digest: a tensor by SAMPLES of its values; a function not at all, since the widgets of its
    node are in the provenance.
    """
    if isinstance(value, torch.Tensor):
        # A class of another pack, such as ComfyUI-GGUF's, has a shape and a `detach` of its own.
        held = getattr(value, "_qdata", value).as_subclass(torch.Tensor).detach()
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
