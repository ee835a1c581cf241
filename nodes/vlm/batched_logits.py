"""Several continuations of one prompt in one forward pass of ComfyUI's Qwen3-VL: each attends to the shared beginning
and to itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import comfy.model_management
import torch

if TYPE_CHECKING:
    from .comfy_clip import Prompt


def last_logits(clip: Any, prompt: Prompt, shared: int, tails: Sequence[Sequence[Any]]) -> list[torch.Tensor] | None:
    """Return the float32 logits after each tail, as if it alone followed the first `shared` parts of the prompt.

    None if the model's class has no inputs for it, or if this version of ComfyUI changed them.
    """
    model = getattr(clip.cond_stage_model, clip.cond_stage_model.clip)
    # Other families have a sliding window, whose mask counts places in the row and not positions.
    if not hasattr(model.transformer, "build_image_inputs") or any(
        isinstance(part, dict) for tail in tails for part in tail
    ):
        return None
    clip.cond_stage_model.reset_clip_options()
    clip.load_model(prompt.tokens)
    device = clip.patcher.load_device
    clip.cond_stage_model.set_clip_options({"layer": None, "execution_device": device})
    with comfy.model_management.cuda_device_context(device):
        try:
            return _forward(
                model,
                [*prompt.parts[:shared], *(part for tail in tails for part in tail)],
                [len(tail) for tail in tails],
                device,
            )
        except (AttributeError, TypeError):  # internals of ComfyUI, which may change
            return None


def _forward(model: Any, parts: list[Any], lengths: Sequence[int], device: torch.device) -> list[torch.Tensor]:
    """Run the parts, the shared ones and then all tails, with a mask that hides the tails from each other."""
    writer = model.transformer
    embeds, _, _, info = model.process_tokens([parts], device)
    positions, places, deepstack = writer.build_image_inputs(embeds, info)
    total, tail = embeds.shape[1], embeds.shape[1] - sum(lengths)
    if positions is None:
        positions = torch.arange(total, device=device)[None].float()
    begin, visible = positions[:, tail : tail + 1].clone(), torch.ones((1, total, total), device=device)
    ends, at = [], tail
    for length in lengths:
        positions[:, at : at + length] = begin + torch.arange(length, device=device)
        visible[:, at : at + length, tail:at] = 0
        at += length
        ends.append(at)
    dtype = torch.bfloat16 if comfy.model_management.should_use_bf16(device) else torch.float32
    given = {} if deepstack is None else {"deepstack_embeds": deepstack, "visual_pos_masks": places}
    hidden = writer.model.forward(
        None, embeds=embeds.to(dtype), attention_mask=visible, position_ids=positions, **given
    )[0]
    return [writer.logits(hidden[:, :end])[0, -1].float() for end in ends]
