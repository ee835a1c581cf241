"""What a goal says of things that can be found and counted, and whether what was found is that. Pure.

Only plain statements are read: "three red apples", "exactly one dog", "no people", "a cat to the left of a dog". Of all
others the witness has nothing to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ..brief import Box, Goal, around, common_area
from ..trajectory import Finding

NAME = "objects"
COUNTED = "count"
"""Name in the record of the judge's own answer to "how many?", which is asked beside "is it so?"."""
INSIDE = 0.75
"""Share of a thing's box that lies in another box for it to count as inside of it."""
MARGIN = 0.1
"""Share of the summed sides of two boxes by which their centres must differ to count as apart, as in GenEval."""
NUMBERS = {
    word: number
    for number, word in enumerate("zero one two three four five six seven eight nine ten eleven twelve".split())
}
COLORS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "black", "white", "gray")
_GREY = {"grey": "gray", "violet": "purple", "turquoise": "cyan", "golden": "yellow", "gold": "yellow"}
_IRREGULAR = {
    "people": "person",
    "men": "man",
    "women": "woman",
    "children": "child",
    "feet": "foot",
    "teeth": "tooth",
    "mice": "mouse",
    "geese": "goose",
    "buses": "bus",
    "knives": "knife",
    "wolves": "wolf",
    "leaves": "leaf",
    "loaves": "loaf",
    "sheep": "sheep",
    "fish": "fish",
    "scissors": "scissors",
    "glasses": "glasses",
}
_EYES = ("eye", "reading", "swimming", "safety", "opera")
"""Before glasses that are no drinking glasses."""
SIZES = ("large", "small", "big", "little", "tiny")
Relation = Literal["left of", "right of", "above", "below", "inside"]
_NUMBER = "|".join(["an?", r"\d{1,2}", *NUMBERS])
_PLACE = (
    r"(?:\s+(?:(?:are |is )?(?:visible|seen)|in the (?:picture|image|scene))"
    r"|(?P<place>\s+(?:in|on|at|near|standing|sitting|lying)\b.*))?"
)
_NOUN = r"[a-z][a-z-]*(?:\s+[a-z][a-z-]*){0,3}?"
_COUNT = re.compile(
    rf"(?:there\s+(?:is|are)\s+|the\s+(?:picture|image|scene)\s+(?:shows|has|contains)\s+)?"
    rf"(?P<exactly>exactly\s+|precisely\s+|only\s+|just\s+)?(?P<number>{_NUMBER})\s+(?P<thing>{_NOUN}){_PLACE}"
)
_NONE = re.compile(rf"(?:there\s+(?:is|are)\s+)?(?:no|without(?:\s+any)?)\s+(?P<thing>{_NOUN}){_PLACE}")
_RELATED = re.compile(
    rf"(?:there\s+is\s+)?(?:the|an?)\s+(?P<thing>{_NOUN})\s+(?:is\s+|stands\s+|sits\s+|lies\s+)?"
    r"(?P<relation>(?:to\s+the\s+|on\s+the\s+)?(?:left|right)\s+of|above|over|below|under|beneath|inside(?:\s+of)?|within)\s+"
    rf"(?:the|an?)\s+(?P<other>{_NOUN})"
)
_VAGUE = re.compile(
    r"\b(?:style|light|lighting|mood|background|sky|atmosphere|colou?rs?|palette|view|composition|text|words?|letters?|"
    r"lettering|shot|photo|painting|scene|picture|image|or|not|with|and|that|whose|holding|wearing|of)\b"
)
_LAMPS = re.compile(r"\b(?:traffic|street|stop)\s+lights?\b")
"""Lights that are things."""


@dataclass(frozen=True)
class Thing:
    """name: a noun in the singular, without its colour. color: one of COLORS, "" for any."""

    name: str
    color: str = ""

    @property
    def words(self) -> str:
        return f"{self.color} {self.name}".strip()


@dataclass(frozen=True)
class Count:
    """
    least, most: how many there may be; `most` None for any number.
    partial: whether the goal says more of them, such as a place or a size: then more elsewhere are no fault, and enough of
        them are not all that it asks.
    """

    thing: Thing
    least: int
    most: int | None
    partial: bool = False


@dataclass(frozen=True)
class Related:
    thing: Thing
    relation: Relation
    other: Thing


@dataclass(frozen=True)
class Found:
    """A thing in the picture. score: 0..1."""

    name: str
    score: float
    box: Box


@dataclass(frozen=True)
class Limits:
    """Scores 0..1 of a detector.

    seen: from here up a thing is there.
    perhaps: below that it is not; between the two the witness says nothing.
    """

    seen: float = 0.5
    perhaps: float = 0.25

    @classmethod
    def at(cls, seen: float) -> Limits:
        """The limits with this `seen` and half of it as `perhaps`."""
        return cls(seen, seen / 2)


def asked(goal: Goal) -> Count | Related | None:
    """Return what the goal says of things; None for a goal in other words."""
    text = " ".join(goal.text.lower().replace("\u2019", "'").rstrip(" .!").split())
    if goal.kind in ("text", "global") or '"' in text:
        return None
    if found := _RELATED.fullmatch(text):
        thing, other = _thing(found["thing"]), _thing(found["other"])
        return Related(thing, _relation(found["relation"]), other) if thing and other and thing != other else None
    if found := _NONE.fullmatch(text):
        thing = _thing(found["thing"])
        return Count(thing, 0, 0, _more(found)) if thing else None
    if found := _COUNT.fullmatch(text):
        thing, word = _thing(found["thing"]), found["number"]
        if thing is None:
            return None
        number = 1 if word in ("a", "an") else int(word) if word.isdigit() else NUMBERS[word]
        most = None if word in ("a", "an") and not found["exactly"] else number
        return Count(thing, number, most, _more(found))
    return None


def _more(found: re.Match[str]) -> bool:
    """Whether the words say a place or a size, which nobody looks at here."""
    return found["place"] is not None or found["thing"].split()[0] in SIZES


def things_of(what: Count | Related) -> tuple[Thing, ...]:
    return (what.thing,) if isinstance(what, Count) else (what.thing, what.other)


def finding_on(
    what: Count | Related,
    found: Sequence[Found],
    color_of: Callable[[Box], frozenset[str]],
    limits: Limits,
) -> Finding | None:
    """Say whether what was found is what the goal says; None where the scores leave it open.

    found: the things of these names, also those of low scores.
    color_of: the colours inside a box.
    """
    if isinstance(what, Count):
        return _on_count(what, _apart(_of(what.thing, found, color_of, limits.perhaps)), limits)
    ones, others = (_apart(_of(thing, found, color_of, limits.seen)) for thing in (what.thing, what.other))
    if len(ones) != 1 or len(others) != 1:
        return None
    (one,), (other,) = ones, others
    holds = what.relation in relations(one.box, other.box)
    words = (
        f"the {what.thing.words} is {'' if holds else 'not '}{what.relation} the {what.other.words} by their centres"
    )
    return Finding(NAME, "yes" if holds else "no", min(one.score, other.score), words, (one.box, other.box))


def _on_count(what: Count, found: Sequence[Found], limits: Limits) -> Finding | None:
    seen = [one for one in found if one.score >= limits.seen]
    says = _says(what, len(seen))
    if says is None or says != _says(what, len(found)):
        return None
    shown = seen or list(found)
    strength = min((one.score for one in seen), default=1 - max((one.score for one in found), default=0.0))
    number = str(len(seen)) if len(seen) == len(found) else f"{len(seen)} to {len(found)}"
    # What is too many can be taken away where it is; where something is to be added nobody has seen.
    fault = around(one.box for one in seen[what.most :]) if what.most is not None and len(seen) > what.most else None
    boxes = tuple(one.box for one in shown)
    return Finding(NAME, says, strength, f'finds {number} "{what.thing.words}"', boxes, fault)


def countable(goal: Goal) -> Count | None:
    """Return what the goal says of a number, if "how many?" can be asked; None for any other goal."""
    what = asked(goal)
    if not isinstance(what, Count) or what.most is None or (what.partial and not what.least):
        return None
    return what


def finding_of_number(what: Count, number: int) -> Finding | None:
    """The judge's own count as evidence; None if it tells nothing of the goal. number: at least 0."""
    says = _says(what, number)
    return None if says is None else Finding(COUNTED, says, words=f'counts {number} "{what.thing.words}"')


def _says(what: Count, number: int) -> Literal["yes", "no"] | None:
    """What so many of them mean for the goal."""
    if what.partial:
        return "no" if number < what.least else None
    return "yes" if what.least <= number and (what.most is None or number <= what.most) else "no"


def _of(thing: Thing, found: Sequence[Found], color_of: Callable[[Box], frozenset[str]], least: float) -> list[Found]:
    return [
        one
        for one in found
        if one.name == thing.name and one.score >= least and (not thing.color or thing.color in color_of(one.box))
    ]


def _apart(found: Sequence[Found]) -> list[Found]:
    """The things without those that cover nearly the same place as one of a higher score."""
    kept: list[Found] = []
    for one in sorted(found, key=lambda each: -each.score):
        if all(union_share(one.box, other.box) < 0.6 for other in kept):
            kept.append(one)
    return kept


def union_share(one: Box, other: Box) -> float:
    """Intersection over union of two boxes, 0..1."""
    common = common_area(one, other)
    areas = ((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return common / (sum(areas) - common) if common > 0 else 0.0


def relations(one: Box, other: Box) -> frozenset[Relation]:
    """Where `one` lies from `other`, by their centres, y downwards. A distance within MARGIN of the summed sides counts
    as none."""
    x = (one[0] + one[2] - other[0] - other[2]) / 2
    y = (one[1] + one[3] - other[1] - other[3]) / 2
    wide = MARGIN * (one[2] - one[0] + other[2] - other[0])
    high = MARGIN * (one[3] - one[1] + other[3] - other[1])
    named: dict[Relation, bool] = {
        "left of": x < -wide,
        "right of": x > wide,
        "above": y < -high,
        "below": y > high,
        "inside": _within(one, other),
    }
    return frozenset(name for name, true in named.items() if true)


def _within(one: Box, other: Box) -> bool:
    """Whether the centre of `one` lies in the other box, with most of it, and it is the smaller one."""
    x, y = (one[0] + one[2]) / 2, (one[1] + one[3]) / 2
    mine, its = ((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    centred = other[0] <= x <= other[2] and other[1] <= y <= other[3]
    return centred and mine < its and common_area(one, other) >= INSIDE * mine


def _relation(words: str) -> Relation:
    if words.startswith(("inside", "within")):
        return "inside"
    if "left" in words:
        return "left of"
    if "right" in words:
        return "right of"
    return "above" if words in ("above", "over") else "below"


def _thing(words: str) -> Thing | None:
    """The thing that the words name; None if they say more than a noun with its colour and size."""
    if _VAGUE.search(_LAMPS.sub("", words)):
        return None
    parts = words.split()
    color = ""
    # An orange is a colour and a fruit.
    while parts and parts != ["orange"] and (parts[0] in COLORS or parts[0] in _GREY or parts[0] in SIZES):
        word = parts.pop(0)
        color = _GREY.get(word, word) if word in COLORS or word in _GREY else color
    if not parts or len(parts) > 2:
        return None
    return Thing(singular(" ".join(parts)), color)


def singular(noun: str) -> str:
    """The singular of an English noun, of one word or of more, by rule."""
    before, _, last = noun.rpartition(" ")
    if before:
        return f"{before} {'glass' if last == 'glasses' and before not in _EYES else singular(last)}"
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith("ies") and len(noun) > 4:
        return noun[:-3] + "y"
    if noun.endswith(("ches", "shes", "sses", "xes", "zzes", "oes")):
        return noun[:-2]
    return noun[:-1] if noun.endswith("s") and not noun.endswith(("ss", "us", "is")) else noun
