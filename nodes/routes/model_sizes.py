"""Memory that the models upstream of a node take, read from the files that their loaders name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import torch

from ...clvr_core.errors import BadInput
from ...clvr_core.models.memory_plan import HEADROOM, NONE, Weights, file_weights, plan
from ...clvr_core.weights.shared import files_of
from ...clvr_core.world import world_named
from ..quick.families import SIZES
from ..quick.files import loaders_of, offers_of

FILES = {
    "unet_name": ("diffusion_models", "DiT"),
    "ckpt_name": ("checkpoints", "checkpoint"),
    "clip_name": ("text_encoders", "text encoder"),
    "vae_name": ("vae", "VAE"),
}
"""Name of a loader's widget -> ComfyUI's kind of model folder, and what its files hold."""
PUBLISHED = SIZES | {
    "flux-2-klein-4b.safetensors": 7.8e9,
    "flux-2-klein-base-4b.safetensors": 7.8e9,
    "flux-2-klein-4b-fp8.safetensors": 4.1e9,
    "qwen_3_4b.safetensors": 8.0e9,
    "qwen3vl_4b_fp8_scaled.safetensors": 5.3e9,
    "flux2-vae.safetensors": 0.3e9,
}
"""Name of a published file -> its bytes, to two digits; of one that the shared workflows name, as the notes in them have
it.
"""
GGUF = {"unet_name": "unet_gguf", "clip_name": "clip_gguf"}
"""Kinds of model folders that ComfyUI-GGUF adds, by the widgets of its loaders."""
NUNCHAKU = {"model_path": ("diffusion_models", "DiT"), "model_name": ("diffusion_models", "DiT")}
"""As FILES, of the loaders of ComfyUI-nunchaku, whose node types begin with its name."""
EMBEDDED = "embedded models"
SIDES = {"vlm": "VLM", "executor": "executor"}
"""Input of the node -> the words for what is linked to it."""


def memory_of(linked: Any) -> dict[str, Any]:
    """Plan the memory of the linked models on ComfyUI's device.

    Return `told`, a line in English, and what is in it: `device`; `free`, its bytes; `weights`, a list of name, bytes
    and whether the file is missing; `mode` and `fits` of the plan; `owners`, how many models share the device;
    `largest`, the name of the weights that need most; `server` and `unknown`, the sides behind a server and those
    whose size is not known; `offers`, name, link and folder of the files that CLVR Quick could use and that are not here.

    linked: for each side, `vlm` or `executor`, a list of [node id, node type, widgets by name] of all nodes upstream,
        as a tab sends it. A node that is upstream of both sides counts once.
    """
    device = comfy.model_management.get_torch_device()
    seen: set[str] = set()
    found: list[tuple[Weights, bool]] = []
    server, unknown = [], []
    for side, name in SIDES.items():
        nodes = list(_valid_nodes(linked, side))
        fresh = [node for node in nodes if node[0] not in seen]
        seen.update(number for number, *_ in nodes)
        weights = [each for _, kind, widgets in fresh for each in _weights(side, kind, widgets)]
        found += weights
        if any(kind == "CLVR_ServerModel" for _, kind, _ in nodes):
            server.append(name)
        elif fresh and not weights and not any(kind == "CLVR_ShapesModels" for _, kind, _ in nodes):
            unknown.append(name)
    free, plain = available_bytes(device), [weights for weights, _ in found]
    headroom = NONE if all(each.name == EMBEDDED for each in plain) else HEADROOM
    made = plan(plain, free, headroom=headroom)
    named = [replace(each, name=f"{each.name} (not downloaded)") if missing else each for each, missing in found]
    line = plan(named, free, headroom=headroom).summary if found else f"{free / 1e9:.1f} GB free"
    notes = [f"the {name} is behind a server" for name in server]
    notes += [f"how large the {name} is, is not known" for name in unknown]
    return {
        "told": "; ".join([f"{device}: {line}", *notes]),
        "device": str(device),
        "free": free,
        "weights": [{"name": each.name, "bytes": each.nbytes, "missing": missing} for each, missing in found],
        "mode": made.mode,
        "fits": made.fits,
        "owners": len({each.owner for each in plain}),
        "largest": made.largest if plain else "",
        "server": server,
        "unknown": unknown,
        "offers": _offers(linked),
    }


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
            yield from _expanded(side, str(node[0]), str(node[1]), node[2])


def _expanded(side: str, number: str, kind: str, widgets: dict[str, str]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield the node; of CLVR Quick the loaders that it becomes."""
    loaders = []
    if kind == "CLVR_Quick":
        with contextlib.suppress(BadInput):  # its file is of no known family; the prompt will say so
            loaders = loaders_of(_texts(widgets), side)
    if not loaders:
        yield number, kind, widgets
    for place, (loader, named) in enumerate(loaders):
        # The embedded models are one node for both sides.
        yield f"{number}.{loader if loader == 'CLVR_ShapesModels' else f'{side}.{place}'}", loader, named


def _wide() -> bool:
    """Say whether ComfyUI loads a diffusion model of 16 bits as fp32 on its device, as it does on a CPU."""
    device = comfy.model_management.get_torch_device()
    kinds = [torch.bfloat16, torch.float32]
    return comfy.model_management.unet_dtype(device=device, supported_dtypes=kinds) == torch.float32


def _texts(widgets: dict[str, Any]) -> dict[str, str]:
    return {name: value for name, value in widgets.items() if isinstance(value, str)}


def _offers(linked: Any) -> list[dict[str, str]]:
    """Return the files that a CLVR Quick among the nodes could use and that are not here."""
    listed = linked.get("executor") if isinstance(linked, dict) else None
    for node in listed if isinstance(listed, list) else ():
        if isinstance(node, list) and len(node) == 3 and node[1] == "CLVR_Quick" and isinstance(node[2], dict):
            with contextlib.suppress(BadInput):
                return [
                    {"name": each.name, "link": each.link, "folder": each.folder} for each in offers_of(_texts(node[2]))
                ]
    return []


def _weights(side: str, kind: str, widgets: dict[str, Any]) -> Iterator[tuple[Weights, bool]]:
    """Yield the weights that a node loads, and of each whether its file is still to be downloaded."""
    owner = "controller" if side == "vlm" else "executor"
    if kind == "CLVR_ShapesModels":
        files = files_of(world_named().merged).values()
        yield Weights(EMBEDDED, sum(path.stat().st_size for path in files if path.suffix == ".safetensors")), False
    for widget, value in widgets.items():
        plain = widget.rstrip("0123456789")
        folder, part = (NUNCHAKU if kind.startswith("Nunchaku") else FILES).get(plain, ("", ""))
        if str(value).endswith(".gguf") and GGUF.get(plain) in folder_paths.folder_names_and_paths:
            folder = GGUF[plain]
        if not folder or not isinstance(value, str):
            continue
        name = "VLM" if side == "vlm" else part
        # Load Diffusion Model can store the weights of a file in 8 bits.
        small = str(widgets.get("weight_dtype", "")).startswith("fp8")
        wide = plain == "unet_name" and _wide()
        # Only files that ComfyUI itself lists in that folder.
        if value in folder_paths.get_filename_list(folder):
            path = Path(folder_paths.get_full_path_or_raise(folder, value))
            with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                item = 1 if small and path.suffix == ".safetensors" else None
                yield file_weights(path, name, owner, item, wide=wide), False
        elif value in PUBLISHED:
            nbytes = PUBLISHED[value]
            if "fp8" not in value:
                nbytes *= 0.5 if small else 2 if wide else 1
            yield Weights(name, round(nbytes), owner), True
