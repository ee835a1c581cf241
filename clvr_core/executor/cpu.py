"""What the processor of this machine does quickly."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch


@cache
def has_bfloat16() -> bool:
    """Whether the processor multiplies matrices of bfloat16 itself; one that only imitates that is quicker with float32.
    False with a torch that cannot tell."""
    # ComfyUI may bring a torch that has no such function yet.
    able = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(able.get("amx_bf16") or able.get("avx512_bf16"))


def decode_in_bfloat16(decoder: Any) -> None:
    """Have a VAE's decoder in float32 reckon in bfloat16 on a processor that has it: twice as quick, and off by less than
    a level of 255 in the mean. On a GPU, and on other processors, it decodes as before."""
    if not has_bfloat16():
        return
    plain = decoder.forward

    def forward(latents: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return plain(latents, *rest, **named).to(latents.dtype)

    decoder.forward = forward
