"""`clvr doctor`: what is installed, and which models can run."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from dataclasses import dataclass

from . import __version__
from .errors import BadInput
from .vlm.constrain import available
from .vlm.quantised import LIBRARIES, installed

FAMILIES = {
    "Qwen3-VL": "Qwen3VLForConditionalGeneration",
    "Gemma 3": "Gemma3ForConditionalGeneration",
    "Gemma 4": "Gemma4ForConditionalGeneration",
    "Qwen3.5": "Qwen3_5ForConditionalGeneration",
}
"""Families of vision-language models, each with a class that transformers has if it supports the family."""

PACKAGES = {
    "torch": "run",
    "diffusers": "run",
    "transformers": "run",
    "safetensors": "run",
    "pillow": "run",
    "numpy": "run",
    "tqdm": "run",
    "matplotlib": "run",
    "accelerate": "run",
    "peft": "train",
    "llguidance": "structured",
}
"""Packages, each with the extra of clvr that installs it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. ok: whether nothing is missing. detail: what was found, or what to do."""

    name: str
    ok: bool
    detail: str


def examine(weights: str = "") -> list[Finding]:
    """Return all findings. weights: folder that holds the weights of presets; empty takes the environment variable."""
    findings = [Finding("clvr", True, f"{__version__} on Python {sys.version.split()[0]}")]
    findings += map(_package, PACKAGES)
    findings.append(_device())
    findings.append(_shapes())
    findings += [_vision(), _quantisation(), _merging()]
    findings += _presets(weights)
    findings.append(_comfyui())
    return findings


def _package(name: str) -> Finding:
    try:
        return Finding(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, False, f"not installed; pip install -c constraints.txt '.[{PACKAGES[name]}]'")


def _device() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("device", False, "unknown without torch")
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return Finding(
            "device", True, f"{torch.cuda.get_device_name()}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        )
    if torch.backends.mps.is_available():
        return Finding("device", True, "Apple GPU (mps)")
    return Finding("device", True, f"CPU, {os.cpu_count()} cores; enough for the embedded models")


def _shapes() -> Finding:
    from .models.registry import load_models

    try:
        models = load_models("shapes")
    except (BadInput, ImportError) as error:
        return Finding("models: shapes", False, str(error))
    return Finding("models: shapes", True, f"{models.executor.name}, {models.width} px, runs with no download")


def _vision() -> Finding:
    """Which families the installed transformers supports, and whether replies are constrained to JSON."""
    try:
        import transformers
    except ImportError as error:
        return Finding("vision models", False, f"none can run here ({error}); a server still can")
    known = [family for family, name in FAMILIES.items() if hasattr(transformers, name)]
    if not known:
        return Finding(
            "vision models",
            False,
            f"transformers {transformers.__version__} has none of {', '.join(FAMILIES)}; take 4.57 or newer",
        )
    held = (
        "held to their schema by llguidance"
        if available()
        else "asked for in words; install llguidance to hold them to their schema"
    )
    return Finding("vision models", True, f"{', '.join(known)}; replies are {held}")


def _quantisation() -> Finding:
    usable = [name for name in LIBRARIES if installed(name)]
    missing = "; pip install bitsandbytes or torchao for models that do not fit"
    return Finding(
        "quantised models", bool(usable), ", ".join(usable) if usable else f"no library is installed{missing}"
    )


def _merging() -> Finding:
    from .merge.native import engine_in_words, kernel

    build = "" if kernel() else "; pip install . builds it with a C compiler, and DSWM Merge does so by itself"
    return Finding("merging", True, f"by {engine_in_words()}{build}")


def _presets(weights: str) -> list[Finding]:
    """The memory that each preset needs on the device, and whether its weights are on this machine."""
    from .models.memory_plan import free_bytes, plan
    from .models.presets import presets

    free = None
    if importlib.util.find_spec("torch") is not None:
        import torch

        free = free_bytes("cuda" if torch.cuda.is_available() else "cpu")
    findings = []
    for preset in presets().values():
        fits = f"; {plan(preset.weights, free).summary}" if preset.weights else ""
        try:
            preset.config(weights)
            findings.append(Finding(f"models: {preset.name}", True, preset.about + fits))
        except BadInput as error:
            findings.append(Finding(f"models: {preset.name}", False, f"{preset.about}{fits}; {error}"))
    return findings


def _comfyui() -> Finding:
    folder = os.environ.get("COMFYUI_DIR")
    if not folder:
        return Finding("ComfyUI", False, "COMFYUI_DIR is not set; only needed for the tests of the nodes")
    present = os.path.exists(os.path.join(folder, "main.py"))
    return Finding(
        "ComfyUI", present, folder if present else f"{folder} has no main.py; set COMFYUI_DIR to a checkout of ComfyUI"
    )
