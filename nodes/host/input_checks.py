"""Checks of values that come in by a link. ComfyUI compares types by name only, so a node with an output of type * can
pass anything on.
"""

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
from .sockets import BenchTask, ExecutorLike, Run

QUOTED = 40
"""Characters of a text that an error quotes."""


@dataclass(frozen=True)
class Kind:
    """A kind of value.

    words: what it is called in an error.
    fits: returns whether a value has what the nodes use of this kind.
    source: what to link instead, in an error.
    """

    words: str
    fits: Callable[[Any], bool]
    source: str


def _instance(cls: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, cls)


def _with(*names: str) -> Callable[[Any], bool]:
    """For objects of ComfyUI's, whose classes differ between its versions and packs that replace them."""
    return lambda value: all(hasattr(value, name) for name in names)


def _tensor(dimensions: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, torch.Tensor) and value.ndim == dimensions


KINDS = {
    "CLVR_TRAJECTORY": Kind(
        "a run",
        _instance(Run),
        "a trajectory output, such as that of Brief, Loop Start or Load Trajectory",
    ),
    "CLVR_VLM": Kind(
        "a vision model",
        _instance(Vlm),
        "the vlm output of Vision Model, Server Model or Sticker Models",
    ),
    "CLVR_EXECUTOR": Kind("an executor", _instance(ExecutorLike), "the executor output of Executor or Sticker Models"),
    "CLVR_BENCH_ITEM": Kind("a benchmark's task", _instance(BenchTask), "the task output of Benchmark Prompts"),
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
"""ComfyUI's name of a type -> what a value of it must have."""


def guard_inputs(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """Make the node check its inputs against KINDS before its own code runs; BadInput names the input that does not
    fit. Returns the node.
    """
    for name in ("execute", "check_lazy_status"):
        if name in vars(node):
            setattr(node, name, _checked(node, vars(node)[name].__func__))
    return node


def _checked(node: type[io.ComfyNode], method: Callable) -> classmethod:
    @wraps(method)
    def checked(cls, **given: Any) -> Any:
        title, inputs = _inputs(node)
        for name, value in given.items():
            # A lazy input is None until it is needed.
            if name in inputs and not (value is None and (inputs[name].optional or inputs[name].lazy)):
                require_kind(title, name, inputs[name].get_io_type(), value)
        return method(cls, **given)

    return classmethod(checked)


@cache
def _inputs(node: type[io.ComfyNode]) -> tuple[str, Mapping[str, Any]]:
    """Return the node's title, and those of its inputs that KINDS knows, by name."""
    schema = node.define_schema()
    return schema.display_name, {each.id: each for each in schema.inputs if each.get_io_type() in KINDS}


def require_kind(title: str, name: str, kind: str, value: Any) -> Any:
    """Return the value of this input of the node. Raises BadInput if it is of another kind."""
    wanted = KINDS[kind]
    if not wanted.fits(value):
        raise BadInput(f"{name} of {title} is {describe(value)}, and should be {wanted.words}: link {wanted.source}")
    return value


def describe(value: Any) -> str:
    """Say in words what a value is."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"the text {one_line(value[: 2 * QUOTED], QUOTED)!r}"
    known = (kind.words for kind in KINDS.values() if kind.fits(value))
    return next(known, f"a value of type {type(value).__name__}")
