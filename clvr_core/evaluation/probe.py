"""The complexity probe in an embedded world: does the loop gain more than the same evaluations spent on one shot or
best-of-N?

Briefs come in ten tiers of description length. Every arm has the same budget of transformer evaluations for a brief.
One shot spends it on the steps of one picture; so does the prompt rewrite, which is the controller's plan: a place for
every thing. Best-of-N spends it on N pictures; a strategy spends it on its loop. Weights distilled to few steps draw
their one shot in that number of steps, because more would not help.

What the closed part of the loop is worth shows beside two controls that have everything else of it, the planner, the
judge and the evaluations: plan-best-of-n draws the plan as often as `clvr` drew a picture for a brief of the tier on
average, rounded up, and the judge picks one by the brief's goals; replan-best-of-n makes a new plan for each of these
pictures. All judging arms have the same judge (see JUDGES) and the same planner, and all arms are scored by the world's exact
reader.
"""

from __future__ import annotations

import json
import math
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np

from ..brief import Brief, Budget, Strategy
from ..controller.rewrite import rewrite
from ..errors import BadInput
from ..executor.klein import KleinExecutor
from ..fleet.crew import Engine, Lost, Tell
from ..fleet.processes import Processes
from ..fleet.rounds import drive_all
from ..policy import LOOPS
from ..protocols import Picture
from ..records import from_json
from ..run.run_folder import RunFolder  # noqa: F401  (re-exported for callers that open single runs)
from ..run.session import RunModels, Session
from ..storage.atomic import keep_note, write_bytes, writing
from ..storage.lock import alone_in_folder
from ..vlm.replies import Answer
from ..world import EmbeddedVlm, World, world_named
from .arms import PLAN, Contest
from .statistics import auc, interval, ratio, resample
from .variants import base_of, options_of, policy_of

PLANNED = (PLAN, "replan-best-of-n")
"""Controls that spend what the loop MATCHED spent."""
MATCHED = "clvr"
ARMS = ("oneshot", "rewrite", "best-of-n", *PLANNED, *LOOPS)
CONTROLS = ("oneshot", "best-of-n", *PLANNED)
"""With which each loop is compared."""
JudgeKind = Literal["exact", "independent", "correlated"]
JUDGES: tuple[JudgeKind, ...] = get_args(JudgeKind)
"""exact: never wrong. independent: wrong in FLIP of its answers, anew for each picture and question. correlated: equally
often, but what is seen alike is misjudged alike, in every picture, as by a network."""
PlannerKind = Literal["independent", "correlated"]
PLANNERS: tuple[PlannerKind, ...] = get_args(PlannerKind)
TIERS = 10
FLIP = 0.05
EVALUATIONS = 200
ROUNDS = 40
PATIENCE = 6


@dataclass(frozen=True, slots=True)
class ProbeBrief:
    tier: int
    bits: float
    prompt: str
    seed: int


def tier_briefs(world: World, tier: int, count: int, seed: int) -> list[ProbeBrief]:
    """Return held-out briefs of the world with a description length in the tier; the tiers divide the world's bits into
    equal steps."""
    rng = random.Random(f"probe/{seed}/{tier}")
    width = (world.bits[1] - world.bits[0]) / TIERS
    low, found = world.bits[0] + tier * width, []
    while len(found) < count:
        scene = world.sampling.grouped_scene(rng, rng.randint(1, 8))
        # Relations between things without a place are what one shot finds hardest: places stated make a brief longer
        # and easier.
        spec = world.sampling.tell(
            scene,
            rng,
            rng.choice((0.0, 0.0, 0.5, 1.0)),
            rng.choice((0.0, 0.5, 1.0)),
            rng.choice((0, 0, 1, 2, 3, 4, 6, 8)),
        )
        if not low <= spec.bits < low + width:
            continue
        prompt = world.write(spec, rng.choice(("terse", "sentence")), rng)
        if len(world.tokens_of(prompt)) > world.longest:
            continue
        found.append(ProbeBrief(tier, spec.bits, prompt, rng.randrange(2**31)))
    return found


@dataclass(frozen=True, slots=True)
class UnitResult:
    """The results of one arm on one tier, a list entry for each brief."""

    arm: str
    tier: int
    bits: tuple[float, ...]
    passed: tuple[int, ...]
    evaluations: tuple[int, ...]
    calls: tuple[int, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under which all arms of a probe run.

    judge: how it errs.
    flip: share of its answers that are wrong, unless it is exact.
    planner_errors: chance that the planner misunderstands an item, a relation or the backdrop of the brief.
    planner: whether it does so anew in each plan, or always alike.
    guided: whether a loop without options is; False in folders that were begun before.
    """

    judge: JudgeKind = "independent"
    flip: float = FLIP
    planner_errors: float = 0.0
    planner: PlannerKind = "independent"
    guided: bool = True

    def vlm(self, world: World, seed: int) -> EmbeddedVlm:
        exact = self.judge == "exact"
        errors = "correlated" if self.judge == "correlated" else "independent"
        return world.load_vlm(0.0 if exact else self.flip, seed, errors, self.planner_errors, self.planner)


def run_unit(
    arm: str,
    tier: int,
    count: int,
    seed: int,
    evaluations: int = EVALUATIONS,
    flip: float = FLIP,
    weights: Path | None = None,
    conditions: Conditions | None = None,
    world: World | None = None,
) -> UnitResult:
    """Run one arm on the briefs of one tier.

    evaluations: budget of a brief; for an arm of PLANNED what each of its briefs spends, rounded up to whole pictures.
    flip: that of the conditions if none are given.
    weights: a folder; None for those installed.
    world: the embedded one if none is given.
    """
    started = time.perf_counter()
    world = world or world_named()
    briefs = tier_briefs(world, tier, count, seed)
    conditions = conditions or Conditions(flip=flip)
    executor = world.load_executor(weights)
    base, options = base_of(arm), options_of(arm, conditions.guided)
    if arm in PLANNED:
        return _best_of_plans(world, arm, tier, briefs, executor, evaluations, conditions)
    generate = executor.recipe.generate
    images = None
    if arm in ("oneshot", "rewrite") and not executor.distilled:
        executor.recipe = replace(
            executor.recipe, generate=replace(generate, steps=evaluations * generate.steps // generate.nfe)
        )
    elif arm == "best-of-n":
        images = evaluations // generate.nfe
    budget = Budget(rounds=ROUNDS, images=images, evaluations=evaluations, patience=PATIENCE)
    sessions = []
    for brief in briefs:
        vlm = conditions.vlm(world, brief.seed)
        prompt = vlm.plan(brief.prompt, brief.seed) if arm == "rewrite" else brief.prompt
        strategy = "oneshot" if arm == "rewrite" else cast(Strategy, base)
        asked = Brief(prompt, strategy, brief.seed, world.canvas, world.canvas, budget=budget, **options)
        sessions.append(Session(asked, RunModels(vlm, executor), policy=policy_of(arm)))
    ends = drive_all(sessions, executor)
    pictures = [None if end.best is None else session.picture(end.best) for session, end in zip(sessions, ends)]
    return UnitResult(
        arm,
        tier,
        tuple(brief.bits for brief in briefs),
        tuple(_passes(world, brief, picture) for brief, picture in zip(briefs, pictures)),
        tuple(end.cost.evaluations for end in ends),
        tuple(end.cost.vlm_calls for end in ends),
        round(time.perf_counter() - started, 2),
    )


def _passes(world: World, brief: ProbeBrief, picture: Picture | None) -> int:
    return 0 if picture is None else int(world.meets(brief.prompt, world.perceive(picture)))


def _best_of_plans(
    world: World,
    arm: str,
    tier: int,
    briefs: list[ProbeBrief],
    executor: KleinExecutor,
    evaluations: int,
    conditions: Conditions,
) -> UnitResult:
    started = time.perf_counter()
    count = max(1, math.ceil(evaluations / executor.recipe.generate.nfe))
    made = []
    for brief in briefs:
        vlm = conditions.vlm(world, brief.seed)
        asked = Brief(brief.prompt, "best-of-n", brief.seed, world.canvas, world.canvas)
        prompts = [
            rewrite(vlm, brief.prompt, brief.seed)
            if arm == PLAN
            else Answer(vlm.plan(brief.prompt, brief.seed, attempt), calls=1)
            for attempt in range(1 if arm == PLAN else count)
        ]
        contest = Contest.of(vlm, asked, prompts, count)
        made.append(contest.won(vlm, executor.draw(contest.requests)))
    return UnitResult(
        arm,
        tier,
        tuple(brief.bits for brief in briefs),
        tuple(_passes(world, brief, each.picture) for brief, each in zip(briefs, made)),
        tuple(each.evaluations for each in made),
        tuple(each.calls for each in made),
        round(time.perf_counter() - started, 2),
    )


@dataclass(frozen=True, slots=True)
class Units:
    """A `Task` for a crew: a piece is an arm, a tier, and the evaluations of a brief."""

    world: str
    per_tier: int
    seed: int
    weights: Path
    conditions: Conditions

    @contextmanager
    def open(self, stop: threading.Event) -> Iterator[Callable[[tuple[str, int, int], Tell], UnitResult]]:
        import torch

        torch.set_num_threads(1)

        def do(piece: tuple[str, int, int], tell: Tell) -> UnitResult:
            arm, tier, limit = piece
            flip, world = self.conditions.flip, world_named(self.world)
            return run_unit(arm, tier, self.per_tier, self.seed, limit, flip, self.weights, self.conditions, world)

        yield do


@alone_in_folder
def run_probe(
    out: Path,
    *,
    per_tier: int = 40,
    seed: int = 0,
    evaluations: int = EVALUATIONS,
    world: World | None = None,
    weights: Path | None = None,
    workers: int | None = None,
    engine: Engine | None = None,
    conditions: Conditions = Conditions(),
    arms: Sequence[str] = ARMS,
) -> dict:
    """Run the probe, and write probe.json, probe.md and probe.png into `out`. Returns the content of probe.json.

    world: the embedded one if none is given.
    weights: a folder of weights of it; None for those installed.
    workers: processes; None for one a core.
    engine: where the units are done; None for such processes.
    arms: some of ARMS, with one shot, and variants of the loops among them (`clvr+trace`); those of PLANNED need
        MATCHED.

    Finished units are kept in `out/units`, so that a stopped probe can be continued with the same settings.
    """
    from tqdm import tqdm

    _require(arms)
    world = world or world_named()
    weights = weights or world.merged
    settings = {
        "per_tier": per_tier,
        "seed": seed,
        "evaluations": evaluations,
        "flip": conditions.flip,
        "bits": list(world.bits),
        "weights": weights.name,
    }
    if _begun_unguided(out):
        conditions = replace(conditions, guided=False)
    else:
        settings["loops"] = "guided"
    # Left out of the note where they are as in the first version, so that its folders can be gone on with.
    named = {
        "judge": conditions.judge,
        "planner_errors": conditions.planner_errors,
        "planner": conditions.planner,
        "world": world.name,
        "reader": world.reads_by(),
    }
    usual = {"judge": "independent", "planner_errors": 0.0, "planner": "independent", "world": "shapes", "reader": ""}
    units = _folder(out, settings | {name: value for name, value in named.items() if value != usual[name]})
    settings |= named
    work = [(arm, tier) for tier in reversed(range(TIERS)) for arm in sorted(dict.fromkeys(arms), key=_order)]
    results = {key: _read(path) for key in work if (path := units / f"{key[0]}-{key[1]}.json").exists()}
    workers = workers or max(1, os.cpu_count() or 1)
    # One thread a process: small matrices gain nothing from a second thread, and everything from a second process.
    engine = engine or Processes(workers, workers)
    with engine.crew(Units(world.name, per_tier, seed, weights, conditions)) as crew:
        for wave in ([key for key in work if key[0] not in PLANNED], [key for key in work if key[0] in PLANNED]):
            left = [key for key in wave if key not in results]
            pieces = [(*key, _limit(key, results, evaluations)) for key in left]
            for number, result in tqdm(crew.run(pieces), total=len(left), unit="unit", desc="probe"):
                if isinstance(result, Lost):
                    raise BadInput(f"{left[number][0]} in tier {left[number][1]} cannot be measured: {result.why}")
                results[left[number]] = result
                with writing(out):
                    write_bytes(units / f"{result.arm}-{result.tier}.json", json.dumps(asdict(result)).encode())
    summary = summarise(results, settings)
    from .plot import plot_probe

    with writing(out):
        write_bytes(out / "probe.json", json.dumps(summary, indent=1).encode())
        write_bytes(out / "probe.md", table(summary).encode())
        plot_probe(summary, out / "probe.png", caption(settings))
    return summary


def _require(arms: Sequence[str]) -> None:
    for arm in arms:
        if base_of(arm) not in ARMS:
            raise BadInput(f"unknown arm {arm!r:.40}; the arms are {', '.join(ARMS)}")
        options_of(arm)
    if "oneshot" not in arms:
        raise BadInput("the arms lack oneshot, to which the others are compared; add it")
    if set(arms) & set(PLANNED) and MATCHED not in arms:
        raise BadInput(f"{' and '.join(PLANNED)} spend what {MATCHED} spends; add {MATCHED} to the arms")


def _order(arm: str) -> tuple[int, str]:
    return ARMS.index(base_of(arm)), arm


def _limit(key: tuple[str, int], results: Mapping[tuple[str, int], UnitResult], evaluations: int) -> int:
    """Return the evaluations of a brief: the budget, or for a control of PLANNED the mean that the loop spent on a brief
    of the tier, rounded up."""
    arm, tier = key
    return math.ceil(np.mean(results[MATCHED, tier].evaluations)) if arm in PLANNED else evaluations


def _read(path: Path) -> UnitResult:
    try:
        return from_json(UnitResult, json.loads(path.read_text()))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path} is damaged ({error}); remove it and give the same command") from error


def _begun_unguided(out: Path) -> bool:
    """Whether the folder holds a probe that was begun before loops were guided."""
    note = out / "units" / "settings.json"
    try:
        return "loops" not in json.loads(note.read_text("utf-8"))
    except (OSError, ValueError, TypeError, RecursionError):  # a damaged note is refused where it is compared
        return False


def _folder(out: Path, settings: dict) -> Path:
    units, note = out / "units", out / "units" / "settings.json"
    with writing(out):
        units.mkdir(parents=True, exist_ok=True)
        if not keep_note(note, json.dumps(settings)):
            raise BadInput(f"{out} holds a probe with other settings; choose another folder with --out")
    return units


def summarise(results: dict[tuple[str, int], UnitResult], settings: dict) -> dict:
    medians = np.array([np.median(results["oneshot", tier].bits) for tier in range(TIERS)])
    present = sorted({arm for arm, _ in results}, key=_order)
    passed = {arm: np.array([results[arm, tier].passed for tier in range(TIERS)]) for arm in present}
    samples = resample(passed, medians)
    arms = {}
    for arm in present:
        units = [results[arm, tier] for tier in range(TIERS)]
        bounds = interval(samples[arm])
        arms[arm] = {
            "auc": float(auc(passed[arm], medians)),
            "auc_ci": [bounds.low, bounds.high],
            "pass": [float(rate) for rate in passed[arm].mean(-1)],
            "evaluations": float(np.mean([unit.evaluations for unit in units])),
            "verifier_calls": float(np.mean([unit.calls for unit in units])),
            "seconds": float(sum(unit.seconds for unit in units)),
        }
    for arm in (arm for arm in present if base_of(arm) in LOOPS):
        rivals = (*CONTROLS, *({base_of(arm)} - {arm}))
        for against in (control for control in rivals if control in present):
            bounds, mine, other = ratio(samples, arm, against), arms[arm]["auc"], arms[against]["auc"]
            arms[arm][f"ratio_{against}"] = mine / other if other else None if mine else 1.0
            arms[arm][f"ratio_{against}_ci"] = [
                bound if math.isfinite(bound) else None for bound in (bounds.low, bounds.high)
            ]
            gap = interval(samples[arm] - samples[against])
            arms[arm][f"gain_{against}"], arms[arm][f"gain_{against}_ci"] = mine - other, [gap.low, gap.high]
    return {"settings": settings, "tier_medians": [float(median) for median in medians], "arms": arms}


def _times(value: float | None) -> str:
    """Return the factor in words, since JSON has no infinity."""
    return "infinite" if value is None else f"{value:.2f}"


def caption(settings: dict) -> str:
    """Return the conditions of a probe in a sentence."""
    judge, flip, planner = settings["judge"], settings["flip"], settings["planner_errors"]
    errs = "is never wrong" if judge == "exact" else f"is wrong in {flip:.0%} of its answers ({judge} errors)"
    alike = ", the same in every plan" if settings["planner"] == "correlated" else ""
    plans = (
        f"misunderstands {planner:.0%} of the items and relations{alike}" if planner else "never misunderstands a brief"
    )
    seen = f" Pictures are {settings['reader']}, which is not independent of them." if settings["reader"] else ""
    return f"At most {settings['evaluations']} evaluations a brief; the judge {errs}, and the planner {plans}.{seen}"


NAMES = {"oneshot": "one-shot", **{arm: f"{arm.removesuffix('n')}N" for arm in ("best-of-n", *PLANNED)}}


def table(summary: dict) -> str:
    """Return the result as a Markdown table under its caption."""
    controls = [control for control in CONTROLS if control in summary["arms"]]
    head = [
        "arm",
        "AUC (95 %)",
        *(f"x {NAMES[control]} (95 %)" for control in controls),
        *(f"{bits:.0f} b" for bits in summary["tier_medians"]),
        "evaluations",
        "judge calls",
    ]
    rows = []
    for arm, values in summary["arms"].items():
        ratios = [
            f"{_times(values[f'ratio_{against}'])} ({'-'.join(map(_times, values[f'ratio_{against}_ci']))})"
            if f"ratio_{against}" in values
            else ""
            for against in controls
        ]
        area = f"{values['auc']:.1f} ({values['auc_ci'][0]:.1f}-{values['auc_ci'][1]:.1f})"
        rows.append(
            [
                arm,
                area,
                *ratios,
                *(f"{rate:.2f}" for rate in values["pass"]),
                f"{values['evaluations']:.0f}",
                f"{values['verifier_calls']:.0f}",
            ]
        )
    lines = ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]
    return "\n".join([caption(summary["settings"]), "", *lines]) + "\n"
