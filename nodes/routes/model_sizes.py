"""Memory that the models upstream of a node take, read from the files that their loaders name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths

from ...clvr_core.models.memory_plan import HEADROOM, NONE, Weights, file_weights, plan
from ...clvr_core.shapes import MERGED

FILES = {
    "unet_name": ("diffusion_models", "DiT"),
    "ckpt_name": ("checkpoints", "checkpoint"),
    "clip_name": ("text_encoders", "text encoder"),
    "vae_name": ("vae", "VAE"),
}
"""Name of a loader's widget -> ComfyUI's kind of model folder, and what its files hold."""
EMBEDDED = "embedded models"
SIDES = {"vlm": "VLM", "executor": "executor"}
"""Input of the node -> the words for what is linked to it."""


def memory_of(linked: Any) -> dict[str, Any]:
    """Plan the memory of the linked models on ComfyUI's device.

    Return `told`, a line for the artist, and `fits`, whether the models fit.

    linked: for each side, `vlm` or `executor`, a list of [node id, node type, widgets by name] of all nodes upstream,
        as a tab sends it. A node that is upstream of both sides counts once.
    """
    device = comfy.model_management.get_torch_device()
    seen: set[str] = set()
    found: list[Weights] = []
    notes: list[str] = []
    for side, name in SIDES.items():
        nodes = list(_valid_nodes(linked, side))
        fresh = [node for node in nodes if node[0] not in seen]
        seen.update(number for number, *_ in nodes)
        weights = [each for _, kind, widgets in fresh for each in _weights(side, kind, widgets)]
        found += weights
        if any(kind == "CLVR_ServerModel" for _, kind, _ in nodes):
            notes.append(f"the {name} is behind a server")
        elif fresh and not weights and not any(kind == "CLVR_ShapesModels" for _, kind, _ in nodes):
            notes.append(f"how large the {name} is, is not known")
    free = available_bytes(device)
    made = plan(found, free, headroom=NONE if all(each.name == EMBEDDED for each in found) else HEADROOM)
    line = made.summary if found else f"{free / 1e9:.1f} GB free"
    return {"told": "; ".join([f"{device}: {line}", *notes]), "fits": made.fits}


def available_bytes(device: Any) -> int:
    """Return the bytes that are free on the device plus those of the models that ComfyUI would unload."""
    held = [
        each
        for each in comfy.model_management.current_loaded_models
        if each.model is not None and each.device == device
    ]
    return int(comfy.model_management.get_free_memory(device)) + sum(each.model_loaded_memory() for each in held)


def _valid_nodes(linked: Any, side: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield the well-formed nodes of this side and skip the rest: the workflow may be somebody else's."""
    listed = linked.get(side) if isinstance(linked, dict) else None
    for node in listed if isinstance(listed, list) else ():
        if isinstance(node, list) and len(node) == 3 and isinstance(node[2], dict):
            yield str(node[0]), str(node[1]), node[2]


def _weights(side: str, kind: str, widgets: dict[str, Any]) -> Iterator[Weights]:
    owner = "controller" if side == "vlm" else "executor"
    if kind == "CLVR_ShapesModels":
        yield Weights(EMBEDDED, sum(path.stat().st_size for path in MERGED.rglob("*.safetensors")))
    for widget, value in widgets.items():
        folder, part = FILES.get(widget.rstrip("0123456789"), ("", ""))
        # Only files that ComfyUI itself lists in that folder.
        if folder and value in folder_paths.get_filename_list(folder):
            path = Path(folder_paths.get_full_path_or_raise(folder, value))
            # Load Diffusion Model can store the weights of a file in 8 bits.
            small = str(widgets.get("weight_dtype", "")).startswith("fp8") and path.suffix == ".safetensors"
            with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                yield file_weights(path, "VLM" if side == "vlm" else part, owner, 1 if small else None)
