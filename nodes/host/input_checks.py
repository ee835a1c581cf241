"""What comes in by a link. A node of any type hands on whatever it was given, past the checks of ComfyUI, which know types by name only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, wraps
from numbers import Integral, Real
from typing import Any

import torch
from comfy_api.latest import io

from ...clvr_core.errors import BadInput
from ...clvr_core.protocols import Vlm
from ...clvr_core.text import one_line

QUOTED = 40
"""Characters."""


@dataclass(frozen=True)
class Kind:
    """Of value, in words. `fits`: whether one is of this kind, by what the nodes do with it. `source`: what to link, in words."""

    words: str
    fits: Callable[[Any], bool]
    source: str


def _with(*names: str) -> Callable[[Any], bool]:
    return lambda value: all(hasattr(value, name) for name in names)


def _tensor(dimensions: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, torch.Tensor) and value.ndim == dimensions


KINDS = {
    "CLVR_TRAJECTORY": Kind(
        "a run",
        _with("trajectory", "folder", "position"),
        "a trajectory output, such as that of Brief, Loop Start or Load Trajectory",
    ),
    "CLVR_VLM": Kind(
        "a vision model",
        lambda value: isinstance(value, Vlm),
        "the vlm output of Vision Model, Server Model or Shapes Models",
    ),
    "CLVR_EXECUTOR": Kind(
        "an executor", _with("executor", "width", "height", "check"), "the executor output of Executor or Shapes Models"
    ),
    "CLVR_BENCH_ITEM": Kind("a benchmark's task", _with("bench", "item", "k"), "the task output of Benchmark Prompts"),
    "IMAGE": Kind("a picture", _tensor(4), "an IMAGE output, such as that of Load Image or VAE Decode"),
    "MASK": Kind("a mask", _tensor(3), "a MASK output, such as that of Load Image"),
    "MODEL": Kind(
        "a diffusion model", _with("model", "clone", "load_device"), "the MODEL output of Load Diffusion Model"
    ),
    "CLIP": Kind("a text encoder", _with("tokenize", "cond_stage_model"), "the CLIP output of Load CLIP"),
    "VAE": Kind("a VAE", _with("encode", "decode", "first_stage_model"), "the VAE output of Load VAE"),
    "CONDITIONING": Kind(
        "a conditioning",
        lambda value: (
            isinstance(value, list) and all(isinstance(part, (list, tuple)) and len(part) == 2 for part in value)
        ),
        "a CONDITIONING output, such as that of CLIP Text Encode",
    ),
    "STRING": Kind("text", lambda value: isinstance(value, str), "a STRING output, or type the text into the node"),
    "INT": Kind(
        "a whole number", lambda value: isinstance(value, Integral), "an INT output, or type the number into the node"
    ),
    "FLOAT": Kind(
        "a number", lambda value: isinstance(value, Real), "a FLOAT output, or type the number into the node"
    ),
}


def guarded(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """The node, whose inputs are held against KINDS before any of its own code sees them: BadInput names the one that does not fit."""
    for name in ("execute", "check_lazy_status"):
        if name in vars(node):
            setattr(node, name, _checked(node, vars(node)[name].__func__))
    return node


def _checked(node: type[io.ComfyNode], method: Callable) -> classmethod:
    @wraps(method)
    def checked(cls, **given: Any) -> Any:
        title, listed = _inputs(node)
        for name, value in given.items():
            # A lazy one that is not needed, or not yet, is None as well.
            if name in listed and not (value is None and (listed[name].optional or listed[name].lazy)):
                check(title, name, listed[name].get_io_type(), value)
        return method(cls, **given)

    return classmethod(checked)


@cache
def _inputs(node: type[io.ComfyNode]) -> tuple[str, Mapping[str, Any]]:
    """The node's title, and its inputs of these kinds by name."""
    schema = node.define_schema()
    return schema.display_name, {each.id: each for each in schema.inputs if each.get_io_type() in KINDS}


def check(title: str, name: str, kind: str, value: Any) -> Any:
    """The value, which came in by this input of the node. Raises BadInput where it is of another kind."""
    wanted = KINDS[kind]
    if not wanted.fits(value):
        raise BadInput(f"{name} of {title} is {found(value)}, and should be {wanted.words}: link {wanted.source}")
    return value


def found(value: Any) -> str:
    """A value in words."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"the text {one_line(value[: 2 * QUOTED], QUOTED)!r}"
    known = (kind.words for kind in KINDS.values() if kind.fits(value))
    return next(known, f"a value of type {type(value).__name__}")
