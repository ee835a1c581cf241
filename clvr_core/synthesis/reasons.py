"""Reasons in the first person, rewritten by a teacher: what a controller looks at, misses and keeps, in natural words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..controller.prompts import MAX_SUMMARY
from ..protocols import Message, Vlm
from ..reading import json_of
from ..run.conditioning import words_of
from ..trajectory import Action
from ..vlm.replies import Malformed, ask

REASONS = "reasons.jsonl"
REQUEST = """Someone paints a picture step by step and notes before each step why it is done. Rewrite the note of one step in the \
first person, in two or three natural sentences: what is already right, what is missing or wrong, what is changed now and what must \
stay. Say nothing that the note and the step do not say.

The note: {note}

The step: {step}
"""
SCHEMA = {
    "type": "object",
    "properties": {"reason": {"type": "string", "maxLength": MAX_SUMMARY}},
    "required": ["reason"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class _Reason:
    reason: str


class Reasons:
    """Rewrites the summaries of actions, each once: what the teacher has written is kept in a file.

    kept_as_they_were: how many the teacher gave no usable reply for.
    """

    def __init__(self, teacher: Vlm, folder: Path, report: Callable[[str], None] = print) -> None:
        self.teacher, self.path, self.report = teacher, folder / REASONS, report
        self.kept_as_they_were = 0
        self._known: dict[tuple[str, int], str] = {}
        lines = self.path.read_text("utf-8").splitlines(keepends=True) if self.path.exists() else []
        for line in lines:
            if line.endswith("\n"):  # a kill may have cut the last one
                held = json_of(line)
                self._known[held["run"], held["step"]] = held["reason"]
        if lines and not lines[-1].endswith("\n"):
            self.path.write_text("".join(lines[:-1]), "utf-8")

    def __call__(self, run: str, step: int, action: Action) -> str:
        """Return the teacher's words for the summary of the action; its own if the teacher gave none."""
        known = self._known.get((run, step))
        if known is None:
            known = self._known[run, step] = self._asked(run, step, action)
        return known

    def _asked(self, run: str, step: int, action: Action) -> str:
        text = REQUEST.format(note=action.summary or "none", step=f"{action.kind}. {words_of(action)}")
        answer = ask(self.teacher, [Message("user", text)], SCHEMA, _Reason, _require_words)
        if answer.value is None:
            self.kept_as_they_were += 1
            self.report(f"run {run}, step {step} keeps its own reason: {answer.failure}")
            return action.summary
        reason = answer.value.reason.strip()
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"run": run, "step": step, "reason": reason}, ensure_ascii=False) + "\n")
        return reason


def _require_words(reply: _Reason) -> None:
    if not reply.reason.strip() or len(reply.reason) > MAX_SUMMARY:
        raise Malformed(f"the reason has {len(reply.reason)} characters; write 1 to {MAX_SUMMARY}")
