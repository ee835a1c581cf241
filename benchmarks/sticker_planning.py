"""Does the loop earn its keep in the sticker world, as far as planning goes? THE EXECUTOR IS SIMULATED: no weights draw here.

python benchmarks/sticker_planning.py [--judge KIND] [--planner-errors RATE] [--weights base|merged] [--per-tier 8] [--arms NAMES]
    [--systematic 0.3] [--seed 0] [--evaluations 400] [--json FILE]

Controller, judge, policies, session and budget are the real ones. The executor is a program that draws what it is told, in pictures that
carry their scene in their pixels (a block of its own colour for each thing), and errs at the rates of `Rates`: they are set so that one
shot draws one thing right in 97 % and three in 80 % of the pictures, three letters in 51 %, and edits succeed in about 90 %. Those are the
bars that the world's weights are to meet, and nothing that was measured. `--systematic` is the share of its errors that every seed
repeats for the same prompt, as networks do.

Arms, budget and statistics are those of `clvr probe`, variants such as strokes+varied included (clvr_core/evaluation/variants.py), each
also compared with its own loop: plan-best-of-n and replan-best-of-n draw the controller's plan as often as the
evaluations of `clvr` allow, in the mean of the tier and rounded up, and the same judge picks. Truth is the scene that was drawn. Intervals:
95 %, paired bootstrap over the briefs within their tiers.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from clvr_core.brief import Brief, Budget, Strategy
from clvr_core.controller import draft_goals
from clvr_core.evaluation.statistics import auc, interval, ratio, resample
from clvr_core.evaluation.variants import base_of, options_of, policy_of
from clvr_core.fleet.rounds import drive_all
from clvr_core.policy import LOOPS, rules
from clvr_core.protocols import DrawRequest, Picture
from clvr_core.run.session import RunModels, Session
from clvr_core.stickers.grammar import parse, tokens_of
from clvr_core.stickers.judge import StickersVlm
from clvr_core.stickers.phrases import write
from clvr_core.stickers.sampling import grouped_scene, tell
from clvr_core.stickers.scene import CANVAS
from clvr_core.stickers.simulated import NFE, Rates, SimulatedExecutor, perceive
from clvr_core.trajectory import seed_for
from clvr_core.verifier import judge

TIERS, BITS = 8, (12.0, 156.0)
LONGEST = 112
FLIP, ROUNDS, PATIENCE = 0.05, 40, 6
PLANNED = ("plan-best-of-n", "replan-best-of-n")
MATCHED = "clvr"
ARMS = ("oneshot", "rewrite", "best-of-n", *PLANNED, "clvr", "clvr+unguided", "director", "strokes")


@dataclass(frozen=True, slots=True)
class Task:
    tier: int
    bits: float
    prompt: str
    seed: int


def tasks_of(tier: int, count: int, seed: int) -> list[Task]:
    """Return briefs with a description length in the tier, as `clvr probe` draws them."""
    rng = random.Random(f"sticker planning/{seed}/{tier}")
    width = (BITS[1] - BITS[0]) / TIERS
    low, found = BITS[0] + tier * width, []
    while len(found) < count:
        scene = grouped_scene(rng, rng.randint(1, 8))
        placed, sized = rng.choice((0.0, 0.0, 0.5, 1.0)), rng.choice((0.0, 0.5, 1.0))
        spec = tell(scene, rng, placed, sized, rng.choice((0, 0, 1, 2, 3, 4, 6, 8)))
        if not low <= spec.bits < low + width:
            continue
        prompt = write(spec, rng.choice(("terse", "sentence")), rng)
        if len(tokens_of(prompt)) <= LONGEST:
            found.append(Task(tier, spec.bits, prompt, rng.randrange(2**31)))
    return found


@dataclass(frozen=True, slots=True)
class Conditions:
    """judge: exact, independent or correlated. planning: the planner's rate of errors, of the judge's kind."""

    judge: str = "independent"
    planning: float = 0.0
    weights: str = "base"
    rates: Rates = field(default_factory=Rates)
    evaluations: int = 400

    def vlm(self, seed: int) -> StickersVlm:
        errors = "correlated" if self.judge == "correlated" else "independent"
        return StickersVlm(0.0 if self.judge == "exact" else FLIP, seed, errors, self.planning, errors, perceive)

    def executor(self) -> SimulatedExecutor:
        return SimulatedExecutor(self.rates, NFE[self.weights])


@dataclass(frozen=True, slots=True)
class Unit:
    """The results of one arm on one tier, an entry for each brief."""

    passed: tuple[int, ...]
    evaluations: tuple[int, ...]
    ended: tuple[str, ...] = ()


def run(arm: str, tasks: Sequence[Task], conditions: Conditions, spend: float | None = None) -> Unit:
    """Run one arm. spend: evaluations of a brief, for an arm of PLANNED."""
    executor = conditions.executor()
    if arm in PLANNED:
        return _best_of_plans(arm, tasks, conditions, max(1, math.ceil((spend or 0) / executor.costs[0])))
    images = conditions.evaluations // executor.costs[0] if arm == "best-of-n" else None
    sessions = []
    for task in tasks:
        vlm = conditions.vlm(task.seed)
        prompt = vlm.plan(task.prompt, task.seed) if arm == "rewrite" else task.prompt
        strategy = "oneshot" if arm == "rewrite" else cast(Strategy, base_of(arm))
        budget = Budget(rounds=ROUNDS, images=images, evaluations=conditions.evaluations, patience=PATIENCE)
        brief = Brief(prompt, strategy, task.seed, CANVAS, CANVAS, budget=budget, **options_of(arm))
        sessions.append(Session(brief, RunModels(vlm, executor), policy=policy_of(arm)))
    ends = drive_all(sessions, executor)
    pictures = [None if end.best is None else session.picture(end.best) for session, end in zip(sessions, ends)]
    ended = tuple(end.outcome.ended if end.outcome else "" for end in ends)
    return Unit(
        tuple(passes(task, picture) for task, picture in zip(tasks, pictures)),
        tuple(end.cost.evaluations for end in ends),
        ended,
    )


def passes(task: Task, picture: Picture | None) -> int:
    return 0 if picture is None else int(parse(task.prompt).holds(perceive(picture).scene()))


def _best_of_plans(arm: str, tasks: Sequence[Task], conditions: Conditions, pictures: int) -> Unit:
    executor, passed = conditions.executor(), []
    for task in tasks:
        vlm = conditions.vlm(task.seed)
        goals = draft_goals(vlm, Brief(task.prompt, seed=task.seed)).value or ()
        plans = pictures if arm == "replan-best-of-n" else 1
        prompts = [vlm.plan(task.prompt, task.seed, attempt) for attempt in range(plans)] * (pictures // plans)
        drawn = executor.draw(
            [
                DrawRequest(prompt, seed_for(task.seed, 0, place), (), CANVAS, CANVAS)
                for place, prompt in enumerate(prompts)
            ]
        )
        judged = [judge(vlm, drawing.picture, goals) for drawing in drawn]
        passed.append(passes(task, drawn[rules.choose([each.verdicts for each in judged])].picture))
    return Unit(tuple(passed), (pictures * executor.costs[0],) * len(tasks))


def measure(conditions: Conditions, arms: Sequence[str] = ARMS, per_tier: int = 8, seed: int = 0) -> dict[str, Any]:
    """Return the table as a mapping. `arms` must contain oneshot, and MATCHED for those of PLANNED."""
    started = time.process_time()
    tiers = [tasks_of(tier, per_tier, seed) for tier in range(TIERS)]
    medians = np.array([np.median([task.bits for task in tasks]) for tasks in tiers])
    units: dict[str, list[Unit]] = {}
    for arm in sorted(arms, key=lambda arm: arm in PLANNED):
        spent = [float(np.mean(unit.evaluations)) for unit in units.get(MATCHED, [])] or [0.0] * TIERS
        units[arm] = [run(arm, tasks, conditions, spend) for tasks, spend in zip(tiers, spent)]
    passed = {arm: np.array([unit.passed for unit in each]) for arm, each in units.items()}
    samples = resample(passed, medians)
    rows: dict[str, Any] = {}
    for arm in arms:
        bounds = interval(samples[arm])
        rows[arm] = {
            "auc": float(auc(passed[arm], medians)),
            "auc_ci": [bounds.low, bounds.high],
            "pass": [float(rate) for rate in passed[arm].mean(-1)],
            "evaluations": float(np.mean([unit.evaluations for unit in units[arm]])),
        }
        if base_of(arm) in LOOPS:
            ended = [why for unit in units[arm] for why in unit.ended]
            rows[arm]["ended"] = {why: ended.count(why) for why in sorted(set(ended))}
    for arm in (arm for arm in arms if base_of(arm) in LOOPS):
        for other in (each for each in arms if base_of(each) not in LOOPS or (each == base_of(arm) != arm)):
            bounds, area = ratio(samples, arm, other), rows[other]["auc"]
            rows[arm][f"x {other}"] = rows[arm]["auc"] / area if area else None
            rows[arm][f"x {other} ci"] = [
                bound if math.isfinite(bound) else None for bound in (bounds.low, bounds.high)
            ]
    settings = {**asdict(conditions), "flip": FLIP, "per_tier": per_tier, "seed": seed, "executor": "simulated"}
    return {
        "settings": settings,
        "tier_medians": medians.tolist(),
        "arms": rows,
        "cpu_seconds": round(time.process_time() - started, 1),
    }


def table(found: dict[str, Any]) -> str:
    """Return the result as a Markdown table."""
    arms = found["arms"]
    controls = [arm for arm in arms if base_of(arm) not in LOOPS or any(base_of(each) == arm != each for each in arms)]
    head = [
        "arm",
        "AUC (95 %)",
        *(f"x {arm}" for arm in controls),
        *(f"{bits:.0f} b" for bits in found["tier_medians"]),
    ]
    lines = [[*head, "evaluations"], ["---"] * (len(head) + 1)]
    for arm, row in arms.items():
        ratios = (
            [
                ""
                if f"x {other}" not in row
                else "infinite"
                if row[f"x {other}"] is None
                else "{:.2f} ({}-{})".format(row[f"x {other}"], *map(_short, row[f"x {other} ci"]))
                for other in controls
            ]
            if base_of(arm) in LOOPS
            else [""] * len(controls)
        )
        area = f"{row['auc']:.1f} ({row['auc_ci'][0]:.1f}-{row['auc_ci'][1]:.1f})"
        lines.append([arm, area, *ratios, *(f"{rate:.2f}" for rate in row["pass"]), f"{row['evaluations']:.0f}"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _short(value: float | None) -> str:
    return "infinite" if value is None else f"{value:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", default="independent", choices=("exact", "independent", "correlated"))
    parser.add_argument("--planner-errors", type=float, default=0.0)
    parser.add_argument("--weights", default="base", choices=tuple(NFE))
    parser.add_argument("--per-tier", type=int, default=8)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--evaluations", type=int, default=400)
    parser.add_argument("--systematic", type=float, default=Rates().systematic)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rates = Rates(systematic=options.systematic)
    conditions = Conditions(options.judge, options.planner_errors, options.weights, rates, options.evaluations)
    found = measure(conditions, options.arms.split(","), options.per_tier, options.seed)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    planner = f"misunderstands {options.planner_errors:.0%}" if options.planner_errors else "never misunderstands"
    drawn = f"Simulated executor ({options.weights}, {options.systematic:.0%} of its errors systematic)"
    count = options.per_tier * TIERS
    print(f"{drawn}, judge {options.judge}, planner {planner}, {count} briefs, {found['cpu_seconds']} CPU seconds\n")
    print(table(found))


if __name__ == "__main__":
    main()
