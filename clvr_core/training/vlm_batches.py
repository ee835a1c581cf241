"""Questions as numbers: rows of tokens with the places of pictures and answers, made by worker processes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..stickers.codes import codes
from ..stickers.scene import GRID, Scene
from ..vlm.decisions import DECIDE, ONE_WORD
from .vlm_control import requests as some_requests
from .vlm_questions import DENSE, TYPES, Asked, asked

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

TOKENS = GRID * GRID
PICTURE = f"<|vision_start|>{'<|image_pad|>' * TOKENS}<|vision_end|>"
SHORT, LONG, CHAT = 88, 136, 640
"""Tokens of a row: of a decision, of an answer in words, of a request to the controller."""


@dataclass
class Rows:
    """R rows of T tokens, padded at the right.

    ids: int16 R x T. slots: int32 R x T, the visual token (picture x 9 + place) that stands there, or -1.
    positions: int16 R x 3 x T. at: int32, where in R x T flattened an answer's next token is foretold.
    target: int16, those tokens. kind: int8, of the row of each, in TYPES, or -1 for an answer in words, -2 for a list of
        goals, -3 for an action.
    """

    ids: np.ndarray
    slots: np.ndarray
    positions: np.ndarray
    at: np.ndarray
    target: np.ndarray
    kind: np.ndarray


@dataclass
class Batch:
    """cells: int8 N x 9 x FIELDS. backdrops: int8 N. flat: float32 N x 3, a plain picture's colour in 0..1, else -1."""

    cells: np.ndarray
    backdrops: np.ndarray
    flat: np.ndarray
    short: Rows
    long: Rows
    chat: Rows


class Writer:
    """Turns questions into rows with a tokenizer file."""

    def __init__(self, tokenizer: Path) -> None:
        from tokenizers import Tokenizer

        self.words: Any = Tokenizer.from_file(str(tokenizer))
        self.image = self.words.token_to_id("<|image_pad|>")
        self.pad = self.words.token_to_id("<|endoftext|>")
        self.heads = {
            (system, count): self._ids(self._head(system, count)) for system in (True, False) for count in (0, 1, 2)
        }
        self.tail = self._ids("<|im_end|>\n<|im_start|>assistant\n")
        self.end = self._ids("<|im_end|>")
        self.yes, self.no = self.words.token_to_id("Yes"), self.words.token_to_id("No")

    def _ids(self, text: str) -> list[int]:
        return self.words.encode(text, add_special_tokens=False).ids

    def _head(self, system: bool, count: int) -> str:
        first = f"<|im_start|>system\n{DECIDE}<|im_end|>\n" if system else ""
        return f"{first}<|im_start|>user\n{PICTURE * count}"

    def batch(
        self,
        made: Asked,
        requests: Sequence[tuple[str, list[str | Scene], str]] = (),
        counts: tuple[int, int, int] | None = None,
    ) -> Batch:
        """counts: rows of each length to be made, by leaving out or adding empty ones; None for as many as there are."""
        asks = [question if kind in DENSE else f"{question}\n{ONE_WORD}" for kind, _, _, question, _ in made.rows]
        asked_ids = self.words.encode_batch_fast(asks, add_special_tokens=False)
        answer_ids = self.words.encode_batch_fast([row[4] for row in made.rows], add_special_tokens=False)
        rows: tuple[list[Any], list[Any], list[Any]] = [], [], []
        for (kind, one, two, _, _), question, answer in zip(made.rows, asked_ids, answer_ids):
            dense = kind in DENSE
            pictures = [one] if two < 0 else [one, two]
            prompt = self.heads[not dense, len(pictures)] + question.ids + self.tail
            said = answer.ids + self.end if dense else answer.ids
            row = prompt, said, pictures, -1 if dense else TYPES.index(kind)
            length = len(prompt) + len(said) - 1
            if length <= SHORT and not dense:
                rows[0].append(row)
            elif length <= LONG:
                rows[1].append(row)
        scenes = list(made.scenes)
        for task, parts, reply in requests:
            pictures = list(range(len(scenes), len(scenes) + sum(isinstance(part, Scene) for part in parts)))
            scenes += [part for part in parts if isinstance(part, Scene)]
            prompt, said = self._request(task, parts, reply)
            if len(prompt) + len(said) - 1 <= CHAT:
                number = TYPES.index(task) if task in TYPES else -2 - ("goals", "action").index(task)
                rows[2].append((prompt, said, pictures, number))
        cells, backdrops = codes(scenes)
        flat = np.full((len(cells), 3), -1, np.float32)
        for picture, color in made.flat.items():
            flat[picture] = np.asarray(color, np.float32) / 255
        three = (
            self._rows(each, length, None if counts is None else counts[at])
            for at, (each, length) in enumerate(zip(rows, (SHORT, LONG, CHAT)))
        )
        return Batch(cells, backdrops, flat, *three)

    def _request(self, task: str, parts: Sequence[str | Scene], reply: str) -> tuple[list[int], list[int]]:
        """Return the tokens of a request and of its reply."""
        system, parts = (DECIDE, parts) if task in TYPES else (parts[0], parts[1:])
        said = (part if isinstance(part, str) else PICTURE for part in parts)
        ids = self._ids(f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{''.join(said)}")
        return ids + self.tail, self._ids(reply) + ([] if task in TYPES else self.end)

    def _rows(self, rows: Sequence[Any], length: int, count: int | None) -> Rows:
        count = len(rows) if count is None else count
        rows = rows[:count]
        ids = np.full((count, length), self.pad, np.int16)
        slots = np.full((count, length), -1, np.int32)
        positions = np.broadcast_to(np.arange(length, dtype=np.int16), (count, 3, length)).copy()
        at, target, kinds = [], [], []
        for row, (prompt, said, pictures, kind) in enumerate(rows):
            # The last token is foretold and not read.
            tokens = prompt + said[:-1]
            ids[row, : len(tokens)] = tokens
            if pictures:
                first = tokens.index(self.image)
                positions[row] = self._positions(first, len(pictures), length)
                for picture in pictures:
                    slots[row, first : first + TOKENS] = range(picture * TOKENS, (picture + 1) * TOKENS)
                    # Between two pictures stand the end of the one and the begin of the other.
                    first += TOKENS + 2
            start = row * length + len(prompt) - 1
            at.extend(range(start, start + len(said)))
            target.extend(said)
            kinds.extend([kind] * len(said))
        return Rows(ids, slots, positions, np.array(at, np.int32), np.array(target, np.int16), np.array(kinds, np.int8))

    def _positions(self, first: int, pictures: int, length: int) -> np.ndarray:
        """Int16 3 x T: a picture's tokens have one time, their rows and their columns, and take up three positions."""
        key = (first, pictures, length)
        if key not in _POSITIONS:
            made = np.zeros((3, length), np.int16)
            place, position = 0, 0
            for _ in range(pictures):
                made[:, place:first] = np.arange(position, position + first - place)
                position += first - place
                for token in range(TOKENS):
                    made[:, first + token] = position, position + token // GRID, position + token % GRID
                position += GRID
                place, first = first + TOKENS, first + TOKENS + 2
            made[:, place:] = np.arange(position, position + length - place)
            _POSITIONS[key] = made
        return _POSITIONS[key]


_POSITIONS: dict[tuple[int, int, int], np.ndarray] = {}


def work(
    queue: Queue[Batch], tokenizer: Path, seed: int, pictures: int, asked_for: int, counts: tuple[int, int, int]
) -> None:
    """Fill the queue with batches until the process is ended. asked_for: requests of a batch."""
    writer, rng = Writer(tokenizer), random.Random(seed)
    while True:
        queue.put(writer.batch(asked(rng, pictures), some_requests(rng, asked_for), counts))


def hold_out(queue: Queue[Batch], tokenizer: Path, seed: int, pictures: int) -> None:
    """Put one batch of so many pictures, and half as many requests, into the queue."""
    rng = random.Random(seed)
    queue.put(Writer(tokenizer).batch(asked(rng, pictures, questions=12, kinds=1), some_requests(rng, pictures // 2)))
