"""An executor of the loop over ComfyUI's MODEL, CLIP and VAE. Loading and offloading are ComfyUI's own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import node_helpers
import numpy as np
import torch
from comfy_extras.nodes_qwen import TextEncodeQwenImageEditPlus

from ...clvr_core.errors import BadInput
from ...clvr_core.protocols import Drawing, DrawRequest, Picture
from ...clvr_core.run.run_folder import digest_of
from ..host.pictures import as_image, as_pictures
from .recipes import SamplingPreset

TEXTS, LATENTS = 4, 16
"""How many are kept: a text of FLUX.2 Klein takes 16 MB, the latents of a canvas of 1 MP take 2."""
QWEN_PICTURES = 3


class Kept(OrderedDict):
    """The newest `size` results of a function, by key."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def get_or(self, key: Hashable, make: Callable[[], Any]) -> Any:
        self[key] = self.pop(key) if key in self else make()
        if len(self) > self.size:
            self.popitem(last=False)
        return self[key]


class ComfyExecutor:
    """`check` is called after each sampler step and may raise to end the run."""

    def __init__(self, model, clip, vae, recipe: SamplingPreset) -> None:
        self.model, self.clip, self.vae, self.recipe = recipe.prepared(model), clip, vae, recipe
        self.name = f"{type(model.model).__name__} by {recipe.kind}, {recipe.steps} steps, guidance {recipe.guidance:g}"
        self.check: Callable[[], None] = lambda: None
        self.window = recipe.window
        self.references = QWEN_PICTURES if recipe.kind == "qwen-edit" else None
        self._texts, self._latents = Kept(TEXTS), Kept(LATENTS)

    def nfe(self, request: DrawRequest) -> int:
        return self.recipe.nfe

    def tokens(self, prompt: str) -> int:
        """Padding and template counted."""
        return max(len(row) for rows in self.clip.tokenize(plain(prompt)).values() for row in rows)

    @torch.inference_mode()
    def draw(self, requests: Sequence[DrawRequest]) -> list[Drawing]:
        """One after another, so that no picture depends on those beside it; the models take turns once in all, not once a picture."""
        conditionings = [self._conditionings(request) for request in requests]
        begun = [self._begun(request) for request in requests]
        bar = comfy.utils.ProgressBar(self.recipe.steps * len(requests))
        drawn = []
        for number, (request, conditioning, latent) in enumerate(zip(requests, conditionings, begun)):
            drawn.append(self._sampled(request, conditioning, latent, bar, number * self.recipe.steps))
        return [
            Drawing(masked(request, self._decoded(latent)), self.recipe.nfe) for request, latent in zip(requests, drawn)
        ]

    def _conditionings(self, request: DrawRequest) -> dict[str, list]:
        self.check()
        words = {"positive": plain(request.prompt)}
        if self.recipe.guidance != 1:
            words["negative"] = ""
        return {side: self._conditioning(text, request) for side, text in words.items()}

    def _conditioning(self, text: str, request: DrawRequest) -> list:
        pictures = request.references
        if self.recipe.kind == "qwen-edit" and pictures:
            # Its text encoder looks at the pictures as well; core's node takes three.
            key = (text, *map(digest_of, pictures[:QWEN_PICTURES]))
            images = {f"image{place}": as_image(picture) for place, picture in enumerate(pictures[:QWEN_PICTURES], 1)}
            return self._texts.get_or(
                key, lambda: TextEncodeQwenImageEditPlus.execute(self.clip, text, self.vae, **images).args[0]
            )
        told = self._texts.get_or(text, lambda: self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text)))
        return with_references(told, [self._encoded(picture) for picture in pictures])

    def _encoded(self, picture: Picture) -> torch.Tensor:
        return self._latents.get_or(digest_of(picture), lambda: self.vae.encode(as_image(picture)))

    def _begun(self, request: DrawRequest) -> torch.Tensor:
        """What the sampler starts from beside the noise: the canvas where part of it is to stay, else nothing."""
        if request.references and (request.mask is not None or self._strength(request) < 1):
            latent, scale = self._encoded(require_size(request.references[0], request)), None
        else:
            device = comfy.model_management.intermediate_device()
            latent, scale = torch.zeros([1, 4, request.height // 8, request.width // 8], device=device), 8
        return comfy.sample.fix_empty_latent_channels(self.model, latent, scale)

    def _strength(self, request: DrawRequest) -> float:
        """The action's own word counts only where the recipe begins from the canvas."""
        if not request.references or self.recipe.strength == 1:
            return 1.0
        return min(max(request.strength or self.recipe.strength, 0.05), 1.0)

    def _sampled(self, request: DrawRequest, conditioning: dict, latent: torch.Tensor, bar, done: int) -> torch.Tensor:
        guider = comfy.samplers.CFGGuider(self.model)
        guider.inner_set_conds(conditioning)
        guider.set_cfg(self.recipe.guidance)
        sigmas = self.recipe.sigmas(self.model, request.width, request.height, self._strength(request))
        mask = None
        if request.mask is not None and request.references:
            mask = torch.from_numpy((request.mask > 127).astype(np.float32))[None, None]
        previewer = latent_preview.get_previewer(self.model.load_device, self.model.model.latent_format)

        def step_end(step: int, x0: torch.Tensor, x: torch.Tensor, total: int) -> None:
            seen = previewer.decode_latent_to_preview_image("JPEG", x0) if previewer else None
            bar.update_absolute(done + step + 1, preview=seen)
            self.check()

        noise = comfy.sample.prepare_noise(latent, request.seed)
        sampler = comfy.samplers.sampler_object(self.recipe.sampler)
        options = {"denoise_mask": mask, "callback": step_end, "disable_pbar": True, "seed": request.seed}
        drawn = guider.sample(noise, latent, sampler, sigmas, **options)
        return drawn.to(comfy.model_management.intermediate_device())

    def _decoded(self, latent: torch.Tensor) -> Picture:
        self.check()
        images = self.vae.decode(latent)
        return as_pictures(images.reshape(-1, *images.shape[-3:]))[0]


def with_references(conditioning: list, latents: Sequence[torch.Tensor]) -> list:
    """The CONDITIONING with these after the references that it may have."""
    if not latents:
        return conditioning
    return node_helpers.conditioning_set_values(conditioning, {"reference_latents": list(latents)}, append=True)


def plain(text: str) -> str:
    """Words of a prompt only: what asks ComfyUI for a file or stands for a turn of a conversation loses its power."""
    return text.replace("embedding:", "embedding :").replace("<|", "< |")


def require_size(picture: Picture, request: DrawRequest) -> Picture:
    if picture.shape[:2] != (request.height, request.width):
        raise BadInput(
            f"the canvas to edit has {picture.shape[1]} x {picture.shape[0]} pixels and the run draws {request.width} x {request.height}; "
            "give both one size"
        )
    return picture


def masked(request: DrawRequest, picture: Picture) -> Picture:
    """Outside the mask the first reference's pixels are kept bit for bit."""
    if request.mask is None or not request.references:
        return picture
    return np.where(request.mask[..., None] > 127, picture, request.references[0])
