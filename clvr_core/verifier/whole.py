"""The active verification of CLVR (arXiv 2605.14876): a look at the whole picture for what the checklist lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..brief import Brief, DraftedKind, Goal
from ..protocols import Picture, Vlm
from ..text import one_line
from ..vlm.replies import Answer, ask
from . import prompts

PREFIX = "v"
"""Ids of goals that a validation found begin with it: v1, v2, ..."""


@dataclass(frozen=True)
class Whole:
    """
    gaps: goals that the checklist lacks, with ids of their own.
    back_to: canvas that serves the brief better; None to stay.
    """

    gaps: tuple[Goal, ...] = ()
    back_to: int | None = None


@dataclass(frozen=True)
class _Gap:
    text: str
    kind: DraftedKind = "local"
    check: str = ""


@dataclass(frozen=True)
class _Reply:
    gaps: tuple[_Gap, ...] = ()
    back_to: int | None = None


def look_at_whole(vlm: Vlm, brief: Brief, goals: Sequence[Goal], pictures: Mapping[int, Picture]) -> Answer[Whole]:
    """Ask what of the brief the current canvas lacks and no goal says, and whether an earlier canvas is better.

    pictures: canvas -> uint8 H x W x 3, the current one first.

    A gap that says what a goal says already is left out, and so are those beyond MAX_GAPS.
    """
    messages, schema = prompts.whole_request(brief, goals, pictures)
    answer = ask(vlm, messages, schema, _Reply)
    if answer.value is None:
        return Answer(None, answer.failure, answer.tokens, answer.calls)
    known, gaps = {_key(goal.text) for goal in goals}, []
    first = 1 + sum(goal.id.startswith(PREFIX) for goal in goals)
    for gap in answer.value.gaps:
        text = one_line(gap.text, prompts.QUOTED_GAP)
        if _key(text) in known or not _key(text) or len(gaps) == prompts.MAX_GAPS:
            continue
        known.add(_key(text))
        check = one_line(gap.check, prompts.QUOTED_GAP) or f"Does the picture show this: {text}?"
        gaps.append(Goal(f"{PREFIX}{first + len(gaps)}", text, gap.kind, check))
    back = answer.value.back_to if answer.value.back_to in list(pictures)[1:] else None
    return Answer(Whole(tuple(gaps), back), "", answer.tokens, answer.calls)


def _key(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".;,")
