"""Kept runs of a data set as lessons for a vision-language model: what it is asked in a run, and what it should say.

A run is replayed from its journal by the loop itself, with a model in the place of the controller that says what is on
record. So the requests are, word by word, those that a controller is given, in single prompts or in one conversation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ..brief import Brief
from ..controller.prompts import goals_reply_text, reply_text
from ..errors import BadInput
from ..protocols import Decision, Drawing, DrawRequest, Message, Picture, Question, Reply
from ..reading import json_of
from ..records import from_json
from ..run.loop import ChooseAction, Chosen, DraftGoals, Goals, Judge, Judgement, Result
from ..run.run_folder import RunFolder
from ..run.session import RunModels, Session
from ..trajectory import Action
from ..verifier import prompts as judging
from ..verifier import wording_of
from .critique import Critique
from .data import read_picture
from .engine import DECISIONS, RUNS
from .engine import Decision as Decided
from .trace import Rejected, line_of

Form = Literal["prompts", "conversation"]
FORMS: tuple[Form, ...] = get_args(Form)
Task = Literal["goals", "action", "verdict", "critique"]
TASKS: tuple[Task, ...] = ("goals", "action", "verdict")
"""Of a run."""
Reason = Callable[[str, int, Action], str]
"""Name of a run, index of a step and its action -> the summary to be learnt."""


@dataclass(frozen=True)
class Lesson:
    """One request in a run and its reply.

    task: `verdict` for what the judge was asked in a run; `critique` for what does not come from a kept run.
    messages: of a request for goals or an action. schema: of its reply.
    images, question: of a question that is answered with Yes or No; it has no messages.
    reply: what the model should say.
    learnt: whether it is learnt; if not, it is only what later requests of the conversation go on from.
    """

    task: Task
    reply: str
    messages: tuple[Message, ...] = ()
    schema: Mapping[str, Any] = field(default_factory=dict)
    images: tuple[Picture, ...] = ()
    question: str = ""
    learnt: bool = True


def kept_runs(folder: Path) -> list[str]:
    """Return the names of the runs that a data set of `clvr synthesize` keeps. Raises BadInput for a folder that is none."""
    path = folder / DECISIONS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        decided = [from_json(Decided, json_of(line)) for line in lines]
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{path} cannot be read ({error}); make the data set with: clvr synthesize --out {folder}"
        ) from error
    return sorted(decision.id for decision in decided if decision.row is not None)


def lessons_of(
    folder: Path, name: str, form: Form = "conversation", *, reason: Reason | None = None, checks: bool = True
) -> list[Lesson]:
    """Return the lessons of a run of the data set in `folder`, in the order of the run.

    Learnt are the goals, the actions of the steps that lead to its last canvas, and what the judge was sure of.

    reason: replaces the summaries of these actions. checks: whether goals are learnt with their questions; a small model
    reads them off the goals.

    Raises BadInput for a run that is missing, unfinished, or of another version.
    """
    store = RunFolder.open(folder / RUNS / name)
    try:
        first = store.lines[0]
        brief = from_json(Brief, first.get("brief"))
        brief = replace(brief, conversation=form == "conversation", fused=False)
        speaker = _Speaker(first["models"]["controller"])
        session = Session(brief, RunModels(speaker, _Drawer(store.lines)), store)
        learnt = _learnt(store)
        return list(
            _replayed(session, speaker, learnt, reason and (lambda step, action: reason(name, step, action)), checks)
        )
    finally:
        store.close()


def lessons_of_critique(folder: Path, critique: Critique) -> list[Lesson]:
    """Return what a critique of the data set in `folder` teaches: the inspection as the loop asks for it, and the action that
    should have been chosen once a contradiction was found.

    Raises BadInput for a picture that is missing.
    """
    images = tuple(read_picture(folder / name) for name in critique.images)
    found = [Lesson("critique", critique.answer, images=images, question=critique.question)]
    if critique.request and critique.better:
        *before, (role, text) = critique.request
        shown = tuple(read_picture(folder / name) for name in critique.shown)
        messages = (*(Message(each, said) for each, said in before), Message(role, text, shown))
        found.append(Lesson("critique", critique.better, messages, critique.schema))
    return found


def _learnt(store: RunFolder) -> dict[int, Action]:
    """Return by step the actions that are learnt. Raises BadInput for a run that has not ended."""
    from ..run.lines import trajectory_from

    trajectory = trajectory_from(store.lines)
    if trajectory.outcome is None:
        raise BadInput(f"{store.where} has not ended; finish it with clvr synthesize")
    try:
        return {line.step.index: line.step.action for line in line_of(trajectory)}
    except Rejected as rejected:
        raise BadInput(f"{store.where} is no verified run ({rejected}); take it out of {DECISIONS}") from rejected


def _replayed(
    session: Session,
    speaker: _Speaker,
    learnt: Mapping[int, Action],
    reason: Callable[[int, Action], str] | None,
    checks: bool,
) -> Iterator[Lesson]:
    result: Result | None = None
    while (call := session.advance(result, upto=session.position)) is not None:
        result = session.on_record(call)
        if result is None:
            raise BadInput(f"{session.folder.where} ends before its run does; finish it with clvr synthesize")
        if isinstance(call, DraftGoals) and isinstance(result, Goals) and result.goals:
            yield from speaker.said(session, call, goals_reply_text(result.goals, checks))
        elif isinstance(call, ChooseAction) and isinstance(result, Chosen):
            index, action = len(call.trajectory.steps), result.action
            # Of two that were chosen for one step the first failed before; a region may have been set later.
            taken = learnt.get(index)
            teaches = not result.failure and taken is not None and replace(taken, region=action.region) == action
            if teaches and reason is not None:
                action = replace(action, summary=reason(index, action))
            yield from speaker.said(session, call, reply_text(action, session.brief.guided), teaches)
            result = replace(result, action=replace(result.action, summary=action.summary), exchanges=speaker.exchanges)
        elif isinstance(call, Judge) and isinstance(result, Judgement):
            yield from _verdicts(session, call, result)
            result = replace(result, next=None)
        session.note(call, result)


def _verdicts(session: Session, call: Judge, result: Judgement) -> Iterator[Lesson]:
    """Yield what the judge was sure of: of each goal of which it said met or unmet, and of the edit as such."""
    wording = wording_of(call.trajectory)
    goals = {goal.id: goal for goal in call.goals if goal.kind != "likeness"}

    def lesson(images: Sequence[int], question: Question, holds: bool) -> Lesson:
        pictures = tuple(map(session.picture, images))
        return Lesson("verdict", "Yes" if holds else "No", images=pictures, question=question.text)

    for canvas, verdicts, edit in zip(call.canvases, result.verdicts, result.edits):
        for verdict in verdicts:
            if verdict.state in ("met", "unmet") and verdict.goal in goals:
                question = judging.goal_question(goals[verdict.goal], wording)
                yield lesson((canvas,), question, verdict.state == "met")
        if call.before is None or not call.action.edit_prompt.strip():
            continue
        if edit.success is not None and not edit.missed:
            yield lesson((call.before, canvas), judging.done_question(call.action, wording), edit.success)
        if edit.over_edit is not None:
            yield lesson((call.before, canvas), judging.kept_question(call.action, wording), edit.over_edit < 0.5)


class _Speaker:
    """A `Vlm` that says what it is told to say, and keeps what it is asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.exchanges: Any = ()
        self._reply = ""
        self._asked: list[tuple[tuple[Message, ...], Mapping[str, Any]]] = []

    def said(self, session: Session, call: Any, reply: str, learnt: bool = True) -> Iterator[Lesson]:
        """Perform the call with this reply, and yield the lesson if it was asked for."""
        self._reply, self._asked = reply, []
        made = session.perform(call)
        self.exchanges = made.exchanges if isinstance(made, Chosen) else ()
        task: Task = "goals" if isinstance(call, DraftGoals) else "action"
        for messages, schema in self._asked[:1]:
            yield Lesson(task, reply, messages, schema, learnt=learnt)

    def chat(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Reply:
        self._asked.append((tuple(messages), schema))
        return Reply(self._reply)

    def decide(self, images: Sequence[Picture], questions: Sequence[Question]) -> list[Decision]:
        return [Decision(0.0) for _ in questions]  # no instruction that was carried out contradicted its brief


class _Drawer:
    """An `Executor` that has drawn what is on record, and draws nothing."""

    def __init__(self, lines: Sequence[Mapping[str, Any]]) -> None:
        self.name = lines[0]["models"]["executor"]
        found: Iterator[Mapping[str, Any]] = (
            candidate
            for line in lines
            if line["event"] == "drawn"
            for candidate in line["result"].get("candidates", ())
        )
        self._nfe = next((candidate.get("nfe", 0) for candidate in found), 0)

    def nfe(self, request: DrawRequest) -> int:
        return self._nfe

    def draw(self, requests: Sequence[DrawRequest]) -> list[Drawing]:
        raise BadInput("a run that is replayed draws nothing")
