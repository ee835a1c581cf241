"""Any pipeline of diffusers that draws from `prompt` and edits from `image`, known by its signature alone."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..errors import BadInput
from ..protocols import Drawing, DrawRequest, Picture
from .encoder_cache import digest
from .masks import within_mask
from .out_of_memory import drawn, offload

NEEDED = ("prompt", "image")
FRAME = 16
"""Tokens of a chat template around a prompt."""
STEPS = 50
"""Where a pipeline has no default of its own."""


class GenericExecutor:
    """`steps` and `guidance` are the pipeline's own where they are None; `references`: pictures that it edits from at most. A picture is
    drawn by itself, or with others of the same words and references where the pipeline draws several at once; a mask is kept to by putting
    the pictures together.

    `check` is called after each denoising step, where the pipeline can be told to, and may raise to end the run. Raises BadInput for a
    pipeline without `prompt` and `image`.
    """

    batch = 4

    def __init__(
        self,
        pipe: Any,
        steps: int | None = None,
        guidance: float | None = None,
        name: str = "generic",
        references: int | None = None,
    ) -> None:
        self.pipe, self.name = pipe, name
        self.steps, self.guidance, self.references = steps, guidance, references
        self.check: Callable[[], None] = lambda: None
        missing = [need for need in NEEDED if need not in inputs_of(pipe)]
        if missing:
            raise BadInput(
                f"{type(pipe).__name__} takes no {' and no '.join(missing)}; an executor draws from a prompt and edits from an image, "
                "so choose a pipeline that takes both"
            )
        _quiet(pipe)

    def move(self, device: str) -> None:
        self.pipe.to(device)

    def offload(self) -> None:
        offload(self.pipe)

    def pipe_for(self, request: DrawRequest) -> Any:
        return self.pipe

    @property
    def window(self) -> int | None:
        """Prompt tokens that the text encoder reads, minus the chat template; None if the pipeline has no `max_sequence_length` or no
        tokenizer."""
        limit = inputs_of(self.pipe).get("max_sequence_length")
        return limit - FRAME if isinstance(limit, int) and self._tokenizer is not None else None

    def tokens(self, prompt: str) -> int:
        return len(self._tokenizer(prompt)["input_ids"])

    @property
    def _tokenizer(self) -> Any:
        """The one of the longest text, where there are several."""
        found = next(
            (
                getattr(self.pipe, name)
                for name in ("tokenizer_3", "tokenizer_2", "tokenizer")
                if hasattr(self.pipe, name)
            ),
            None,
        )
        return getattr(found, "tokenizer", found)

    def settings(self, request: DrawRequest) -> dict[str, Any]:
        """What the pipeline is called with for this request, of what it takes."""
        pipe = self.pipe_for(request)
        takes = inputs_of(pipe)
        wanted = {
            "prompt": request.prompt,
            "height": request.height,
            "width": request.width,
            "num_inference_steps": self.steps,
            "strength": request.strength,
            # FLUX.1 Kontext draws, and Qwen-Image-2.1 reads, so many pixels, whatever height and width are.
            "max_area": request.width * request.height,
            "output_resolution": round((request.width * request.height) ** 0.5),
            self._guidance(takes): self.guidance,
        }
        if request.references:
            pictures = [Image.fromarray(reference) for reference in request.references[: self.references]]
            wanted["image"] = pictures if len(pictures) > 1 else pictures[0]
        if (self.guidance or 0) > 1 and self._guidance(takes) == "true_cfg_scale":
            wanted["negative_prompt"] = " "  # without it there is no guidance
        return {name: value for name, value in wanted.items() if name in takes and value is not None}

    def nfe(self, request: DrawRequest) -> int:
        """By the settings; a drawing tells how often the transformer was called."""
        takes = inputs_of(self.pipe_for(request))
        steps = self.steps or takes.get("num_inference_steps") or STEPS
        guidance = takes.get(self._guidance(takes)) if self.guidance is None else self.guidance
        return steps * (2 if guidance and guidance > 1 and not self._embedded else 1)

    @property
    def _embedded(self) -> bool:
        """Whether the transformer is told the guidance, and is asked once."""
        return bool(getattr(getattr(_network(self.pipe), "config", None), "guidance_embeds", False))

    def _guidance(self, takes: dict[str, Any]) -> str:
        return "true_cfg_scale" if "true_cfg_scale" in takes and not self._embedded else "guidance_scale"

    def draw(self, requests: Sequence[DrawRequest]) -> list[Drawing]:
        groups: dict[Any, list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            many = "num_images_per_prompt" in inputs_of(self.pipe_for(request))
            same = request.prompt, request.width, request.height, request.strength, *map(digest, request.references)
            groups[same if many else index].append(index)
        found: dict[int, Drawing] = {}
        for indices in groups.values():
            for start in range(0, len(indices), self.batch):
                part = indices[start : start + self.batch]
                batch = [requests[index] for index in part]
                found |= zip(part, drawn(self.pipe, batch, self._batch))
        return [found[index] for index in range(len(requests))]

    @torch.inference_mode()
    def _batch(self, requests: Sequence[DrawRequest]) -> list[Drawing]:
        first = requests[0]
        pipe = self.pipe_for(first)
        takes, settings = inputs_of(pipe), self.settings(first)
        generators = [torch.Generator().manual_seed(request.seed) for request in requests]
        settings["generator"] = generators if len(requests) > 1 else generators[0]
        if len(requests) > 1:
            settings["num_images_per_prompt"] = len(requests)
        if "callback_on_step_end" in takes:
            settings["callback_on_step_end"] = self._step_end
        with _counted(_network(pipe)) as calls:
            try:
                made = pipe(**settings, output="images") if _modular(pipe) else pipe(**settings).images
            except (TypeError, AttributeError, UnboundLocalError, ValueError, RuntimeError) as error:
                if isinstance(error, (torch.OutOfMemoryError, BadInput)):
                    raise
                raise BadInput(_refused(pipe, settings.get("image"), error)) from error
        evaluations = sum(calls) // len(requests) if calls else self.nfe(first)
        return [
            Drawing(self._picture(request, image), evaluations) for request, image in zip(requests, made, strict=True)
        ]

    def _step_end(self, pipe: Any, step: int, timestep: Any, kept: dict) -> dict:
        self.check()
        return {}

    def _picture(self, request: DrawRequest, image: Image.Image) -> Picture:
        picture = np.asarray(image.convert("RGB"))
        if picture.shape[:2] != (request.height, request.width):
            height, width = picture.shape[:2]
            raise BadInput(
                f"{self.name} drew {width} x {height} where {request.width} x {request.height} was asked for; "
                f"set width = {width} and height = {height} in [executor]"
            )
        return within_mask(request, picture)


def load_pipeline(folder: Path, dtype: torch.dtype) -> Any:
    """Whatever pipeline the folder holds, a modular one too. No code in it is run. Raises BadInput if it cannot be loaded."""
    import warnings

    import diffusers

    own = {"local_files_only": True, "trust_remote_code": False}
    try:
        with warnings.catch_warnings():
            # diffusers 0.42 renames the argument to `dtype`, which 0.38 does not know.
            warnings.simplefilter("ignore", FutureWarning)
            if (folder / "modular_model_index.json").exists():
                pipe = diffusers.ModularPipeline.from_pretrained(folder, **own)
                pipe.load_components(torch_dtype=dtype, **own)
                return pipe
            return diffusers.DiffusionPipeline.from_pretrained(folder, torch_dtype=dtype, **own)
    except Exception as error:  # diffusers, safetensors and json each raise their own kinds for a damaged folder
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise BadInput(
            f"the pipeline in {folder} cannot be loaded: {first[:300]}; download the folder again"
        ) from error


def inputs_of(pipe: Any) -> dict[str, Any]:
    """What a call of the pipeline takes, with the defaults."""
    if _modular(pipe):
        return {each.name: each.default for each in pipe.blocks.inputs}
    parameters = inspect.signature(type(pipe).__call__).parameters.values()
    return {each.name: None if each.default is each.empty else each.default for each in parameters}


def _modular(pipe: Any) -> bool:
    return hasattr(pipe, "blocks")


def _needs_picture(pipe: Any) -> bool:
    if _modular(pipe):
        return any(each.name == "image" and each.required for each in pipe.blocks.inputs)
    return inspect.signature(type(pipe).__call__).parameters["image"].default is inspect.Parameter.empty


def _refused(pipe: Any, shown: Image.Image | list[Image.Image] | None, error: Exception) -> str:
    kind, said = type(pipe).__name__, next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
    # What comes of None, or of a list, where one picture is awaited. Any other error may have any other cause.
    unlike = isinstance(error, (TypeError, AttributeError, UnboundLocalError))
    if shown is None and (unlike or _needs_picture(pipe) or "`image`" in said):
        return f"{kind} cannot draw without a picture to start from ({said}); choose another"
    if not isinstance(shown, list):
        return f"{kind} failed while drawing: {said}"
    if unlike:
        return f"{kind} cannot edit from {len(shown)} pictures ({said}); set references = 1 in [executor], then go on with the run"
    return (
        f"{kind} failed while drawing from {len(shown)} pictures: {said}; if it edits from one alone, set references = 1 in [executor], "
        "then go on with the run"
    )


def _network(pipe: Any) -> Any:
    return getattr(pipe, "transformer", None) or getattr(pipe, "unet", None)


@contextmanager
def _counted(network: Any) -> Iterator[list[int]]:
    """The samples in each call of the network."""
    calls: list[int] = []
    hook = (
        network.register_forward_hook(lambda module, inputs, output: calls.append(len(output[0])))
        if network is not None
        else None
    )
    try:
        yield calls
    finally:
        if hook:
            hook.remove()


def _quiet(pipe: Any) -> None:
    if hasattr(pipe, "set_progress_bar_config"):
        pipe.set_progress_bar_config(disable=True)
