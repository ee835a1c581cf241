"""FLUX.2 Klein through diffusers' own pipelines, with different references for each sample of a batch."""

from __future__ import annotations

import json
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import Flux2KleinKVPipeline, Flux2KleinPipeline
from PIL import Image

from ..errors import BadInput
from ..protocols import Drawing, DrawRequest, Picture
from ..records import from_json
from ..weights.manifest import check
from .encoder_cache import Memo, digest
from .masks import within_mask
from .out_of_memory import drawn, offload
from .pipelines import REFERENCE_PIXELS, Klein, KleinInpaint, KleinKV, read_picture

RECIPE = "clvr_recipe.json"
WORDS_LIMIT, LATENTS_LIMIT = 256 << 20, 256 << 20
"""Bytes of text embeddings and of reference latents that are remembered: some 32 prompts and 128 canvases of 1024 x 1024."""
PLACEHOLDER = Image.new("RGB", (64, 64))


@dataclass(frozen=True, slots=True)
class Sampling:
    """`guidance` above 1 doubles the transformer evaluations, unless the weights are distilled."""

    steps: int
    guidance: float = 1.0

    @property
    def nfe(self) -> int:
        return self.steps * (2 if self.guidance > 1 else 1)


@dataclass(frozen=True, slots=True)
class SamplingRecipe:
    """How a set of weights is to be sampled. `text_lengths`: the padded lengths it was trained with, ascending; FLUX.2 Klein: 512.

    given_latents: a canvas goes back in as the latents it was drawn from, without a round trip through the VAE. inpaint: a mask holds
    during denoising too, not only when the picture is put together.
    """

    generate: Sampling
    edit: Sampling
    text_layers: tuple[int, ...] = (9, 18, 27)
    text_lengths: tuple[int, ...] = (512,)
    batch: int = 64
    given_latents: bool = False
    inpaint: bool = False


def published(distilled: bool) -> SamplingRecipe:
    """How Black Forest Labs samples FLUX.2 Klein: 4 steps where it is distilled; the base 28 of its 50 steps, with guidance 4."""
    sampling = Sampling(4) if distilled else Sampling(28, 4.0)
    return SamplingRecipe(sampling, sampling, batch=4, given_latents=True, inpaint=True)


class KleinExecutor:
    """Draws with a Flux2KleinPipeline or a Flux2KleinKVPipeline.

    Words and references are encoded once and remembered. `check` is called after each denoising step and may raise to end the run.
    """

    def __init__(
        self, pipe: Flux2KleinPipeline | Flux2KleinKVPipeline, recipe: SamplingRecipe, name: str = "klein"
    ) -> None:
        self.remembers = isinstance(pipe, Flux2KleinKVPipeline)
        self.distilled = _distilled(pipe)
        self.pipe = (
            KleinKV(**pipe.components) if self.remembers else Klein(**pipe.components, is_distilled=self.distilled)
        )
        self.pipe.set_progress_bar_config(disable=True)
        # On a CPU it decodes a picture in half the time.
        self.pipe.vae.to(memory_format=torch.channels_last)
        self.recipe, self.name = recipe, name
        self.check: Callable[[], None] = lambda: None
        self._words, self._latents = Memo(WORDS_LIMIT), Memo(LATENTS_LIMIT)

    @cached_property
    def _inpaint(self) -> KleinInpaint:
        pipe = KleinInpaint(**self.pipe.components, is_distilled=self.distilled)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def forget(self) -> None:
        """Drop the text embeddings and reference latents that are remembered."""
        self._words.forget()
        self._latents.forget()

    def move(self, device: str) -> None:
        self.pipe.to(device)
        self.forget()

    def offload(self) -> None:
        offload(self.pipe)

    @classmethod
    def load(
        cls,
        folder: Path,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        usual: Callable[[bool], SamplingRecipe] | None = None,
        **parts: Any,
    ) -> KleinExecutor:
        """`usual` gives the recipe of a folder without one, by whether its weights are distilled. `parts` take the place of the folder's.
        Raises BadInput if the folder is missing, incomplete or damaged, or holds another kind of pipeline."""
        try:
            check(folder, parts)
            kind = json.loads((folder / "model_index.json").read_text()).get("_class_name")
            if kind not in ("Flux2KleinPipeline", "Flux2KleinKVPipeline"):
                raise BadInput(f"{folder} holds a {kind}, not a FLUX.2 Klein; name it with kind = 'generic'")
            with warnings.catch_warnings():
                # diffusers 0.42 renames the argument to `dtype`, which 0.38 does not know.
                warnings.simplefilter("ignore", FutureWarning)
                maker = Flux2KleinKVPipeline if kind == "Flux2KleinKVPipeline" else Flux2KleinPipeline
                pipe = maker.from_pretrained(folder, torch_dtype=dtype, local_files_only=True, **parts).to(device)
            pipe.tokenizer.get_chat_template()
            if usual and not (folder / RECIPE).exists():
                recipe = usual(_distilled(pipe))
                _trim(pipe.text_encoder, max(recipe.text_layers))
            else:
                recipe = from_json(SamplingRecipe, json.loads((folder / RECIPE).read_text()))
        except BadInput:
            raise
        except Exception as error:  # diffusers, safetensors and json each raise their own kinds for a damaged folder
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise BadInput(
                f"the weights in {folder} cannot be loaded: {first[:300]}; restore the folder or reinstall clvr"
            ) from error
        return cls(pipe, recipe, folder.name)

    def sampling(self, request: DrawRequest) -> Sampling:
        return self.recipe.edit if request.references else self.recipe.generate

    def nfe(self, request: DrawRequest) -> int:
        sampling = self.sampling(request)
        steps = sampling.steps
        if self._starts_from_canvas(request) and request.strength is not None:
            # As Flux2KleinInpaintPipeline.get_timesteps: what the noise does not reach is not denoised.
            steps -= int(max(steps - min(steps * request.strength, steps), 0))
        return steps if self.distilled else Sampling(steps, sampling.guidance).nfe

    @property
    def window(self) -> int:
        """Tokens of a prompt, with its frame, that the weights can read."""
        return self.recipe.text_lengths[-1]

    def tokens(self, prompt: str) -> int:
        return _tokens(self.pipe.tokenizer, prompt)

    def text_length(self, prompt: str) -> int:
        """The padded length the prompt is drawn with. Raises BadInput if it is longer than the weights can read."""
        tokens = self.tokens(prompt)
        for length in self.recipe.text_lengths:
            if tokens <= length:
                return length
        raise BadInput(
            f"the prompt for the executor has {tokens} tokens; these weights read at most {self.window}; shorten the brief"
        )

    def draw(self, requests: Sequence[DrawRequest]) -> list[Drawing]:
        """Requests of one kind share a batch. A sample is the same in any batch up to floating-point rounding."""
        groups: dict[tuple, list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            shapes = tuple(reference.shape for reference in request.references)
            start = self._starts_from_canvas(request) and (digest(_mask(request)), request.strength)
            groups[self.text_length(request.prompt), shapes, request.width, request.height, start].append(index)
        found: dict[int, Drawing] = {}
        for (length, *_), indices in groups.items():
            for start in range(0, len(indices), self.recipe.batch):
                part = indices[start : start + self.recipe.batch]
                batch = [requests[index] for index in part]
                found |= zip(part, drawn(self.pipe, batch, partial(self._batch, length=length)))
        return [found[index] for index in range(len(requests))]

    def _starts_from_canvas(self, request: DrawRequest) -> bool:
        # The pipeline that does so reads references in every step, which weights for keys and values were not made for.
        if (
            self.remembers
            or not (self.recipe.inpaint and request.references)
            or (request.mask is None and request.strength is None)
        ):
            return False
        height, width = request.references[0].shape[:2]
        # The pipeline draws at the size of what it starts from, and scales that down like a reference.
        return (
            (width, height) == (request.width, request.height)
            and width * height <= REFERENCE_PIXELS
            and request.strength != 0
        )

    @torch.inference_mode()
    def _batch(self, requests: Sequence[DrawRequest], length: int) -> list[Drawing]:
        first, sampling = requests[0], self.sampling(requests[0])
        inpaint = self._starts_from_canvas(first)
        pipe = self._inpaint if inpaint else self.pipe
        pipe.given = tuple(self._references(requests, place) for place in range(len(first.references)))
        settings: dict[str, Any] = {
            "image": PLACEHOLDER if pipe.given else None,
            "height": first.height,
            "width": first.width,
        }
        if inpaint:
            strength = 1.0 if first.strength is None else first.strength
            settings |= {
                "image": Image.fromarray(first.references[0]),
                "mask_image": Image.fromarray(_mask(first)),
                "strength": strength,
            }
        if inpaint or not self.remembers:
            settings |= {"guidance_scale": sampling.guidance}
            if sampling.guidance > 1 and not self.distilled:
                settings |= {"negative_prompt_embeds": self._read([""], length).expand(len(requests), -1, -1)}
        ends: dict[str, torch.Tensor] = {}

        def step_end(_pipe: object, step: int, timestep: object, kept: dict) -> dict:
            self.check()
            ends.update(kept)
            return {}

        pictures = pipe(
            prompt_embeds=self._read([request.prompt for request in requests], length),
            num_inference_steps=sampling.steps,
            generator=[torch.Generator().manual_seed(request.seed) for request in requests],
            output_type="np",
            callback_on_step_end=step_end,
            **settings,
        ).images
        arrays = (np.clip(pictures, 0, 1) * 255).round().astype(np.uint8)
        latents = self._kept(ends["latents"], first) if self.recipe.given_latents else [None] * len(requests)
        return [self._drawing(*each) for each in zip(requests, arrays, latents)]

    def _read(self, prompts: list[str], length: int) -> torch.Tensor:
        """Text embeddings, B x length x width."""

        def encode(fresh: list[str]) -> torch.Tensor:
            layers = self.recipe.text_layers
            return self.pipe.encode_prompt(fresh, max_sequence_length=length, text_encoder_out_layers=layers)[0]

        return self._words.rows([((length, prompt), prompt) for prompt in prompts], encode)

    def _references(self, requests: Sequence[DrawRequest], place: int) -> torch.Tensor:
        """Latents of the reference at that place of each request, B x channels x rows x columns of tokens.

        In one run all requests of a batch have the same references, so each is encoded alone, and to the same bits after a resume.
        """
        pipe, dtype = self.pipe, self.pipe.vae.dtype
        device = pipe._execution_device
        if self.recipe.given_latents and all(_given(request, place) is not None for request in requests):
            return torch.from_numpy(np.stack([_given(request, place) for request in requests])).to(device, dtype)

        def encode(pictures: list[Picture]) -> torch.Tensor:
            pixels = torch.cat([read_picture(pipe, Image.fromarray(picture)) for picture in pictures])
            return pipe._encode_vae_image(pixels.to(device, dtype), generator=None)

        pictures = [request.references[place] for request in requests]
        return self._latents.rows([(digest(picture), picture) for picture in pictures], encode)

    def _kept(self, packed: torch.Tensor, request: DrawRequest) -> list[np.ndarray]:
        """The latents of the samples as `DrawRequest.latents` has them."""
        token = 2 * self.pipe.vae_scale_factor
        rows, columns = request.height // token, request.width // token
        return [each.T.reshape(-1, rows, columns).float().cpu().numpy() for each in packed]

    def _drawing(self, request: DrawRequest, picture: Picture, latent: np.ndarray | None) -> Drawing:
        """A picture that is put together is not what its latents decode to."""
        whole = within_mask(request, picture)
        return Drawing(whole, self.nfe(request), latent if whole is picture else None)


@lru_cache(64)  # a prompt is counted when it is fitted, when that is told, and when it is drawn
def _tokens(tokenizer: Any, prompt: str) -> int:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    return len(tokenizer(text)["input_ids"])


def _trim(encoder: Any, layers: int) -> None:
    """Leaves out what comes after the last layer that is read: 1.7 GiB of Qwen3 4B, 4.4 of 8B, and the head over the vocabulary."""
    if layers < len(encoder.model.layers):
        encoder.model.layers = encoder.model.layers[:layers]
        # The norm is for the last layer's output, which is no longer the last one's.
        encoder.model.norm = torch.nn.Identity()
    encoder.lm_head = torch.nn.Identity()


def _distilled(pipe: Any) -> bool:
    """Weights for keys and values always are; their pipeline has no guidance."""
    return isinstance(pipe, Flux2KleinKVPipeline) or pipe.config.is_distilled


def _given(request: DrawRequest, place: int) -> np.ndarray | None:
    return request.latents[place] if place < len(request.latents) else None


def _mask(request: DrawRequest) -> Picture:
    return np.full((request.height, request.width), 255, np.uint8) if request.mask is None else request.mask
