"""Asks the judge how many there are, as a number: it answers "is it three?" with yes more easily than it miscounts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..brief import Goal
from ..protocols import Picture, Vlm
from ..trajectory import Finding
from ..vlm.replies import Answer, ask
from ..witness.things import countable, finding_of_number
from . import prompts


@dataclass(frozen=True)
class _Number:
    goal: str
    number: int


@dataclass(frozen=True)
class _Counts:
    counts: tuple[_Number, ...]


def counted(vlm: Vlm, picture: Picture, goals: Sequence[Goal]) -> Answer[Mapping[str, Finding]]:
    """Return, by goal, the judge's own count as evidence, for the goals that say a number; one call for all, none if there
    are no such goals.

    A number that is missing, negative or given twice says nothing. picture: uint8 H x W x 3.
    """
    about = {goal.id: what for goal in goals if (what := countable(goal)) is not None}
    if not about:
        return Answer({}, "", 0, 0)
    messages, schema = prompts.count_request(picture, {goal: what.thing.words for goal, what in about.items()})
    answer = ask(vlm, messages, schema, _Counts)
    given = answer.value.counts if answer.value else ()
    named = [one.goal for one in given]
    found = {
        one.goal: finding
        for one in given
        if one.goal in about
        and named.count(one.goal) == 1
        and 0 <= one.number <= prompts.MOST_COUNTED
        and (finding := finding_of_number(about[one.goal], one.number)) is not None
    }
    return Answer(found, answer.failure, answer.tokens, answer.calls)
