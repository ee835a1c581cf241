"""What the loop needs of the models, real or embedded. Anything with these methods will do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

Picture = np.ndarray
"""uint8, height x width x 3."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `text` is what a language model reads; `data` says the same in structure, for a judge that needs no words."""

    role: str
    text: str
    images: tuple[Picture, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. `finished` is False if the reply was cut by a limit."""

    text: str
    tokens: int = 0
    finished: bool = True


@dataclass(frozen=True, slots=True)
class Question:
    """A yes/no question about the images; `data` as in Message."""

    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """Probability 0..1 that the answer is yes; None if no usable answer came."""

    yes: float | None
    evidence: str = ""
    tokens: int = 0


class Vlm(Protocol):
    """A vision-language model. Both methods may raise JudgeFailure, OSError or TimeoutError when no answer came."""

    name: str

    def chat(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Reply:
        """One reply that should be JSON of the schema; the caller parses and repairs."""
        ...

    def decide(self, images: Sequence[Picture], questions: Sequence[Question]) -> Sequence[Decision]:
        """One decision for each question, over all the images in order; there may be none, for a question about texts."""
        ...


@dataclass(frozen=True, slots=True)
class DrawRequest:
    """One picture to draw. `references` are the canvases given, the one to edit first. `mask`: uint8 H x W, 255 where it may change.

    latents: for each reference what `Drawing.latent` was when it was drawn, None where that is not known.
    """

    prompt: str
    seed: int
    references: tuple[Picture, ...] = ()
    width: int = 96
    height: int = 96
    mask: Picture | None = None
    strength: float | None = None
    latents: tuple[np.ndarray | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Drawing:
    """`nfe`: transformer evaluations spent on this sample, both branches of guidance counted. latent: what the picture was decoded from,
    float32 channels x rows x columns, from an executor that takes it back as a reference."""

    picture: Picture
    nfe: int
    latent: np.ndarray | None = None


class Executor(Protocol):
    name: str

    def nfe(self, request: DrawRequest) -> int:
        """Transformer evaluations the request will cost, known before it is drawn."""
        ...

    def draw(self, requests: Sequence[DrawRequest]) -> Sequence[Drawing]:
        """One drawing for each request, in order. The same request and seed give the same picture, whatever is drawn beside it."""
        ...


class Windowed(Protocol):
    """What else an executor has whose text encoder reads `window` tokens of a prompt and no more."""

    window: int

    def tokens(self, prompt: str) -> int: ...
