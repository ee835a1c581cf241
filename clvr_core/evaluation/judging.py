"""Judging a picture by a vision-language model, with decisions or one reply. Every result records the protocol and a
hash of the questions."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..brief import Goal
from ..errors import BadInput
from ..protocols import Message, Picture, Question, Vlm
from ..records import to_json
from ..text import clip, one_line
from ..trajectory import Verdict
from ..verifier.prompts import QUOTED, UNQUOTED, goal_question
from ..vlm.decisions import decide
from ..vlm.replies import Malformed, Runs, ask, settled
from ..witness import agree
from ..witness.judge import Witnessed
from .benchmarks.base import HOLDS, Item, Scale

UNSURE = HOLDS - 0.01
"""Answer of a judge whose witnesses disagree with its yes."""
PROTOCOLS = {
    "decisions": "yes/no decisions, a grade as the sum of its rungs",
    "reply": "one JSON reply for the whole checklist",
}


@dataclass(frozen=True, slots=True)
class Judged:
    """The judgment of one picture.

    answers: as in benchmarks.base.
    reasons: why an answer is missing, or what the judge wrote about it.
    silent: no answer came at all.
    """

    answers: dict[str, float | None]
    reasons: dict[str, str] = field(default_factory=dict)
    tokens: int = 0
    calls: int = 0
    seconds: float = 0.0

    @property
    def missing(self) -> int:
        return sum(value is None for value in self.answers.values())

    @property
    def silent(self) -> bool:
        return bool(self.answers) and self.missing == len(self.answers)


def rung_question(scale: Scale, grade: float, level: str) -> Question:
    """Return a question whose yes means that the picture has at least this grade."""
    text = (
        f"{clip(scale.asked, QUOTED)}\nThe scale goes from {scale.low:g} to {scale.high:g}. Has the picture at least {grade:g}, which "
        f"means: {level}? Answer yes or no."
    )
    return Question(text, data={"task": "grade", "scale": scale.id, "grade": grade})


def questions(item: Item) -> list[Question]:
    """Return the questions: the atoms in order, then the rungs of each scale."""
    asked = [goal_question(Goal(atom.id, atom.text, check=atom.question), UNQUOTED) for atom in item.atoms]
    return [*asked, *(rung_question(scale, grade, level) for scale in item.scales for grade, level in scale.rungs)]


def words_hash(items: Sequence[Item], protocol: str) -> str:
    """Return the SHA-256 over all texts that the judge is asked with."""
    digest = hashlib.sha256(protocol.encode())
    for item in items:
        said = [question.text for question in questions(item)] if protocol == "decisions" else [_asked(item)]
        digest.update(json.dumps([item.id, *said]).encode())
    return digest.hexdigest()


def judge_picture(vlm: Vlm, item: Item, pictures: Sequence[Picture], protocol: str = "decisions") -> Judged:
    """Judge one picture.

    pictures: the drawn one; for an edit the source before it.

    Raises BadInput for an unknown protocol.
    """
    if protocol not in PROTOCOLS:
        raise BadInput(f"unknown protocol {protocol!r:.40}; choose one of {', '.join(PROTOCOLS)}")
    started = time.perf_counter()
    judged = _decisions(vlm, item, pictures) if protocol == "decisions" else _reply(vlm, item, pictures)
    if isinstance(vlm, Witnessed):
        _hear(vlm, item, pictures[-1], judged)
    return Judged(judged.answers, judged.reasons, judged.tokens, judged.calls, time.perf_counter() - started)


def _hear(vlm: Witnessed, item: Item, picture: Picture, judged: Judged) -> None:
    """Let the judge's witnesses look at what the atoms say. One that they disagree on counts as UNSURE, which does not
    hold, with both stories as the reason."""
    goals = [Goal(atom.id, atom.text, check=atom.question) for atom in item.atoms]
    for atom, findings in vlm.hear(picture, goals, {}, {}).said.items():
        value = judged.answers[atom]
        if value is None:
            continue
        verdict = agree(Verdict(atom, "met" if value >= HOLDS else "unmet", confidence=max(value, 1 - value)), findings)
        judged.reasons[atom] = verdict.evidence
        if verdict.state == "unsure":
            judged.answers[atom] = min(value, UNSURE)


def _decisions(vlm: Vlm, item: Item, pictures: Sequence[Picture]) -> Judged:
    decided = decide(vlm, pictures, questions(item))
    answers: dict[str, float | None] = {}
    reasons = {}
    left = iter(decided.decisions)
    for atom in item.atoms:
        decision = next(left)
        answers[atom.id] = decision.yes
        if decision.evidence:
            reasons[atom.id] = decision.evidence
    for scale in item.scales:
        steps = [next(left) for _ in scale.rungs]
        reached = [step.yes for step in steps if step.yes is not None]
        if len(reached) < len(steps):
            answers[scale.id], reasons[scale.id] = None, next(step.evidence for step in steps if step.yes is None)
            continue
        # The expected grade, were each rung's probability that of reaching it.
        rises = [
            high - low
            for low, high in zip((scale.low, *(grade for grade, _ in scale.rungs)), (grade for grade, _ in scale.rungs))
        ]
        answers[scale.id] = scale.low + sum(rise * yes for rise, yes in zip(rises, reached))
    return Judged(answers, reasons, decided.tokens, decided.calls)


@dataclass(frozen=True)
class _Said:
    question: int
    answer: Any
    reason: str = ""


@dataclass(frozen=True)
class _Reply:
    answers: tuple[_Said, ...]


YES_NO = {"yes": 1.0, "no": 0.0}


def _asked(item: Item) -> str:
    lines = [f"{number}. {atom.question} (yes or no)" for number, atom in enumerate(item.atoms, 1)]
    for number, scale in enumerate(item.scales, len(item.atoms) + 1):
        levels = "; ".join(f"{grade:g}: {level}" for grade, level in scale.rungs)
        lines.append(
            f"{number}. {clip(scale.asked, QUOTED)} From {scale.low:g} to {scale.high:g}; {levels}. (a number)"
        )
    return (
        "Judge strictly, and only what can be seen. Answer each as JSON "
        '{"answers": [{"question": 1, "answer": "yes", "reason": "in a few words"}, ...]}.\n' + "\n".join(lines)
    )


def _schema(item: Item) -> dict[str, Any]:
    count = len(item.atoms) + len(item.scales)
    properties = {
        "question": {"type": "integer", "minimum": 1, "maximum": count},
        "answer": {"anyOf": [{"type": "string", "enum": list(YES_NO)}, {"type": "number"}]},
        "reason": {"type": "string", "maxLength": 300},
    }
    each = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    answers = {"type": "array", "items": each, "minItems": count, "maxItems": count}
    return {
        "type": "object",
        "properties": {"answers": answers},
        "required": ["answers"],
        "additionalProperties": False,
    }


def _reply(vlm: Vlm, item: Item, pictures: Sequence[Picture]) -> Judged:
    names = [*(atom.id for atom in item.atoms), *(scale.id for scale in item.scales)]

    heard: list[_Reply] = []

    def require_answers(reply: _Reply) -> None:
        heard.append(reply)
        read = _read(item, reply)
        if open_ := [number for number, name in enumerate(names, 1) if read[name] is None]:
            raise Malformed(f"question {open_[0]} has no answer of its kind")

    data = {"task": "checklist", "item": item.id, "atoms": to_json(item.atoms)}
    message = Message("user", _asked(item), tuple(pictures), data)
    settle: Callable[[Runs[_Reply]], _Reply] = lambda runs: _unraised(item, runs)  # noqa: E731
    answer = ask(vlm, (message,), _schema(item), _Reply, require_answers, settle)
    answers: dict[str, float | None] = dict.fromkeys(names)
    reasons = dict.fromkeys(names, "" if answer.value else answer.failure)
    # A question without an answer leaves the others theirs; the second reply fills what the first left open.
    for reply in heard if answer.value is None else [answer.value]:
        said = {names[one.question - 1]: one.reason for one in reply.answers if 1 <= one.question <= len(names)}
        for name, value in _read(item, reply).items():
            if answers[name] is None and value is not None:
                answers[name], reasons[name] = value, one_line(said[name], 300)
    return Judged(answers, {name: reason for name, reason in reasons.items() if reason}, answer.tokens, answer.calls)


def _unraised(item: Item, runs: Runs[_Reply]) -> _Reply:
    """Return the last answers to all questions but those that objects side by side answer in two ways, and those that
    an earlier object answered with less.
    """
    names = [part.id for part in (*item.atoms, *item.scales)]
    said = settled([[_read(item, reply) for reply in run] for run in runs])
    last = {one.question: one for reply in runs[-1] for one in reply.answers}
    answered = [number for number, name in enumerate(names, 1) if said[name] is not None]
    return _Reply(tuple(last[number] for number in answered))


def _read(item: Item, reply: _Reply) -> dict[str, float | None]:
    """Read the answers. Two answers to one question count as none, and so does a grade outside its scale."""
    by_question: dict[int, list[Any]] = {}
    for each in reply.answers:
        by_question.setdefault(each.question, []).append(each.answer)
    found: dict[str, float | None] = {}
    for number, part in enumerate((*item.atoms, *item.scales), 1):
        given = by_question.get(number, [])
        answer = given[0] if len(given) == 1 else None
        if isinstance(part, Scale):
            grade = answer if isinstance(answer, (int, float)) and not isinstance(answer, bool) else None
            found[part.id] = float(grade) if grade is not None and part.low <= grade <= part.high else None
        else:
            found[part.id] = YES_NO.get(answer.strip().casefold()) if isinstance(answer, str) else None
    return found
