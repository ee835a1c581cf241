"""What the models take that hang on a node of an open graph, told from the files that their loaders name."""

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
"""By the name of the widget, which core and most packs share: the folder of models, and what its files are."""
EMBEDDED = "embedded models"
SIDES = {"vlm": "VLM", "executor": "executor"}


def told_of(linked: Any) -> dict[str, Any]:
    """The plan for these models on ComfyUI's device as a line for a person, and whether they fit. `linked`: by side, `vlm` or `executor`,
    lists of [number, kind, widgets by name] of the nodes that its input hangs on, as a tab sends it; a node counts once."""
    device = comfy.model_management.get_torch_device()
    seen: set[str] = set()
    found: list[Weights] = []
    notes: list[str] = []
    for side, name in SIDES.items():
        nodes = list(_nodes(linked, side))
        fresh = [node for node in nodes if node[0] not in seen]
        seen.update(number for number, *_ in nodes)
        weights = [each for _, kind, widgets in fresh for each in _weights(side, kind, widgets)]
        found += weights
        if any(kind == "CLVR_ServerModel" for _, kind, _ in nodes):
            notes.append(f"the {name} is behind a server")
        elif fresh and not weights and not any(kind == "CLVR_ShapesModels" for _, kind, _ in nodes):
            notes.append(f"how large the {name} is, is not known")
    free = room(device)
    made = plan(found, free, headroom=NONE if all(each.name == EMBEDDED for each in found) else HEADROOM)
    line = made.told if found else f"{free / 1e9:.1f} GB free"
    return {"told": "; ".join([f"{device}: {line}", *notes]), "fits": made.fits}


def room(device: Any) -> int:
    """Bytes that ComfyUI can have there: those that are free, and those of the models that it would let go."""
    held = [
        each
        for each in comfy.model_management.current_loaded_models
        if each.model is not None and each.device == device
    ]
    return int(comfy.model_management.get_free_memory(device)) + sum(each.model_loaded_memory() for each in held)


def _nodes(linked: Any, side: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """What of it has the form that it should have: it comes from a workflow, which is a stranger's."""
    listed = linked.get(side) if isinstance(linked, dict) else None
    for node in listed if isinstance(listed, list) else ():
        if isinstance(node, list) and len(node) == 3 and isinstance(node[2], dict):
            yield str(node[0]), str(node[1]), node[2]


def _weights(side: str, kind: str, widgets: dict[str, Any]) -> Iterator[Weights]:
    owner = "eyes" if side == "vlm" else "executor"
    if kind == "CLVR_ShapesModels":
        yield Weights(EMBEDDED, sum(path.stat().st_size for path in MERGED.rglob("*.safetensors")))
    for widget, value in widgets.items():
        folder, part = FILES.get(widget.rstrip("0123456789"), ("", ""))
        # Only what ComfyUI itself lists in that folder.
        if folder and value in folder_paths.get_filename_list(folder):
            path = Path(folder_paths.get_full_path_or_raise(folder, value))
            # Load Diffusion Model may hold the numbers of a file in 8 bits.
            small = str(widgets.get("weight_dtype", "")).startswith("fp8") and path.suffix == ".safetensors"
            with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                yield file_weights(path, "VLM" if side == "vlm" else part, owner, 1 if small else None)
