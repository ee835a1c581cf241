"""The journal of one run as a session uses it: replays what is on record, compares it with what this version decides,
appends the rest."""

from __future__ import annotations

from typing import Any

from ..brief import Budget
from ..errors import BadInput
from ..records import from_json, to_json
from .loop import RESULTS, Call, ChooseAction, Compare, DraftGoals, Draw, Drawn, Judge, Repair, Result, Review
from .run_folder import JOURNAL
from .store import RunStore

EVENTS: dict[type, str] = {
    DraftGoals: "goals",
    ChooseAction: "action",
    Draw: "drawn",
    Judge: "judged",
    Repair: "repaired",
    Compare: "compared",
    Review: "review",
}
"""Event of the line that records a call's result."""
DECIDED = ("plan", "current", "best")
"""Fields of a decision's line in which a replay must agree with the record."""


def result_line(call: Call, result: Result, by: str = "") -> dict[str, Any]:
    """The line of a call's result. `by`: name of what made it, left out if empty."""
    return {"event": EVENTS[type(call)], "result": to_json(result)} | ({"by": by} if by else {})


class Journal:
    """
    position: number of lines replayed or appended so far, which is the index of the next line.
    ending: position at which the loop decided to begin no further round; None before that.
    """

    def __init__(self, store: RunStore, budget: Budget, settled: int | None = None) -> None:
        """
        budget: the run's budget from now on.
        settled: number of lines that stay valid under `budget`; later ones were written under a smaller budget and are
            decided again. None if all stay valid.
        """
        self.store, self.budget = store, budget
        self.position = 0
        self.ending: int | None = None
        self._settled = settled

    def recorded(self, event: str) -> dict[str, Any] | None:
        """The line at `position`, or None once the record is used up. Raises BadInput if it records another event."""
        if self._settled is not None and self.position >= self._settled:
            self._settle(event)
        line = self._line()
        if line is not None and line["event"] != event:
            raise self.differs(f"{line['event']!r} where this version would do {event!r}")
        return line

    def record(self, line: dict[str, Any]) -> bool:
        """Append the line, or compare it with the one on record. Return whether it was appended.

        Raises BadInput if the record says otherwise.
        """
        recorded = self.recorded(line["event"])
        if recorded is None:
            self.store.append(line)
        else:
            for key in DECIDED:
                if recorded.get(key) != line.get(key):
                    raise self.differs(f"{key} {recorded.get(key)} where this version decides {line.get(key)}")
        self.position += 1
        return recorded is None

    def next_result(self, call: Call, upto: int | None = None) -> Result | None:
        """Read the result of `call` from the next line, among the first `upto` lines if given; None once the record is
        used up."""
        if upto is not None and self.position >= upto:
            return None
        line = self.recorded(EVENTS[type(call)])
        return None if line is None else self._result(call, line)

    def result_by(self, call: Call, by: str) -> Result | None:
        """Read the result of `call` from the next line, if `by` made it."""
        line = self._line() or {}
        same = (line.get("event"), line.get("by", "")) == (EVENTS[type(call)], by)
        return self._result(call, line) if same else None

    def passes_review(self, asks: bool, upto: int | None = None) -> bool:
        """Whether the run continues here without a remark: none is on record at this place, and either later lines are
        on record or nobody can be asked (`asks` is False)."""
        lines = self.store.lines
        end = len(lines) if upto is None else min(upto, len(lines))
        if self._settled is not None:
            end = min(end, self._settled)
        if self.position < end:
            return lines[self.position]["event"] != EVENTS[Review]
        return not asks

    def differs(self, how: str) -> BadInput:
        return BadInput(
            f"{self._place()} records {how}; the run was made by another version of clvr, so start a new one"
        )

    def _line(self) -> dict[str, Any] | None:
        lines = self.store.lines
        return lines[self.position] if self.position < len(lines) else None

    def _result(self, call: Call, line: dict[str, Any]) -> Result:
        from .flaws import flaw_of  # which knows what each model may answer, and is needed by a replay alone

        try:
            result = from_json(RESULTS[type(call)], line.get("result"))
            if flaw := flaw_of(call, result):
                raise ValueError(flaw)
        except ValueError as error:
            raise BadInput(f"{self._place()} is damaged ({error}); restore the file or start a new run") from error
        seeds = tuple(candidate.seed for candidate in result.candidates) if isinstance(result, Drawn) else ()
        # Fewer than were asked for if some could not be drawn.
        if isinstance(call, Draw) and (not seeds or seeds != tuple(seed for seed in call.seeds if seed in seeds)):
            raise self.differs("other seeds than this version would draw")
        return result

    def _settle(self, event: str) -> None:
        """Keep the lines of an ending as long as the loop ends in the same way under the new budget; the end itself is
        recorded again."""
        line = self._line()
        if line is not None and self.ending is not None and line["event"] == event != "end":
            return
        self.store.rewind(self.position, self.budget)
        self._settled = None

    def _place(self) -> str:
        return f"{self.store.where}: line {self.position + 1} of {JOURNAL}"
