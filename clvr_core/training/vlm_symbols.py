"""What a visual token is to say: the sum of the vectors of the words for what stands in its place.

The vectors are those that the words begin with in the text part, and never change. So the vision part can be taught by
pictures alone to say them, the text part can be taught without a picture by being given them, and both fit together
whichever was taught first, or in two processes at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..stickers.codes import KINDS, LOOK, LOOKS, NOUN, SIZE, WORD
from ..stickers.scene import BACKDROPS, CELLS, COLORS, LETTERS, MOST_LETTERS, NATURAL, NOUNS, SIGN, SIZES, cell_name
from ..stickers.words import NUMBERS, PLURAL_FORMS, SINGULARS, SIZE_FORMS
from .vlm_model import TOKENS

SPREAD = 0.5
"""Of the elements of a word's vector at the beginning."""
KIN = 0.3
"""How far apart the forms of one word begin, of SPREAD."""
BLUR = 0.15
"""Of the elements of symbols that the text part is taught with, of their own spread: a picture is never that clear."""
FLAT = {(220, 30, 30): "red", (30, 60, 220): "blue", (40, 160, 60): "green", (240, 200, 40): "yellow"}
"""Plain pictures that have a colour's name."""


def forms(words: Any) -> list[list[int]]:
    """Return groups of tokens that mean the same: a noun and its plurals, a size's words, a number as digit and word.
    words: the tokenizer."""
    several = [(*SINGULARS[noun], *PLURAL_FORMS.get(noun, ())) for noun in (*NOUNS, SIGN)]
    several += [(color,) for color in COLORS] + [SIZE_FORMS[size] for size in SIZES]
    several += [(name, str(number)) for number, name in enumerate(NUMBERS)]
    made = []
    for group in several:
        found: dict[int, None] = {}
        for form in group:
            for text in (f" {form}", form):
                found[words.encode(text, add_special_tokens=False).ids[-1]] = None
        made.append(list(found))
    return made


def begin_words(embedding: Tensor, words: Any) -> None:
    """Give the vectors of words their first values, in place; forms of one word begin close together."""
    embedding.normal_(0, SPREAD)
    known: set[int] = set()
    for group in forms(words):
        first, *others = group
        for other in others:
            if other not in known and other != first:
                embedding[other] = (embedding[first] + KIN * embedding[other]) / (1 + KIN**2) ** 0.5
        known.update(group)


class Symbols(nn.Module):
    """Vectors of what a place may show, and what is read by them off visual tokens; for training only.

    words: the tokenizer. embedding: vocabulary x hidden, as `begin_words` left it, or None where vectors are loaded.
    """

    fields = ("noun", "look", "size", "place", "backdrop", *(f"letter{number}" for number in range(MOST_LETTERS)))
    sizes = (len(KINDS), len(LOOKS), len(SIZES), len(CELLS), len(BACKDROPS), *[len(LETTERS) + 1] * MOST_LETTERS)

    def __init__(self, hidden: int, words: Any = None, embedding: Tensor | None = None) -> None:
        super().__init__()
        tables = [torch.randn(size, hidden) * SPREAD for size in self.sizes]
        if embedding is not None:
            named: tuple[list[str], ...] = (
                [" nothing", *(f" {noun}" for noun in NOUNS), f" {SIGN}"],
                ["" if look == NATURAL else f" {look}" for look in LOOKS],
                [f" {size}" for size in SIZES],
                [f" {cell_name(cell)}" for cell in CELLS],
                [f" {name}" for name in BACKDROPS],
                *[["", *LETTERS]] * MOST_LETTERS,
            )
            for number, (table, texts) in enumerate(zip(tables, named)):
                for row, text in enumerate(texts):
                    if text:
                        table[row] = embedding[words.encode(text, add_special_tokens=False).ids].mean(0)
                if number >= len(self.fields) - MOST_LETTERS:
                    table[:] = _share(table, number - len(self.fields) + MOST_LETTERS)
        for field, table in zip(self.fields, tables):
            self.register_buffer(field, table)
        # What each field's likeness to its vectors counts; learned, since the fields disturb each other.
        self.sharp = nn.Parameter(torch.full((len(self.sizes),), 1 / (SPREAD * hidden**0.5)))

    @property
    def tables(self) -> list[Tensor]:
        return [getattr(self, field) for field in self.fields]

    def forward(self, cells: Tensor, backdrops: Tensor) -> Tensor:
        """Codes of cells (N x 9 x FIELDS) and of backdrops (N) -> N x 9 x hidden."""
        noun, look, size, place, backdrop, *letters = self.tables
        cells = cells.long()
        thing = ((cells[..., NOUN] > 0) & (cells[..., NOUN] < len(KINDS) - 1))[..., None]
        sign = (cells[..., NOUN] == len(KINDS) - 1)[..., None]
        said = noun[cells[..., NOUN]] + thing * size[cells[..., SIZE]] + place + backdrop[backdrops.long()][:, None]
        # A plain picture is nothing of a colour.
        said = said + (thing | (cells[..., LOOK, None] > 0)) * look[cells[..., LOOK]]
        return said + sign * sum(table[cells[..., WORD + at]] for at, table in enumerate(letters))

    def blurred(self, cells: Tensor, backdrops: Tensor) -> Tensor:
        """The same as a picture might show it: with some noise."""
        said = self(cells, backdrops)
        return said + torch.randn_like(said) * (BLUR * said.std())

    def read(self, seen: Tensor, cells: Tensor, backdrops: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of visual tokens, and the shares that are read rightly: noun, look, size, place, backdrop,
        letters of signs."""
        flat = cells.long().flatten(0, 1)
        tokens = seen.float().flatten(0, 1)
        places = torch.arange(TOKENS, device=seen.device).expand(len(seen), -1).flatten()
        thing = (flat[:, NOUN] > 0) & (flat[:, NOUN] < len(KINDS) - 1)
        sign = flat[:, NOUN] == len(KINDS) - 1
        always = torch.ones_like(sign)
        wanted = [
            (flat[:, NOUN], always),
            (flat[:, LOOK], thing),
            (flat[:, SIZE], thing),
            (places, always),
            (backdrops.long()[:, None].expand(-1, TOKENS).flatten(), always),
            *((flat[:, WORD + letter], sign) for letter in range(MOST_LETTERS)),
        ]
        losses, right = [], []
        for table, sharp, (target, counts) in zip(self.tables, self.sharp, wanted):
            centred = table - table.mean(0)
            # The nearest vector, which need not be the longest.
            logits = (tokens @ centred.T - centred.square().sum(1) / 2) * sharp
            weight = counts.float()
            total = weight.sum().clamp(min=1)
            losses.append((functional.cross_entropy(logits, target, reduction="none") * weight).sum() / total)
            right.append(((logits.argmax(-1) == target) * weight).sum() / total)
        apart = functional.mse_loss(tokens, self(cells, backdrops).flatten(0, 1)) / SPREAD**2
        return torch.stack(losses).sum() + apart, torch.stack([*right[:5], torch.stack(right[5:]).mean()])


def _share(letters: Tensor, at: int) -> Tensor:
    """Return the vectors of the letters at that place of a word: each letter's own in every fifth element, none of the
    first row, so that the letters of one word do not overlap."""
    kept = torch.zeros_like(letters)
    kept[1:, at::MOST_LETTERS] = letters[1:, at::MOST_LETTERS] * MOST_LETTERS**0.5
    return kept


def plain_cells(cells: np.ndarray, flat: dict[int, tuple[int, int, int]]) -> None:
    """Set the look of the plain pictures among the codes of cells, in place."""
    for picture, color in flat.items():
        cells[picture, :, LOOK] = LOOKS.index(FLAT.get(color, NATURAL))
