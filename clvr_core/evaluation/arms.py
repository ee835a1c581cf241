"""The arms of an evaluation: ways to a picture that are compared, with what each spent.

`oneshot` draws the prompt itself, `rewrite` draws a language model's version of it, `best-of-n` draws several pictures
and the judge picks one, and each strategy runs the loop.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from ..brief import Brief, Budget, Strategy
from ..controller import draft_goals
from ..controller.rewrite import rewrite
from ..errors import BadInput, CannotWrite, JudgeFailure
from ..fleet.output import Output
from ..fleet.rounds import drive_all
from ..models.registry import Models
from ..policy import LOOPS, POLICIES, rules
from ..protocols import DrawRequest, Picture, SomeDrawn
from ..run.session import Session, drive, resume
from ..run.start_image import beginning_with
from ..storage.names import is_portable
from ..trajectory import Outcome, Trajectory, seed_for
from ..verifier import judge
from .variants import base_of, options_of, policy_of

ARMS = ("oneshot", "rewrite", "best-of-n", *LOOPS)
CANDIDATES = 4


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to make.

    name: path of the picture among those of the arm.
    source: picture to edit, None to draw a new one.
    evaluations: transformer evaluations at most, None for no limit.
    """

    name: str
    prompt: str
    seed: int
    source: Picture | None = None
    evaluations: int | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A picture and what it cost.

    evaluations: of the transformer.
    images: pictures drawn on the way.
    tokens, calls: of the vision-language model.
    seconds: wall time.
    record: what else to write into the picture's line.
    """

    picture: Picture
    evaluations: int
    images: int
    tokens: int = 0
    calls: int = 0
    seconds: float = 0.0
    record: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NotMade:
    """A picture that was not made.

    why: a sentence.
    judge: the vision-language model did not answer, so another try may succeed.
    """

    why: str
    judge: bool = False


@dataclass(frozen=True)
class Way:
    """Makes the pictures of one arm.

    arm: its name.
    runs: place for the runs of the loop, so that killed ones can be continued.
    rounds, patience: budget of a run.
    keep_runs: keep the folder of a run after its picture is saved.
    guided: whether a loop without options is.
    """

    arm: str
    models: Models
    runs: Output
    rounds: int = 8
    patience: int = 3
    keep_runs: bool = True
    guided: bool = True

    def make(self, jobs: Sequence[Job]) -> Iterator[Made | NotMade]:
        """Make the pictures of all jobs, at the same time where that is possible. Yields one result for each job, in
        order; raises Away if a server is, and CannotWrite."""
        if base_of(self.arm) in LOOPS or (self.arm == "best-of-n" and all(job.source is None for job in jobs)):
            yield from self._loops(jobs)
        elif self.arm == "oneshot":
            yield from self._shots(jobs) if jobs else ()
        else:
            yield from map(self._plain, jobs)

    def cost(self, job: Job) -> tuple[int, int]:
        """Return the transformer evaluations of a job at most, and those of one drawn picture."""
        each = self.models.executor.nfe(self._request(job, job.prompt, 0))
        if self.arm in ("oneshot", "rewrite"):
            return each, each
        if self.arm == "best-of-n":
            return self._count(job, each) * each, each
        return job.evaluations or self.rounds * each * POLICIES[base_of(self.arm)].grid, each

    @staticmethod
    def _count(job: Job, each: int) -> int:
        return CANDIDATES if job.evaluations is None else max(1, min(64, job.evaluations // max(1, each)))

    def _request(self, job: Job, prompt: str, k: int) -> DrawRequest:
        references = () if job.source is None else (job.source,)
        # The seeds of a loop's first round, so that the arms do not differ by luck.
        width, height = self._size(job)
        return DrawRequest(prompt, seed_for(job.seed, 0, k), references, width, height)

    def _size(self, job: Job) -> tuple[int, int]:
        """Return width and height of the canvas: those of the source, if there is one."""
        return (
            (self.models.width, self.models.height)
            if job.source is None
            else (job.source.shape[1], job.source.shape[0])
        )

    def _shots(self, jobs: Sequence[Job]) -> list[Made | NotMade]:
        started = time.perf_counter()
        try:
            drawn = self.models.executor.draw([self._request(job, job.prompt, 0) for job in jobs])
        except SomeDrawn as error:
            seconds = (time.perf_counter() - started) / len(jobs)
            return [
                NotMade(str(error)) if drawing is None else Made(drawing.picture, drawing.nfe, 1, seconds=seconds)
                for drawing in error.drawings
            ]
        except BadInput as error:
            if len(jobs) == 1:
                return [NotMade(str(error))]
            return [made for job in jobs for made in self._shots([job])]
        seconds = (time.perf_counter() - started) / len(jobs)
        return [Made(drawing.picture, drawing.nfe, 1, seconds=seconds) for drawing in drawn]

    def _plain(self, job: Job) -> Made | NotMade:
        started = time.perf_counter()
        try:
            made = self._rewritten(job) if self.arm == "rewrite" else self._picked(job)
        except BadInput as error:
            return NotMade(str(error))
        except JudgeFailure as error:
            return NotMade(str(error), judge=True)
        return replace(made, seconds=time.perf_counter() - started)

    def _rewritten(self, job: Job) -> Made:
        answer = rewrite(self.models.vlm, job.prompt, job.seed)
        if answer.value is None:
            raise JudgeFailure(answer.failure)
        (drawing,) = self.models.executor.draw([self._request(job, answer.value, 0)])
        return Made(drawing.picture, drawing.nfe, 1, answer.tokens, answer.calls, record={"prompt": answer.value})

    def _picked(self, job: Job) -> Made:
        """Return the best of several edits of the source, by the judge."""
        brief = Brief(job.prompt, "best-of-n", job.seed)
        drafted = draft_goals(self.models.vlm, brief)
        if drafted.value is None:
            raise JudgeFailure(drafted.failure)
        count = self._count(job, self.models.executor.nfe(self._request(job, job.prompt, 0)))
        drawn = self.models.executor.draw([self._request(job, job.prompt, k) for k in range(count)])
        judged = [judge(self.models.judge or self.models.vlm, drawing.picture, drafted.value) for drawing in drawn]
        if all(rules.score(each.verdicts) is None for each in judged):
            raise JudgeFailure(f"no candidate was judged: {judged[0].verdicts[0].evidence}")
        pick = rules.choose([each.verdicts for each in judged])
        tokens = drafted.tokens + sum(each.tokens for each in judged)
        calls = drafted.calls + sum(each.calls for each in judged)
        evaluations = sum(drawing.nfe for drawing in drawn)
        return Made(drawn[pick].picture, evaluations, count, tokens, calls, record={"picked": pick})

    def _loops(self, jobs: Sequence[Job]) -> list[Made | NotMade]:
        made: list[Made | NotMade | None] = [None] * len(jobs)
        sessions: dict[int, Session] = {}
        for place, job in enumerate(jobs):
            try:
                sessions[place] = self._session(job)
            except BadInput as error:
                made[place] = _not_made(error)
        try:
            drive_all(list(sessions.values()), self.models.executor)
        except CannotWrite:
            raise
        except BadInput:
            # One of them cannot be drawn. Each run continues alone from its folder, and that one raises its own error.
            for place in sessions:
                made[place] = self._alone(jobs[place])
        for place, session in sessions.items():
            made[place] = made[place] or self._result(jobs[place], session)
        return [each if each is not None else NotMade("nothing was drawn") for each in made]

    def _alone(self, job: Job) -> Made | NotMade:
        try:
            session = self._session(job)
            drive(session)
        except BadInput as error:
            return _not_made(error)
        return self._result(job, session)

    def _session(self, job: Job) -> Session:
        each = self.models.executor.nfe(self._request(job, job.prompt, 0))
        count = self._count(job, each) if self.arm == "best-of-n" else None
        # Best of N has one round of N, so its limit is the number of pictures.
        limit = job.evaluations if base_of(self.arm) in LOOPS else None
        budget = Budget(self.rounds, images=count, evaluations=limit, patience=self.patience)
        strategy = cast(Strategy, base_of(self.arm))
        options: dict[str, Any] = {"candidates": count} | options_of(self.arm, self.guided)
        brief = Brief(job.prompt, strategy, job.seed, *self._size(job), budget, **options)
        if job.source is not None:
            brief = beginning_with(brief, job.source)
        folder = self.runs.run(_name_of(job))
        models = self.models
        policy = policy_of(self.arm)
        if folder.lines:
            return resume(folder, models, policy=policy)
        return Session(brief, models, folder, picture=job.source, policy=policy)

    def _result(self, job: Job, session: Session) -> Made | NotMade:
        trajectory = session.trajectory
        outcome = _outcome(trajectory)
        if trajectory.best is None:
            self._forget(job)
            return NotMade(f"no picture was drawn: {outcome.reason}")
        if silence := _silent(trajectory):
            # No judge chose its pictures, so another try must not continue from them.
            self._forget(job)
            return NotMade(silence, judge=True)
        cost = trajectory.cost
        record = {
            "rounds": sum(step.action.draws for step in trajectory.steps),
            "met": outcome.met,
            "why": outcome.reason,
        }
        return Made(
            session.picture(trajectory.best),
            cost.evaluations,
            cost.images,
            cost.vlm_tokens,
            cost.vlm_calls,
            cost.wall,
            record,
        )

    def done(self, job: Job) -> None:
        """Call this after the picture and its line are saved: removes the run unless it is to be kept."""
        if not self.keep_runs:
            self._forget(job)

    def _forget(self, job: Job) -> None:
        self.runs.remove(_name_of(job))


def _name_of(job: Job) -> str:
    """Return the name of the job's run. An id that no folder can be called by is hashed."""
    name = job.name.replace("/", "-")
    return name if is_portable(name) else hashlib.sha256(job.name.encode()).hexdigest()[:16]


def _not_made(error: BadInput) -> NotMade:
    """Return what ails one picture; raise what ails the disk."""
    if isinstance(error, CannotWrite):
        raise error
    return NotMade(str(error))


def _outcome(trajectory: Trajectory) -> Outcome:
    assert trajectory.outcome is not None, "a driven session has ended"
    return trajectory.outcome


def _silent(trajectory: Trajectory) -> str:
    """Return why the vision-language model failed in this run, "" if it did not: it judged no picture, or gave no goals
    or no action."""
    step = trajectory.best_step
    if step is not None and step.score is None:
        return f"no picture was judged: {next((verdict.evidence for verdict in step.verdicts), 'no verdict')}"
    outcome = _outcome(trajectory)
    return outcome.reason if outcome.ended == "controller failed" else ""
