"""Chat templates: how families of ComfyUI's language models mark turns and pictures in a raw prompt."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...clvr_core.protocols import Picture

GAP = 16
"""White pixels between two pictures on a sheet."""


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation.

    role: system, user or assistant.
    parts: texts, and pictures as their indices in the list that goes with the prompt.
    """

    role: str
    parts: tuple[str | int, ...]


@dataclass(frozen=True)
class ChatTemplate:
    """Chat template of one family of models.

    mark: token by which the family is recognised in a vocabulary.
    begin: beginning of a turn; {role} is replaced.
    end: end of a turn.
    image: stands for one picture.
    reply: follows the assistant header; an empty thought for a family that thinks.
    primed: replaces `reply` if ComfyUI's tokenizer says that the prompt must hold an empty thought.
    several: whether a prompt may hold more than one picture.
    batched: whether ComfyUI takes the pictures as one tensor, all of one size.
    roles: role -> the family's word for it, where it differs.
    """

    mark: str
    begin: str
    end: str
    image: str
    reply: str
    primed: str = ""
    several: bool = True
    batched: bool = False
    roles: dict[str, str] = field(default_factory=dict)

    def for_tokenizer(self, tokenizer: Any) -> ChatTemplate:
        """Return the template for this tokenizer of ComfyUI's, with `primed` if it asks for it."""
        return replace(self, reply=self.primed) if getattr(tokenizer, "prime_empty_thought", False) else self

    def prompt(self, turns: Iterable[Turn], control: re.Pattern[str]) -> str:
        """Render the turns as a raw prompt that ends with the assistant header.

        Whatever `control` matches inside a turn's text is broken up so that it stays text.
        """
        rendered = "".join(self._turn(turn, control) for turn in turns)
        return rendered + self.begin.format(role=self.roles.get("assistant", "assistant")) + self.reply

    def _turn(self, turn: Turn, control: re.Pattern[str]) -> str:
        parts = (self.image if isinstance(part, int) else control.sub(_break_up, part) for part in turn.parts)
        return self.begin.format(role=self.roles.get(turn.role, turn.role)) + "".join(parts) + self.end


THOUGHT = "<think>"
"""Token that begins a thought of Qwen's models."""
QWEN = ChatTemplate(
    "<|im_start|>",
    "<|im_start|>{role}\n",
    "<|im_end|>\n",
    "<|vision_start|><|image_pad|><|vision_end|>",
    "<think>\n\n</think>\n\n",
)
GEMMA_4 = ChatTemplate(
    "<|turn>",
    "<|turn>{role}\n",
    "<turn|>\n",
    "\n\n<|image><|image|><image|>\n\n",
    "",
    primed="<|channel>thought\n<channel|>",
    batched=True,
    roles={"assistant": "model"},
)
GEMMA_3 = ChatTemplate(
    "<start_of_turn>",
    "<start_of_turn>{role}\n",
    "<end_of_turn>\n",
    "\n\n<image_soft_token>\n\n",
    "",
    several=False,
    batched=True,
    roles={"assistant": "model"},
)
TEMPLATES = (QWEN, GEMMA_4, GEMMA_3)


def template_for(vocabulary: Iterable[str]) -> ChatTemplate | None:
    """Return the template of the family whose mark is in the vocabulary; None for an unknown family. A model whose
    vocabulary cannot mark a thought does not think, and is given no empty one."""
    known = set(vocabulary)
    found = next((template for template in TEMPLATES if template.mark in known), None)
    return replace(QWEN, reply="") if found is QWEN and THOUGHT not in known else found


def control_tokens(vocabulary: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern of everything that controls the model, or ComfyUI's tokenizer, when it appears in a text."""
    tokens = {word for word in vocabulary if re.fullmatch(r"<[|/]?\w+[|]?>|<\w+[|]>|\[/?[A-Z_]+\]", word)}
    tokens |= {"embedding:", *(template.mark for template in TEMPLATES)}
    return re.compile("|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True)))


def _break_up(token: re.Match[str]) -> str:
    found = token.group()
    return f"{found[:-1]} :" if found == "embedding:" else f"{found[0]} {found[1:]}"


def side_by_side(pictures: Sequence[Picture]) -> Picture:
    """Put the pictures on one white sheet, from left to right, aligned at the top."""
    height, width = (
        max(picture.shape[0] for picture in pictures),
        sum(picture.shape[1] + GAP for picture in pictures) - GAP,
    )
    sheet, left = np.full((height, width, 3), 255, np.uint8), 0
    for picture in pictures:
        sheet[: picture.shape[0], left : left + picture.shape[1]] = picture
        left += picture.shape[1] + GAP
    return sheet
