"""`clvr doctor`: what is installed, and which models can run."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from . import __version__
from .errors import Away, BadInput, JudgeFailure
from .protocols import Message, Picture, Question
from .vlm.constrain import available
from .vlm.quantised import LIBRARIES, installed
from .world import WORLDS

if TYPE_CHECKING:
    from .executor.remote import ImageServer, RemoteExecutor
    from .models.config import Server
    from .vlm.dialect import Dialect

T = TypeVar("T")

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
    "rapidocr": "text",
    "onnxruntime": "text",
    "scipy": "objects",
    "ray": "scale",
    "s3fs": "s3",
    "starlette": "serve",
    "uvicorn": "serve",
    "prometheus_client": "serve",
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
    findings += map(_world, WORLDS)
    findings += [_vision(), _quantisation(), _witnesses(), _merging()]
    findings += _presets(weights)
    findings.append(_comfyui())
    return findings


def examine_models(path: Path) -> list[Finding]:
    """Ask each server that a clvr.toml names, as a run would. Raises BadInput if the file cannot be read."""
    from .executor.remote import ImageServer
    from .models.config import Server, read_config

    config = read_config(path)
    parts = {"controller": config.controller, "verifier": config.verifier or config.controller}
    if parts["verifier"] == parts["controller"]:
        del parts["verifier"]
    findings = []
    for role, part in parts.items():
        if isinstance(part, Server):
            findings += _vision_server(role, part)
        else:
            findings.append(Finding(role, True, "runs in this process; clvr generate loads it"))
    if isinstance(config.executor, ImageServer):
        findings += _image_server(config.executor)
    else:
        findings.append(Finding("executor", True, "runs in this process; clvr generate loads it"))
    return findings


SHAPE = {
    "type": "object",
    "properties": {"color": {"type": "string", "enum": ["crimson", "cobalt"]}, "count": {"type": "integer"}},
    "required": ["color", "count"],
    "additionalProperties": False,
}
"""Of a reply that a model writes only if it is held to it: the request does not name the fields."""


def _vision_server(role: str, settings: Server) -> list[Finding]:
    import numpy as np

    from .vlm.server import ServerVlm
    from .vlm.sight import MOST, PATCHES, check_sight

    try:
        vlm = ServerVlm(settings.endpoint)
        check_sight(vlm)
        patch = np.full((settings.image_side, settings.image_side, 3), PATCHES["red"], np.uint8)
        (decision,), deciding = _timed(lambda: vlm.decide((patch,), (Question("Is the picture plain red all over?"),)))
        ask = (Message("user", "Say what color the picture has, in JSON.", (patch,)),)
        reply, replying = _timed(lambda: vlm.chat(ask, SHAPE))
    except (BadInput, JudgeFailure, Away) as error:
        return [Finding(role, False, str(error))]
    sent = ", ".join(f"{name} = {value}" for name, value in _changes(vlm.dialect).items())
    most = f"{MOST} at once" if vlm.most is None else f"{vlm.most} at once, more side by side in one"
    kind = "probabilities of Yes and No" if vlm.tells_probabilities else "words: it tells no probabilities"
    held = _fits(reply.text)
    return [
        Finding(role, True, f"{vlm.model} answers and sees; {sent or 'everything is sent as first tried'}"),
        Finding(f"{role}: pictures", vlm.most is None, f"{most}, {settings.image_side} pixels, in a long prompt too"),
        Finding(
            f"{role}: verdicts", vlm.tells_probabilities and decision.yes is not None, f"{kind}, {deciding:.1f} s each"
        ),
        Finding(
            f"{role}: replies",
            held,
            f"{'held to their schema' if held else 'not held to their schema, which is said in words'}, {replying:.1f} s each",
        ),
        Finding(
            f"{role}: thought",
            not vlm.thinks,
            "it thinks before it answers, which costs a request a verdict; see extra in docs/vision-models.md"
            if vlm.thinks
            else "none before an answer",
        ),
    ]


def _changes(dialect: Dialect) -> dict[str, Any]:
    usual = type(dialect)()
    return {
        each.name: getattr(dialect, each.name)
        for each in fields(dialect)
        if getattr(dialect, each.name) != getattr(usual, each.name)
    }


def _fits(text: str) -> bool:
    try:
        data = json.loads(text)
    except ValueError:
        return False
    return isinstance(data, dict) and data.keys() == SHAPE["properties"].keys()


def _image_server(settings: ImageServer) -> list[Finding]:
    """Draw once, and edit what was drawn with one and two references."""
    from .executor.remote import RemoteExecutor
    from .protocols import DrawRequest

    width, height = settings.width, settings.height
    findings: list[Finding] = []
    try:
        executor = RemoteExecutor(settings)
        (drawn,), seconds = _timed(lambda: executor.draw([DrawRequest("a red cat", 1, width=width, height=height)]))
        words = f"{executor.name} draws {width} x {height} in {seconds:.1f} s"
        findings.append(Finding("executor", True, words))
        for count, words in ((1, "one reference"), (2, "two references")):
            edit = DrawRequest("make it blue", 1, (drawn.picture,) * count, width, height)
            _, seconds = _timed(lambda edit=edit: executor.draw([edit]))
            all_taken = executor.references is None or executor.references >= count
            said = (
                f"edits in {seconds:.1f} s" if all_taken else "refuses them: it takes one, which is what a run sends it"
            )
            findings.append(Finding(f"executor: {words}", all_taken, said))
        findings.append(_long_prompts(executor, width, height))
    except (BadInput, Away) as error:
        names = ("executor", "executor: one reference", "executor: two references", "executor: long prompts")
        name = names[len(findings)]
        findings.append(Finding(name, False, str(error)))
    return findings


def _long_prompts(executor: RemoteExecutor, width: int, height: int) -> Finding:
    """Whether a prompt is read to its end, as the pictures show."""
    from .executor.truncation import CUTS, reads
    from .protocols import DrawRequest

    def draw(prompt: str) -> Picture:
        return executor.draw([DrawRequest(prompt, 1, width=width, height=height)])[0].picture

    name = "executor: long prompts"
    for tokens, words in CUTS.items():
        read = reads(draw, words)
        if read is None:
            return Finding(name, True, "cannot be told: the same request gives another picture each time")
        if not read:
            said = f"cut: nothing behind word {words} changes the picture, as with a text encoder of {tokens} tokens"
            return Finding(name, False, said)
    return Finding(name, True, f"read to the end at {words} words")


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    started = time.perf_counter()
    return call(), time.perf_counter() - started


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


def _world(name: str) -> Finding:
    from .models.registry import load_models

    try:
        models = load_models(name)
    except (BadInput, ImportError) as error:
        return Finding(f"models: {name}", False, str(error))
    return Finding(f"models: {name}", True, f"{models.executor.name}, {models.width} px, runs with no download")


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


def _witnesses() -> Finding:
    from .models.witnesses import reliability_file
    from .witness.reliability import read_reliability
    from .witness.text import installed as readers

    there = ", ".join(readers())
    text = f"text is read by {there}" if there else "no text reader is installed; pip install 'clvr[text]' brings one"
    try:
        known = ", ".join(read_reliability(reliability_file()))
    except BadInput as error:
        return Finding("witnesses", False, str(error))
    measured = f"measured: {known}" if known else "none was measured (--calibrate)"
    return Finding("witnesses", bool(there), f"{text}; --witness objects=FOLDER takes an object detector; {measured}")


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
