"""Any diffusers pipeline whose call takes `prompt` and `image`.

Everything else is read from the signature of the call.
"""

from __future__ import annotations

import inspect
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from .one_thread import for_one_thread
from .out_of_memory import draw_in_halves, offload
from .weights import reload

NEEDED = ("prompt", "image")
FRAME = 16
"""Tokens reserved for the chat template around a prompt."""
STEPS = 50
"""Denoising steps of a pipeline whose call has no default."""


class GenericExecutor:
    """Draws with a diffusers pipeline.

    steps, guidance: of every picture; None takes the defaults of the pipeline's call.
    references: pictures that the pipeline edits from at most; None for any number.
    check: called after each denoising step if the pipeline has `callback_on_step_end`.

    Requests with the same prompt, size, strength and references share a batch if the pipeline has
    `num_images_per_prompt`; others are drawn one by one. A mask is applied to the finished picture. A lock keeps calls of
    several threads apart. Raises BadInput for a pipeline without `prompt` and `image`.
    """

    batch = 4
    """Pictures drawn at once, at most."""

    def __init__(
        self,
        pipe: Any,
        steps: int | None = None,
        guidance: float | None = None,
        name: str = "generic",
        references: int | None = None,
    ) -> None:
        self.pipe, self.name = pipe, name
        self.steps, self.guidance = steps, guidance
        self.references: int | None = references
        self.check: Callable[[], None] = lambda: None
        self._alone = threading.RLock()
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

    def reload(self, state: Mapping[str, torch.Tensor]) -> None:
        parts = self.pipe.components
        module = parts.get("transformer", parts.get("unet"))
        if module is None:
            raise BadInput(f"{type(self.pipe).__name__} has no transformer and no unet whose weights could be replaced")
        reload(module, state)

    def pipe_for(self, request: DrawRequest) -> Any:
        """Return the pipeline that draws this request."""
        return self.pipe

    @property
    def window(self) -> int | None:
        """Prompt tokens that the text encoder reads, minus the chat template; None if the pipeline has no
        `max_sequence_length` or no tokenizer.
        """
        limit = inputs_of(self.pipe).get("max_sequence_length")
        return limit - FRAME if isinstance(limit, int) and self._tokenizer is not None else None

    @for_one_thread
    def tokens(self, prompt: str) -> int:
        return len(self._tokenizer(prompt)["input_ids"])

    @property
    def _tokenizer(self) -> Any:
        """The tokenizer that reads the most text if the pipeline has several; None if it has none."""
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
        """Return the arguments of the call for this request, only those that the pipeline takes."""
        pipe = self.pipe_for(request)
        takes = inputs_of(pipe)
        wanted = {
            "prompt": request.prompt,
            "height": request.height,
            "width": request.width,
            "num_inference_steps": self.steps,
            "strength": request.strength,
            # FLUX.1 Kontext sizes the picture by this, Qwen-Image-2.1 the references, whatever height and width are.
            "max_area": request.width * request.height,
            "output_resolution": round((request.width * request.height) ** 0.5),
            self._guidance(takes): self.guidance,
        }
        if request.references:
            pictures = [Image.fromarray(reference) for reference in request.references[: self.references]]
            wanted["image"] = pictures if len(pictures) > 1 else pictures[0]
        if (self.guidance or 0) > 1 and self._guidance(takes) == "true_cfg_scale":
            wanted["negative_prompt"] = " "  # without one the pipeline skips guidance
        return {name: value for name, value in wanted.items() if name in takes and value is not None}

    def nfe(self, request: DrawRequest) -> int:
        """Return the evaluations by the settings; `Drawing.nfe` counts the calls of the transformer."""
        takes = inputs_of(self.pipe_for(request))
        steps = self.steps or takes.get("num_inference_steps") or STEPS
        guidance = takes.get(self._guidance(takes)) if self.guidance is None else self.guidance
        return steps * (2 if guidance and guidance > 1 and not self._guidance_is_input else 1)

    @property
    def _guidance_is_input(self) -> bool:
        """Whether guidance is an input of the transformer, so that a step costs one evaluation and not two."""
        return bool(getattr(getattr(_network(self.pipe), "config", None), "guidance_embeds", False))

    def _guidance(self, takes: dict[str, Any]) -> str:
        return "true_cfg_scale" if "true_cfg_scale" in takes and not self._guidance_is_input else "guidance_scale"

    @for_one_thread
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
                found |= zip(part, draw_in_halves(self.pipe, batch, self._batch))
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
                images = pipe(**settings, output="images") if _is_modular(pipe) else pipe(**settings).images
            except (TypeError, AttributeError, UnboundLocalError, ValueError, RuntimeError) as error:
                if isinstance(error, (torch.OutOfMemoryError, BadInput)):
                    raise
                raise BadInput(_explain(pipe, settings.get("image"), error)) from error
        evaluations = sum(calls) // len(requests) if calls else self.nfe(first)
        return [
            Drawing(self._picture(request, image), evaluations) for request, image in zip(requests, images, strict=True)
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
    """Load the pipeline in the folder, modular or not.

    Code in the folder is not run. Raises BadInput if it cannot be loaded.
    """
    import warnings

    import diffusers

    own: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
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
    """Return the arguments of the pipeline's call with their defaults; None for an argument without one."""
    if _is_modular(pipe):
        return {each.name: each.default for each in pipe.blocks.inputs}
    parameters = inspect.signature(type(pipe).__call__).parameters.values()
    return {each.name: None if each.default is each.empty else each.default for each in parameters}


def _is_modular(pipe: Any) -> bool:
    return hasattr(pipe, "blocks")


def _needs_picture(pipe: Any) -> bool:
    if _is_modular(pipe):
        return any(each.name == "image" and each.required for each in pipe.blocks.inputs)
    return inspect.signature(type(pipe).__call__).parameters["image"].default is inspect.Parameter.empty


def _explain(pipe: Any, shown: Image.Image | list[Image.Image] | None, error: Exception) -> str:
    """Say what went wrong in a call with these references; lay it to their number only where the error may come of
    that.
    """
    kind, said = type(pipe).__name__, next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
    # The errors of code that gets None, or a list, and expects one picture. Any other kind may have any other cause.
    wrong_kind = isinstance(error, (TypeError, AttributeError, UnboundLocalError))
    if shown is None and (wrong_kind or _needs_picture(pipe) or "`image`" in said):
        return f"{kind} cannot draw without a picture to start from ({said}); choose another"
    if not isinstance(shown, list):
        return f"{kind} failed while drawing: {said}"
    if wrong_kind:
        return f"{kind} cannot edit from {len(shown)} pictures ({said}); set references = 1 in [executor], then go on with the run"
    return (
        f"{kind} failed while drawing from {len(shown)} pictures: {said}; if it edits from one alone, set references = 1 in [executor], "
        "then go on with the run"
    )


def _network(pipe: Any) -> Any:
    """The denoiser: a transformer or a UNet; None if the pipeline has neither."""
    return getattr(pipe, "transformer", None) or getattr(pipe, "unet", None)


@contextmanager
def _counted(network: Any) -> Iterator[list[int]]:
    """Yield a list that grows by the batch size with each call of the network."""
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
