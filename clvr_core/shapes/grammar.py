"""Parsing prompts and instructions into specs and edits. Reads everything that phrases.py writes, and near variants."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise

from ..errors import BadInput
from .scene import CELLS, COLORS, COLUMNS, ROWS, SHAPES, SIZES, cell_of
from .spec import ANYWHERE, Item, Place, Relation, Spec
from .words import FILLER, MARKS, NUMBERS, PLURALS, RELATION_WORDS, SIZE_WORDS, VOCABULARY

GRAMMAR = """The embedded shapes world reads briefs like
  a small red circle at the top left, two blue squares and a green cross. the green cross is left of the red circle.
An item is   [a | one..eight | 1..8] [small | large] COLOR SHAPE [at the ROW COLUMN | in the ROW row | in the COLUMN column]
A relation is   the COLOR SHAPE is left of | right of | above | below the COLOR SHAPE
COLOR: {colors}. SHAPE: {shapes}.
ROW: {rows}. COLUMN: {columns}. At most {most} things in all.""".format(
    colors=", ".join(COLORS), shapes=", ".join(SHAPES), rows=", ".join(ROWS), columns=", ".join(COLUMNS), most=8
)
MOST_THINGS = 8

_SINGULAR = {plural: shape for shape, plural in PLURALS.items()}
_COUNTS = {word: number for number, word in enumerate(NUMBERS)} | {str(number): number for number in range(10)}
_RELATIONS = [
    (tuple(words.split()), kind)
    for words, kind in sorted(RELATION_WORDS.items(), key=lambda pair: -len(pair[0].split()))
]
_IGNORED = {*FILLER, *MARKS}


class NotInGrammar(BadInput):
    """The text contains words that the shapes world does not have."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what}\n{GRAMMAR}\n"
            "The embedded models know no other words. For anything else name a real model: by --models on the command line, or in a graph "
            "by the Vision Model and Executor nodes."
        )


@dataclass(frozen=True)
class _Phrase:
    item: Item
    definite: bool
    start: int
    end: int


def tokens_of(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+|[.,:;!]|[^\sa-z0-9.,:;!]", text.lower())


@lru_cache(1024)  # each goal is read again for every picture
def parse(text: str) -> Spec:
    """Return the spec of a brief. Raises NotInGrammar, showing the grammar, for a word that it cannot place."""
    tokens = tokens_of(text)
    phrases, used = _phrases(tokens)
    if not phrases:
        raise NotInGrammar("no coloured shape was found in the brief.")
    kinds = [_relation_between(tokens, left.end, right.start, used) for left, right in pairwise(phrases)]
    items: dict[tuple[str, str], Item] = {}
    for index, phrase in enumerate(phrases):
        known = items.setdefault(phrase.item.key, phrase.item)
        referring = phrase.definite or any(kinds[max(0, index - 1) : index + 1])
        if known is not phrase.item and not (referring and _is_reference(phrase, known)):
            raise NotInGrammar(
                f"{' '.join(phrase.item.key)!r} is asked for twice; say it once, with its number, as in 'two red circles'."
            )
    relations: list[Relation] = []
    subject = None
    for left, right, kind in zip(phrases, phrases[1:], kinds):
        # In "a left of b and above c" it is still a that stands above.
        subject = subject if subject and tokens[left.end] == "and" else left.item.key
        if kind:
            relations.append(Relation(subject, kind, right.item.key))
        else:
            subject = None
    for index, token in enumerate(tokens):
        if index not in used and token not in _IGNORED:
            known = token in VOCABULARY
            raise NotInGrammar(
                f"the word {token!r} in the brief is not {'understood where it stands' if known else 'part of the shapes world'}."
            )
    spec = Spec(tuple(items.values()), tuple(dict.fromkeys(relations)))
    _check(spec)
    return spec


def _check(spec: Spec) -> None:
    if spec.total > MOST_THINGS:
        raise NotInGrammar(f"the brief asks for {spec.total} things; the canvas holds at most {MOST_THINGS}.")
    for item in spec.items:
        if item.count < 1:
            raise NotInGrammar(f"{' '.join(item.key)!r} is asked for {item.count} times; leave it out instead.")
        if item.count > len(item.place.cells):
            raise NotInGrammar(
                f"{item.count} things do not fit where {' '.join(item.key)!r} is to stand ({len(item.place.cells)} cells)."
            )
    placed = [item for item in spec.items if item.place != ANYWHERE]
    for size in range(2, len(placed) + 1):
        for some in combinations(placed, size):
            if sum(item.count for item in some) > len({cell for item in some for cell in item.place.cells}):
                raise NotInGrammar(
                    f"{', '.join(' '.join(item.key) for item in some)} are to stand in too few cells; a cell holds one thing."
                )
    single = {item.key for item in spec.items if item.count == 1}
    for relation in spec.relations:
        for key in (relation.a, relation.b):
            if key not in single:
                raise NotInGrammar(f"a relation speaks of {' '.join(key)!r}, of which there is more than one.")
        if relation.a == relation.b:
            raise NotInGrammar(f"a relation sets {' '.join(relation.a)!r} beside itself.")


def _is_reference(phrase: _Phrase, known: Item) -> bool:
    item = phrase.item
    return item == known or (item.count == 1 and item.place == ANYWHERE and item.size in (None, known.size))


def _phrases(tokens: list[str]) -> tuple[list[_Phrase], set[int]]:
    """Return the noun phrases in order, and the positions of their tokens."""
    found, used = [], set()
    for index, token in enumerate(tokens):
        shape = token if token in SHAPES else _SINGULAR.get(token)
        if shape is None:
            continue
        if index == 0 or tokens[index - 1] not in COLORS:
            raise NotInGrammar(f"the {token!r} in the brief has no colour before it.")
        start, size, count = index - 1, None, 1
        if start and tokens[start - 1] in SIZE_WORDS:
            start -= 1
            size = SIZE_WORDS[tokens[start]]
        if start and tokens[start - 1] in _COUNTS:
            start -= 1
            count = _COUNTS[tokens[start]]
        elif token in _SINGULAR:
            raise NotInGrammar(f"{token!r} does not say how many.")
        if "no" in tokens[max(0, start - 2) : start]:
            raise NotInGrammar(
                f"the brief says 'no {tokens[index - 1]} {token}'; leave it out instead, for nothing is drawn unless it is asked for."
            )
        place, end = _place_after(tokens, index + 1)
        definite = start > 0 and tokens[start - 1] == "the"
        found.append(_Phrase(Item(shape, tokens[index - 1], count, size, place), definite, start, end))
        used.update(range(start, end))
    return found, used


def _place_after(tokens: list[str], index: int) -> tuple[Place, int]:
    """Return the place named right after a noun, and where it ends; ANYWHERE and the given index if there is none."""
    start, prepositions = index, 0
    while start < len(tokens) and tokens[start] in (
        "placed",
        "that",
        "which",
        "sits",
        "sit",
        "stands",
        "is",
        "are",
        "at",
        "in",
        "on",
        "the",
    ):
        prepositions += tokens[start] in ("at", "in", "on")
        start += 1
    word = tokens[start] if start < len(tokens) else ""
    after = tokens[start + 1] if start + 1 < len(tokens) else ""
    if word in ROWS and after in COLUMNS and (start + 2 >= len(tokens) or tokens[start + 2] != "of"):
        end = start + 2
        return Place(word, after), end + (end < len(tokens) and tokens[end] in ("corner", "cell", "part"))
    if after == "row" and word in (*ROWS, "center"):
        return Place(row="middle" if word == "center" else word), start + 2
    if after == "column" and word in (*COLUMNS, "middle"):
        return Place(column="center" if word == "middle" else word), start + 2
    if prepositions and after not in ("of", "row", "column"):
        if word in ("center", "middle"):
            return Place("middle", "center"), start + 1
        if word in ("left", "right"):
            return Place(column=word), start + 1
        if word in ("top", "bottom"):
            return Place(row=word), start + 1
    return ANYWHERE, index


def _relation_between(tokens: list[str], start: int, end: int, used: set[int]) -> str | None:
    for index in range(start, end):
        if tokens[index] in MARKS:
            return None
        for words, kind in _RELATIONS:
            if (
                tuple(tokens[index : index + len(words)]) == words
                and "it" not in tokens[index:end]
                and index + len(words) <= end
            ):
                used.update(range(index, index + len(words)))
                return kind
    return None


@dataclass(frozen=True, slots=True)
class Instruction:
    """One change as an instruction names it. A field is None if the words leave it open.

    kind: put, remove, recolor, resize, move or restore.
    cell: where it happens.
    """

    kind: str
    cell: int
    shape: str | None = None
    color: str | None = None
    size: str | None = None
    to: int | None = None
    reference: int | None = None

    @property
    def cells(self) -> frozenset[int]:
        """The cells whose content may change."""
        return frozenset({self.cell} if self.to is None else {self.cell, self.to})


_CELL = rf"(?P<row{{0}}>{'|'.join(ROWS)}) (?P<column{{0}}>{'|'.join(COLUMNS)})"
_TARGET = rf"the (?:(?:{'|'.join(COLORS)}) )?(?:object|{'|'.join(SHAPES)}) (?:at|from) the {_CELL.format(1)}"
_NEW = rf"an? (?:(?P<size>{'|'.join(SIZES)}) )?(?P<color>{'|'.join(COLORS)}) (?P<shape>{'|'.join(SHAPES)})"
_INSTRUCTIONS = [
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("put", rf"(?:add|put|place) {_NEW} at the {_CELL.format(1)}"),
        ("put", rf"replace {_TARGET} with {_NEW}"),
        ("put", rf"change {_TARGET} to {_NEW}"),
        ("remove", rf"(?:remove|delete|erase) {_TARGET}"),
        ("recolor", rf"change the color of {_TARGET} to (?P<color>{'|'.join(COLORS)})"),
        ("recolor", rf"(?:make|recolor) {_TARGET} (?:to )?(?P<color>{'|'.join(COLORS)})"),
        ("resize", rf"(?:make|change) {_TARGET} (?:to )?(?P<size>{'|'.join(SIZES)})"),
        ("move", rf"move {_TARGET} to the {_CELL.format(2)}"),
        ("restore", rf"restore the {_CELL.format(1)} from image (?P<reference>[2-9])"),
    )
]


def parse_instruction(text: str) -> tuple[Instruction, ...]:
    """Return the changes that an instruction names, in order; other words are skipped. Empty if none was understood."""
    text, found = " ".join(text.lower().split()), []
    coming = [(kind, pattern, pattern.search(text)) for kind, pattern in _INSTRUCTIONS]
    position = 0
    while True:
        # Searched again only where its match lies behind, so that each pattern passes over the text once.
        coming = [
            (kind, pattern, match if match.start() >= position else pattern.search(text, position))
            for kind, pattern, match in coming
            if match is not None
        ]
        matches = [(kind, match) for kind, _, match in coming if match is not None]
        if not matches:
            break
        kind, match = min(matches, key=lambda pair: (pair[1].start(), -pair[1].end()))
        named = match.groupdict()
        to = cell_of(named["row2"], named["column2"]) if named.get("row2") else None
        found.append(
            Instruction(
                kind,
                cell_of(named["row1"], named["column1"]),
                named.get("shape"),
                named.get("color"),
                named.get("size"),
                to,
                int(named["reference"]) if named.get("reference") else None,
            )
        )
        position = match.end()
    return tuple(found)


assert len(CELLS) > MOST_THINGS
