"""The arms of an evaluation: ways to a picture that are compared, with what each spent.

`oneshot` draws the prompt itself, `rewrite` draws a language model's version of it, `best-of-n` draws several pictures
and the judge picks one, `plan-best-of-n` does so with that version, the plan, and each strategy runs the loop.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, TypeVar, cast

from ..brief import Brief, Budget, Goal, Strategy
from ..controller import draft_goals
from ..controller.rewrite import rewrite
from ..errors import BadInput, CannotWrite, JudgeFailure
from ..fleet.output import Output
from ..fleet.rounds import drive_all
from ..models.registry import Models
from ..policy import LOOPS, POLICIES, rules
from ..protocols import Drawing, DrawRequest, Picture, SomeDrawn, Vlm
from ..run.session import Session, drive, resume
from ..run.start_image import beginning_with
from ..storage.names import is_portable
from ..trajectory import Outcome, Trajectory, seed_for
from ..verifier import judge
from ..vlm.replies import Answer
from .variants import base_of, options_of, policy_of

PLAN = "plan-best-of-n"
CONTROLS = ("best-of-n", PLAN)
"""Arms to stand beside a loop at the evaluations that it spent: several pictures, of which its judge picks one."""
ARMS = ("oneshot", "rewrite", *CONTROLS, *LOOPS)
CANDIDATES = 4
T = TypeVar("T")


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


@dataclass(frozen=True, slots=True)
class Contest:
    """Pictures to draw for one brief, of which the judge picks one by the brief's goals.

    requests: one for each picture.
    tokens, calls: of the vision-language model, for goals and prompts.
    """

    goals: tuple[Goal, ...]
    requests: tuple[DrawRequest, ...]
    tokens: int
    calls: int

    @classmethod
    def of(
        cls,
        vlm: Vlm,
        brief: Brief,
        prompts: Sequence[Answer[str]],
        count: int,
        references: tuple[Picture, ...] = (),
    ) -> Contest:
        """Draft the goals of the brief, and ask for `count` pictures, at least 1, that are drawn from the prompts in turn.

        references: pictures to edit, uint8 H x W x 3; none to draw new ones.

        Raises JudgeFailure if a prompt or the goals are missing.
        """
        told = []
        for answer in prompts:
            if answer.value is None:
                raise JudgeFailure(answer.failure)
            told.append(answer.value)
        drafted = draft_goals(vlm, brief)
        if drafted.value is None:
            raise JudgeFailure(drafted.failure)
        requests = tuple(
            DrawRequest(told[k % len(told)], seed_for(brief.seed, 0, k), references, brief.width, brief.height)
            for k in range(count)
        )
        asked = (drafted, *prompts)
        return cls(drafted.value, requests, sum(each.tokens for each in asked), sum(each.calls for each in asked))

    def won(self, judging: Vlm, drawn: Sequence[Drawing]) -> Made:
        """Return the drawing that the judge picks, the first of equals, with the cost of them all but the seconds.

        drawn: one for each request, in order.

        Raises JudgeFailure if none was judged.
        """
        judged = [judge(judging, drawing.picture, self.goals) for drawing in drawn]
        if all(rules.score(each.verdicts) is None for each in judged):
            raise JudgeFailure(f"no candidate was judged: {judged[0].verdicts[0].evidence}")
        pick = rules.choose([each.verdicts for each in judged])
        return Made(
            drawn[pick].picture,
            sum(drawing.nfe for drawing in drawn),
            len(drawn),
            self.tokens + sum(each.tokens for each in judged),
            self.calls + sum(each.calls for each in judged),
            record={"picked": pick},
        )


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
        elif self.arm == "rewrite":
            yield from (_tried(self._rewritten, job) for job in jobs)
        else:
            yield from self._contests(jobs)

    def cost(self, job: Job) -> tuple[int, int]:
        """Return the transformer evaluations of a job at most, and those of one drawn picture."""
        each = self.models.executor.nfe(self._request(job, job.prompt, 0))
        if self.arm in ("oneshot", "rewrite"):
            return each, each
        if self.arm in CONTROLS:
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

    def _rewritten(self, job: Job) -> Made:
        started = time.perf_counter()
        answer = rewrite(self.models.vlm, job.prompt, job.seed)
        if answer.value is None:
            raise JudgeFailure(answer.failure)
        (drawing,) = self.models.executor.draw([self._request(job, answer.value, 0)])
        seconds = time.perf_counter() - started
        record: dict[str, object] = {"prompt": answer.value}
        return Made(drawing.picture, drawing.nfe, 1, answer.tokens, answer.calls, seconds, record)

    def _contests(self, jobs: Sequence[Job]) -> list[Made | NotMade]:
        """Draw the pictures of all jobs at once, then let the judge pick one for each."""
        started = time.perf_counter()
        contests = [_tried(self._contest, job) for job in jobs]
        ended = iter(self._ended([contest for contest in contests if isinstance(contest, Contest)]))
        made = [next(ended) if isinstance(contest, Contest) else contest for contest in contests]
        seconds = (time.perf_counter() - started) / max(1, len(jobs))
        return [replace(each, seconds=seconds) if isinstance(each, Made) else each for each in made]

    def _ended(self, contests: Sequence[Contest]) -> list[Made | NotMade]:
        if not contests:
            return []
        why = ""
        try:
            drawn = iter(self.models.executor.draw([request for each in contests for request in each.requests]))
        except SomeDrawn as error:
            why, drawn = str(error), iter(error.drawings)
        except BadInput as error:
            if len(contests) == 1:
                return [_not_made(error)]
            return [made for contest in contests for made in self._ended([contest])]
        made: list[Made | NotMade] = []
        for contest in contests:
            mine = [drawing for drawing in islice(drawn, len(contest.requests)) if drawing is not None]
            whole = len(mine) == len(contest.requests)
            made.append(_tried(self._won, contest, mine) if whole else NotMade(why))
        return made

    def _contest(self, job: Job) -> Contest:
        vlm = self.models.vlm
        prompt = rewrite(vlm, job.prompt, job.seed) if self.arm == PLAN else Answer(job.prompt)
        count = self._count(job, self.models.executor.nfe(self._request(job, job.prompt, 0)))
        brief = Brief(job.prompt, "best-of-n", job.seed, *self._size(job))
        return Contest.of(vlm, brief, [prompt], count, () if job.source is None else (job.source,))

    def _won(self, contest: Contest, drawn: Sequence[Drawing]) -> Made:
        made = contest.won(self.models.verifier, drawn)
        said = {"prompt": contest.requests[0].prompt} if self.arm == PLAN else {}
        return replace(made, record=made.record | said)

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


def _tried(make: Callable[..., T], *given: Any) -> T | NotMade:
    """Return what is made, or why it is not, if what fails is this picture's own."""
    try:
        return make(*given)
    except BadInput as error:
        return _not_made(error)
    except JudgeFailure as error:
        return NotMade(str(error), judge=True)


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
