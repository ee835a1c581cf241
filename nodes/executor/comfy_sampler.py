"""An executor that samples with ComfyUI's MODEL, CLIP and VAE. Loading and offloading are ComfyUI's own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from copy import copy
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import node_helpers
import numpy as np
import torch

from ...clvr_core.errors import BadInput
from ...clvr_core.executor.pasting import blend
from ...clvr_core.protocols import Drawing, DrawRequest, Picture
from ...clvr_core.run.run_folder import digest_of
from ..host.pictures import as_image, as_pictures
from .batches import groups_of, in_halves, most_at_once
from .recipes import SamplingPreset

TEXTS, LATENTS = 4, 16
"""Conditionings and latents that are cached. For FLUX.2 Klein a text takes 16 MB, a canvas of 1 MP takes 2 MB."""
ENCODERS: dict[str, Callable[[str, list], dict[str, Any]]] = {
    "TextEncodeQwenImageEditPlus": lambda text, images: {
        "prompt": text,
        **{f"image{place}": image for place, image in enumerate(images, 1)},
    },
    # Sides are multiples of the recipe's grid: 0 keeps every reference at its size.
    "TextEncodeQwenImage21": lambda text, images: {
        **{"prompt": text, "negative_prompt": "", "resolution": 0},
        "images": {f"image_{place}": image for place, image in enumerate(images, 1)},
    },
    "TextEncodeZImageOmni": lambda text, images: {
        "prompt": text,
        **{f"image{place}": image for place, image in enumerate(images, 1)},
    },
}
"""ComfyUI's node that encodes a prompt with references -> its inputs besides clip and vae, of a text and IMAGEs."""
ALWAYS = ("TextEncodeQwenImage21",)
"""Of ENCODERS, those that encode a prompt without references too."""


class Kept(OrderedDict):
    """A cache of the `size` results that were used last."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def get_or(self, key: Hashable, make: Callable[[], Any]) -> Any:
        self[key] = self.pop(key) if key in self else make()
        if len(self) > self.size:
            self.popitem(last=False)
        return self[key]


class ComfyExecutor:
    """An `Executor`, with a prompt window, a reference limit, a check, and the latents of what it drew.

    recipe: how it samples.
    keep_latents: a canvas goes back in as the latent it was decoded from, without a round trip through the VAE and 8
        bits.
    """

    def __init__(self, model, clip, vae, recipe: SamplingPreset, keep_latents: bool = True) -> None:
        self.model, self.clip, self.vae, self.recipe = recipe.prepared(model), clip, vae, recipe
        self.name = f"{type(model.model).__name__} by {recipe.kind}, {recipe.steps} steps, guidance {recipe.guidance:g}"
        self.check: Callable[[], None] = lambda: None
        self.window = recipe.window
        self.references = recipe.references
        self.keep_latents = keep_latents
        self._texts, self._latents, self._drawn = Kept(TEXTS), Kept(LATENTS), Kept(LATENTS)

    def with_model(self, model) -> ComfyExecutor:
        """Return an executor that samples with another MODEL of the family, already prepared, and shares the encoded
        texts and references.
        """
        other = copy(self)
        other.model = model
        return other

    def nfe(self, request: DrawRequest) -> int:
        return self.recipe.nfe

    def tokens(self, prompt: str) -> int:
        """Count the tokens of the prompt, padding and chat template included."""
        return max(len(row) for rows in self.clip.tokenize(escape_prompt(prompt)).values() for row in rows)

    @torch.inference_mode()
    def draw(self, requests: Sequence[DrawRequest]) -> list[Drawing]:
        """Sample requests that differ in the seed alone in one batch, as far as memory allows; a picture differs by
        rounding from one that is sampled alone.

        All texts are encoded first and all latents decoded last, so that each model is loaded once a call and not once
        a picture.
        """
        conditionings = [self._conditionings(request) for request in requests]
        starts = [self._start_latent(request) for request in requests]
        bar = comfy.utils.ProgressBar(self.recipe.steps * len(requests))
        latents: dict[int, torch.Tensor] = {}

        def sample(places: Sequence[int]) -> list[torch.Tensor]:
            first, seeds = places[0], [requests[place].seed for place in places]
            done = self.recipe.steps * len(latents)
            return self._sample(requests[first], seeds, conditionings[first], starts[first], bar, done)

        for group in groups_of(requests, self.recipe.sampler):
            size = self._batch_size(requests[group[0]], starts[group[0]], len(group))
            for start in range(0, len(group), size):
                places = group[start : start + size]
                latents |= zip(places, in_halves(places, sample))
        return [self._drawing(request, latents[place]) for place, request in enumerate(requests)]

    @torch.inference_mode()
    def round_trip(self, picture: Picture) -> Picture:
        """Encode the picture with the VAE and decode it again."""
        return self._decode(self.vae.encode(as_image(picture)))

    def latent_of(self, picture: Picture) -> np.ndarray | None:
        """Return the latent that the picture was decoded from, if it is one of the last LATENTS drawn here."""
        return self._drawn.get(digest_of(picture))

    def _drawing(self, request: DrawRequest, latent: torch.Tensor) -> Drawing:
        """Decode a latent. It is kept unless a mask was applied to its picture, which it does not decode to then."""
        decoded = self._decode(latent)
        picture, kept = keep_outside_mask(request, decoded), None
        if self.keep_latents and picture is decoded and latent.ndim == 4:
            kept = latent[0].float().cpu().numpy()
            self._drawn.get_or(digest_of(picture), lambda: kept)
        return Drawing(picture, self.recipe.nfe, kept)

    def _batch_size(self, request: DrawRequest, latent: torch.Tensor, wanted: int) -> int:
        branches = 1 if self.recipe.guidance == 1 else 2
        return most_at_once(self.model, latent, branches, len(request.references), wanted)

    def _conditionings(self, request: DrawRequest) -> dict[str, list]:
        """Return the conditioning `positive`, and with guidance `negative`, the empty prompt."""
        self.check()
        texts = {"positive": escape_prompt(request.prompt)}
        if self.recipe.guidance != 1:
            texts["negative"] = ""
        return {side: self._conditioning(text, request) for side, text in texts.items()}

    def _conditioning(self, text: str, request: DrawRequest) -> list:
        read = {"latents": None, "text encoder": self.recipe.references, "nothing": 0}[self.recipe.reads]
        pictures = request.references[:read]
        if self.recipe.encoder in ALWAYS or (self.recipe.encoder and pictures):
            # The text encoder of this family reads the references too.
            key = (text, *map(digest_of, pictures))
            return self._texts.get_or(key, lambda: self._encode_with(ENCODERS[self.recipe.encoder], text, pictures))
        encoded = self._texts.get_or(text, lambda: self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text)))
        return with_references(encoded, [self._reference(request, place) for place in range(len(pictures))])

    def _reference(self, request: DrawRequest, place: int) -> torch.Tensor:
        """Return the latent of a reference: the one it was drawn with, if that is known, else by the VAE."""
        given = request.latents[place] if self.keep_latents and place < len(request.latents) else None
        if given is not None:
            return torch.from_numpy(given)[None].to(comfy.model_management.intermediate_device())
        return self._encode(request.references[place])

    def _encode_with(self, inputs: Callable[..., dict[str, Any]], text: str, pictures: Sequence[Picture]) -> list:
        """Encode a text and the pictures it speaks of by the recipe's own node."""
        given = inputs(text, [as_image(picture) for picture in pictures])
        return self.recipe.node(self.recipe.encoder).execute(clip=self.clip, vae=self.vae, **given).args[0]

    def _encode(self, picture: Picture) -> torch.Tensor:
        return self._latents.get_or(digest_of(picture), lambda: self.vae.encode(as_image(picture)))

    def _start_latent(self, request: DrawRequest) -> torch.Tensor:
        """Return the latent that noise is added to: the canvas with a mask or a strength below 1, else zeros."""
        if request.references and (request.mask is not None or self._strength(request) < 1):
            require_size(request.references[0], request)
            latent, scale = self._reference(request, 0), None
        else:
            device = comfy.model_management.intermediate_device()
            latent, scale = torch.zeros([1, 4, request.height // 8, request.width // 8], device=device), 8
        return comfy.sample.fix_empty_latent_channels(self.model, latent, scale)

    def _strength(self, request: DrawRequest) -> float:
        """Return the share of the schedule that an edit runs: the request's own only if the recipe's is below 1."""
        if not request.references or self.recipe.strength == 1:
            return 1.0
        return min(max(request.strength or self.recipe.strength, 0.05), 1.0)

    def _sample(
        self, request: DrawRequest, seeds: Sequence[int], conditioning: dict, latent: torch.Tensor, bar, done: int
    ) -> list[torch.Tensor]:
        """Sample a request with each of these seeds in one batch. `done`: steps of the progress bar that earlier
        pictures took.
        """
        guider = comfy.samplers.CFGGuider(self.model)
        guider.inner_set_conds(conditioning)
        guider.set_cfg(self.recipe.guidance)
        sigmas = self.recipe.sigmas(self.model, request.width, request.height, self._strength(request))
        mask = None
        if request.mask is not None and request.references:
            mask = torch.from_numpy((request.mask > 127).astype(np.float32))[None, None]
        previewer = latent_preview.get_previewer(self.model.load_device, self.model.model.latent_format)

        def step_end(step: int, x0: torch.Tensor, x: torch.Tensor, total: int) -> None:
            preview = previewer.decode_latent_to_preview_image("JPEG", x0) if previewer else None
            bar.update_absolute(done + (step + 1) * len(seeds), preview=preview)
            self.check()

        noise = torch.cat([comfy.sample.prepare_noise(latent, seed) for seed in seeds])
        sampler = comfy.samplers.sampler_object(self.recipe.sampler)
        options = {"denoise_mask": mask, "callback": step_end, "disable_pbar": True, "seed": seeds[0]}
        sampled = guider.sample(noise, torch.cat([latent] * len(seeds)), sampler, sigmas, **options)
        return list(sampled.to(comfy.model_management.intermediate_device()).split(1))

    def _decode(self, latent: torch.Tensor) -> Picture:
        self.check()
        images = self.vae.decode(latent)
        return as_pictures(images.reshape(-1, *images.shape[-3:]))[0]


def with_references(conditioning: list, latents: Sequence[torch.Tensor]) -> list:
    """Append these latents to the reference latents of a CONDITIONING."""
    if not latents:
        return conditioning
    return node_helpers.conditioning_set_values(conditioning, {"reference_latents": list(latents)}, append=True)


def escape_prompt(text: str) -> str:
    """Neutralise `embedding:`, which makes ComfyUI read a file, and `<|...|>`, which marks turns, in a text."""
    return text.replace("embedding:", "embedding :").replace("<|", "< |")


def require_size(picture: Picture, request: DrawRequest) -> Picture:
    """Return the canvas to edit. Raises BadInput unless it has the size of the request."""
    if picture.shape[:2] != (request.height, request.width):
        raise BadInput(
            f"the canvas to edit has {picture.shape[1]} x {picture.shape[0]} pixels and the run draws {request.width} x {request.height}; "
            "give both one size"
        )
    return picture


def keep_outside_mask(request: DrawRequest, picture: Picture) -> Picture:
    """Replace all pixels outside the request's mask by those of the first reference, bit for bit, with a soft seam on
    the inner side."""
    if request.mask is None or not request.references:
        return picture
    return blend(request.references[0], picture, request.mask > 127)
