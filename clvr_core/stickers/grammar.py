"""Parsing prompts and instructions into specs and edits. Reads everything that phrases.py writes, and near variants."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise

from ..errors import BadInput
from .scene import BACKDROPS, CELLS, COLORS, COLUMNS, MOST_LETTERS, NATURAL, NOUNS, ROWS, SIGN, cell_of, look
from .spec import ANYWHERE, Item, Place, Relation, Spec
from .words import (
    BACKDROP_WORDS,
    FILLER,
    MARKS,
    NUMBERS,
    PLURAL_FORMS,
    RELATION_WORDS,
    SINGULARS,
    SIZE_WORDS,
    VOCABULARY,
)

MOST_THINGS = 8
GRAMMAR = """The embedded sticker world reads briefs like
  a small red cat at the top left, two blue cars and a sign that says "HELLO" at night. the red cat is left of the sign.
  a photo of a purple wine glass and a black apple
  a photo of a dog right of a tie
An item is   [a | one..eight | 1..8] [small | large] [COLOR] NOUN [at the ROW COLUMN | in the ROW row | in the COLUMN column]
A sign is    a sign [that says "WORD"], with a word of one to five letters
A relation is   the [COLOR] NOUN is left of | right of | above | below the [COLOR] NOUN
The scene is   {backdrops}
COLOR: {colors}; without one a thing looks as it does by itself.
NOUN: {nouns}.
ROW: {rows}. COLUMN: {columns}. At most {most} things in all.""".format(
    backdrops=", ".join(words[0] for words in BACKDROP_WORDS.values()),
    colors=", ".join(COLORS),
    nouns=", ".join(NOUNS),
    rows=", ".join(ROWS),
    columns=", ".join(COLUMNS),
    most=MOST_THINGS,
)

_NOUNS = {
    tuple(name.split()): (noun, plural)
    for forms, plural in ((PLURAL_FORMS, True), (SINGULARS, False))  # last wins: "sheep" may be one
    for noun, names in forms.items()
    for name in names
}
"""Words of a name -> its noun, and whether the name can only be a plural."""
_LONGEST = max(map(len, _NOUNS))
_COUNTS = {word: number for number, word in enumerate(NUMBERS)} | {str(number): number for number in range(10)}
_RELATIONS = [
    (tuple(words.split()), kind)
    for words, kind in sorted(RELATION_WORDS.items(), key=lambda pair: -len(pair[0].split()))
]
_BACKDROPS = {
    tuple(f"{preposition} {article} {name}".split()): name
    for name in BACKDROPS
    if name != "plain"
    for preposition in ("at", "in", "on", "by", "during")
    for article in ("", "a", "the")
} | {tuple(words.split()): name for name, several in BACKDROP_WORDS.items() for words in several}
_FIRST = {words[0] for words in _BACKDROPS}
_LONGEST_BACKDROP = max(map(len, _BACKDROPS))
_SAYING = {"that", "which", "says", "say", "saying", "reads", "read", "reading", "with", "the", "word", ""}
_BEFORE_A_PLACE = {
    "placed",
    "that",
    "which",
    "sits",
    "sit",
    "stands",
    "stand",
    "is",
    "are",
    "at",
    "in",
    "on",
    "the",
    "",
}
_QUOTE = '"'
_WORD = re.compile(rf"[a-z]{{1,{MOST_LETTERS}}}")
_KNOWN = frozenset(VOCABULARY)
_IGNORED = ({*FILLER, *MARKS} - {_QUOTE}) | {""}


class NotInGrammar(BadInput):
    """The text contains words that the sticker world does not have."""

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
    colored: bool
    start: int
    end: int


def tokens_of(text: str) -> list[str]:
    """Return the words and marks of a text in lower case; of a word in quotes, each letter by itself.

    So does the tokenizer of the text encoder. What stands in quotes and is no word that fits on a sign stays whole.
    """
    parts = text.lower().replace("\u201c", _QUOTE).replace("\u201d", _QUOTE).split(_QUOTE)
    found: list[str] = []
    for place, part in enumerate(parts):
        found += [_QUOTE] * (place > 0)
        # An opening quote without a closing one quotes nothing.
        if place % 2 == 0 or place == len(parts) - 1:
            found += re.findall(r"[a-z0-9]+|[^\sa-z0-9]", part)
        else:
            found += part if _WORD.fullmatch(part) else [part]
    return found


@lru_cache(4096)  # each goal is read again for every picture
def parse(text: str) -> Spec:
    """Return the spec of a brief. Raises NotInGrammar, showing the grammar, for a word that it cannot place."""
    spec = read(text)
    if not spec.items:
        raise NotInGrammar("no thing that the sticker world can draw was found in the brief.")
    return spec


@lru_cache(4096)
def read(text: str) -> Spec:
    """Return what a text says, as `parse`, but it may name a backdrop alone, or nothing."""
    tokens = tokens_of(text)
    backdrop = _take_backdrop(tokens)
    phrases, used = _phrases(tokens)
    kinds = [_relation_between(tokens, left.end, right.start, used) for left, right in pairwise(phrases)]
    items: dict[tuple[str, str], Item] = {}
    keys = []
    for index, phrase in enumerate(phrases):
        referring = phrase.definite or any(kinds[max(0, index - 1) : index + 1])
        key = _meant(phrase, items) if referring else phrase.item.key
        if index and kinds[index - 1] and key == keys[-1]:  # "the red cat is left of the cat": that one is another
            key = phrase.item.key
        keys.append(key)
        known = items.setdefault(key, phrase.item)
        if known is not phrase.item and not (referring and _is_reference(phrase, known)):
            raise NotInGrammar(
                f"{_name(key)!r} is asked for twice; say it once, with its number, as in 'two red cats'."
            )
    relations: list[Relation] = []
    subject = None
    for left, a, b, kind in zip(phrases, keys, keys[1:], kinds):
        # In "a left of b and above c" it is still a that stands above.
        subject = subject if subject and tokens[left.end] == "and" else a
        if kind:
            relations.append(Relation(subject, kind, b))
        else:
            subject = None
    alone = [token for index, token in enumerate(tokens) if index not in used and token not in _IGNORED]
    if _QUOTE in alone:
        raise NotInGrammar("a quoted word in the brief stands on no sign; say it as in 'a sign that says \"HI\"'.")
    if alone:
        # A word that the world lacks explains why those before it stand alone.
        token = min(alone, key=_KNOWN.__contains__)
        fault = "understood where it stands" if token in _KNOWN else "part of the sticker world"
        raise NotInGrammar(f"the word {token[:40]!r} in the brief is not {fault}.")
    spec = Spec(tuple(items.values()), tuple(dict.fromkeys(relations)), backdrop)
    _check(spec)
    return spec


def _name(key: tuple[str, str]) -> str:
    color, noun = key
    return noun if color == NATURAL else f"{color} {noun}"


def _check(spec: Spec) -> None:
    if spec.total > MOST_THINGS:
        raise NotInGrammar(f"the brief asks for {spec.total} things; the canvas holds at most {MOST_THINGS}.")
    for item in spec.items:
        if item.count < 1:
            raise NotInGrammar(f"{_name(item.key)!r} is asked for {item.count} times; leave it out instead.")
        if item.count > len(item.place.cells):
            raise NotInGrammar(
                f"{item.count} things do not fit where {_name(item.key)!r} is to stand ({len(item.place.cells)} cells)."
            )
    placed = [item for item in spec.items if item.place != ANYWHERE]
    for size in range(2, len(placed) + 1):
        for some in combinations(placed, size):
            if sum(item.count for item in some) > len({cell for item in some for cell in item.place.cells}):
                raise NotInGrammar(
                    f"{', '.join(_name(item.key) for item in some)} are to stand in too few cells; a cell holds one thing."
                )
    single = {item.key for item in spec.items if item.count == 1}
    for relation in spec.relations:
        for key in (relation.a, relation.b):
            if key not in single:
                raise NotInGrammar(f"a relation speaks of {_name(key)!r}, of which there is more than one.")
        if relation.a == relation.b:
            raise NotInGrammar(f"a relation sets {_name(relation.a)!r} beside itself.")


def _meant(phrase: _Phrase, items: dict[tuple[str, str], Item]) -> tuple[str, str]:
    """Return the key that a reference means: "the cat" is the blue cat where no other cat was spoken of."""
    key = phrase.item.key
    if phrase.colored or key in items or not phrase.definite:
        return key
    known = [other for other in items if other[1] == key[1]]
    if len(known) > 1:
        raise NotInGrammar(f"'the {key[1]}' in the brief could be {' or '.join(map(_name, known))}; say its colour.")
    return known[0] if known else key


def _is_reference(phrase: _Phrase, known: Item) -> bool:
    item = phrase.item
    if item.key == known.key and item == known:
        return True
    return (
        item.count == 1
        and item.place == ANYWHERE
        and item.size in (None, known.size)
        and item.word in (None, known.word)
    )


def _take_backdrop(tokens: list[str]) -> str | None:
    """Return the backdrop named, and empty its tokens. Raises NotInGrammar for two."""
    found = None
    for index, token in enumerate(tokens):
        if token not in _FIRST:
            continue
        for length in range(_LONGEST_BACKDROP, 0, -1):
            name = _BACKDROPS.get(tuple(tokens[index : index + length]))
            if name is None:
                continue
            if found not in (None, name):
                raise NotInGrammar(f"the brief names two scenes, {found} and {name}; a picture has one.")
            found = name
            tokens[index : index + length] = [""] * length
            break
    return found


def _noun_at(tokens: list[str], index: int) -> tuple[str, bool, int] | None:
    """Return the noun named at a place, whether in the plural, and the number of words; None if there is none."""
    for length in range(_LONGEST, 0, -1):
        known = _NOUNS.get(tuple(tokens[index : index + length]))
        if known is not None:
            return *known, length
    return None


def _phrases(tokens: list[str]) -> tuple[list[_Phrase], set[int]]:
    """Return the noun phrases in order, and the positions of their tokens."""
    found: list[_Phrase] = []
    used: set[int] = set()
    index = 0
    while index < len(tokens):
        named = _noun_at(tokens, index)
        # An orange is a thing, but "orange" before a thing is its colour.
        if named is None or (tokens[index] in COLORS and _noun_at(tokens, index + 1) is not None):
            index += 1
            continue
        noun, plural, length = named
        phrase = _phrase(tokens, index, index + length, noun, plural)
        found.append(phrase)
        used.update(range(phrase.start, phrase.end))
        index = phrase.end
    return found, used


def _phrase(tokens: list[str], first: int, end: int, noun: str, plural: bool) -> _Phrase:
    start, color, size, count = first, None, None, 1
    words = " ".join(tokens[first:end])
    if start and tokens[start - 1] in COLORS:
        start -= 1
        color = tokens[start]
    if start and tokens[start - 1] in SIZE_WORDS:
        start -= 1
        size = SIZE_WORDS[tokens[start]]
    if start and tokens[start - 1] in _COUNTS:
        start -= 1
        count = _COUNTS[tokens[start]]
    elif plural:
        raise NotInGrammar(f"{words!r} does not say how many.")
    if "no" in tokens[max(0, start - 2) : start]:
        raise NotInGrammar(
            f"the brief says 'no {' '.join(tokens[start:end])}'; leave it out instead, for nothing is drawn unless it is asked for."
        )
    word = None
    if noun == SIGN:
        if color is not None or size == "small":
            raise NotInGrammar(
                f"the brief asks for a {' '.join(tokens[start:end])}; a sign is large and has no colour."
            )
        size = None
        word, end = _word_after(tokens, end)
    place, end = _place_after(tokens, end)
    if noun == SIGN and word is None:
        word, end = _word_after(tokens, end)
    definite = start > 0 and tokens[start - 1] == "the"
    return _Phrase(Item(noun, look(noun, color), count, size, place, word), definite, color is not None, start, end)


def _word_after(tokens: list[str], index: int) -> tuple[str | None, int]:
    """Return the quoted word named right after a sign, in capitals, and where it ends; None and the given index if
    there is none."""
    start = index
    while start < len(tokens) and tokens[start] in _SAYING:
        start += 1
    if start >= len(tokens) or tokens[start] != _QUOTE or _QUOTE not in tokens[start + 1 :]:
        return None, index
    end = tokens.index(_QUOTE, start + 1)
    word = "".join(tokens[start + 1 : end])
    if not _WORD.fullmatch(word):
        raise NotInGrammar(
            f"a sign is to say {word[:40].upper()!r}; it holds one word of one to {MOST_LETTERS} letters A to Z."
        )
    return word.upper(), end + 1


def _place_after(tokens: list[str], index: int) -> tuple[Place, int]:
    """Return the place named right after a noun, and where it ends; ANYWHERE and the given index if there is none."""
    start, prepositions = index, 0
    while start < len(tokens) and tokens[start] in _BEFORE_A_PLACE:
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

    kind: put, remove, recolor, resize, move, word, backdrop or restore.
    cell: where it happens; None for a change of the backdrop.
    noun, color: of a new thing, its colour as scene.look gives it; of a change of colour, the colour named, or NATURAL.
    """

    kind: str
    cell: int | None
    noun: str | None = None
    color: str | None = None
    size: str | None = None
    to: int | None = None
    reference: int | None = None
    word: str | None = None
    backdrop: str | None = None

    @property
    def cells(self) -> frozenset[int]:
        """The cells whose content may change."""
        return frozenset(cell for cell in (self.cell, self.to) if cell is not None)


def _any(words) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


_CELL = rf"(?P<row{{0}}>{_any(ROWS)}) (?P<column{{0}}>{_any(COLUMNS)})"
_HERE = _CELL.format(1)
_NAMES = {" ".join(words): noun for words, (noun, plural) in _NOUNS.items() if not plural}
_COLOR = rf"(?P<color>{_any(COLORS)}|its own color)\b"
_SAID = rf'"(?P<word>{_WORD.pattern})"'
_TARGET = rf"the (?:(?:{_any(COLORS)}) )?(?:object|{_any(_NAMES)}) (?:at|from) the {_HERE}"
_NEW = (
    rf"an? (?:(?P<size>{_any(SIZE_WORDS)}) )?(?:(?P<color>{_any(COLORS)}) )?(?P<noun>{_any(_NAMES)})\b"
    rf"(?: (?:that says|saying|that reads) {_SAID})?"
)
_INSTRUCTIONS = [
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("put", rf"(?:add|put|place) {_NEW} at the {_HERE}"),
        ("put", rf"replace {_TARGET} with {_NEW}"),
        ("put", rf"change {_TARGET} to {_NEW}"),
        ("remove", rf"(?:remove|delete|erase) {_TARGET}"),
        ("recolor", rf"change the color of {_TARGET} to {_COLOR}"),
        ("recolor", rf"(?:make|recolor|give) {_TARGET} (?:to )?{_COLOR}"),
        ("resize", rf"(?:make|change) {_TARGET} (?:to )?(?P<size>{_any(SIZE_WORDS)})\b"),
        ("move", rf"move {_TARGET} to the {_CELL.format(2)}"),
        ("word", rf"change the word on the sign at the {_HERE} to {_SAID}"),
        ("word", rf"write {_SAID} on the sign at the {_HERE}"),
        ("backdrop", rf"(?:change|set|make) the (?:scene|background) (?:to )?(?P<backdrop>{_any(BACKDROPS)})\b"),
        ("restore", rf"restore the {_HERE} from image (?P<reference>[2-9])"),
    )
]


def parse_instruction(text: str) -> tuple[Instruction, ...]:
    """Return the changes that an instruction names, in order; other words are skipped. Empty if none was understood."""
    return _instructions(text)


@lru_cache(4096)
def _instructions(text: str) -> tuple[Instruction, ...]:
    text, found = " ".join(text.lower().replace("\u201c", _QUOTE).replace("\u201d", _QUOTE).split()), []
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
        found.append(_instruction(kind, match.groupdict()))
        position = match.end()
    return tuple(found)


def _instruction(kind: str, named: dict[str, str | None]) -> Instruction:
    def cell(number: int) -> int | None:
        row, column = named.get(f"row{number}"), named.get(f"column{number}")
        return cell_of(row, column) if row and column else None

    color, noun, size = named.get("color"), named.get("noun"), named.get("size")
    word, reference = named.get("word"), named.get("reference")
    noun = _NAMES[noun] if noun else None
    if noun is not None:
        color = look(noun, color)
    elif color == "its own color":
        color = NATURAL
    return Instruction(
        kind,
        cell(1),
        noun,
        color,
        SIZE_WORDS[size] if size else None,
        cell(2),
        int(reference) if reference else None,
        word.upper() if word else None,
        named.get("backdrop"),
    )


assert len(CELLS) > MOST_THINGS
