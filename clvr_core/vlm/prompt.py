"""Prompts: a conversation with pictures as tokens, positions and pixels, whole or any part of it."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

COUNTED = 256
"""Pictures whose runs of tokens are remembered."""
THOUGHT_BEGINS, THOUGHT_ENDS = "<think>", "</think>"


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation. parts: text and pictures in the order in which they are read."""

    role: str
    parts: tuple[str | Image.Image, ...]


@dataclass(frozen=True)
class Prompt:
    """A prompt of L tokens.

    ids: int64, 1 x L.
    keys: what each token is; for image tokens a digest of the pixels, since all pictures of one size have the same ids.
    positions: int64, 1 x L, or 3 x 1 x L for a model with M-RoPE.
    spans: first and last + 1 token of each picture, or of all pictures together if the tokens do not tell them apart.
        The processor's marks between the parts of a picture count as the picture's.
    images: the pictures, in order.
    typed: arguments of the model with one value for each token, 1 x L, by name.
    pictures: arguments of the model for all images, as the processor made them, by name.
    process: makes `pictures` of some of the images.
    """

    ids: Tensor
    keys: tuple[Hashable, ...]
    positions: Tensor
    spans: tuple[tuple[int, int], ...]
    images: tuple[Image.Image, ...]
    typed: dict[str, Tensor]
    pictures: dict[str, Tensor]
    process: Callable[[Sequence[Image.Image]], Mapping[str, Tensor]]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def next_position(self) -> int:
        return int(self.positions.max()) + 1

    def whole(self, length: int) -> int:
        """Return the greatest length up to `length` that splits no picture: in some models the tokens of a picture
        attend to each other.
        """
        return next((first for first, end in self.spans if first < length < end), length)

    def head(self, length: int) -> Prompt:
        """Return the first `length` tokens as a prompt; it must hold all pictures whole."""
        typed = {name: values[:, :length] for name, values in self.typed.items()}
        return replace(
            self, ids=self.ids[:, :length], keys=self.keys[:length], positions=self.positions[..., :length], typed=typed
        )

    def part(self, first: int, end: int) -> dict[str, Tensor]:
        """Return the model's arguments for tokens first to end - 1, given a cache of those before; only pictures in
        that range are included.
        """
        inputs = {name: values[:, first:end] for name, values in self.typed.items()}
        inputs |= {"input_ids": self.ids[:, first:end], "position_ids": self.positions[..., first:end]}
        begins = [begin for begin, _ in self.spans]
        skipped, read = (sum(begin < at for begin in begins) for at in (first, end))
        return inputs | (self._pictures(skipped, read) if read > skipped else {})

    def _pictures(self, first: int, end: int) -> dict[str, Tensor]:
        if (first, end) == (0, len(self.spans)):
            return self.pictures
        if (grids := self.pictures.get("image_grid_thw")) is not None and len(grids) == len(self.images):
            patches = [0, *itertools.accumulate(grids.prod(-1).tolist())]
            pixels = self.pictures["pixel_values"][patches[first] : patches[end]]
            return self.pictures | {"pixel_values": pixels, "image_grid_thw": grids[first:end]}
        made = self.process(self.images[first:end])
        return {name: made[name] for name in self.pictures}


def _digest(image: Image.Image) -> bytes:
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).digest()


def common(rows: Sequence[Sequence[Any]]) -> int:
    """Return the length of the longest common prefix."""
    return next(
        (at for at, column in enumerate(zip(*rows)) if any(item != column[0] for item in column)), min(map(len, rows))
    )


class Prompter:
    """Builds prompts for one model with its processor and chat template."""

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor, self.tokenizer = model, processor, processor.tokenizer
        config = model.config
        known = (
            getattr(place, name, None)
            for place in (config, processor)
            for name in ("image_token_id", "image_token_index")
        )
        self.image_token = next((token for token in known if isinstance(token, int)), None)
        self._counts: dict[bytes, int] = {}
        self._template = processor.chat_template or self.tokenizer.chat_template
        self._rope = getattr(getattr(model, "model", model), "get_rope_index", None)

    @cached_property
    def _marks(self) -> re.Pattern[str]:
        """Matches control tokens, which must not act in text that comes from people or models."""
        special = {str(token) for token in self.tokenizer.added_tokens_decoder.values() if token.special}
        marks = special | {*map(str, self.tokenizer.all_special_tokens), THOUGHT_BEGINS, THOUGHT_ENDS}
        if isinstance(placeholder := getattr(self.processor, "image_token", None), str):
            marks.add(placeholder)
        return re.compile(
            "|".join(re.escape(mark) for mark in sorted(marks, key=len, reverse=True) if len(mark.strip()) > 1)
        )

    def text(self, turns: Sequence[Turn], thinking: bool = False) -> str:
        """Render the chat template up to the header of the reply. thinking: whether it ends inside a thought."""
        spoken = [{"role": turn.role, "content": [self._content(part) for part in turn.parts]} for turn in turns]
        switch = {"enable_thinking": thinking} if "enable_thinking" in str(self._template) else {}
        text = self.processor.apply_chat_template(spoken, add_generation_prompt=True, tokenize=False, **switch)
        opened = text.rstrip().endswith(THOUGHT_BEGINS)
        if thinking:
            return text if opened else f"{text}{THOUGHT_BEGINS}\n"
        return f"{text.rstrip()}\n\n{THOUGHT_ENDS}\n\n" if opened else text

    def prompt(self, turns: Sequence[Turn], thinking: bool = False) -> Prompt:
        return self._prompt(self.text(turns, thinking), turns)

    def _prompt(self, text: str, turns: Sequence[Turn]) -> Prompt:
        images = [part for turn in turns for part in turn.parts if not isinstance(part, str)]
        made = self._processed(text, images)
        ids = made["input_ids"]
        typed = {
            name: values
            for name, values in made.items()
            if values.shape == ids.shape and name not in ("input_ids", "attention_mask")
        }
        pictures = {name: values for name, values in made.items() if values.shape != ids.shape}
        tokens = ids[0].tolist()
        runs = self._runs(tokens)
        keys: list[Hashable] = list(tokens)
        digests = [_digest(image) for image in images]
        spans = self._spans(runs, images, digests)
        if spans is not None:
            for (first, end), digest in zip(spans, digests):
                keys[first:end] = [digest] * (end - first)
        else:
            # The pictures cannot be told apart, so they share a span, and unique keys keep it from being cached.
            first, end = (runs[0][0], runs[-1][1]) if runs else (0, len(tokens))
            spans = [(first, end)]
            keys[first:end] = [object() for _ in range(first, end)]
        takes = inspect.signature(self.model.forward).parameters
        typed = {name: values for name, values in typed.items() if name in takes}
        return Prompt(
            ids,
            tuple(keys),
            self._positions(ids, pictures),
            tuple(spans),
            tuple(images),
            typed,
            pictures,
            self._pictures,
        )

    def _processed(self, text: str, images: Sequence[Image.Image]) -> Mapping[str, Any]:
        given = {"text": [text], "images": list(images) or None}
        return self.processor(**given, return_tensors="pt", **self._special(text)).to(self.model.device)

    def _pictures(self, images: Sequence[Image.Image]) -> Mapping[str, Any]:
        """Process pictures as in a whole prompt: the processor has settings for its image processor, such as InternVL's
        `crop_to_patches`."""
        return self._processed(self.text([Turn("user", tuple(images))]), images)

    def shared(self, conversations: Sequence[Sequence[Turn]]) -> tuple[Prompt, list[list[int]]]:
        """Split prompts over the same pictures into a shared prefix with all pictures, and the tokens after it, at
        least one, of each.
        """
        texts = [self.text(turns) for turns in conversations]
        first = self._prompt(texts[0], conversations[0])
        begin = texts[0][: common(texts)]
        # No token spans a control token, so the text after the last one can be tokenized alone.
        at = max((mark.end() for mark in self._marks.finditer(begin)), default=0)
        tails = [self.tokenizer(text[at:], add_special_tokens=False)["input_ids"] for text in texts]
        length = len(first) - len(tails[0])
        behind = length >= max((end for _, end in first.spans), default=1)
        if all(tails) and behind and first.ids[0, length:].tolist() == tails[0]:
            return first.head(length), tails
        return self._compared(
            [first, *(self._prompt(text, turns) for text, turns in zip(texts[1:], conversations[1:]))]
        )

    def _compared(self, prompts: Sequence[Prompt]) -> tuple[Prompt, list[list[int]]]:
        first = prompts[0]
        rows = [prompt.ids[0].tolist() for prompt in prompts]
        length = min(common(rows), *(len(row) - 1 for row in rows))
        return first.head(length), [row[length:] for row in rows]

    def _special(self, text: str) -> dict[str, bool]:
        begins = self.tokenizer.bos_token
        return {"add_special_tokens": False} if begins and text.startswith(begins) else {}

    def _content(self, part: str | Image.Image) -> dict[str, Any]:
        if not isinstance(part, str):
            return {"type": "image", "image": part}
        return {"type": "text", "text": self._marks.sub(lambda mark: f"{mark.group()[0]} {mark.group()[1:]}", part)}

    def _runs(self, tokens: Sequence[int]) -> list[tuple[int, int]]:
        """Return first and last + 1 of each run of image tokens."""
        runs = itertools.groupby(enumerate(tokens), key=lambda pair: pair[1] == self.image_token)
        places = ([place for place, _ in run] for is_image, run in runs if is_image)
        return [(run[0], run[-1] + 1) for run in places]

    def _spans(
        self, runs: Sequence[tuple[int, int]], images: Sequence[Image.Image], digests: Sequence[bytes]
    ) -> list[tuple[int, int]] | None:
        """Return first and last + 1 token of each picture; None if the runs of image tokens do not tell."""
        counts = [1] * len(images)
        if len(runs) != len(images):
            counts = [self._count(image, digest, len(runs), len(images)) for image, digest in zip(images, digests)]
        if 0 in counts or sum(counts) != len(runs):
            return None
        ends = [0, *itertools.accumulate(counts)]
        return [(runs[first][0], runs[end - 1][1]) for first, end in itertools.pairwise(ends)]

    def _count(self, image: Image.Image, digest: bytes, runs: int, images: int) -> int:
        """Return over how many runs of tokens the processor spreads a picture, as Idefics3 and Mistral 3 do. runs, images:
        of the whole prompt.
        """
        if digest not in self._counts:
            if images > 1:
                text = self.text([Turn("user", (image,))])
                runs = len(self._runs(self._processed(text, [image])["input_ids"][0].tolist()))
            while len(self._counts) >= COUNTED:
                del self._counts[next(iter(self._counts))]
            self._counts[digest] = runs
        return self._counts[digest]

    def _positions(self, ids: Tensor, pictures: dict[str, Tensor]) -> Tensor:
        """Compute positions here: Qwen's models would reuse the offset of the conversation that was read last."""
        import torch

        if self._rope is None:
            return torch.arange(ids.shape[1], device=ids.device)[None]
        given = pictures | {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "mm_token_type_ids": (ids == self.image_token).int(),
        }
        takes = inspect.signature(self._rope).parameters
        return self._rope(**{name: values for name, values in given.items() if name in takes})[0]
