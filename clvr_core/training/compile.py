"""Training and sampling a transformer in bfloat16 with each block compiled once: the same weights, faster, with less
exact sums."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import wraps
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from accelerate.utils import convert_to_fp32

from ..errors import BadInput

if TYPE_CHECKING:
    from diffusers import Flux2Transformer2DModel

CACHE = "TORCHINDUCTOR_CACHE_DIR"
"""The variable with the folder where torch keeps what it compiles."""
SHAPES = 64
"""Pairs of batch size and text length that a block is compiled for; further ones run uncompiled."""


@contextmanager
def attention_in_float() -> Iterator[None]:
    """torch's bfloat16 attention on CPUs takes ten times longer backwards than forwards; in float32 it is the smaller
    part of a step."""
    inner = F.scaled_dot_product_attention

    def attention(query, key, value, **options):
        with torch.autocast(query.device.type, enabled=False):
            return inner(query.float(), key.float(), value.float(), **options).to(query.dtype)

    F.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        F.scaled_dot_product_attention = inner


def compile_blocks(transformer: Flux2Transformer2DModel, device: torch.device) -> None:
    """Compile the blocks of a diffusers transformer and run them in bfloat16. Its weights stay as they are, and it
    returns float32.

    Compiling takes half a minute in each process for each number of references and padded length of text. Raises
    BadInput if the device is a CPU and there is no C++ compiler.
    """
    if device.type == "cpu":
        require_compiler()
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, SHAPES)
    inner = transformer.forward

    @wraps(inner)
    def forward(*given, **named):
        with (
            torch.autocast(device.type, torch.bfloat16),
            attention_in_float() if device.type == "cpu" else nullcontext(),
        ):
            return convert_to_fp32(inner(*given, **named))

    cast(Any, transformer).forward = forward
    transformer.compile_repeated_blocks(fullgraph=True)


def require_compiler() -> None:
    """Raise BadInput if there is no C++ compiler, and keep what is compiled apart from that for other CPUs."""
    keep_apart()
    if not has_compiler():
        raise BadInput("--quick compiles for the CPU, and found no C++ compiler; install g++, or leave --quick out")


def keep_apart() -> None:
    """Name a folder for compiled kernels by what the CPU can do, unless CACHE names one. torch 2.13 finds a kernel again by
    what was compiled alone; one for wider or narrower vectors gives wrong numbers or writes past the end of its output."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    usual = default_cache_dir()
    if os.environ.get(CACHE, usual) == usual:  # torch itself sets it to that
        os.environ[CACHE] = f"{usual}-{torch.backends.cpu.get_cpu_capability().lower()}"


def has_compiler() -> bool:
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True
