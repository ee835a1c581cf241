"""What a goal asks to be written, and whether what was read is that, letter by letter. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..brief import Box, Goal, around
from ..trajectory import Finding

NAME = "text"

_QUOTED = re.compile(
    r'"([^"]{1,200})"|\u201c([^\u201d]{1,200})\u201d|\u00ab([^\u00bb]{1,200})\u00bb|\u300c([^\u300d]{1,200})\u300d'
    r"|(?<!\w)'([^']{1,200})'(?!\w)|(?<!\w)\u2018([^\u2018\u2019]{1,200})\u2019(?!\w)"
)
_WRITING = re.compile(
    r"\b(?:say(?:s|ing)?|reads?|reading|words?|letters?|lettering|text|titled?|label(?:s|led)?|written|writes|spell(?:s|ed|ing)?"
    r"|caption(?:ed)?|inscri\w+|engraved|slogan|headline|named?|numbers?|sign)\b",
    re.IGNORECASE,
)
_CAPITALS = re.compile(
    r"\b(?:says?|saying|reads?|reading|words?|letters?|lettering|titled|labelled|labeled|spell(?:s|ed|ing)?)\s*:?\s+"
    r"((?:[^\W\d_a-z]{2,}[!?.,&'-]*(?:\s+|$))+)"
)
_NOT = re.compile(r"\b(?:not|no|never|without|instead of|or|either|except)\b|n't\b", re.IGNORECASE)
_NO_TEXT = re.compile(
    r"\b(?:no|without(?: any)?|free of|not any)\s+(?:visible\s+|readable\s+|other\s+)?"
    r"(?:text|lettering|writing|words|letters|captions?|watermarks?)\b",
    re.IGNORECASE,
)
_CASE = (
    re.compile(r"\b(?:capitals?|upper[- ]?case|all[- ]caps)\b", re.IGNORECASE),
    re.compile(r"\b(?:lower[- ]?case|small letters)\b", re.IGNORECASE),
)
_PLACE = re.compile(
    r"\b(?:at|in|on|near|along)\s+the\s+(?:very\s+)?(?:top|bottom|upper|lower|left|right|middle|cent(?:er|re)|corner|foreground"
    r"|background)\b",
    re.IGNORECASE,
)
_ALIKE = str.maketrans({"0": "o", "1": "l", "i": "l", "5": "s", "8": "b"})
_ALIKE_IN_CAPITALS = str.maketrans({"0": "o", "1": "i", "5": "s", "8": "b"})
_SCRIPTS = ("LATIN", "DIGIT", "CJK", "HIRAGANA", "KATAKANA", "FULLWIDTH")
"""What the text readers read, by the first word of a letter's Unicode name."""


@dataclass(frozen=True)
class Line:
    """A line that was read: its text, its score 0..1, and where it stands in the picture."""

    text: str
    score: float
    box: Box


@dataclass(frozen=True)
class Asked:
    """What a goal asks to be written.

    texts: each must be there. Empty: there must be no text at all.
    case: how the letters must be; "" where upper and lower case are the same.
    partial: whether the goal says more than that, such as a place or what else there is: then the right words are not all
        that it asks, and only wrong ones tell something.
    """

    texts: tuple[str, ...]
    case: Literal["", "upper", "lower"] = ""
    partial: bool = False


@dataclass(frozen=True)
class Limits:
    """Scores 0..1 of a line from which it counts.

    yes: for the right words.
    no: for words that are nearly the right ones.
    """

    yes: float = 0.85
    no: float = 0.6


def asked(goal: Goal) -> Asked | None:
    """Return what the goal asks to be written; None if it asks for nothing, for a choice, or for what a text reader cannot
    read."""
    if _NO_TEXT.search(goal.text):
        return Asked(())
    quoted = [next(filter(None, groups)).strip() for groups in _QUOTED.findall(goal.text)]
    around = _QUOTED.sub(" ", goal.text)
    if not quoted:
        quoted = [found.strip() for found in _CAPITALS.findall(goal.text)]
        around = _CAPITALS.sub(" ", goal.text)
        if quoted and goal.kind != "text":
            return None
    if not quoted or _NOT.search(around) or not (goal.kind == "text" or _WRITING.search(around)):
        return None
    if not all(_readable(text) for text in quoted):
        return None
    upper, lower = _CASE
    case = "upper" if upper.search(around) else "lower" if lower.search(around) else ""
    partial = goal.kind in ("global", "layout") or _PLACE.search(around) is not None
    return Asked(tuple(quoted), case, partial)


def finding_on(wanted: Asked, lines: Sequence[Line], limits: Limits) -> Finding | None:
    """Say whether what a goal asks to be written is among the lines; None if there is nothing to say.

    Yes, of a goal that asks for nothing else: each word was read, in any order, since a rotated line comes back in
    pieces. No: a word that is missing was read with other letters. Words that were not read at all say nothing: a reader
    misses lettering that is there.
    """
    if not wanted.texts:
        return _none_wanted(lines, limits)
    missing, used = _compared(wanted, lines)
    if not missing:
        score = min(line.score for line in used)
        return _made("yes", used, score) if score >= limits.yes and not wanted.partial else None
    near = _near(missing, [line for line in lines if line.score >= limits.no], wanted)
    if not near:
        return None
    shown = [line for line in lines if line in near or line in used]
    return _made("no", shown, min(line.score for line in near), near)


def _none_wanted(lines: Sequence[Line], limits: Limits) -> Finding | None:
    # Readers find stray digits and single letters on photographs without any text.
    read = [line for line in lines if line.score >= limits.yes and sum(map(str.isalpha, line.text)) >= 3]
    return _made("no", read, min(line.score for line in read)) if read else None


def _made(says: Literal["yes", "no"], shown: Sequence[Line], score: float, at: Sequence[Line] | None = None) -> Finding:
    words = " / ".join(dict.fromkeys(line.text for line in shown))
    boxes = tuple(line.box for line in (shown if at is None else at))
    return Finding(NAME, says, score, f'reads "{words}"', boxes, around(boxes) if says == "no" else None)


def _compared(wanted: Asked, lines: Sequence[Line]) -> tuple[list[str], list[Line]]:
    """Return the wanted words that were not read, and the lines in which the others were."""
    left = _runs([(word, line) for line in lines for word in _words(line.text, wanted.case)])
    missing: list[str] = []
    used: list[Line] = []

    for text in wanted.texts:
        words = [_cased(word, wanted.case) for word in _words(text, wanted.case)]
        whole = "".join(words)
        absent = [word for word in dict.fromkeys(words) if len(left.get(word, ())) < words.count(word)]
        if absent and left.get(whole):
            words, absent = [whole], []
        elif absent and not _spaced(whole):
            inside = [line for line in lines if whole in "".join(_words(line.text, wanted.case))]
            used += inside[:1]
            words, absent = [], [] if inside else absent
        missing += absent
        used += [line for word in words if word not in absent for line in left[word].pop(0)]
    return missing, used


def _runs(words: Sequence[tuple[str, Line]], most: int = 4) -> dict[str, list[list[Line]]]:
    """Each word, and up to `most` neighbours written together, since readers lose and find spaces; with the lines of each
    place where it stands."""
    found: dict[str, list[list[Line]]] = {}
    for begin in range(len(words)):
        for end in range(begin + 1, min(len(words), begin + most) + 1):
            run = words[begin:end]
            found.setdefault("".join(word for word, _ in run), []).append([line for _, line in run])
    return found


def _words(text: str, case: str) -> list[str]:
    """The words, of letters and digits only. case: "" makes upper and lower case the same."""
    plain = unicodedata.normalize("NFKC", text).replace("\u2019", "'").replace("'", "")
    words = "".join(mark if mark.isalnum() else " " for mark in plain).split()
    return words if case else [word.casefold() for word in words]


def _cased(word: str, case: str) -> str:
    return word.upper() if case == "upper" else word.lower() if case == "lower" else word


def _near(missing: Sequence[str], lines: Sequence[Line], wanted: Asked) -> list[Line]:
    """The lines that have a missing word, or a text that lacks one, with a few other letters. Signs that look alike are
    no other letters."""
    tokens = [(word, line) for line in lines for word in _words(line.text, wanted.case)]
    texts = [[_cased(word, wanted.case) for word in _words(text, wanted.case)] for text in wanted.texts]
    others = {word for words in texts for word in words}
    near: list[Line] = []
    for words in (*([word] for word in missing), *(words for words in texts if set(words) & set(missing))):
        whole = "".join(words)
        found = {
            run: places
            for run, places in _runs(tokens, len(words) + 1).items()
            if len(run) >= 2
            and run not in others
            and _distance(whole.casefold(), run.casefold()) <= max(1, len(whole) // 3)
        }
        if not any(_alike(run, whole, places) for run, places in found.items()):
            near += [
                line
                for places in found.values()
                for place in places
                # A word between two lines may just not have been read.
                if len(place) >= len(words) or all(line is place[0] for line in place)
                for line in place
            ]
    return [line for line in lines if line in near]


def _alike(run: str, whole: str, places: Sequence[Sequence[Line]]) -> bool:
    """Whether what was read there differs only in signs that look alike: among capitals L and I do not."""
    if run.casefold() == whole.casefold():
        return False
    capitals = all(line.text.isupper() for place in places for line in place)
    signs = _ALIKE_IN_CAPITALS if capitals else _ALIKE
    return _folded(run, signs) == _folded(whole, signs)


def _folded(word: str, signs: Mapping[int, str]) -> str:
    """The word with one sign for all that look alike, and without accents."""
    plain = unicodedata.normalize("NFD", word.casefold())
    return "".join(mark for mark in plain if not unicodedata.combining(mark)).translate(signs)


def _spaced(word: str) -> bool:
    """Whether the script puts spaces between words."""
    return any(unicodedata.name(mark, "").startswith(("LATIN", "DIGIT")) for mark in word)


def _distance(one: str, other: str) -> int:
    """Letters to change, add, leave out or swap with a neighbour (optimal string alignment); for words of other lengths
    the difference alone, if that is more than a third."""
    if 3 * abs(len(one) - len(other)) > max(3, len(one)):
        return abs(len(one) - len(other))
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        now = [i]
        for j, b in enumerate(other, 1):
            cost = min(row[j] + 1, now[j - 1] + 1, row[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            now.append(cost)
        before, row = row, now
    return row[-1]


def _readable(text: str) -> bool:
    """Whether there is something to read, in letters that the readers know: at least two letters or digits."""
    marks = [mark for mark in unicodedata.normalize("NFKC", text) if mark.isalnum()]
    return len(marks) >= 2 and all(unicodedata.name(mark, "").startswith(_SCRIPTS) for mark in marks)
