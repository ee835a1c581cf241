"""The data engine: the loop makes trajectories, which are verified at every step and at the end and written as training
data.

Every rejected trajectory is recorded with the reason.

Passive verification: after each step the edit verifier says whether the instruction was carried out and what else
changed. A step that fails is rolled back and tried again while the patience of the loop lasts; a run that kept such a
step is rejected.
Active verification: the whole checklist is judged in each round, which may roll back. A run that ends without all goals
is rejected.
Comparison: the result is compared blind with one shot of the same brief. Two judges, each asked in both orders, must
prefer the trajectory every time. A tie counts for the one shot, so that the data hold only real gains.
"""

from __future__ import annotations

import io
import json
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, get_args

from PIL import Image

from ..brief import Brief, Budget, Strategy
from ..errors import BadInput
from ..fleet.crew import Engine, Lost, Tell
from ..fleet.engine import stopping, threads_for
from ..fleet.output import Output, Record, output_of
from ..fleet.rounds import drive_all
from ..fleet.shard import WHOLE
from ..models.registry import Models, load_models
from ..models.source import Source
from ..policy import LOOPS
from ..protocols import Drawing, DrawRequest, Picture, Vlm
from ..reading import json_of
from ..records import from_json, to_json
from ..run.conditioning import words_of
from ..run.session import Session, resume
from ..run.store import RunStore
from ..trajectory import Trajectory, seed_for
from ..verifier import compare
from ..world import World, world_named
from .data import IMAGES, Row, Turn, files_of
from .proxy import distil_proxy
from .trace import Kind, Line, Rejected, closing, line_of, thought

DECISIONS, SETTINGS, RUNS = "decisions.jsonl", "settings.json", "runs"
KINDS: tuple[Kind, ...] = get_args(Kind)
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one brief.

    id: number of the brief.
    reason: why it was kept or rejected, in words.
    rounds, images, evaluations, vlm_calls: what the run spent.
    row: the training data, None if rejected.
    kind: the code of the reason.
    """

    id: str
    prompt: str
    seed: int
    reason: str
    rounds: int
    images: int
    evaluations: int
    vlm_calls: int
    row: Row | None = None
    kind: Kind = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the trajectories are made.

    seed: of the data set.
    rounds, patience: budget of each run.
    together: runs at the same time, whose pictures are drawn in one batch.
    strategies: how the runs work, one after another in turn.
    """

    seed: int = 0
    rounds: int = 8
    patience: int = 3
    together: int = 32
    strategies: tuple[Strategy, ...] = ("clvr",)

    def __post_init__(self) -> None:
        if not self.strategies or not {*self.strategies} <= {*LOOPS}:
            raise BadInput(
                f"the strategies are {', '.join(self.strategies) or 'none'}; choose of {', '.join(LOOPS)}, with commas between"
            )


def random_prompts(world: World, count: int, seed: int) -> list[str]:
    """Return random briefs of the world, all different, of four to eight things: smaller ones seldom need a
    second round."""
    rng, found = random.Random(f"synthesis/{seed}"), {}
    while len(found) < count:
        found.setdefault(world.sampling.random_brief(rng, rng.randint(4, 8))[2])
    return list(found)


def read_prompts(path: Path) -> list[str]:
    """Read one brief a line. Raises BadInput for a file that cannot be read or has none."""
    try:
        prompts = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise BadInput(f"the prompts in {path} cannot be read: {error}") from error
    if not prompts:
        raise BadInput(f"{path} holds no prompts; write one brief a line")
    return list(dict.fromkeys(prompts))


def synthesize(
    out: Path | str,
    prompts: Sequence[str],
    models: Models,
    second: Vlm,
    settings: Settings | None = None,
    report: Report = print,
) -> dict[str, int]:
    """Make the data set in `out`, or continue one that was stopped there.

    out: a folder, or a url of an object store (s3://bucket/folder).
    prompts: the briefs.
    models: draw and judge the trajectories.
    second: the second judge of the comparison.
    report: called with a line about the progress.

    Returns how many trajectories were kept, and how many rejected by kind of reason. Raises BadInput if `out` holds a
    data set of other settings, is held by another process or cannot be written.
    """
    settings, place = settings or Settings(), output_of(out)
    with place.alone(WHOLE):
        writer = _Writer(place, prompts, _names(models, second), settings, report)
        for piece in writer.pieces():
            made: list[Decision] = []
            try:
                for decision in _some(place, piece, models, second, settings):
                    made.append(decision)
            finally:  # a server that goes away takes no decision with it
                writer.take(made)
            writer.write()
        return writer.end()


def synthesize_on(
    out: Path | str,
    prompts: Sequence[str],
    engine: Engine,
    source: Source,
    second: Second,
    settings: Settings | None = None,
    report: Report = print,
) -> dict[str, int]:
    """Do as `synthesize` does, by workers that load the models from their sources. All write in `out`, which each
    machine must see under the same path. What kills its workers again and again is left undecided, and reported."""
    settings, place = settings or Settings(), output_of(out)
    with place.alone(WHOLE), engine.crew(Making(source, second, place, settings)) as crew:
        ((_, names),) = crew.run([None])
        if isinstance(names, Lost):
            raise BadInput(f"the workers end before they have made anything: {names.why}")
        assert names is not None, "that piece gives the names"
        writer = _Writer(place, prompts, names, settings, report)
        for number, lost in crew.run(writer.pieces(), lambda number, decision: writer.take([decision])):
            if isinstance(lost, Lost):
                report(f"briefs {number * settings.together} and so on are left undecided: {lost.why}")
            writer.write()
        return writer.end()


class _Writer:
    """The files of a data set that is made.

    Raises BadInput if `out` holds a data set of other settings.
    """

    def __init__(
        self, out: Output, prompts: Sequence[str], names: Sequence[str], settings: Settings, report: Report
    ) -> None:
        self.out, self.prompts, self.settings, self.report = out, prompts, settings, report
        self.record, decisions = _open(out, prompts, names, settings)
        self.decisions = {decision.id: decision for decision in decisions}

    def pieces(self) -> Iterator[list[tuple[str, str]]]:
        """Yield the briefs that are to be decided, `together` at a time, each with its id."""
        numbered = [(f"{index:06d}", prompt) for index, prompt in enumerate(self.prompts)]
        waiting = [each for each in numbered if each[0] not in self.decisions]
        for start in range(0, len(waiting), self.settings.together):
            yield waiting[start : start + self.settings.together]

    def take(self, made: Sequence[Decision]) -> None:
        """Record decisions; one that was taken is not taken again."""
        new = [decision for decision in made if decision.id not in self.decisions]
        self.decisions |= {decision.id: decision for decision in new}
        if new:
            self.record.append([json.dumps(to_json(decision)).encode() for decision in new])

    def write(self) -> None:
        """Write the rows of all decisions so far, in the order of the briefs."""
        decisions = [self.decisions[name] for name in sorted(self.decisions)]
        _write(self.out, decisions)
        kept = sum(decision.row is not None for decision in decisions)
        self.report(f"{len(decisions)}/{len(self.prompts)} briefs, {kept} kept")

    def end(self) -> dict[str, int]:
        """Return how many decisions there are of each kind."""
        decisions = [self.decisions[name] for name in sorted(self.decisions)]
        _write(self.out, decisions)
        counts: dict[str, int] = {}
        for decision in decisions:
            counts[decision.kind] = counts.get(decision.kind, 0) + 1
        return counts


class Second(Protocol):
    """Loads the second judge of the comparison. It can be pickled."""

    def load(self) -> Vlm: ...


@dataclass(frozen=True, slots=True)
class SecondNamed:
    """A `Second` as the command line has it.

    models: whose verifier it is; None for the world's own, which errs in another way than the first.
    seed: of its errors.
    world: the world's name; "" with `models`.
    """

    models: str | None
    seed: int = 0
    world: str = ""

    def load(self) -> Vlm:
        if self.models is None:
            return world_named(self.world).load_vlm(0.05, self.seed + 1)
        return load_models(self.models).verifier


@dataclass(frozen=True, slots=True)
class Making:
    """A `Task` for a crew: a piece are briefs with their ids, and what is told of it are their decisions. The piece None
    gives the names of the models."""

    source: Source
    second: Second
    out: Output
    settings: Settings

    @contextmanager
    def open(
        self, stop: threading.Event
    ) -> Iterator[Callable[[Sequence[tuple[str, str]] | None, Tell], list[str] | None]]:
        models, second = self.source.load(), self.second.load()

        def do(briefs: Sequence[tuple[str, str]] | None, tell: Tell) -> list[str] | None:
            if briefs is None:
                return _names(models, second)
            if models.check:
                for _, prompt in briefs:
                    models.check(prompt)
            for decision in _some(self.out, briefs, models, second, self.settings):
                tell(decision)
            return None

        with stopping((models.vlm, models.executor, models.judge, second), stop):
            yield do


def _names(models: Models, second: Vlm) -> list[str]:
    return [models.vlm.name, models.verifier.name, second.name, models.executor.name]


def _write(out: Output, decisions: Sequence[Decision]) -> None:
    rejected = [to_json(replace(decision, row=None)) for decision in decisions if decision.row is None]
    for name, data in files_of([decision.row for decision in decisions if decision.row], rejected).items():
        out.write(name, data)


def _open(
    out: Output, prompts: Sequence[str], names: Sequence[str], settings: Settings
) -> tuple[Record, list[Decision]]:
    """Return the record of the decisions, and what stands there."""
    named = {
        "models": [*names],
        "settings": to_json(settings),
        "prompts": [*prompts],
    }
    note, held = json.dumps(named, indent=1).encode(), (out.read(SETTINGS) or b"").strip(b"\0")
    if not held:  # a kill may have left an empty one
        out.write(SETTINGS, note)
    elif held != note:
        raise BadInput(
            f"{out.where('')} holds a data set of other prompts, models or settings; choose another folder with --out"
        )
    # A kill may have cut the last line; its briefs are decided again from their recorded runs.
    record = out.record(DECISIONS)
    try:
        return record, [_with_kind(from_json(Decision, json_of(line))) for line in record.lines]
    except ValueError as error:
        raise BadInput(
            f"{out.where(DECISIONS)} is damaged ({error}); restore it, or remove it to decide from the runs again"
        ) from error


def _with_kind(decision: Decision) -> Decision:
    """Fill in the code of a record from before there was one."""
    if decision.kind:
        return decision
    if decision.row:
        return replace(decision, kind="kept")
    return replace(decision, kind=next((kind for kind in KINDS if kind and decision.reason.startswith(kind)), ""))


def _some(
    out: Output, briefs: Sequence[tuple[str, str]], models: Models, second: Vlm, settings: Settings
) -> Iterator[Decision]:
    sessions = [_session(out.run(f"{RUNS}/{name}"), prompt, models, settings, int(name)) for name, prompt in briefs]
    trajectories = drive_all(sessions, models.executor)
    candidates = [_straight(trajectory) for trajectory in trajectories]
    asked = [index for index, line in enumerate(candidates) if not isinstance(line, Rejected)]
    shots: Sequence[Drawing] = (
        models.executor.draw([_one_shot(trajectories[index].brief) for index in asked]) if asked else ()
    )
    against = dict(zip(asked, shots))
    judges = (models.vlm, models.judge, second)
    threads = threads_for(*judges)

    def decide(index: int) -> Decision:
        return _decide(out, briefs[index][0], sessions[index], candidates[index], against.get(index), models, second)

    with stopping(judges, threads.stop):
        yield from threads.each(decide, range(len(briefs)))


def _session(folder: RunStore, prompt: str, models: Models, settings: Settings, index: int) -> Session:
    if folder.lines:
        return resume(folder, models)
    brief = Brief(
        prompt,
        settings.strategies[index % len(settings.strategies)],
        seed_for(settings.seed, index, 0),
        models.width,
        models.height,
        Budget(settings.rounds, patience=settings.patience),
        final_ab=False,
    )
    return Session(brief, models, folder)


def _one_shot(brief: Brief) -> DrawRequest:
    return DrawRequest(brief.prompt, seed_for(brief.seed, 0, 1), (), brief.width, brief.height)


def _straight(trajectory: Trajectory) -> tuple[Line, ...] | Rejected:
    outcome = trajectory.outcome
    assert outcome is not None, "a driven session has ended"
    if not outcome.met:
        step = trajectory.best_step
        left = [verdict.goal for verdict in step.verdicts if verdict.state != "met"] if step else ["all goals"]
        words = f"{', '.join(left)} not met when the run ended ({outcome.reason})"
        return Rejected("active verification", words)
    try:
        return line_of(trajectory)
    except Rejected as rejected:
        return rejected


def _decide(
    out: Output,
    name: str,
    session: Session,
    line: tuple[Line, ...] | Rejected,
    shot: Drawing | None,
    models: Models,
    second: Vlm,
) -> Decision:
    trajectory, row, reason = session.trajectory, None, "kept"
    kind: Kind = "kept"
    try:
        if isinstance(line, Rejected):
            raise line
        best = trajectory.best
        assert best is not None and shot is not None, "a line ends in a canvas, and each line has its one shot"
        _prefer(trajectory, session.picture(best), shot.picture, (models.judge or models.vlm, second))
        row = _row(out, name, session, line, models.vlm)
    except Rejected as rejected:
        reason, kind = str(rejected), rejected.kind
    cost, brief = trajectory.cost, trajectory.brief
    return Decision(
        name,
        brief.prompt,
        brief.seed,
        reason,
        len(trajectory.steps),
        cost.images,
        cost.evaluations,
        cost.vlm_calls,
        row,
        kind,
    )


def _prefer(trajectory: Trajectory, result: Picture, shot: Picture, judges: Sequence[Vlm]) -> None:
    for number, judge in enumerate(judges, 1):
        answer = compare(judge, trajectory.brief, trajectory.goals, result, shot)
        if answer.value != 0:
            preferred = {1: "prefers the one shot", -1: "does not hold to the trajectory in both orders"}
            silent = f"gave no answer ({answer.failure})"
            words = silent if answer.value is None else preferred.get(answer.value, silent)
            raise Rejected("comparison", f"judge {number} {words}")


def _row(out: Output, name: str, session: Session, line: Sequence[Line], vlm: Vlm) -> Row:
    trajectory = session.trajectory
    canvases, turns = [each.step.chosen for each in line], []
    for place, each in enumerate(line):
        step, action = each.step, each.step.action
        assert step.chosen is not None, "the steps of a line have drawn"
        given = [canvases.index(canvas) for canvas in step.action.references]
        proxy = distil_proxy(
            vlm,
            trajectory.brief.prompt,
            [earlier.step.action for earlier in line[:place]],
            action,
            [session.picture(canvas) for canvas in step.action.references],
        )
        if proxy.value is None:
            raise Rejected("proxy prompts", f"none for step {place + 1} ({proxy.failure})")
        image, file = f"{IMAGES}/{name}-{place + 1}.png", io.BytesIO()
        Image.fromarray(session.picture(step.chosen)).save(file, "PNG")
        out.write(image, file.getvalue())
        turns.append(
            Turn(
                "GENERATE" if action.kind == "GENERATE" else "EDIT",
                thought(each),
                action.summary,
                words_of(action),
                proxy.value.scene_prompt,
                image,
                proxy.value.edit_prompt,
                tuple(given[number - 1] for number in proxy.value.references),
                round(step.score or 0.0, 4),
            )
        )
    return Row(name, trajectory.brief.prompt, trajectory.brief.seed, tuple(turns), closing(trajectory))


def data_summary(counts: dict[str, int]) -> dict[str, Any]:
    """Return the counts that `synthesize` returned with their total and the share that was kept."""
    total = sum(counts.values())
    return {
        "briefs": total,
        "kept": counts.get("kept", 0),
        "yield": counts.get("kept", 0) / total if total else 0.0,
        "reasons": counts,
    }
