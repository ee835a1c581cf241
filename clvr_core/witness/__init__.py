"""Second witnesses: what looks at a picture beside the judge, and the rule by which both make one verdict.

A vision-language model reads a misspelt word as the right one and counts the same fruit twice. A witness is another kind
of program: a text reader, an object detector, an embedding. Where both agree the verdict stands; where they disagree it
is `unsure` with both stories, and the loop looks at the goal again.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from ..brief import Goal
from ..protocols import Picture
from ..text import one_line
from ..trajectory import Finding, State, Verdict

MAX_WORDS = 300
"""Characters of one witness's words on a goal."""
MAX_BOXES = 64
"""Boxes of one witness on a goal that are kept."""
SECONDS = 60.0
"""How long one witness may look at one picture."""


@runtime_checkable
class Witness(Protocol):
    """Looks at pictures with other means than the judge."""

    @property
    def name(self) -> str:
        """Names the witness and what it runs in the trajectory; holds no address and no path."""
        ...

    def look(self, picture: Picture, goals: Sequence[Goal]) -> Mapping[str, Finding]:
        """Return, by id, what is to be said of the goals; a goal of which it has nothing to say is left out.

        picture: uint8 H x W x 3.
        """
        ...


def agree(verdict: Verdict, said: Sequence[Finding]) -> Verdict:
    """Make one verdict of the judge's and of what the witnesses say.

    - All agree: the state stays, and the evidence names each.
    - One disagrees: `unsure`, with each story as evidence.
    - The judge is unsure and all witnesses say yes: `met`. If one says no it stays unsure: a witness alone never fails a
      goal.
    - The judge gave no answer, or the goal is not due yet: the state stays, since a witness is no judge.
    """
    if not said:
        return verdict
    state = _state(verdict.state, frozenset(finding.says for finding in said))
    stories = [f"the judge: {_judged(verdict)}"] + [f"{one.witness}: {_told(one)}" for one in said]
    return replace(
        verdict,
        state=state,
        evidence="; ".join(stories),
        confidence=verdict.confidence if state == verdict.state else None,
        witnesses=tuple(said),
    )


def _state(judged: State, said: frozenset[str]) -> State:
    if judged in ("met", "unmet"):
        return judged if said == {"yes" if judged == "met" else "no"} else "unsure"
    if judged == "unsure":
        return "met" if said == {"yes"} else "unsure"
    return judged


def _judged(verdict: Verdict) -> str:
    sure = "" if verdict.confidence is None else f" ({verdict.confidence:.2f})"
    seen = f", {verdict.evidence}" if verdict.evidence else ""
    return f"{verdict.state}{sure}{seen}"


def _told(finding: Finding) -> str:
    return finding.words or finding.says


@dataclass(frozen=True)
class Heard:
    """What all witnesses say: goal -> one finding of each that has something to say; and why one said nothing."""

    said: Mapping[str, tuple[Finding, ...]]
    warnings: tuple[str, ...] = ()


class Witnesses:
    """The witnesses of a run, each asked with a time limit.

    One that fails or does not come back within the limit has nothing to say; the latter is not asked again.
    """

    def __init__(self, witnesses: Sequence[Witness] = (), seconds: float = SECONDS) -> None:
        self._witnesses, self._seconds = list(witnesses), seconds

    def __bool__(self) -> bool:
        return bool(self._witnesses)

    @property
    def name(self) -> str:
        """The names of all, for the trajectory."""
        return ", ".join(witness.name for witness in self._witnesses)

    def look(self, picture: Picture, goals: Sequence[Goal]) -> Heard:
        """Ask each witness about the picture, uint8 H x W x 3."""
        said: dict[str, list[Finding]] = {}
        warnings = []
        known = {goal.id for goal in goals}
        for witness in list(self._witnesses):
            found, failure = self._asked(witness, picture, goals)
            if failure:
                warnings.append(failure)
            for goal, finding in found.items():
                if goal in known:
                    said.setdefault(goal, []).append(_short(finding))
        return Heard({goal: tuple(each) for goal, each in said.items()}, tuple(warnings))

    def _asked(self, witness: Witness, picture: Picture, goals: Sequence[Goal]) -> tuple[Mapping[str, Finding], str]:
        """What the witness says, or why it says nothing."""
        answer: list[Mapping[str, Finding]] = []
        failure: list[Exception] = []

        def look() -> None:
            try:
                answer.append(witness.look(picture, goals))
            except Exception as error:
                failure.append(error)

        # A daemon, since a library that hangs cannot be stopped and must not keep the process.
        thread = threading.Thread(target=look, daemon=True, name=f"witness {witness.name}")
        thread.start()
        thread.join(self._seconds)
        if thread.is_alive():
            self._witnesses = [other for other in self._witnesses if other is not witness]
            return (
                {},
                f"the witness {witness.name} gave no answer in {self._seconds:g} s and is not asked again in this run",
            )
        if failure:
            why = one_line(f"{type(failure[0]).__name__}: {failure[0]}", MAX_WORDS)
            return {}, f"the witness {witness.name} failed: {why}"
        return answer[0], ""


def _short(finding: Finding) -> Finding:
    return replace(finding, words=one_line(finding.words, MAX_WORDS), boxes=finding.boxes[:MAX_BOXES])
