"""FLUX.2 Klein through diffusers' pipelines, with its own references for each sample of a batch."""

from __future__ import annotations

import json
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
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
from ..weights.manifest import check_manifest
from ..weights.shared import shared_parts
from .cpu import decode_in_bfloat16
from .encoder_cache import EncoderCache, digest
from .masks import within_mask
from .one_thread import for_one_thread
from .out_of_memory import draw_in_halves, offload
from .pipelines import REFERENCE_PIXELS, Klein, KleinInpaint, KleinKV, read_picture
from .weights import reload

RECIPE = "clvr_recipe.json"
TEXT_LIMIT, LATENTS_LIMIT = 256 << 20, 256 << 20
"""Bytes of cached text embeddings and reference latents: some 32 prompts and 128 canvases of 1024 x 1024."""
PLACEHOLDER = Image.new("RGB", (64, 64))
"""Given to the pipeline in place of references: it only looks whether there are any, see `pipelines`."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """steps: denoising steps, at least 1. guidance: above 1 it costs two evaluations a step, unless the weights are
    distilled.
    """

    steps: int
    guidance: float = 1.0

    @property
    def nfe(self) -> int:
        return self.steps * (2 if self.guidance > 1 else 1)


@dataclass(frozen=True, slots=True)
class SamplingRecipe:
    """How a set of weights is sampled.

    generate, edit: sampling without and with references.
    text_layers: hidden states of the text encoder that are stacked into the embedding.
    text_lengths: padded prompt lengths, in tokens, that the weights were trained with, ascending; FLUX.2 Klein: 512
        alone.
    batch: pictures drawn at once, at most.
    given_latents: a canvas goes back in as the latents it was decoded from, without a round trip through the VAE.
    inpaint: a mask holds during denoising too, not only when it is applied to the finished picture.
    bfloat16: weights in float32 decode in bfloat16 on a processor that has it.
    """

    generate: Sampling
    edit: Sampling
    text_layers: tuple[int, ...] = (9, 18, 27)
    text_lengths: tuple[int, ...] = (512,)
    batch: int = 64
    given_latents: bool = False
    inpaint: bool = False
    bfloat16: bool = False


def published(distilled: bool) -> SamplingRecipe:
    """Return the recipe of FLUX.2 Klein as published: 4 steps if distilled; else guidance 4 and 28 steps, of the 50
    published.
    """
    sampling = Sampling(4) if distilled else Sampling(28, 4.0)
    return SamplingRecipe(sampling, sampling, batch=4, given_latents=True, inpaint=True)


class KleinExecutor:
    """Draws with a Flux2KleinPipeline or a Flux2KleinKVPipeline.

    Text embeddings and reference latents are cached. `check` is called after each denoising step. A lock keeps calls of
    several threads apart: a pipeline of diffusers has the state of one call.

    pipe: the pipeline that draws, of diffusers' class or a subclass of it.
    distilled: whether guidance costs no second evaluation.
    is_kv: whether references are read in the first step only, as keys and values.
    """

    def __init__(
        self, pipe: Flux2KleinPipeline | Flux2KleinKVPipeline, recipe: SamplingRecipe, name: str = "klein"
    ) -> None:
        self.is_kv = isinstance(pipe, Flux2KleinKVPipeline)
        self.distilled = _is_distilled(pipe)
        # Any: diffusers' hints of its calls are narrower than what they take.
        self.pipe: Any = (
            KleinKV(**pipe.components) if self.is_kv else Klein(**pipe.components, is_distilled=self.distilled)
        )
        self.pipe.set_progress_bar_config(disable=True)
        # On a CPU this layout halves the time of decoding.
        self.pipe.vae.to(memory_format=torch.channels_last)
        if recipe.bfloat16:
            decode_in_bfloat16(self.pipe.vae.decoder)
        self.recipe, self.name = recipe, name
        self.check: Callable[[], None] = lambda: None
        self._alone = threading.RLock()
        self._texts, self._latents = EncoderCache(TEXT_LIMIT), EncoderCache(LATENTS_LIMIT)

    @cached_property
    def _inpaint(self) -> Any:
        pipe = KleinInpaint(**self.pipe.components, is_distilled=self.distilled)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def forget(self) -> None:
        """Drop the cached text embeddings and reference latents."""
        self._texts.forget()
        self._latents.forget()

    def move(self, device: str) -> None:
        self.pipe.to(device)
        self.forget()

    def offload(self) -> None:
        offload(self.pipe)

    def reload(self, state: Mapping[str, torch.Tensor]) -> None:
        reload(self.pipe.transformer, state)

    @classmethod
    def load(
        cls,
        folder: Path,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        default_recipe: Callable[[bool], SamplingRecipe] | None = None,
        **parts: Any,
    ) -> KleinExecutor:
        """Load a folder in diffusers' format.

        default_recipe: returns the recipe of a folder without one, given whether its weights are distilled; None
            refuses such a folder.
        parts: components that take the place of the folder's own, by their names in the pipeline.

        Raises BadInput if the folder is missing, incomplete or damaged, or holds another kind of pipeline.
        """
        try:
            check_manifest(folder, parts)
            kind = json.loads((folder / "model_index.json").read_text()).get("_class_name")
            if kind not in ("Flux2KleinPipeline", "Flux2KleinKVPipeline"):
                raise BadInput(f"{folder} holds a {kind}, not a FLUX.2 Klein; name it with kind = 'generic'")
            with warnings.catch_warnings():
                # diffusers 0.42 renames the argument to `dtype`, which 0.38 does not know.
                warnings.simplefilter("ignore", FutureWarning)
                cls_of_pipe: Any = Flux2KleinKVPipeline if kind == "Flux2KleinKVPipeline" else Flux2KleinPipeline
                load = partial(cls_of_pipe.from_pretrained, torch_dtype=dtype, local_files_only=True)
                parts = _from_beside(load, shared_parts(folder), parts) | parts
                pipe = load(folder, **parts).to(device)
            pipe.tokenizer.get_chat_template()
            if default_recipe and not (folder / RECIPE).exists():
                recipe = default_recipe(_is_distilled(pipe))
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
            # As Flux2KleinInpaintPipeline.get_timesteps: steps above the noise level of the strength are left out.
            steps -= int(max(steps - min(steps * request.strength, steps), 0))
        return steps if self.distilled else Sampling(steps, sampling.guidance).nfe

    @property
    def window(self) -> int:
        """Prompt tokens, chat template included, that the weights were trained to read."""
        return self.recipe.text_lengths[-1]

    @for_one_thread
    def tokens(self, prompt: str) -> int:
        return _tokens(self.pipe.tokenizer, prompt)

    def text_length(self, prompt: str) -> int:
        """Return the length, in tokens, that the prompt is padded to.

        Raises BadInput if it is longer than the window.
        """
        tokens = self.tokens(prompt)
        for length in self.recipe.text_lengths:
            if tokens <= length:
                return length
        raise BadInput(
            f"the prompt for the executor has {tokens} tokens; these weights read at most {self.window}; shorten the brief"
        )

    @for_one_thread
    def draw(self, requests: Sequence[DrawRequest]) -> list[Drawing]:
        """Draw requests that agree in size, padded prompt length and sizes of references in one batch."""
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
                found |= zip(part, draw_in_halves(self.pipe, batch, partial(self._batch, length=length)))
        return [found[index] for index in range(len(requests))]

    @torch.inference_mode()
    def round_trip(self, picture: Picture) -> Picture:
        """Encode the picture with the VAE and decode it again. Its sides must be multiples of the VAE's factor."""
        with self._alone:
            vae = self.pipe.vae
            device, dtype = self.pipe._execution_device, vae.dtype
            pixels = read_picture(self.pipe, Image.fromarray(picture)).to(device, dtype)
            decoded = vae.decode(vae.encode(pixels).latent_dist.mode()).sample
            values = (decoded[0].float().cpu().numpy().transpose(1, 2, 0) + 1) * 127.5
            return np.clip(np.rint(values), 0, 255).astype(np.uint8)

    def _starts_from_canvas(self, request: DrawRequest) -> bool:
        """Whether denoising begins from the noised first reference, by the inpaint pipeline."""
        # That pipeline reads references in every step, which KV weights were not trained for.
        if (
            self.is_kv
            or not (self.recipe.inpaint and request.references)
            or (request.mask is None and request.strength is None)
        ):
            return False
        height, width = request.references[0].shape[:2]
        # The inpaint pipeline draws at the size of the first reference, and scales that down like any reference.
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
        pipe.given = tuple(self._reference_latents(requests, place) for place in range(len(first.references)))
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
        if inpaint or not self.is_kv:
            settings |= {"guidance_scale": sampling.guidance}
            if sampling.guidance > 1 and not self.distilled:
                settings |= {"negative_prompt_embeds": self._embeddings([""], length).expand(len(requests), -1, -1)}
        ends: dict[str, torch.Tensor] = {}

        def step_end(_pipe: object, step: int, timestep: object, kept: dict) -> dict:
            self.check()
            ends.update(kept)
            return {}

        pictures = pipe(
            prompt_embeds=self._embeddings([request.prompt for request in requests], length),
            num_inference_steps=sampling.steps,
            generator=[torch.Generator().manual_seed(request.seed) for request in requests],
            output_type="np",
            callback_on_step_end=step_end,
            **settings,
        ).images
        arrays = (np.clip(pictures, 0, 1) * 255).round().astype(np.uint8)
        latents = self._unpacked(ends["latents"], first) if self.recipe.given_latents else [None] * len(requests)
        return [self._drawing(*each) for each in zip(requests, arrays, latents)]

    def _embeddings(self, prompts: list[str], length: int) -> torch.Tensor:
        """Return text embeddings, B x length x width."""

        def encode(fresh: list[str]) -> torch.Tensor:
            layers = self.recipe.text_layers
            return self.pipe.encode_prompt(fresh, max_sequence_length=length, text_encoder_out_layers=layers)[0]

        return self._texts.rows([((length, prompt), prompt) for prompt in prompts], encode)

    def _reference_latents(self, requests: Sequence[DrawRequest], place: int) -> torch.Tensor:
        """Return latents of the reference at that place of each request, B x channels x rows x columns of tokens.

        In one run all requests of a batch have the same references, so each is encoded alone, and to the same bits
        after a resume.
        """
        pipe, dtype = self.pipe, self.pipe.vae.dtype
        device = pipe._execution_device
        given = [latent for request in requests if (latent := _given_latent(request, place)) is not None]
        if self.recipe.given_latents and len(given) == len(requests):
            return torch.from_numpy(np.stack(given)).to(device, dtype)

        def encode(pictures: list[Picture]) -> torch.Tensor:
            pixels = torch.cat([read_picture(pipe, Image.fromarray(picture)) for picture in pictures])
            return pipe._encode_vae_image(pixels.to(device, dtype), generator=None)

        pictures = [request.references[place] for request in requests]
        return self._latents.rows([(digest(picture), picture) for picture in pictures], encode)

    def _unpacked(self, packed: torch.Tensor, request: DrawRequest) -> list[np.ndarray]:
        """Return the latents, B x tokens x channels, as `DrawRequest.latents` has them: channels x rows
        x columns each.
        """
        token = 2 * self.pipe.vae_scale_factor
        rows, columns = request.height // token, request.width // token
        return [each.T.reshape(-1, rows, columns).float().cpu().numpy() for each in packed]

    def _drawing(self, request: DrawRequest, picture: Picture, latent: np.ndarray | None) -> Drawing:
        masked = within_mask(request, picture)
        # Latents do not decode to a picture whose mask was applied afterwards.
        return Drawing(masked, self.nfe(request), latent if masked is picture else None)


@lru_cache(64)  # a prompt is counted when it is shortened, when the warning is written, and when it is drawn
def chat_text(tokenizer: Any, prompt: str) -> str:
    """Return the text that the pipeline gives its tokenizer for a prompt."""
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )


def _tokens(tokenizer: Any, prompt: str) -> int:
    return len(tokenizer(chat_text(tokenizer, prompt))["input_ids"])


def _trim(encoder: Any, layers: int) -> None:
    """Drop the layers after the last one that is read: 1.7 GiB of Qwen3 4B, 4.4 of 8B, and the head over the
    vocabulary.
    """
    if layers < len(encoder.model.layers):
        encoder.model.layers = encoder.model.layers[:layers]
        # The final norm belongs to the output of the last layer, which is gone.
        encoder.model.norm = torch.nn.Identity()
    encoder.lm_head = torch.nn.Identity()


def _is_distilled(pipe: Any) -> bool:
    """Whether the weights are distilled; KV weights always are, and their pipeline has no guidance."""
    return isinstance(pipe, Flux2KleinKVPipeline) or pipe.config.is_distilled


def _from_beside(load: Callable[..., Any], places: Mapping[str, Path], given: Collection[str]) -> dict[str, Any]:
    """Load the parts of a pipeline that lie in another pipeline's folder. load: a pipeline from its folder.

    places: of the parts, by name. given: names of parts that are not needed from there.
    """
    wanted = {name: place for name, place in places.items() if name not in given}
    found = {}
    for home in dict.fromkeys(place.parent for place in wanted.values()):
        index = json.loads((home / "model_index.json").read_text())
        parts = [name for name, value in index.items() if isinstance(value, list) and name not in wanted]
        components = load(home, **dict.fromkeys(parts)).components
        found |= {name: components[name] for name in wanted}
    return found


def _given_latent(request: DrawRequest, place: int) -> np.ndarray | None:
    return request.latents[place] if place < len(request.latents) else None


def _mask(request: DrawRequest) -> Picture:
    """The mask of the request, or one that is open everywhere."""
    return np.full((request.height, request.width), 255, np.uint8) if request.mask is None else request.mask
