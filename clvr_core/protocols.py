"""What the loop needs of its models, real or embedded: two protocols that every model has, and optional ones for what
only some can do.

Any class with the members of a protocol fulfils it; nothing is registered or inherited. The loop asks
`isinstance(model, PromptWindow)` for what is optional. tests/conformance holds every executor and every vision-language
model to these promises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from .errors import BadInput

Picture = np.ndarray
"""uint8, height x width x 3."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    role: `system`, `user` or `assistant`.
    text: what a language model reads.
    images: read after the text.
    data: the same content as `text`, structured, for a model that does not read language.
    """

    role: str
    text: str
    images: tuple[Picture, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's reply to a conversation.

    text: as the model wrote it.
    tokens: read and written, at least 0.
    finished: False if a length limit cut the reply.
    """

    text: str
    tokens: int = 0
    finished: bool = True


@dataclass(frozen=True, slots=True)
class Question:
    """A yes/no question about images; `data` as in `Message`."""

    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to one `Question`.

    yes: probability 0..1 that the answer is yes; None if the model gave no usable answer.
    evidence: why there is no usable answer, or what the model saw.
    tokens: read and written, at least 0.
    """

    yes: float | None
    evidence: str = ""
    tokens: int = 0


@runtime_checkable
class Vlm(Protocol):
    """A vision-language model.

    Both methods raise JudgeFailure, OSError or TimeoutError if no answer came; a failure is never a verdict. Both raise
    Away if no other question would get an answer either; then the run stops where it is.
    """

    @property
    def name(self) -> str:
        """Names the model in the trajectory; holds no address and no path."""
        ...

    def chat(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Reply:
        """Return one reply that should be JSON of the schema; the caller parses it and asks again if it is not."""
        ...

    def decide(self, images: Sequence[Picture], questions: Sequence[Question]) -> Sequence[Decision]:
        """Return one decision for each question, over all images in order.

        `images` may be empty if the questions are about text.
        """
        ...


@dataclass(frozen=True, slots=True)
class DrawRequest:
    """One picture to draw.

    prompt: text for the text encoder.
    seed: of the initial noise.
    references: canvases that the prompt may speak of; the first one is edited. Empty for a picture from noise alone.
    width, height: of the picture, in pixels; of the embedded world's unless told otherwise.
    mask: uint8 height x width, 255 where the edit may change the first reference; None for everywhere.
    strength: 0..1, share of the noise schedule that an edit runs; None leaves it to the executor.
    latents: for each reference the `Drawing.latent` that it was drawn with, None where there is none.
    """

    prompt: str
    seed: int
    references: tuple[Picture, ...] = ()
    width: int = 192
    height: int = 192
    mask: Picture | None = None
    strength: float | None = None
    latents: tuple[np.ndarray | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture that an executor drew.

    picture: of the size that was asked for; outside a mask it equals the first reference bit for bit.
    nfe: transformer evaluations spent on this picture, both branches of guidance counted.
    latent: float32 channels x rows x columns that the picture was decoded from, from an executor that reads
        `DrawRequest.latents`.
    warnings: what of the request the model did not get, beside references beyond its limit, a sentence each.
    """

    picture: Picture
    nfe: int
    latent: np.ndarray | None = None
    warnings: tuple[str, ...] = ()


class SomeDrawn(BadInput):
    """Some requests could not be drawn, and the others were: the message says why, of the first one.

    drawings: one for each request, in order; None where there is none, but not everywhere.
    """

    def __init__(self, message: str, drawings: Sequence[Drawing | None]) -> None:
        super().__init__(message)
        self.drawings = drawings


@runtime_checkable
class Executor(Protocol):
    """A diffusion model that draws and edits.

    `docs/models.md`, "What is the same to the bit", says how far pictures repeat.
    """

    @property
    def name(self) -> str:
        """Names weights and settings in the trajectory; holds no address and no path."""
        ...

    def nfe(self, request: DrawRequest) -> int:
        """Return the transformer evaluations that the request will cost, before it is drawn."""
        ...

    def draw(self, requests: Sequence[DrawRequest]) -> Sequence[Drawing]:
        """Return one drawing for each request, in order. Request and seed fix the picture, whatever is drawn beside it.

        Raises BadInput if a request cannot be drawn: SomeDrawn, with the others, if that fails for each request alone.
        """
        ...


@runtime_checkable
class PromptWindow(Protocol):
    """Optional, of an executor: its text encoder reads a limited number of tokens. The loop shortens prompts to fit."""

    @property
    def window(self) -> int | None:
        """Tokens that a prompt may have, as `tokens` counts them; None if the limit is not known, then prompts are not
        shortened.
        """
        ...

    def tokens(self, prompt: str) -> int:
        """Count the tokens of the prompt. Called only where `window` is a number."""
        ...


@runtime_checkable
class ChatWindow(Protocol):
    """Optional, of a vision-language model: it knows how many tokens it reads. A conversation that grows begins anew
    before it is too long."""

    def room(self, messages: Sequence[Message]) -> int | None:
        """Return how many tokens of the window are left beside these messages and the longest reply, below 0 if they do
        not fit; None if the window is not known."""
        ...


@runtime_checkable
class ReferenceLimit(Protocol):
    """Optional, of an executor: it edits from a limited number of references.

    The loop says in a warning which ones were left out.
    """

    @property
    def references(self) -> int | None:
        """References that are read, at least 1, the first ones of a request; None for any number."""
        ...


@runtime_checkable
class LatentsByPicture(Protocol):
    """Optional, of an executor: it knows the latents of what it drew last, for pictures that came another way than by
    `Drawing`."""

    def latent_of(self, picture: Picture) -> np.ndarray | None:
        """Return the latent that this very picture was decoded from, as in `Drawing`; None if it is not known."""
        ...


@runtime_checkable
class RoundTrip(Protocol):
    """Optional, of an executor: a picture can go through its VAE and back, without the transformer."""

    def round_trip(self, picture: Picture) -> Picture:
        """Return the picture as the VAE encodes and decodes it, of the same size."""
        ...


@runtime_checkable
class Interruptible(Protocol):
    """Optional, of either: work can be cancelled before it is done."""

    check: Callable[[], None]
    """Called between denoising steps, before a forward pass, or while a server is waited for.

    What it raises ends the call unchanged.
    """


@runtime_checkable
class Movable(Protocol):
    """Optional, of either: the weights can leave the device for another model."""

    def move(self, device: str) -> None:
        """Move all weights to the device, as torch names it, and drop what was computed where they were."""
        ...


@runtime_checkable
class Offloadable(Protocol):
    """Optional, of an executor: parts of its weights are brought to the device only while they are used."""

    def offload(self) -> None:
        """Bring the parts that are on the device back to the CPU."""
        ...


@runtime_checkable
class Concurrent(Protocol):
    """Optional, of either: calls from several threads run at the same time, as those to a server do.

    Others get one call at a time.
    """

    @property
    def parallel(self) -> int:
        """Calls worth making at the same time, at least 1."""
        ...


@runtime_checkable
class Reloadable(Protocol):
    """Optional, of an executor: the weights of its diffusion model can be replaced while it is loaded."""

    def reload(self, state: Mapping[str, Any]) -> None:
        """Draw with these weights from now on: torch tensors by diffusers' names. Raises BadInput for weights of another
        model."""
        ...
