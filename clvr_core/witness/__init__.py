"""Second witnesses: what looks at a picture beside the judge, and the rule by which both make one verdict.

A vision-language model reads a misspelt word as the right one and counts the same fruit twice. A witness is another kind
of program: a text reader, an object detector, an embedding. Where both agree the verdict stands; where they disagree it
is `unsure` with both stories, and the loop looks at the goal again.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from ..brief import Goal
from ..protocols import Picture
from ..text import one_line
from ..trajectory import Finding, State, Verdict
from .reliability import Reliability
from .things import COUNTED

MAX_WORDS = 300
"""Characters of one witness's words on a goal."""
MAX_BOXES = 64
"""Boxes of one witness on a goal that are kept."""
SECONDS = 60.0
"""How long one witness may look at one picture."""
HEARD = 0.6
"""Share of cases in which a witness must have been right when it said so, as measured, for its word to count."""
SURE = 0.8
"""Likewise, to settle a goal of which the judge is unsure."""
CHANGES = "changes"
"""Name in the record of what was measured on the pixels of an edit."""
PULSE = 0.2
"""Seconds between two calls of `check` while a witness is waited for."""


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


@runtime_checkable
class Comparing(Protocol):
    """Optional, of a witness: it compares pictures with the named references of the brief."""

    def compare(
        self, picture: Picture, goals: Sequence[Goal], references: Mapping[str, Picture]
    ) -> Mapping[str, Finding]:
        """As `look`. references: by name, uint8 H x W x 3."""
        ...


def agree(verdict: Verdict, said: Sequence[Finding]) -> Verdict:
    """Make one verdict of the judge's and of what the witnesses say.

    - All agree: the state stays, and the evidence names each.
    - One disagrees: `unsure`, with each story as evidence.
    - The judge is unsure and all witnesses say yes: `met`, unless one of them was measured as right in less than SURE of
      such cases. If one says no it stays unsure: a witness alone never fails a goal.
    - The judge's own count (`count`) and all witnesses say the same, against what the judge said of the goal: the judge
      and a witness agree, so the goal is met or unmet.
    - A witness that was measured as right in less than HEARD of such cases is told and not counted.
    - The judge gave no answer, or the goal is not due yet: the state stays, since a witness is no judge.
    """
    if not said:
        return verdict
    counted = [finding for finding in said if finding.reliability is None or finding.reliability >= HEARD]
    state = _state(verdict.state, counted) if counted else verdict.state
    stories = [f"the judge: {_judged(verdict)}"] + [f"{one.witness}: {_told(one)}" for one in said]
    return replace(
        verdict,
        state=state,
        evidence="; ".join(stories),
        confidence=verdict.confidence if state == verdict.state else None,
        witnesses=tuple(said),
    )


def _state(judged: State, said: Sequence[Finding]) -> State:
    sides = {finding.says for finding in said}
    if judged not in ("met", "unmet", "unsure") or len(sides) > 1:
        return judged if judged in ("error", "pending") else "unsure"
    (side,) = sides
    state: State = "met" if side == "yes" else "unmet"
    if state == judged or len({finding.witness == COUNTED for finding in said}) == 2:
        return state
    sure = all(finding.reliability is None or finding.reliability >= SURE for finding in said)
    return "met" if judged == "unsure" and side == "yes" and sure else "unsure"


def _judged(verdict: Verdict) -> str:
    sure = "" if verdict.confidence is None else f" ({verdict.confidence:.2f})"
    seen = f", {verdict.evidence}" if verdict.evidence else ""
    return f"{verdict.state}{sure}{seen}"


def _told(finding: Finding) -> str:
    told = finding.words or finding.says
    if finding.reliability is not None and finding.reliability < HEARD:
        return f"{told} (not counted: right in {finding.reliability:.2f} of such cases)"
    return told


@dataclass(frozen=True)
class Heard:
    """What all witnesses say: goal -> one finding of each that has something to say; and why one said nothing."""

    said: Mapping[str, tuple[Finding, ...]]
    warnings: tuple[str, ...] = ()


class Witnesses:
    """The witnesses of a run, each asked with a time limit.

    One that fails or does not come back within the limit has nothing to say; the latter is not asked again.

    check: called while a witness is waited for; what it raises ends the look unchanged, as Cancel does.
    counts: whether the judge is also asked how many there are, which is compared with what the others say.
    changes: whether what was measured on the pixels of an edit is a witness of what was to be kept.
    reliability: name of a witness -> how often it was right, as it was measured.
    """

    def __init__(
        self,
        witnesses: Sequence[Witness] = (),
        seconds: float = SECONDS,
        check: Callable[[], None] | None = None,
        *,
        counts: bool = False,
        changes: bool = False,
        reliability: Mapping[str, Reliability] | None = None,
    ) -> None:
        self._witnesses, self._seconds, self._check = list(witnesses), seconds, check or (lambda: None)
        self.counts, self.changes, self._reliability = counts, changes, dict(reliability or {})
        asked = [COUNTED] * counts + [CHANGES] * changes
        self.name = ", ".join([*(witness.name for witness in self._witnesses), *asked])
        """The names of all, for the trajectory."""

    def __bool__(self) -> bool:
        return bool(self.name)

    @property
    def members(self) -> tuple[Witness, ...]:
        """The witnesses that look at single pictures, less those that were too slow."""
        return tuple(self._witnesses)

    @property
    def kinds(self) -> dict[str, str]:
        """Kind of each witness that looks at single pictures, as a finding names it -> the name of the witness."""
        named = [witness.name for witness in self._witnesses] + [COUNTED] * self.counts
        return {name.partition(" ")[0]: name for name in named}

    def look(
        self,
        picture: Picture,
        goals: Sequence[Goal],
        counted: Mapping[str, Finding] | None = None,
        references: Mapping[str, Picture] | None = None,
    ) -> Heard:
        """Ask each witness about the picture, uint8 H x W x 3.

        counted: goal -> the judge's own count, which is heard beside them.
        references: the named references of the brief, uint8 H x W x 3.
        """
        said = {goal: [self._weighed(COUNTED, finding)] for goal, finding in (counted or {}).items()}
        warnings = []
        known = {goal.id for goal in goals}
        for witness in list(self._witnesses):
            found, failure = self._asked(witness, picture, goals, references or {})
            if failure:
                warnings.append(failure)
            for goal, finding in found.items():
                if goal in known:
                    said.setdefault(goal, []).append(self._weighed(witness.name, _short(finding)))
        return Heard({goal: tuple(each) for goal, each in said.items()}, tuple(warnings))

    def _weighed(self, name: str, finding: Finding) -> Finding:
        """The finding with what was measured of the witness of this name."""
        known = self._reliability.get(name)
        return finding if known is None else replace(finding, reliability=known.of(finding.says))

    def _asked(
        self, witness: Witness, picture: Picture, goals: Sequence[Goal], references: Mapping[str, Picture]
    ) -> tuple[Mapping[str, Finding], str]:
        """What the witness says, or why it says nothing."""
        answer: list[Mapping[str, Finding]] = []
        failure: list[BaseException] = []

        def look() -> None:
            try:
                if references and isinstance(witness, Comparing):
                    answer.append(witness.compare(picture, goals, references))
                else:
                    answer.append(witness.look(picture, goals))
            except BaseException as error:
                failure.append(error)

        # A daemon, since a library that hangs cannot be stopped and must not keep the process.
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(look,), daemon=True, name=f"witness {witness.name}")
        thread.start()
        last = time.monotonic() + self._seconds
        while True:
            thread.join(min(max(0.0, last - time.monotonic()), PULSE))
            self._check()
            if not thread.is_alive() or time.monotonic() >= last:
                break
        if thread.is_alive():
            self._witnesses = [other for other in self._witnesses if other is not witness]
            return (
                {},
                f"the witness {witness.name} gave no answer in {self._seconds:g} s and is not asked again in this run",
            )
        if failure and not isinstance(failure[0], Exception):
            raise failure[0]
        if failure:
            why = one_line(f"{type(failure[0]).__name__}: {failure[0]}", MAX_WORDS)
            return {}, f"the witness {witness.name} failed: {why}"
        return answer[0], ""


def _short(finding: Finding) -> Finding:
    return replace(finding, words=one_line(finding.words, MAX_WORDS), boxes=finding.boxes[:MAX_BOXES])
