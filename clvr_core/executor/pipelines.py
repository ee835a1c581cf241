"""diffusers' pipelines of FLUX.2 Klein with reference latents that are computed by the caller, different ones for each
sample of a batch.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import torch
from diffusers import Flux2KleinInpaintPipeline, Flux2KleinKVPipeline, Flux2KleinPipeline
from PIL import Image

_Pipeline = Flux2KleinPipeline if TYPE_CHECKING else object

REFERENCE_PIXELS = 1024 * 1024
"""Pixels that larger references are scaled down to, as in Flux2KleinPipeline."""


class _GivenReferences(_Pipeline):
    """Reads reference latents from `given` in place of encoding the pictures of the call.

    given: for each place among the references the latents of all samples, B x C x H x W.

    The parent classes encode the pictures in every call and give all samples the same ones; here the pictures of a call
    only say that there are references.
    """

    given: tuple[torch.Tensor, ...] = ()

    @cached_property
    def _modules(self) -> list[torch.nn.Module]:
        return [
            module
            for part in self.components.values()
            if isinstance(part, torch.nn.Module)
            for module in part.modules()
        ]

    @property
    def _execution_device(self) -> torch.device:
        # diffusers walks over all modules by name, several times a drawing: a twentieth of the time of a small model.
        if any(_hooked(module) for module in self._modules):
            return super()._execution_device
        return next(self._modules[0].parameters()).device

    def prepare_image_latents(self, images, batch_size, generator, device, dtype):
        ids = Flux2KleinPipeline._prepare_image_ids([latents[:1] for latents in self.given])
        packed = torch.cat([self._pack_latents(latents) for latents in self.given], dim=1)
        return packed.to(device, dtype), ids.expand(batch_size, -1, -1).to(device)


class Klein(_GivenReferences, Flux2KleinPipeline):
    pass


class KleinKV(_GivenReferences, Flux2KleinKVPipeline):
    """Reads references in the first step only and keeps their keys and values, for weights that were
    trained for that.
    """


class KleinInpaint(_GivenReferences, Flux2KleinInpaintPipeline):
    """Denoises from the first reference and keeps it outside the mask."""

    def _encode_vae_image(self, image, generator):
        return self.given[0]


def _hooked(module: torch.nn.Module) -> bool:
    """Whether accelerate or diffusers may move the module. diffusers leaves an empty registry in every transformer that
    it called.
    """
    own = vars(module)
    return "_hf_hook" in own or ("_diffusers_hook" in own and bool(own["_diffusers_hook"].hooks))


def read_picture(pipe: Flux2KleinPipeline, picture: Image.Image) -> torch.Tensor:
    """Return pixels, 1 x 3 x H x W in -1..1, as Flux2KleinPipeline prepares a reference: at most 1 MP, cropped to whole
    tokens.
    """
    processor, multiple = pipe.image_processor, 2 * pipe.vae_scale_factor
    processor.check_image_input(picture)
    if picture.width * picture.height > REFERENCE_PIXELS:
        picture = processor._resize_to_target_area(picture, REFERENCE_PIXELS)
    width, height = (side // multiple * multiple for side in picture.size)
    return processor.preprocess(picture, height=height, width=width, resize_mode="crop")
