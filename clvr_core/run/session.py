"""Performs the calls of one run with real models, writes every result down before the next call begins, and replays what was written."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..brief import Brief, Budget
from ..controller import TEMPLATES as CONTROLLER
from ..controller import Situation, contradiction_text, contradicts, draft_goals, fallback, next_action
from ..errors import BadInput
from ..executor.masks import mask_of
from ..policy import policy_for
from ..policy.remarks import apply_remark
from ..protocols import Drawing, DrawRequest, Executor, Picture, PromptWindow, ReferenceLimit, Vlm
from ..records import from_json, to_json
from ..report import write_report
from ..trajectory import SCHEMA, Action, Cost, Remark, Trajectory
from ..verifier import TEMPLATES as VERIFIER
from ..verifier import compare
from . import loop
from .canvases import Canvases
from .conditioning import shorten_to_window
from .judging import judge_and_choose, judge_candidates, wants_fused
from .loop import (
    Call,
    ChooseAction,
    Chosen,
    Compare,
    Compared,
    Decided,
    DraftGoals,
    Draw,
    Drawn,
    Goals,
    Judge,
    Judgement,
    Review,
)
from .run_folder import JOURNAL, REPORT, RunFolder
from .start_image import receive

EVENTS = {
    DraftGoals: "goals",
    ChooseAction: "action",
    Draw: "drawn",
    Judge: "judged",
    Compare: "compared",
    Review: "review",
}
DECISIONS = ("plan", "current", "best")
NOTHING = None, None
PROMPTS = {"controller": CONTROLLER.version, "verifier": VERIFIER.version}

Listener = Callable[[str, dict[str, Any]], None]
Reviewer = Callable[[Trajectory], tuple[Remark, Picture | None]]
"""Asks the artist of the last step. The second part is a painted mask, uint8 H x W, 255 where the next edit may change."""


class Session:
    """One run. `folder` None keeps everything in memory."""

    def __init__(
        self,
        brief: Brief,
        vlm: Vlm,
        executor: Executor,
        folder: RunFolder | None = None,
        *,
        judge: Vlm | None = None,
        listener: Listener | None = None,
        reviewer: Reviewer | None = None,
        settled: int | None = None,
        picture: Picture | None = None,
    ) -> None:
        """`picture`: what the run begins from, as `beginning_with` told the brief; a run that is gone on with has it on disk.

        `reviewer` None: nobody is asked; what was said on record stands. `settled`: so many lines of the folder stand under the brief's
        budget; what follows them was recorded under a smaller one.
        """
        # As it will be read back: a 1 where a float belongs would make other bytes of the same run after a resume.
        brief = _brief(to_json(brief))
        self.brief, self.vlm, self.judge, self.executor, self.folder = brief, vlm, judge or vlm, executor, folder
        self.listener = listener or (lambda event, line: None)
        self.reviewer = reviewer
        self.trajectory = Trajectory(brief, models=self.models, prompts=PROMPTS)
        self.canvases = Canvases(folder, picture, brief.picture)
        self._settled = settled
        given = receive(self.trajectory, picture, folder)
        self._next: tuple[int | None, Action | None] = NOTHING
        self.position = 0
        self.ending: int | None = None
        self._record(
            {"event": "start", "schema": SCHEMA, "brief": to_json(brief), "models": self.models, "prompts": PROMPTS}
        )
        blank = np.zeros((brief.height, brief.width, 3), np.uint8)
        nfe = {
            kind: executor.nfe(DrawRequest(brief.prompt, 0, references, brief.width, brief.height))
            for kind, references in (("GENERATE", ()), ("EDIT", (blank,)))
        }
        self._run = loop.run(self.trajectory, policy_for(brief), nfe, given)

    @property
    def models(self) -> dict[str, str]:
        return {"controller": self.vlm.name, "verifier": self.judge.name, "executor": self.executor.name}

    @property
    def done(self) -> bool:
        return self.trajectory.outcome is not None

    def picture(self, canvas: int) -> Picture:
        return self.canvases.picture(canvas)

    def digests(self, *canvases: int) -> list[str]:
        """SHA-256 of the pixels of each."""
        return self.canvases.digests(*canvases)

    def advance(self, result: object = None, upto: int | None = None) -> Call | None:
        """Hands the last call's result to the loop and returns the next call that is not on record, or not among its first `upto` lines;
        None at the end.

        All that was recorded is on disk by then.
        """
        while True:
            try:
                asked = self._run.send(result)
            except StopIteration:
                self._sync()
                return None
            if isinstance(asked, Decided):
                self._decided(asked)
                result = None
                continue
            if isinstance(asked, Review) and self._unasked(upto):
                result = None
                continue
            line = self._recorded(EVENTS[type(asked)]) if upto is None or self.position < upto else None
            if line is None:
                self._sync()
                return asked
            result = self._replayed(asked, line)
            self.position += 1

    def _unasked(self, upto: int | None) -> bool:
        """Whether the run goes on past a review: none is on record here, and there is nobody to ask or it is a thing of the past."""
        lines = self.folder.lines if self.folder else []
        end = len(lines) if upto is None else min(upto, len(lines))
        if self._settled is not None:
            end = min(end, self._settled)
        if self.position < end:
            return lines[self.position]["event"] != EVENTS[Review]
        return self.reviewer is None

    def _sync(self) -> None:
        if self.folder:
            self.folder.sync()

    def _replayed(self, call: Call, line: dict[str, Any]) -> object:
        try:
            result = from_json(loop.RESULTS[type(call)], line.get("result"))
        except ValueError as error:
            raise BadInput(f"{self._place()} is damaged ({error}); restore the file or start a new run") from error
        if isinstance(call, ChooseAction):
            self._next = NOTHING
        if isinstance(call, Judge) and result.next is not None:
            self._next = call.canvases[0], result.next
        if isinstance(call, Draw):
            if tuple(candidate.seed for candidate in result.candidates) != call.seeds:
                raise self._differs("other seeds than this version would draw")
            self.canvases.expect(result.candidates)
        return result

    def on_record(self, call: Call, by: str = "") -> object | None:
        """The result of this call, the one that is next, if it is on record as made by the same."""
        line = self.folder.lines[self.position] if self.folder and self.position < len(self.folder.lines) else {}
        return (
            self._replayed(call, line) if (line.get("event"), line.get("by", "")) == (EVENTS[type(call)], by) else None
        )

    def note(self, call: Call, result: object, by: str = "") -> None:
        """`by`: what made the result, where a run is led by hand and one part of it may be another the next time."""
        self._record({"event": EVENTS[type(call)], "result": to_json(result)} | ({"by": by} if by else {}))

    def perform(self, call: Call) -> object:
        """The result of a call, with its cost; nothing is written yet but the pictures."""
        started = time.perf_counter()
        if isinstance(call, DraftGoals):
            answer = draft_goals(self.vlm, call.brief)
            return Goals(answer.value or (), answer.failure, _cost("think", started, answer.tokens, answer.calls))
        if isinstance(call, ChooseAction):
            return self._choose(call, started)
        if isinstance(call, Draw):
            return self.drawn(call, self.executor.draw(self.requests(call)), time.perf_counter() - started)
        if isinstance(call, Judge):
            return self._judge(call, started)
        if isinstance(call, Review):
            return self._review(call)
        trajectory = call.trajectory
        answer = compare(
            self.judge, trajectory.brief, trajectory.goals, self.picture(call.first), self.picture(call.second)
        )
        return Compared(answer.value, _cost("judge", started, answer.tokens, answer.calls))

    def requests(self, call: Draw) -> list[DrawRequest]:
        """One for each seed."""
        brief, action = call.trajectory.brief, call.action
        canvases = action.references if action.kind == "EDIT" else ()
        mask = self._mask(call)
        if mask is None and action.region and canvases:
            mask = mask_of(action.region, brief.width, brief.height)
        request = DrawRequest(
            self._words(call)[0],
            0,
            tuple(map(self.picture, canvases)),
            brief.width,
            brief.height,
            mask,
            action.strength,
            tuple(map(self.canvases.latent, canvases)),
        )
        return [replace(request, seed=seed) for seed in call.seeds]

    def _words(self, call: Draw) -> tuple[str, str]:
        """What the executor is told, and what of it was left out."""
        window = self.executor if isinstance(self.executor, PromptWindow) else None
        return shorten_to_window(call.trajectory, call.action, window)

    def _unseen(self, call: Draw) -> str:
        """Which canvases the executor was not shown, since it takes fewer."""
        most = self.executor.references if isinstance(self.executor, ReferenceLimit) else None
        left = call.action.references[most:] if most is not None and call.action.kind == "EDIT" else ()
        names = ", ".join(f"canvas {canvas}" for canvas in left)
        return (
            f"the executor edits from {most} of {len(call.action.references)} pictures; left out: {names}"
            if names
            else ""
        )

    def _mask(self, call: Draw) -> Picture | None:
        """The one that the artist painted for this edit."""
        remark = call.trajectory.remark
        if remark is None or not remark.mask or call.action.kind != "EDIT":
            return None
        return self.canvases.mask(remark)

    def _review(self, call: Review) -> Remark:
        """Raises BadInput for a remark that the run cannot heed, before it is written down."""
        remark, mask = self.reviewer(call.trajectory)
        remark = replace(remark, after=len(call.trajectory.steps) - 1)
        if mask is not None:
            if mask.shape != (self.brief.height, self.brief.width) or mask.dtype != np.uint8:
                raise BadInput(
                    f"the mask is {mask.shape} of {mask.dtype}; it must be uint8 {self.brief.height} x {self.brief.width}"
                )
            name = f"mask-{remark.after:03d}.png"
            remark = replace(remark, mask=name, sha256=self.canvases.add_mask(name, mask))
        apply_remark(call.trajectory, remark)
        return remark

    def drawn(self, call: Draw, drawings: Sequence[Drawing], seconds: float) -> Drawn:
        """Writes the pictures and says what was drawn."""
        first = call.trajectory.canvases
        drawn = enumerate(zip(call.seeds, drawings, strict=True), first)
        candidates = [self.canvases.add(canvas, seed, drawing, call.trajectory) for canvas, (seed, drawing) in drawn]
        evaluations = sum(candidate.nfe for candidate in candidates)
        cost = Cost({"draw": seconds}, evaluations=evaluations, images=len(candidates))
        return Drawn(tuple(candidates), cost, tuple(filter(None, (self._words(call)[1], self._unseen(call)))))

    def _choose(self, call: ChooseAction, started: float) -> Chosen:
        if (action := self._foreseen(call)) is not None:
            return Chosen(action)
        trajectory, directive = call.trajectory, call.directive
        pictures = {canvas: self.picture(canvas) for canvas in trajectory.offered}
        remark = trajectory.remark
        situation = Situation(
            trajectory, directive.focus, directive.allowed, pictures, note_of(remark) if remark else ""
        )
        answer = next_action(self.vlm, situation)
        tokens, calls = answer.tokens, answer.calls
        if answer.value is not None and call.inspect:
            inspected = contradicts(self.vlm, trajectory.brief, answer.value)
            tokens, calls = tokens + inspected.tokens, calls + inspected.calls
            if inspected.value:
                note = "\n".join(filter(None, (situation.note, contradiction_text(answer.value))))
                again = next_action(self.vlm, replace(situation, note=note))
                tokens, calls = tokens + again.tokens, calls + again.calls
                answer = again if again.value is not None else replace(answer, failure=again.failure)
        action = answer.value or fallback(trajectory, directive.focus)
        return Chosen(action, answer.failure, _cost("think", started, tokens, calls))

    def _judge(self, call: Judge, started: float) -> Judgement:
        judgement = None
        if self.judge is self.vlm and wants_fused(call):
            judgement = judge_and_choose(self.vlm, call, self.picture)
        if judgement is None:
            judgement = judge_candidates(self.judge, call, self.picture)
        elif judgement.next is not None:
            self._next = call.canvases[0], judgement.next
        return replace(judgement, cost=replace(judgement.cost, seconds={"judge": time.perf_counter() - started}))

    def _foreseen(self, call: ChooseAction) -> Action | None:
        """The action that was chosen in the same breath as the current canvas was judged, if it was and still may be. Taken once."""
        (canvas, action), self._next = self._next, NOTHING
        fits = action is not None and canvas == call.trajectory.current and action.kind in call.directive.allowed
        return action if fits and call.trajectory.remark is None else None

    def _decided(self, decided: Decided) -> None:
        if decided.event == "stop":
            self.ending = self.position
            return
        before, after = self.trajectory, decided.trajectory
        self.trajectory = after
        line: dict[str, Any] = {
            "event": decided.event,
            "warnings": list(after.warnings),
            "overhead": to_json(after.overhead),
        }
        if decided.event in ("planned", "remarked"):
            line |= {"goals": to_json(after.goals)}
        if decided.event == "remarked":
            line |= {"remarks": to_json(after.remarks)}
        if decided.event == "planned":
            line |= {"plan": to_json(after.plan), "gate": after.gate}
        else:
            known = {step.index: step for step in before.steps}
            changed = [to_json(step) for step in after.steps if known.get(step.index) is not step]
            line |= {"steps": changed, "current": after.current, "best": after.best}
        if decided.event == "end":
            line |= {"outcome": to_json(after.outcome)}
        if decided.event == "end" and self.folder and self._recorded("end") is None:
            self._hand_over()
        self._record(line)
        self.canvases.forget({self.trajectory.best, *self.trajectory.offered})

    def _hand_over(self) -> None:
        trajectory, folder = self.trajectory, self.folder
        folder.sync()
        self.canvases.save_best(trajectory)
        with folder.writing():
            write_report(trajectory, folder.canvas_path, folder.path / REPORT)

    def _recorded(self, event: str) -> dict[str, Any] | None:
        """The line at the replay's position, or None once the record is used up."""
        if self.folder is None:
            return None
        if self._settled is not None and self.position >= self._settled:
            self._settle(event)
        if self.position >= len(self.folder.lines):
            return None
        line = self.folder.lines[self.position]
        if line["event"] != event:
            raise self._differs(f"{line['event']!r} where this version would do {event!r}")
        return line

    def _settle(self, event: str) -> None:
        """An ending stands under a new budget as far as the loop ends in the same way again; the end itself is told anew."""
        line = self.folder.lines[self.position] if self.position < len(self.folder.lines) else None
        if line is not None and self.ending is not None and line["event"] == event != "end":
            return
        self.folder.rewind(self.position, self.brief.budget)
        self._settled = None

    def _place(self) -> str:
        return f"{self.folder.path}: line {self.position + 1} of {JOURNAL}"

    def _differs(self, how: str) -> BadInput:
        return BadInput(
            f"{self._place()} records {how}; the run was made by another version of clvr, so start a new one"
        )

    def _record(self, line: dict[str, Any]) -> None:
        """Appends the line, or holds it against the one on record."""
        recorded = self._recorded(line["event"])
        for key in DECISIONS if recorded else ():
            if recorded.get(key) != line.get(key):
                raise self._differs(f"{key} {recorded.get(key)} where this version decides {line.get(key)}")
        if self.folder and not recorded:
            self.folder.append(line)
        self.position += 1
        if not recorded:
            self.listener(line["event"], line)


def note_of(remark: Remark) -> str:
    """The artist's words to the controller, for the step that follows."""
    parts = [remark.words]
    if remark.back_to is not None:
        parts.append(f"I went back to canvas {remark.back_to}; go on from there.")
    for goal, state in remark.corrected.items():
        parts.append(f"Goal {goal} {'holds' if state == 'met' else 'does not hold'}, whatever the judge said.")
    if remark.mask:
        parts.append("I painted a mask: an edit changes only what lies under it.")
    said = "\n".join(part for part in parts if part)
    return f"The artist says: {said}" if said else ""


def _brief(data: Any) -> Brief:
    try:
        return from_json(Brief, data)
    except BadInput:
        raise
    except ValueError as error:
        raise BadInput(f"the brief cannot be read: {error}") from error


def _named(models: Any) -> str:
    return (
        ", ".join(f"{role} {name!r}" for role, name in models.items())
        if isinstance(models, dict)
        else "models it does not name"
    )


def _cost(part: str, started: float, tokens: int, calls: int) -> Cost:
    return Cost({part: time.perf_counter() - started}, vlm_tokens=tokens, vlm_calls=calls)


def drive(session: Session) -> Trajectory:
    """Runs the session to its end."""
    call = session.advance()
    while call is not None:
        result = session.perform(call)
        session.note(call, result)
        call = session.advance(result)
    return session.trajectory


def drive_all(
    sessions: Sequence[Session], executor: Executor, progress: Callable[[int], None] = lambda done: None
) -> list[Trajectory]:
    """Runs many sessions side by side, all drawing of a round in one batch. `progress` is told how many are done."""
    calls: dict[int, Call | None] = {index: session.advance() for index, session in enumerate(sessions)}
    while any(calls.values()):
        for index, call in calls.items():
            while call is not None and not isinstance(call, Draw):
                result = sessions[index].perform(call)
                sessions[index].note(call, result)
                call = sessions[index].advance(result)
            calls[index] = call
        waiting = [(index, call, sessions[index].requests(call)) for index, call in calls.items() if call is not None]
        if waiting:
            started = time.perf_counter()
            drawings = list(executor.draw([request for _, _, requests in waiting for request in requests]))
            seconds = (time.perf_counter() - started) / len(drawings)
            for index, call, requests in waiting:
                mine, drawings = drawings[: len(requests)], drawings[len(requests) :]
                result = sessions[index].drawn(call, mine, seconds * len(mine))
                sessions[index].note(call, result)
                calls[index] = sessions[index].advance(result)
        progress(sum(call is None for call in calls.values()))
    return [session.trajectory for session in sessions]


def start(
    brief: Brief, vlm: Vlm, executor: Executor, out: Path, listener: Listener | None = None, judge: Vlm | None = None
) -> Session:
    """A new run in an empty folder."""
    return Session(brief, vlm, executor, RunFolder.create(out), judge=judge, listener=listener)


def resume(
    folder: RunFolder,
    vlm: Vlm,
    executor: Executor,
    listener: Listener | None = None,
    judge: Vlm | None = None,
    reviewer: Reviewer | None = None,
) -> Session:
    """Goes on with the run in the folder from its last complete line. Raises BadInput if the run was made by other models."""
    first = folder.lines[0]
    session = Session(
        _brief(first.get("brief")), vlm, executor, folder, judge=judge, listener=listener, reviewer=reviewer
    )
    if first.get("models") != session.models:
        raise BadInput(
            f"{folder.path} was made by {_named(first.get('models'))}, and these models are {_named(session.models)}; "
            "go on with the same ones or start a new run"
        )
    # A run from before prompts had versions is taken at its word.
    if (asked := first.get("prompts", PROMPTS)) != PROMPTS:
        raise BadInput(
            f"{folder.path} was asked for in the words of prompts {asked}, and this version has {PROMPTS}; start a new run"
        )
    return session


def go_on(
    folder: RunFolder,
    vlm: Vlm,
    executor: Executor,
    budget: Budget,
    listener: Listener | None = None,
    judge: Vlm | None = None,
    reviewer: Reviewer | None = None,
) -> Session:
    """Resumes the run under this budget, in which no limit is tighter than in the one it had. What it did to end for its budget is taken
    back; the rest stands. Raises BadInput for a tighter budget, and for one under which the rounds on record would be others."""
    held = resume(folder, vlm, executor, judge=judge)
    brief = replace(held.brief, budget=budget)
    if not budget.covers(held.brief.budget):
        raise BadInput(
            f"{folder.path} has a larger budget than it is to go on with; give at least as much or start a new run"
        )
    if policy_for(brief).candidates(Trajectory(brief)) != policy_for(brief).candidates(Trajectory(held.brief)):
        raise BadInput(f"{folder.path}: this budget of images makes other rounds than those on record; start a new run")
    if budget != held.brief.budget:
        held.advance()
    settled = None if budget == held.brief.budget else len(folder.lines) if held.ending is None else held.ending
    return Session(brief, vlm, executor, folder, judge=judge, listener=listener, reviewer=reviewer, settled=settled)
