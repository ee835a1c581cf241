"""FLUX.2 Klein through diffusers' own pipeline, with different references for each sample of a batch."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import Flux2KleinPipeline
from PIL import Image

from ..errors import BadInput
from ..protocols import Drawing, DrawRequest
from ..records import from_json

RECIPE = "clvr_recipe.json"
FILES = "clvr_files.json"


@dataclass(frozen=True, slots=True)
class Sampling:
    """`guidance` above 1 doubles the transformer evaluations, unless the weights are distilled."""

    steps: int
    guidance: float = 1.0

    @property
    def nfe(self) -> int:
        return self.steps * (2 if self.guidance > 1 else 1)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a set of weights is to be sampled. `text_lengths`: the padded lengths it was trained with, ascending; FLUX.2 Klein: 512."""

    generate: Sampling
    edit: Sampling
    text_layers: tuple[int, ...] = (9, 18, 27)
    text_lengths: tuple[int, ...] = (512,)
    batch: int = 64


def published(distilled: bool) -> Recipe:
    """How Black Forest Labs samples FLUX.2 Klein: 4 steps where it is distilled; the base 28 of its 50 steps, with guidance 4."""
    sampling = Sampling(4) if distilled else Sampling(28, 4.0)
    return Recipe(sampling, sampling, batch=4)


class BatchedKlein(Flux2KleinPipeline):
    """Takes `references_each` images for each prompt of the batch, one prompt's after another's, where its parent gives all to all."""

    references_each = 0

    def prepare_image_latents(self, images, batch_size, generator, device, dtype):
        if len(images) != self.references_each * batch_size:
            raise ValueError(f"{len(images)} references for {batch_size} samples of {self.references_each} each")
        stacked = torch.cat(images).to(device=device, dtype=self.vae.dtype)
        latents = self._encode_vae_image(stacked, generator=None).to(dtype)
        ids = self._prepare_image_ids([latents[:1]] * self.references_each).to(device)
        packed = self._pack_latents(latents)
        return packed.reshape(batch_size, -1, packed.shape[-1]), ids.expand(batch_size, -1, -1)


class KleinExecutor:
    """Draws with a Flux2KleinPipeline folder. References of one request must share one size.

    `check` is called after each denoising step and may raise to end the run.
    """

    def __init__(self, pipe: Flux2KleinPipeline, recipe: Recipe, name: str = "klein") -> None:
        parts = dict(pipe.components)
        self.pipe = BatchedKlein(**parts, is_distilled=pipe.config.is_distilled)
        self.pipe.set_progress_bar_config(disable=True)
        self.recipe, self.name = recipe, name
        self.check: Callable[[], None] = lambda: None

    @classmethod
    def load(
        cls,
        folder: Path,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        usual: Callable[[bool], Recipe] | None = None,
    ) -> KleinExecutor:
        """`usual` gives the recipe of a folder without one, by whether its weights are distilled. Raises BadInput if the folder is missing,
        incomplete or damaged."""
        try:
            _check(folder)
            with warnings.catch_warnings():
                # diffusers 0.42 renames the argument to `dtype`, which 0.38 does not know.
                warnings.simplefilter("ignore", FutureWarning)
                pipe = Flux2KleinPipeline.from_pretrained(folder, torch_dtype=dtype, local_files_only=True).to(device)
            pipe.tokenizer.get_chat_template()
            if usual and not (folder / RECIPE).exists():
                recipe = usual(pipe.config.is_distilled)
            else:
                recipe = from_json(Recipe, json.loads((folder / RECIPE).read_text()))
        except Exception as error:  # diffusers, safetensors and json each raise their own kinds for a damaged folder
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise BadInput(f"the weights in {folder} cannot be loaded: {first[:300]}; restore the folder or reinstall clvr") from error
        return cls(pipe, recipe, folder.name)

    def sampling(self, request: DrawRequest) -> Sampling:
        return self.recipe.edit if request.references else self.recipe.generate

    def nfe(self, request: DrawRequest) -> int:
        sampling = self.sampling(request)
        return sampling.steps if self.pipe.config.is_distilled else sampling.nfe

    def text_length(self, prompt: str) -> int:
        """The padded length the prompt is drawn with. Raises BadInput if it is longer than the weights can read."""
        tokenizer, lengths = self.pipe.tokenizer, self.recipe.text_lengths
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        tokens = len(tokenizer(text)["input_ids"])
        for length in lengths:
            if tokens <= length:
                return length
        raise BadInput(f"the prompt for the executor has {tokens} tokens; these weights read at most {lengths[-1]}; shorten the brief")

    def draw(self, requests: Sequence[DrawRequest]) -> list[Drawing]:
        """Requests of one kind share a batch. A sample is the same in any batch up to floating-point rounding."""
        groups: dict[tuple, list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            shapes = tuple(reference.shape for reference in request.references)
            groups[self.text_length(request.prompt), shapes, request.width, request.height].append(index)
        drawn: dict[int, Drawing] = {}
        for (length, *_), indices in groups.items():
            for start in range(0, len(indices), self.recipe.batch):
                part = indices[start : start + self.recipe.batch]
                for index, picture in zip(part, self._batch([requests[index] for index in part], length)):
                    drawn[index] = Drawing(picture, self.nfe(requests[index]))
        return [drawn[index] for index in range(len(requests))]

    def _step_end(self, pipe, step: int, timestep, kept: dict) -> dict:
        self.check()
        return {}

    @torch.inference_mode()
    def _batch(self, requests: list[DrawRequest], length: int) -> list[np.ndarray]:
        first, sampling = requests[0], self.sampling(requests[0])
        self.pipe.references_each = len(first.references)
        references = [Image.fromarray(reference) for request in requests for reference in request.references]
        pictures = self.pipe(
            image=references or None,
            prompt=[request.prompt for request in requests],
            height=first.height,
            width=first.width,
            num_inference_steps=sampling.steps,
            guidance_scale=sampling.guidance,
            generator=[torch.Generator().manual_seed(request.seed) for request in requests],
            max_sequence_length=length,
            text_encoder_out_layers=self.recipe.text_layers,
            output_type="np",
            callback_on_step_end=self._step_end,
        ).images
        arrays = (np.clip(pictures, 0, 1) * 255).round().astype(np.uint8)
        return [_masked(request, picture) for request, picture in zip(requests, arrays)]


def load_klein(folder: Path, device: str = "auto", dtype: str = "bfloat16") -> KleinExecutor:
    """A folder as published, or with a recipe of its own. device: as torch names it; `auto` takes a GPU if there is one.

    Raises BadInput as `KleinExecutor.load` does.
    """
    if device == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        device = accelerator.type if accelerator else "cpu"
    return KleinExecutor.load(folder, device, getattr(torch, dtype), published)


def list_files(folder: Path) -> None:
    """Writes down what every file of the folder holds, so that `load` knows a damaged one from a whole one."""
    (folder / FILES).write_text(json.dumps(digests(folder), indent=1))


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of the folder by its name, the list of `list_files` left out."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != FILES)
    return {path.relative_to(folder).as_posix(): _digest(path) for path in files}


def _check(folder: Path) -> None:
    """Raises FileNotFoundError or ValueError. Libraries fill in for some missing files: without its config, a text encoder of 8B."""
    listed = json.loads((folder / FILES).read_text()) if (folder / FILES).exists() else {}
    for name in (*listed, "text_encoder/config.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{name} is missing")
    for name, digest in listed.items():
        if _digest(folder / name) != digest:
            raise ValueError(f"{name} is damaged")


def _digest(path: Path) -> str:
    data = path.read_bytes()
    # A checkout may have turned the line ends of a text.
    return hashlib.sha256(data if path.suffix == ".safetensors" else data.replace(b"\r\n", b"\n")).hexdigest()


def _masked(request: DrawRequest, picture: np.ndarray) -> np.ndarray:
    """Outside the mask the first reference's pixels are kept bit for bit."""
    if request.mask is None or not request.references:
        return picture
    return np.where(request.mask[..., None] > 127, picture, request.references[0])
