"""Readers that err: what a canvas is taken for."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from .perceive import Perception
from .scene import BACKDROPS, LETTERS, NOUNS, SIGN, SIZES, Thing, looks
from .spec import AtLeast, Item, Relation, Statement

INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
WEAK = 4.0
"""How much more often a correlated reader errs where vision-language models are weak: counts above MANY, left and right,
words that are nearly right."""
MOST = 0.5
MANY = 4
_ALIKE = ("OQCDG", "IJLT", "BPRK", "EFB", "MNWH", "UVY", "SZ", "XKY", "AHR")


def near(word: str, rng: random.Random) -> str:
    """Return the word with one letter exchanged, for one that looks alike where there is one."""
    place = rng.randrange(len(word))
    others = [letter for group in _ALIKE if word[place] in group for letter in group] or list(LETTERS)
    letter = rng.choice([other for other in others if other != word[place]])
    return word[:place] + letter + word[place + 1 :]


def misread(perception: Perception, rate: float, rng: random.Random) -> Perception:
    """Return the perception of a reader that errs: each thing is overlooked with probability `rate`, each of noun,
    colour and size of the others, or the word on a sign, is replaced with the same probability, and so is the backdrop.

    What is unclear stays. Raises ValueError for a rate outside 0 to 1.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"a misreading rate is a probability, 0 to 1, not {rate}")
    things = tuple(misread_thing(thing, rate, rng) for thing in perception.things if rng.random() >= rate)
    backdrop = perception.backdrop
    if backdrop is not None:
        backdrop = _atom(backdrop, BACKDROPS, rate, rng)
    return Perception(things, backdrop, perception.unclear)


def misread_thing(thing: Thing, rate: float, rng: random.Random) -> Thing:
    if thing.noun == SIGN:
        return replace(thing, word=near(thing.word, rng)) if thing.word and rng.random() < rate else thing
    noun = _atom(thing.noun, NOUNS, rate, rng)
    color = _atom(thing.color, looks(noun), rate, rng)
    color = color if color in looks(noun) else looks(noun)[0]
    return replace(thing, noun=noun, color=color, size=_atom(thing.size, SIZES, rate, rng))


def _atom(value: str, values: tuple[str, ...], rate: float, rng: random.Random) -> str:
    return rng.choice([other for other in values if other != value]) if rng.random() < rate else value


@dataclass(frozen=True, slots=True)
class Weakness:
    """Misreadings that come back in every picture, each decided once and for all by the seed and by what is read.

    With a rate of WEAK x `rate`, at most MOST: more than MANY things of one kind are counted one too many or one too
    few; left and right are exchanged between two kinds of thing; a word that is one letter off is taken for the word
    that is asked for.
    """

    rate: float
    seed: int

    def _errs(self, what: str) -> bool:
        chance = min(MOST, WEAK * self.rate)
        return chance > 0 and random.Random(f"{self.seed}/weak/{what}").random() < chance

    def count(self, key: tuple[str, str], number: int) -> int:
        """Return what so many things of a kind are counted as."""
        if number <= MANY or not self._errs(f"count/{key}"):
            return number
        return number + random.Random(f"{self.seed}/off/{key}").choice((-1, 1))

    def side(self, relation: Relation) -> Relation:
        """Return the relation that is looked for in place of this one."""
        pair = "/".join(map(str, sorted((relation.a, relation.b))))
        mirrored = relation.kind in ("left of", "right of") and self._errs(f"side/{pair}")
        return replace(relation, kind=INVERSE[relation.kind]) if mirrored else relation

    def reads(self, shown: str, asked: str) -> bool:
        """Say whether a shown word is taken for the one that is asked for."""
        if shown == asked:
            return True
        off = sum(a != b for a, b in zip(shown, asked))
        return len(shown) == len(asked) > 1 and off == 1 and self._errs(f"word/{asked}")

    def holds(self, statement: Statement, seen: Perception) -> bool:
        """Say whether a statement about items or a relation seems to hold."""
        if isinstance(statement, Relation):
            return self.side(statement).holds(seen.scene())
        if isinstance(statement, Item | AtLeast):
            item = statement if isinstance(statement, Item) else statement.item
            mine = [self._taken(thing, item) for thing in seen.things if thing.key == item.key]
            fitting = [thing for thing in mine if item.fits(thing)]
            if isinstance(statement, AtLeast):
                return self.count(item.key, len(fitting)) >= item.count
            return len(fitting) == len(mine) and self.count(item.key, len(mine)) == item.count
        return statement.holds(seen.scene())

    def _taken(self, thing: Thing, item: Item) -> Thing:
        if item.word is None or not self.reads(thing.word, item.word):
            return thing
        return replace(thing, word=item.word)
