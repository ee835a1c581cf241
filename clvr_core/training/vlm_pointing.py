"""What teaches the text part to look: each word of a question that names something points at the places which show it.

Yes and No alone teach a small model next to nothing about where to look. So, in training only, the tokens that end the name
of a thing, of a place, of a scene or of a word on a sign foretell, for each picture of the question, which of its nine places
show that; the token before each letter of a quoted word foretells the letter that the picture's signs have there; and, a
layer earlier, every token says which one stood before it, which is what copying a brief's words begins with. The names in an
instruction that is criticised foretell, two layers later, what the brief says of them. Prompts and answers stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..stickers.codes import LOOKS
from ..stickers.scene import BACKDROPS, CELLS, COLORS, COLUMNS, LETTERS, NATURAL, NOUNS, ROWS, SIGN, SIZES, Scene, Thing
from ..stickers.spec import Spec
from ..stickers.words import BACKDROP_WORDS, PLURAL_FORMS, SINGULARS, SIZE_WORDS

if TYPE_CHECKING:
    from .vlm_packing import Packed

SAID = len(CELLS) + len(LOOKS) + len(SIZES) + len(CELLS)
"""Bits of what a brief says of a noun: places, looks, sizes, and how many; no places mean that it does not name it."""
PICTURES = 2
"""Of a question, at most, at which its words point."""
PLACES = len(CELLS)
ALL = (1 << PLACES) - 1
LAYER = 3
"""After so many layers of the text part tokens point: the layers after them can reckon with what was found."""
AS_ONE = 4
"""Visual tokens that are compared, which count in the mean loss as one token that points: there are nine a picture."""
ORDER = 2
"""After so many layers a token knows the one before it."""
RECALL = 5
"""After so many layers the names of an instruction know what the brief says of them."""
ORDERED = 512
"""Tokens that are asked for the one before them, at most, of rows that are read at once."""


class Names:
    """Finds what the tokens of a question name. words: the tokenizer."""

    def __init__(self, words: Any) -> None:
        def ids(text: str) -> tuple[int, ...]:
            return tuple(words.encode(text, add_special_tokens=False).ids)

        def spelled(text: str) -> set[tuple[int, ...]]:
            return {ids(" " + text), ids(text)}

        self.nouns = {
            tokens: noun
            for noun in (*NOUNS, SIGN)
            for form in (*SINGULARS[noun], *PLURAL_FORMS.get(noun, ()))
            for tokens in spelled(form)
        }
        self.colors = {tokens[0]: color for color in COLORS for tokens in spelled(color) if len(tokens) == 1}
        self.sizes = {
            tokens[0]: size for word, size in SIZE_WORDS.items() for tokens in spelled(word) if len(tokens) == 1
        }
        self.backdrops = {
            tokens: name for name in BACKDROPS for form in (name, *BACKDROP_WORDS[name]) for tokens in spelled(form)
        }
        self.places = {
            ids(f" {row} {column}"): 1 << (ROWS.index(row) * len(COLUMNS) + COLUMNS.index(column))
            for row in ROWS
            for column in COLUMNS
        }
        for number, row in enumerate(ROWS):
            self.places[ids(f" {row} row")] = 0b111 << (number * len(COLUMNS))
        for number, column in enumerate(COLUMNS):
            self.places[ids(f" {column} column")] = 0b001001001 << number
        self.quotes = {ids(f'{before}"')[-1] for before in ("", " ", "A")} | {ids('\\"')[-1], ids(' \\"')[-1]}
        self.letters = {ids(letter)[0]: letter for letter in LETTERS}
        self.longest = max(len(tokens) for each in (self.nouns, self.backdrops, self.places) for tokens in each)

    def points(self, tokens: Sequence[int], scenes: Sequence[Scene]) -> list[tuple[int, int]]:
        """Return (number of a token, the places it points at) of each token that ends a name: bits of the first picture's
        places, then of the second's."""
        found: list[tuple[int, int]] = []
        words = self.quoted(tokens)
        at = 0
        while at < len(tokens):
            taken = 1
            for part in self._parts(tokens, at):
                shown = self._shown(part, tokens[max(0, at - 2) : at], scenes)
                if shown is not None:
                    taken = len(part)
                    found.append((at + taken - 1, shown))
                    break
            else:
                if at in words:
                    found += self._of_letters(at, words[at], scenes)
                    taken = len(words[at])
            at += taken
        return found

    def quoted(self, tokens: Sequence[int]) -> dict[int, str]:
        """Return the quoted words by the numbers of their first letters' tokens."""
        words: dict[int, str] = {}
        for at in range(1, len(tokens)):
            if tokens[at - 1] in self.quotes and tokens[at] in self.letters:
                end = at
                while end < len(tokens) and tokens[end] in self.letters:
                    end += 1
                if end < len(tokens):
                    words[at] = "".join(self.letters[each] for each in tokens[at:end])
        return words

    def recalled(self, tokens: Sequence[int], brief: Spec) -> list[tuple[int, int]]:
        """Return (number of a token, what the brief says of it as bits, see `said`) of each token that ends a noun."""
        found, at = [], 0
        while at < len(tokens):
            part = next((part for part in self._parts(tokens, at) if part in self.nouns), ())
            if part:
                found.append((at + len(part) - 1, said(brief, self.nouns[part])))
            at += max(1, len(part))
        return found

    def _parts(self, tokens: Sequence[int], at: int) -> Iterator[tuple[int, ...]]:
        """Yield what may be a name from token `at` on, the longest first."""
        for length in range(min(self.longest, len(tokens) - at), 0, -1):
            yield tuple(tokens[at : at + length])

    def spelled(self, tokens: Sequence[int], scenes: Sequence[Scene]) -> list[tuple[int, int]]:
        """Return (number of a token, the letters that signs have next, as bits) of each token before a letter of a quoted
        word, where a sign is as long."""
        signs = [thing.word for scene in scenes for thing in scene.things if thing.word]
        found = []
        for first, word in self.quoted(tokens).items():
            for place in range(len(word)):
                letters = {sign[place] for sign in signs if place < len(sign)}
                if letters:
                    found.append((first + place - 1, sum(1 << LETTERS.index(each) for each in letters)))
        return found

    @staticmethod
    def _of_letters(at: int, word: str, scenes: Sequence[Scene]) -> list[tuple[int, int]]:
        """Points of a quoted word whose first letter is token `at`: of each letter, and of the mark after them."""
        found = []
        for place, letter in enumerate(word):
            there = _bits(scenes, lambda thing, at=place, said=letter: thing.word[at : at + 1] == said)
            found.append((at + place, there))
        return [*found, (at + len(word), _bits(scenes, lambda thing: thing.word == word))]

    def _shown(self, part: tuple[int, ...], before: Sequence[int], scenes: Sequence[Scene]) -> int | None:
        if part in self.nouns:
            noun, color, size = self.nouns[part], NATURAL, None
            for token in reversed(before):
                if token in self.colors and color == NATURAL and size is None:
                    color = self.colors[token]
                elif token in self.sizes:
                    size = self.sizes[token]
                else:
                    break
            return _bits(scenes, lambda thing: thing.key == (color, noun) and size in (None, thing.size))
        if part in self.places:
            return self.places[part] * (1 | 1 << PLACES)
        if part in self.backdrops:
            name = self.backdrops[part]
            return sum(ALL << (PLACES * n) for n, scene in enumerate(scenes) if scene.backdrop == name)
        return None


def said(brief: Spec, noun: str) -> int:
    """Return what a brief says of a noun, SAID bits: the places where it may stand, its looks, its sizes, how many there are."""
    bits = 0
    for item in brief.items:
        if item.noun == noun:
            sizes = (item.size,) if item.size else SIZES
            fields = (item.place.cells, CELLS), ((item.color,), LOOKS), (sizes, SIZES), ((item.count,), CELLS)
            start = 0
            for values, among in fields:
                bits |= sum(1 << (start + among.index(value)) for value in values)
                start += len(among)
    return bits


def changed(before: Scene, after: Scene) -> list[bool]:
    """Say of each place whether the second scene shows another thing, look, size or word there."""
    pairs = ((before.at(cell), after.at(cell)) for cell in CELLS)
    return [(one and one.kind) != (other and other.kind) for one, other in pairs]


def _bits(scenes: Sequence[Scene], wanted: Callable[[Thing], bool]) -> int:
    return sum(
        1 << (thing.cell + PLACES * number)
        for number, scene in enumerate(scenes)
        for thing in scene.things
        if wanted(thing)
    )


class Pointer(nn.Module):
    """Reads off a token which places it points at, which letter signs have next and which token stood before it, and off a
    visual token of a second picture whether its place has changed; for training only."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.line = nn.Linear(hidden, PICTURES * PLACES)
        self.differs = nn.Linear(hidden, 1)
        self.spells = nn.Linear(hidden, len(LETTERS))
        self.recalls = nn.Linear(hidden, SAID)
        self.follows = nn.Linear(hidden, hidden, bias=False)

    def forward(self, hidden: Tensor, bits: Tensor, pictures: Tensor) -> Tensor:
        """Return the loss, in nats summed over tokens and their pictures.

        hidden: T x hidden, of the tokens that name something, after LAYER layers. bits: long T. pictures: long T, of the
        question of each."""
        places = torch.arange(PICTURES * PLACES, device=bits.device)
        target = (bits[:, None] >> places & 1).float()
        logits = self.line(_normed(hidden)).float()
        counts = (places // PLACES < pictures[:, None]).float()
        lost = functional.binary_cross_entropy_with_logits(logits, target, reduction="none") * counts
        return lost.sum()

    def compare(self, hidden: Tensor, changes: Tensor) -> Tensor:
        """Return the summed loss of visual tokens, T x hidden after LAYER layers, that have changed (1) or not (0)."""
        logits = self.differs(_normed(hidden))[:, 0].float()
        return functional.binary_cross_entropy_with_logits(logits, changes.float(), reduction="sum")

    def spell(self, hidden: Tensor, letters: Tensor) -> Tensor:
        """Return the summed loss of tokens, T x hidden after LAYER layers, before which letters signs have, as bits."""
        places = torch.arange(len(LETTERS), device=letters.device)
        target = (letters[:, None] >> places & 1).float()
        logits = self.spells(_normed(hidden)).float()
        return functional.cross_entropy(logits, target / target.sum(1, keepdim=True), reduction="sum")

    def recall(self, hidden: Tensor, asked: Tensor) -> Tensor:
        """Return the summed loss of tokens, T x hidden after RECALL layers, of which a brief says so much, as bits, long T."""
        places = torch.arange(SAID, device=asked.device)
        logits = self.recalls(_normed(hidden)).float()
        target = (asked[:, None] >> places & 1).float()
        return functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")

    def order(self, hidden: Tensor, before: Tensor, embedding: Tensor) -> Tensor:
        """Return the mean loss of which token stood before. hidden: T x hidden, after ORDER layers. before: long T.
        embedding: vocabulary x hidden."""
        return functional.cross_entropy(functional.linear(self.follows(_normed(hidden)), embedding).float(), before)


def _normed(hidden: Tensor) -> Tensor:
    return functional.rms_norm(hidden, hidden.shape[-1:], eps=1e-6)


def pointed(hidden: Tensor, later: Tensor, rows: Packed, pointer: Pointer) -> Tensor:
    """Return the pointer's summed loss of packed questions. hidden, later: of all their tokens, after LAYER and after RECALL
    layers."""
    named, bits, pictures, compared, changes, spelled, letters = (
        torch.from_numpy(each).to(hidden.device).long()
        for each in (
            rows.named,
            rows.shown,
            rows.pictures,
            rows.compared,
            rows.changed,
            rows.spelled,
            rows.letters,
        )
    )
    lost = pointer(hidden[named], bits, pictures) + pointer.compare(hidden[compared], changes)
    recalls, asked = (torch.from_numpy(each).to(hidden.device).long() for each in (rows.recalls, rows.asked))
    return lost + pointer.spell(hidden[spelled], letters) + pointer.recall(later[recalls], asked)


def ordered(hidden: Tensor, rows: Packed, pointer: Pointer, embedding: Tensor) -> Tensor:
    """Return the mean loss of which token stood before, of some tokens drawn by chance. hidden: of all their tokens."""
    at, before = rows.followed()
    some = torch.randperm(len(at))[:ORDERED]
    at, before = (torch.from_numpy(each)[some].to(hidden.device).long() for each in (at, before))
    return pointer.order(hidden[at], before, embedding)
