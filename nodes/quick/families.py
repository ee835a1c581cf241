"""Families of diffusion models, told by the names of their files, and the files that go with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

HUB = "https://huggingface.co"
SHARE = 0.6
"""Of the device's memory, the most that one file may take where a smaller one of its kind is at hand."""


@dataclass(frozen=True)
class ModelFile:
    """A published file.

    folder: below ComfyUI's models.
    address: without HUB.
    gigabytes: size on disk in 10^9 bytes, None where ComfyUI's templates name none.
    """

    folder: str
    address: str
    gigabytes: float | None

    @property
    def name(self) -> str:
        return PurePath(self.address).name

    @property
    def link(self) -> str:
        return f"{HUB}/{self.address}"

    @property
    def offer(self) -> str:
        size = f" ({self.gigabytes:.1f} GB)" if self.gigabytes else ""
        return f"{self.name}{size} from {self.link}"


@dataclass(frozen=True)
class Part:
    """A kind of file that a family needs.

    names: patterns of `plain` file names, the one that fits best first.
    file: the one to download.
    small: the one for cards of 8 to 12 GB, None if `file` is small enough.
    """

    names: tuple[str, ...]
    file: ModelFile
    small: ModelFile | None = None

    @property
    def folder(self) -> str:
        return self.file.folder

    def found(self, files: Sequence[str], size_of: Callable[[str], int], room: int) -> str | None:
        """Return the largest of the files, of those whose names fit best, that fits into SHARE of `room` bytes; if none
        does, the smallest. None if no name fits.
        """
        for pattern in self.names:
            sizes = {name: size_of(name) for name in files if fits(pattern, name)}
            if sizes:
                small = {name: size for name, size in sizes.items() if size <= room * SHARE}
                return max(sorted(small), key=small.__getitem__) if small else min(sorted(sizes), key=sizes.__getitem__)
        return None

    @property
    def offer(self) -> str:
        """Say which file to download, from where and to where."""
        small = f", or on a card of 8 to 12 GB {self.small.offer}," if self.small else ""
        return f"{self.file.offer}{small} into models/{self.folder}"


@dataclass(frozen=True)
class Family:
    """Diffusion models that go with the same files.

    title: what artists call them.
    recipe: how they are sampled.
    model: the diffusion model.
    type: of Load CLIP, for the text encoder.
    encoder, vae: the other two files.
    """

    title: str
    recipe: str
    model: Part
    type: str
    encoder: Part
    vae: Part


def plain(name: str) -> str:
    """Return a file name without extension, in lower case, letters and digits only."""
    return re.sub("[^a-z0-9]", "", name.lower().rpartition(".")[0])


def fits(pattern: str, name: str) -> bool:
    """Return whether the pattern fits a file's path below its folder, or its last part."""
    return any(re.search(pattern, plain(each)) for each in (name, re.split(r"[/\\]", name)[-1]))


def family_of(name: str) -> Family | None:
    """Return the family of a diffusion model by its file's name, None if it is none of FAMILIES."""
    return next((family for family in FAMILIES if any(fits(each, name) for each in family.model.names)), None)


def _dit(pattern: str, address: str, gigabytes: float | None) -> Part:
    return Part((pattern,), ModelFile("diffusion_models", address, gigabytes))


def _te(names: tuple[str, ...], address: str, gigabytes: float | None, small: ModelFile | None = None) -> Part:
    return Part(names, ModelFile("text_encoders", address, gigabytes), small)


_FLUX3 = "black-forest-labs/flux-3-image-klein-comfy/resolve/main"
_QWEN_21 = "Comfy-Org/Qwen-Image-2.1/resolve/main"
_KLEIN_9B = "Comfy-Org/flux2-klein-9B/resolve/main/split_files"
_Z_TURBO = "Comfy-Org/z_image_turbo/resolve/main/split_files"
_EDIT = "Comfy-Org/Qwen-Image-Edit_ComfyUI/resolve/main/split_files"

_QWEN3_4B = _te(
    ("qwen34b",),
    f"{_Z_TURBO}/text_encoders/qwen_3_4b.safetensors",
    8.0,
    ModelFile("text_encoders", f"{_Z_TURBO}/text_encoders/qwen_3_4b_fp8_mixed.safetensors", 5.6),
)
_QWEN3_8B = _te(("qwen38b",), f"{_KLEIN_9B}/text_encoders/qwen_3_8b_fp8mixed.safetensors", 8.7)
_QWEN25_VL = _te(
    ("qwen25vl7b",),
    "Comfy-Org/Qwen-Image_ComfyUI/resolve/main/split_files/text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors",
    9.4,
)
_QWEN3_VL_4B = _te(("qwen3vl4b",), f"{_FLUX3}/text_encoders/qwen3vl_4b_int8_convrot.safetensors", None)
_QWEN3_VL_8B = _te(("qwen3vl8b(?!joy)",), f"{_QWEN_21}/text_encoders/qwen3vl_8b_int8_convrot.safetensors", 9.4)
_FLUX2_VAE = Part(
    ("flux2vae(?!small)", "fullencodersmalldecoder", "flux2.*vae"),
    ModelFile("vae", "Comfy-Org/flux2-dev/resolve/main/split_files/vae/flux2-vae.safetensors", 0.3),
)
_QWEN_VAE = Part(
    ("qwenimagevae",),
    ModelFile("vae", "Comfy-Org/Qwen-Image_ComfyUI/resolve/main/split_files/vae/qwen_image_vae.safetensors", 0.3),
)
_QWEN_21_VAE = Part(("qwenimage21vae",), ModelFile("vae", f"{_QWEN_21}/vae/qwen_image_2.1_vae_bf16.safetensors", 0.7))
_FLUX_VAE = Part(("^ae$", "^zimage.*(vae|ae)$"), ModelFile("vae", f"{_Z_TURBO}/vae/ae.safetensors", 0.3))

VLM = _te(
    (
        *("^qwen3vl4b", "qwen3vl8b(?!joy)", "^qwen3vl(?!32bminimax)"),
        *("^qwen35(?!.*(promptupsampler|pet2i|pei2i))", "^gemma4"),
    ),
    "Comfy-Org/Qwen3-VL/resolve/main/text_encoders/qwen3vl_4b_fp8_scaled.safetensors",
    5.2,
)
"""The vision-language model that plans and judges, whatever draws."""

FAMILIES = (
    Family(
        *("FLUX.2 Klein 4B", "klein"),
        _dit(
            "^(?!.*(base|kv|flux3|9b)).*klein",
            "black-forest-labs/FLUX.2-klein-4b-fp8/resolve/main/flux-2-klein-4b-fp8.safetensors",
            4.1,
        ),
        *("flux2", _QWEN3_4B, _FLUX2_VAE),
    ),
    Family(
        *("FLUX.2 Klein 9B", "klein"),
        _dit(
            "^(?!.*(base|kv|flux3)).*klein.*9b",
            "black-forest-labs/FLUX.2-klein-9b-fp8/resolve/main/flux-2-klein-9b-fp8.safetensors",
            None,
        ),
        *("flux2", _QWEN3_8B, _FLUX2_VAE),
    ),
    Family(
        *("FLUX.2 Klein 9B KV", "klein-kv"),
        _dit(
            "^(?!.*flux3).*klein.*kv",
            "black-forest-labs/FLUX.2-klein-9b-kv-fp8/resolve/main/flux-2-klein-9b-kv-fp8.safetensors",
            9.8,
        ),
        *("flux2", _QWEN3_8B, _FLUX2_VAE),
    ),
    Family(
        *("FLUX.2 Klein 4B base", "klein-base"),
        _dit(
            "^(?!.*(flux3|9b)).*klein.*base",
            "black-forest-labs/FLUX.2-klein-base-4b-fp8/resolve/main/flux-2-klein-base-4b-fp8.safetensors",
            4.1,
        ),
        *("flux2", _QWEN3_4B, _FLUX2_VAE),
    ),
    Family(
        *("FLUX.2 Klein 9B base", "klein-base"),
        _dit(
            "^(?!.*flux3).*klein.*base.*9b",
            "black-forest-labs/FLUX.2-klein-base-9b-fp8/resolve/main/flux-2-klein-base-9b-fp8.safetensors",
            None,
        ),
        *("flux2", _QWEN3_8B, _FLUX2_VAE),
    ),
    Family(
        *("Qwen-Image-Edit", "qwen-edit"),
        _dit("qwenimageedit", f"{_EDIT}/diffusion_models/qwen_image_edit_2511_fp8mixed.safetensors", None),
        *("qwen_image", _QWEN25_VL, _QWEN_VAE),
    ),
    Family(
        *("FLUX.3 Klein", "flux3-klein"),
        _dit(
            "^(?!.*base).*flux3.*klein", f"{_FLUX3}/diffusion_models/flux3-image-klein-int8-convrot.safetensors", None
        ),
        *("flux3", _QWEN3_VL_4B, _FLUX2_VAE),
    ),
    Family(
        *("FLUX.3 Klein base", "flux3-klein-base"),
        _dit("flux3.*klein.*base", f"{_FLUX3}/diffusion_models/flux3-image-klein-base-int8-convrot.safetensors", None),
        *("flux3", _QWEN3_VL_4B, _FLUX2_VAE),
    ),
    Family(
        *("Qwen-Image 2.1 Turbo", "qwen-image-2.1-turbo"),
        _dit("qwenimage21.*turbo", f"{_QWEN_21}/diffusion_models/qwen_image_2.1_turbo_int8_convrot.safetensors", 7.3),
        *("qwen_image", _QWEN3_VL_8B, _QWEN_21_VAE),
    ),
    Family(
        *("Qwen-Image 2.1", "qwen-image-2.1"),
        _dit("qwenimage21", f"{_QWEN_21}/diffusion_models/qwen_image_2.1_int8_convrot.safetensors", 7.3),
        *("qwen_image", _QWEN3_VL_8B, _QWEN_21_VAE),
    ),
    Family(
        *("Z-Image-Turbo", "z-image-turbo"),
        _dit("zimage.*turbo", f"{_Z_TURBO}/diffusion_models/z_image_turbo_bf16.safetensors", 12.3),
        *("lumina2", _QWEN3_4B, _FLUX_VAE),
    ),
    Family(
        *("Z-Image", "z-image"),
        _dit(
            "^(?!.*(omni|turbo)).*zimage",
            "Comfy-Org/z_image/resolve/main/split_files/diffusion_models/z_image_bf16.safetensors",
            12.3,
        ),
        *("lumina2", _QWEN3_4B, _FLUX_VAE),
    ),
)
"""The first whose diffusion model is on disk is taken where the artist chose none."""

SIZES = {
    file.name: round(file.gigabytes * 10**9)
    for part in (VLM, *(part for family in FAMILIES for part in (family.model, family.encoder, family.vae)))
    for file in (part.file, part.small)
    if file and file.gigabytes
}
"""Name of a published file -> its bytes, to two digits."""
