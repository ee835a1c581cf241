"""How the families of ComfyUI's language models mark turns and pictures in a raw prompt."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...clvr_core.protocols import Picture

GAP = 16
"""Pixels of white between pictures that stand side by side."""


@dataclass(frozen=True)
class Turn:
    """parts: words, and pictures by their place in the list that goes with the prompt."""

    role: str
    parts: tuple[str | int, ...]


@dataclass(frozen=True)
class Dialect:
    """begin: of a turn, with {role}. reply: what the reply follows, a closed thought where the family thinks. primed: what it follows where
    ComfyUI's tokenizer says that the model wants its thought closed for it. several: whether a prompt
    may hold more pictures than one. batched: whether ComfyUI takes the pictures as one tensor, all of one size."""

    mark: str
    begin: str
    end: str
    image: str
    reply: str
    primed: str = ""
    several: bool = True
    batched: bool = False
    roles: dict[str, str] = field(default_factory=dict)

    def for_tokenizer(self, tokenizer: Any) -> Dialect:
        return replace(self, reply=self.primed) if getattr(tokenizer, "prime_empty_thought", False) else self

    def prompt(self, turns: Iterable[Turn], marks: re.Pattern[str]) -> str:
        """Raw, with the beginning of the reply. `marks` in words are made words."""
        said = "".join(self._turn(turn, marks) for turn in turns)
        return said + self.begin.format(role=self.roles.get("assistant", "assistant")) + self.reply

    def _turn(self, turn: Turn, marks: re.Pattern[str]) -> str:
        parts = (self.image if isinstance(part, int) else marks.sub(_apart, part) for part in turn.parts)
        return self.begin.format(role=self.roles.get(turn.role, turn.role)) + "".join(parts) + self.end


QWEN = Dialect(
    "<|im_start|>",
    "<|im_start|>{role}\n",
    "<|im_end|>\n",
    "<|vision_start|><|image_pad|><|vision_end|>",
    "<think>\n\n</think>\n\n",
)
GEMMA_4 = Dialect(
    "<|turn>",
    "<|turn>{role}\n",
    "<turn|>\n",
    "\n\n<|image><|image|><image|>\n\n",
    "",
    primed="<|channel>thought\n<channel|>",
    batched=True,
    roles={"assistant": "model"},
)
GEMMA_3 = Dialect(
    "<start_of_turn>",
    "<start_of_turn>{role}\n",
    "<end_of_turn>\n",
    "\n\n<image_soft_token>\n\n",
    "",
    several=False,
    batched=True,
    roles={"assistant": "model"},
)
DIALECTS = (QWEN, GEMMA_4, GEMMA_3)


def dialect_of(vocabulary: Iterable[str]) -> Dialect | None:
    """By the marks that the tokenizer knows; None for a family whose prompts are not known here."""
    known = set(vocabulary)
    return next((dialect for dialect in DIALECTS if dialect.mark in known), None)


def steering(vocabulary: Iterable[str]) -> re.Pattern[str]:
    """What steers the model, or ComfyUI's tokenizer, where it stands in a person's words."""
    marks = {word for word in vocabulary if re.fullmatch(r"<[|/]?\w+[|]?>|<\w+[|]>|\[/?[A-Z_]+\]", word)}
    marks |= {"embedding:", *(dialect.mark for dialect in DIALECTS)}
    return re.compile("|".join(re.escape(mark) for mark in sorted(marks, key=len, reverse=True)))


def _apart(mark: re.Match[str]) -> str:
    found = mark.group()
    return f"{found[:-1]} :" if found == "embedding:" else f"{found[0]} {found[1:]}"


def side_by_side(pictures: Sequence[Picture]) -> Picture:
    """One picture of all of them, from left to right, top edges level, on white."""
    height, width = (
        max(picture.shape[0] for picture in pictures),
        sum(picture.shape[1] + GAP for picture in pictures) - GAP,
    )
    sheet, left = np.full((height, width, 3), 255, np.uint8), 0
    for picture in pictures:
        sheet[: picture.shape[0], left : left + picture.shape[1]] = picture
        left += picture.shape[1] + GAP
    return sheet
