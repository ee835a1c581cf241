"""Questions as numbers: rows of tokens with the places of pictures and answers, made by worker processes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..stickers.codes import codes
from ..stickers.scene import GRID, Scene
from ..vlm.decisions import DECIDE, ONE_WORD
from .vlm_briefs import repeated
from .vlm_canvases import Labels
from .vlm_control import Critique, critiques
from .vlm_control import requests as some_requests
from .vlm_conversations import Spoken, conversations
from .vlm_packing import Line, Packed, pack, whole
from .vlm_pointing import Names, changed
from .vlm_questions import CHECKS, CRITIQUE, DENSE, TYPES, Asked, asked
from .vlm_symbols import plain_cells

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

TOKENS = GRID * GRID
PICTURE = f"<|vision_start|>{'<|image_pad|>' * TOKENS}<|vision_end|>"
PLAIN = 16
"""Characters of a token that is no sentence, at most."""
SHORT, LONG, CHAT, TALK = LENGTHS = 88, 136, 640, 1536
"""Tokens of a row: of a decision, of an answer in words, of a request to the controller, of a conversation."""


@dataclass
class Rows:
    """R rows of T tokens, padded at the right.

    ids: int16 R x T. slots: int32 R x T, the visual token (picture x 9 + place) that stands there, or -1.
    positions: int16 R x 3 x T. at: int32, where in R x T flattened an answer's next token is foretold.
    target: int16, those tokens. kind: int8, of the row of each, in TYPES, or -1 for an answer in words, -2 for a list of
        goals, -3 for an action, -4 for the actions of a conversation.
    """

    ids: np.ndarray
    slots: np.ndarray
    positions: np.ndarray
    at: np.ndarray
    target: np.ndarray
    kind: np.ndarray


@dataclass
class Batch:
    """cells: int8 N x 9 x FIELDS. backdrops: int8 N. flat: float32 N x 3, a plain picture's colour in 0..1, else -1.
    drawn: int32 N, the place among the canvases that weights drew of one of them, else -1. packed: questions in rows that
    they share, and all else in rows of like lengths; the others are empty then."""

    cells: np.ndarray
    backdrops: np.ndarray
    flat: np.ndarray
    drawn: np.ndarray
    short: Rows
    long: Rows
    chat: Rows
    talk: Rows
    packed: list[Packed] = field(default_factory=list)

    @property
    def rows(self) -> tuple[Rows, Rows, Rows, Rows]:
        """Those of each length."""
        return self.short, self.long, self.chat, self.talk


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
        self.end, self.line = self._ids("<|im_end|>"), self._ids("\n")
        self.names = Names(self.words)
        self.yes, self.no = self.words.token_to_id("Yes"), self.words.token_to_id("No")
        self.letters = sorted(self.names.letters)
        self.plain = [
            number for word, number in self.words.get_vocab().items() if len(word) < PLAIN and not word.startswith("<|")
        ]

    def _ids(self, text: str) -> list[int]:
        return self.words.encode(text, add_special_tokens=False).ids

    def _head(self, system: bool, count: int) -> str:
        first = f"<|im_start|>system\n{DECIDE}<|im_end|>\n" if system else ""
        return f"{first}<|im_start|>user\n{PICTURE * count}"

    def batch(
        self,
        made: Asked,
        requests: Sequence[tuple[str, list[str | Scene], str]] = (),
        counts: tuple[int, int, int, int] | None = None,
        talks: Sequence[Sequence[Spoken]] = (),
        packed: int = 0,
        repeats: Sequence[tuple[list[int], list[tuple[int, int]]]] = (),
        critiques: Sequence[Critique] = (),
    ) -> Batch:
        """counts: rows of each length to be made, by leaving out or adding empty ones; None for as many as there are.
        packed: pictures or pairs of them whose questions are read at once, each picture once; 0 for a row for each
        question. repeats: rows without a question (vlm_briefs), and critiques: of packed batches."""
        asks = [question if kind in DENSE else f"{question}\n{ONE_WORD}" for kind, _, _, question, _ in made.rows]
        asked_ids = self.words.encode_batch_fast(asks, add_special_tokens=False)
        answer_ids = self.words.encode_batch_fast([row[4] for row in made.rows], add_special_tokens=False)
        rows: tuple[list[Line], list[Line], list[Line], list[Line]] = [], [], [], []
        for (kind, one, two, _, _), question, answer in zip(made.rows, asked_ids, answer_ids):
            dense = kind in DENSE
            pictures = [one] if two < 0 else [one, two]
            prompt = self.heads[not dense, len(pictures)] + question.ids + self.tail
            said = answer.ids + self.end if dense else answer.ids
            row = _line(prompt, said, pictures, -1 if dense else TYPES.index(kind), len(prompt) - len(question.ids))
            row.head -= len(self.tail)
            if not dense and packed:
                shown = [made.scenes[each] for each in pictures]
                row.points = [(row.head + token, bits) for token, bits in self.names.points(question.ids, shown)]
                row.spelled = [(row.head + token, bits) for token, bits in self.names.spelled(question.ids, shown)]
                if len(shown) == 2:
                    second = row.tokens.index(self.image, row.tokens.index(self.image) + TOKENS)
                    row.changed = list(enumerate(changed(*shown), second))
            length = len(prompt) + len(said) - 1
            if length <= SHORT and not dense:
                rows[0].append(row)
            elif length <= LONG:
                rows[1].append(row)
        scenes = list(made.scenes)

        def numbers(shown: Sequence[Scene]) -> list[int]:
            scenes.extend(shown)
            return list(range(len(scenes) - len(shown), len(scenes)))

        for task, parts, reply in requests:
            pictures = numbers([part for part in parts if isinstance(part, Scene)])
            prompt, said = self._request(task, parts, reply)
            if len(prompt) + len(said) - 1 <= CHAT:
                number = TYPES.index(task) if task in TYPES else -2 - ("goals", "action").index(task)
                rows[2].append(_line(prompt, said, pictures, number))
        for talk in talks:
            tokens, spans, shown = self.conversation(talk)
            if spans:
                rows[3].append(Line(tokens, spans, numbers(shown), -4))
        cells, backdrops = codes(scenes)
        plain_cells(cells, made.flat)
        flat = np.full((len(cells), 3), -1, np.float32)
        for picture, color in made.flat.items():
            flat[picture] = np.asarray(color, np.float32) / 255
        drawn = np.full(len(cells), -1, np.int32)
        drawn[list(made.drawn)] = list(made.drawn.values())
        shared: list[Packed] = []
        if packed:
            shared = pack([*rows[0], *rows[1]], self.pad, self._place, packed)
            again = [Line(tokens, spans, [], -1) for tokens, spans in repeats]
            shared += whole([*rows[2], *rows[3], *again, *map(self._critique, critiques)], self.pad, self._place)
            rows, counts = ([], [], [], []), None
        short, long, chat, talk = (
            self._rows(each, length, None if counts is None else counts[at])
            for at, (each, length) in enumerate(zip(rows, LENGTHS))
        )
        return Batch(cells, backdrops, flat, drawn, short, long, chat, talk, shared)

    def conversation(
        self, talk: Sequence[Spoken], most: int = TALK
    ) -> tuple[list[int], list[tuple[int, int]], list[Scene]]:
        """Return the tokens of a conversation, first and last + 1 place of each action in them with the mark that ends
        it, and the scenes of its pictures. It ends with the last action that is within `most` tokens."""
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        scenes: list[Scene] = []
        shown: list[Scene] = []
        for turn in talk:
            ids += self._ids(f"<|im_start|>{turn.role}\n")
            first = len(ids)
            ids += self._ids(turn.text + PICTURE * len(turn.scenes)) + self.end
            shown += turn.scenes
            if turn.role == "assistant":
                if len(ids) - 1 > most:
                    break
                spans.append((first, len(ids)))
                scenes = list(shown)
            ids += self.line
        return ids[: spans[-1][1]] if spans else [], spans, scenes

    def _request(self, task: str, parts: Sequence[str | Scene], reply: str) -> tuple[list[int], list[int]]:
        """Return the tokens of a request and of its reply."""
        system, parts = (DECIDE, parts) if task in TYPES else (parts[0], parts[1:])
        said = (part if isinstance(part, str) else PICTURE for part in parts)
        ids = self._ids(f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{''.join(said)}")
        return ids + self.tail, self._ids(reply) + ([] if task in TYPES else self.end)

    def _critique(self, asked: Critique) -> Line:
        prompt, said = self._request(CRITIQUE, [asked.question], asked.answer)
        words = self._ids(f"\n{asked.instruction}\n")
        first = next(
            at for at in range(len(prompt) - len(words), -1, -1) if prompt[at + 1 : at + len(words) - 1] == words[1:-1]
        )
        line = _line(prompt, said, [], TYPES.index(CRITIQUE))
        line.recalled = [(first + at, bits) for at, bits in self.names.recalled(words, asked.brief)]
        return line

    def _rows(self, rows: Sequence[Line], length: int, count: int | None) -> Rows:
        count = len(rows) if count is None else count
        rows = rows[:count]
        ids = np.full((count, length), self.pad, np.int16)
        slots = np.full((count, length), -1, np.int32)
        positions = np.broadcast_to(np.arange(length, dtype=np.int16), (count, 3, length)).copy()
        at, target, kinds = [], [], []
        for row, line in enumerate(rows):
            tokens = line.tokens[:-1]
            ids[row, : len(tokens)] = tokens
            if line.pictures:
                slots[row], positions[row] = self._place(line, length)
            places, said = line.foretold(row * length)
            at += places
            target += said
            kinds += [line.kind] * len(places)
        return Rows(ids, slots, positions, np.array(at, np.int32), np.array(target, np.int16), np.array(kinds, np.int8))

    def _place(self, line: Line, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the visual tokens of a line's pictures, int32 T, -1 elsewhere, and its positions, int16 3 x T, of so many
        tokens."""
        slots = np.full(length, -1, np.int32)
        firsts, place = [], 0
        for picture in line.pictures:
            place = line.tokens.index(self.image, place)
            firsts.append(place)
            slots[place : place + TOKENS] = range(picture * TOKENS, (picture + 1) * TOKENS)
            place += TOKENS
        return slots, self._positions(tuple(firsts), length)

    def _positions(self, firsts: tuple[int, ...], length: int) -> np.ndarray:
        """Int16 3 x T: a picture's tokens have one time, their rows and their columns, and take up three positions. firsts:
        where each picture's first token stands."""
        key = (firsts, length)
        if key not in _POSITIONS:
            made = np.zeros((3, length), np.int16)
            place, position = 0, 0
            for first in firsts:
                made[:, place:first] = np.arange(position, position + first - place)
                position += first - place
                for token in range(TOKENS):
                    made[:, first + token] = position, position + token // GRID, position + token % GRID
                position += GRID
                place = first + TOKENS
            made[:, place:] = np.arange(position, position + length - place)
            if len(_POSITIONS) >= KEPT:
                _POSITIONS.clear()
            _POSITIONS[key] = made
        return _POSITIONS[key]


def _line(prompt: list[int], said: list[int], pictures: list[int], kind: int, head: int = 0) -> Line:
    tokens = prompt + said
    return Line(tokens, [(len(prompt), len(tokens))], pictures, kind, head)


KEPT = 4096
_POSITIONS: dict[tuple[tuple[int, ...], int], np.ndarray] = {}


@dataclass(frozen=True)
class Load:
    """What a batch is made of. pictures: of it; asked_for: requests; talks: conversations; counts: rows of each length.
    questions, kinds, briefs: for each single picture, to be decided, answered in words and taken apart. checks: share
    of the goals that are asked as a question as well. packed: see `Writer.batch`. drawn: share of the canvases that
    weights drew among the single pictures. repeats: rows of words by chance, half of them of letters. critiques: instructions that
    are criticised, beside the requests."""

    pictures: int
    asked_for: int
    talks: int
    counts: tuple[int, int, int, int]
    questions: int = 8
    kinds: int = 2
    briefs: int = 0
    checks: float = CHECKS
    packed: int = 0
    drawn: float = 0.0
    repeats: int = 0
    critiques: int = 0


def work(queue: Queue[Batch], tokenizer: Path, seed: int, load: Load, canvases: Labels | None = None) -> None:
    """Fill the queue with batches until the process is ended."""
    writer, rng, canvas = Writer(tokenizer), random.Random(seed), canvases and canvases.draw
    while True:
        made = asked(
            rng,
            load.pictures,
            questions=load.questions,
            kinds=load.kinds,
            briefs=load.briefs,
            canvas=canvas,
            share=load.drawn,
            checks=load.checks,
        )
        requests, talks = some_requests(rng, load.asked_for), conversations(rng, load.talks)
        kinds = rng.choices((writer.letters, writer.plain), k=load.repeats)
        repeats = [repeated(rng, tokens) for tokens in kinds]
        critical = critiques(rng, load.critiques)
        queue.put(writer.batch(made, requests, load.counts, talks, load.packed, repeats, critical))


def hold_out(
    queue: Queue[tuple[Batch, Batch | None]],
    tokenizer: Path,
    seed: int,
    load: Load,
    canvases: Labels | None = None,
) -> None:
    """Put one batch of the load's pictures, with its requests and conversations, into the queue, and with it one of as many
    questions about canvases that weights drew, if there are some."""
    rng, writer = random.Random(seed), Writer(tokenizer)
    pictures, packed = load.pictures, load.packed
    made = asked(rng, pictures, questions=load.questions, kinds=load.kinds, briefs=load.briefs)
    requests, talks = some_requests(rng, load.asked_for), conversations(rng, load.talks)
    critical = critiques(rng, load.critiques)
    rendered = writer.batch(made, requests, talks=talks, packed=packed, critiques=critical)
    drawn = None
    if canvases is not None and canvases.scenes:
        made = asked(rng, pictures, questions=load.questions, kinds=load.kinds, pairs=0, canvas=canvases.draw)
        drawn = writer.batch(made, packed=packed)
    queue.put((rendered, drawn))
