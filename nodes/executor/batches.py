"""Candidates of a round in one batch of ComfyUI's sampler, as many as its memory takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import comfy.model_management
import torch

from ...clvr_core.protocols import DrawRequest
from ...clvr_core.run.run_folder import digest_of

WITHOUT_NOISE = ("euler", "dpmpp_2m", "res_multistep", "deis")
"""Samplers that add no noise of their own. The others draw one noise for a whole batch, so that a picture would depend
on those beside it; with them pictures are sampled one by one.
"""

Result = TypeVar("Result")


def groups_of(requests: Sequence[DrawRequest], sampler: str) -> list[list[int]]:
    """Return the places of requests that may share a batch: all is the same but the seed. Each place is in one group."""
    groups: dict[object, list[int]] = {}
    for place, request in enumerate(requests):
        mask = "" if request.mask is None else digest_of(request.mask)
        pictures = tuple(map(digest_of, request.references))
        latents = tuple("" if latent is None else digest_of(latent) for latent in request.latents)
        same = (request.prompt, request.width, request.height, request.strength, mask, pictures, latents)
        groups.setdefault(same if sampler in WITHOUT_NOISE else place, []).append(place)
    return list(groups.values())


def most_at_once(model, latent: torch.Tensor, branches: int, references: int, wanted: int) -> int:
    """Return how many pictures to sample at once: `wanted`, halved until ComfyUI's estimate of their memory fits beside
    the model's weights on its device; at least 1.

    latent: of one picture, 1 x channels x ... x rows x columns.
    branches: evaluations of a step, 2 with guidance.
    references: pictures that the model reads beside its own, as further tokens.
    """
    management = comfy.model_management
    room = management.get_total_memory(model.load_device) - management.extra_reserved_memory() - model.model_size()
    *outer, rows, columns = latent.shape[1:]
    while wanted > 1:
        if model.memory_required([wanted * branches, *outer, rows * (1 + references), columns]) <= room:
            break
        wanted = -(-wanted // 2)
    return wanted


def in_halves(places: Sequence[int], work: Callable[[Sequence[int]], list[Result]]) -> list[Result]:
    """Call `work` with all places; if the device runs out of memory, with halves of them, down to single ones.

    Raises what `work` raises for a single place, which ComfyUI answers by unloading its models.
    """
    try:
        return work(places)
    except Exception as error:
        if len(places) == 1 or not comfy.model_management.is_oom(error):
            raise
    # Outside the block above: its error holds a reference to everything that was computed.
    comfy.model_management.soft_empty_cache()
    half = -(-len(places) // 2)
    return [*in_halves(places[:half], work), *in_halves(places[half:], work)]
