"""The complexity probe on the shapes world: does the loop gain more than the same evaluations spent on one shot or
best-of-N?

Briefs come in ten tiers of description length. Every arm has the same budget of transformer evaluations for a brief.
One shot spends it on the steps of one picture; so does the prompt rewrite, which gives every thing a place; best-of-N
spends it on N pictures; a strategy spends it on its loop. Weights distilled to few steps draw their one shot in that
number of steps, because more would not help. The loop and best-of-N are steered by the same noisy judge, and all arms
are scored by the exact perceiver.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from ..brief import Brief, Budget, Strategy
from ..errors import BadInput
from ..policy import LOOPS
from ..records import from_json
from ..run.run_folder import RunFolder  # noqa: F401  (re-exported for callers that open single runs)
from ..run.session import RunModels, Session, drive_all
from ..shapes import CANVAS, MERGED, load_executor, load_vlm
from ..shapes.controller import laid_out
from ..shapes.grammar import parse
from ..shapes.perceive import perceive
from ..shapes.phrases import write
from ..shapes.sampling import grouped_scene, tell
from ..storage.atomic import keep_note, write_bytes, writing
from ..storage.lock import alone_in_folder
from .statistics import auc, interval, ratio, resample

ARMS = ("oneshot", "rewrite", "best-of-n", *LOOPS)
TIERS = 10
BITS = (8.0, 130.0)
LONGEST = 110
"""Words and punctuation marks of a brief, at most, so that the embedded weights can read it whole."""
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


def tier_briefs(tier: int, count: int, seed: int) -> list[ProbeBrief]:
    """Return held-out briefs with a description length in the tier; the tiers divide BITS[0] to BITS[1] into equal
    steps."""
    rng = random.Random(f"probe/{seed}/{tier}")
    width = (BITS[1] - BITS[0]) / TIERS
    low, found = BITS[0] + tier * width, []
    while len(found) < count:
        scene = grouped_scene(rng, rng.randint(1, 8))
        # Relations between things without a place are what one shot finds hardest: places stated make a brief longer
        # and easier.
        spec = tell(
            scene,
            rng,
            rng.choice((0.0, 0.0, 0.5, 1.0)),
            rng.choice((0.0, 0.5, 1.0)),
            rng.choice((0, 0, 1, 2, 3, 4, 6, 8)),
        )
        if not low <= spec.bits < low + width:
            continue
        prompt = write(spec, rng.choice(("terse", "sentence")), rng)
        if len(re.findall(r"\w+|[^\w\s]", prompt)) > LONGEST:
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


def run_unit(
    arm: str,
    tier: int,
    count: int,
    seed: int,
    evaluations: int = EVALUATIONS,
    flip: float = FLIP,
    weights: Path = MERGED,
) -> UnitResult:
    started = time.perf_counter()
    briefs = tier_briefs(tier, count, seed)
    executor = load_executor(weights)
    generate = executor.recipe.generate
    images = None
    if arm in ("oneshot", "rewrite") and not executor.distilled:
        executor.recipe = replace(
            executor.recipe, generate=replace(generate, steps=evaluations * generate.steps // generate.nfe)
        )
    elif arm == "best-of-n":
        images = evaluations // generate.nfe
    budget = Budget(rounds=ROUNDS, images=images, evaluations=evaluations, patience=PATIENCE)
    sessions = [
        Session(
            Brief(
                laid_out(brief.prompt, brief.seed) if arm == "rewrite" else brief.prompt,
                "oneshot" if arm == "rewrite" else cast(Strategy, arm),
                brief.seed,
                CANVAS,
                CANVAS,
                budget=budget,
            ),
            RunModels(load_vlm(flip, seed=brief.seed), executor),
        )
        for brief in briefs
    ]
    ends = drive_all(sessions, executor)
    passed = []
    for brief, session, end in zip(briefs, sessions, ends):
        seen = None if end.best is None else perceive(session.picture(end.best))
        passed.append(int(seen is not None and seen.clean and parse(brief.prompt).holds(seen.things)))
    return UnitResult(
        arm,
        tier,
        tuple(brief.bits for brief in briefs),
        tuple(passed),
        tuple(end.cost.evaluations for end in ends),
        tuple(end.cost.vlm_calls for end in ends),
        round(time.perf_counter() - started, 2),
    )


def _worker(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


@alone_in_folder
def run_probe(
    out: Path,
    *,
    per_tier: int = 40,
    seed: int = 0,
    evaluations: int = EVALUATIONS,
    weights: Path = MERGED,
    workers: int | None = None,
) -> dict:
    """Run the probe, and write probe.json, probe.md and probe.png into `out`. Returns the content of probe.json.

    weights: a folder of the shapes world.

    Finished units are kept in `out/units`, so that a stopped probe can be continued with the same settings.
    """
    from tqdm import tqdm

    settings = {
        "per_tier": per_tier,
        "seed": seed,
        "evaluations": evaluations,
        "flip": FLIP,
        "bits": list(BITS),
        "weights": weights.name,
    }
    units = _folder(out, settings)
    work = [(arm, tier) for tier in reversed(range(TIERS)) for arm in ARMS]
    results = {key: _read(path) for key in work if (path := units / f"{key[0]}-{key[1]}.json").exists()}
    workers = workers or max(1, os.cpu_count() or 1)
    # One thread a process: small matrices gain nothing from a second thread, and everything from a second process.
    with ProcessPoolExecutor(workers, initializer=_worker, initargs=(1,), mp_context=_spawn()) as pool:
        waiting = {
            pool.submit(run_unit, *key, per_tier, seed, evaluations, FLIP, weights): key
            for key in work
            if key not in results
        }
        for future in tqdm(as_completed(waiting), total=len(waiting), unit="unit", desc="probe"):
            result = future.result()
            results[waiting[future]] = result
            with writing(out):
                write_bytes(units / f"{result.arm}-{result.tier}.json", json.dumps(asdict(result)).encode())
    summary = summarise(results, settings)
    from .plot import plot_probe

    with writing(out):
        write_bytes(out / "probe.json", json.dumps(summary, indent=1).encode())
        write_bytes(out / "probe.md", table(summary).encode())
        plot_probe(summary, out / "probe.png")
    return summary


def _read(path: Path) -> UnitResult:
    try:
        return from_json(UnitResult, json.loads(path.read_text()))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path} is damaged ({error}); remove it and give the same command") from error


def _spawn():
    import multiprocessing

    return multiprocessing.get_context("spawn")


def _folder(out: Path, settings: dict) -> Path:
    units, note = out / "units", out / "units" / "settings.json"
    with writing(out):
        units.mkdir(parents=True, exist_ok=True)
        if not keep_note(note, json.dumps(settings)):
            raise BadInput(f"{out} holds a probe with other settings; choose another folder with --out")
    return units


def summarise(results: dict[tuple[str, int], UnitResult], settings: dict) -> dict:
    medians = np.array([np.median(results["oneshot", tier].bits) for tier in range(TIERS)])
    passed = {arm: np.array([results[arm, tier].passed for tier in range(TIERS)]) for arm in ARMS}
    samples = resample(passed, medians)
    arms = {}
    for arm in ARMS:
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
    for arm in LOOPS:
        for against in ("oneshot", "best-of-n"):
            bounds, mine, other = ratio(samples, arm, against), arms[arm]["auc"], arms[against]["auc"]
            arms[arm][f"ratio_{against}"] = mine / other if other else None if mine else 1.0
            arms[arm][f"ratio_{against}_ci"] = [
                bound if math.isfinite(bound) else None for bound in (bounds.low, bounds.high)
            ]
    return {"settings": settings, "tier_medians": [float(median) for median in medians], "arms": arms}


def _times(value: float | None) -> str:
    """Return the factor in words, since JSON has no infinity."""
    return "infinite" if value is None else f"{value:.2f}"


def table(summary: dict) -> str:
    """Return the result as a Markdown table."""
    head = [
        "arm",
        "AUC (95 %)",
        "x one-shot (95 %)",
        "x best-of-N (95 %)",
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
            for against in ("oneshot", "best-of-n")
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
    return "\n".join(lines) + "\n"
