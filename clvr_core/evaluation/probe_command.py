"""`clvr probe`: its arguments, and what it does with them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..errors import BadInput
from ..fleet.arguments import add_engine, engine_of


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the probe but --seed, --models and --json, which other commands share."""
    command.add_argument("--per-tier", type=int, default=40, help="briefs in each of the ten tiers (default 40)")
    command.add_argument(
        "--out",
        type=Path,
        default=Path("probe"),
        metavar="DIR",
        help="where probe.json, the plot and the table go (default probe)",
    )
    command.add_argument(
        "--judge",
        default="independent",
        metavar="KIND",
        help="exact; independent: wrong in 5%% of its answers, anew for each picture (default); correlated: as often, but "
        "what is seen alike is misjudged alike",
    )
    command.add_argument(
        "--planner-errors",
        type=float,
        default=0.0,
        metavar="RATE",
        help="chance that the planner misunderstands an item or a relation of the brief (default 0)",
    )
    command.add_argument(
        "--planner",
        default="independent",
        metavar="KIND",
        help="independent: it misunderstands anew in each plan (default); correlated: the same words always alike",
    )
    command.add_argument("--arms", metavar="NAMES", help="some of the arms, with commas (default: all)")
    add_engine(command)
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ..models.registry import load_models
    from ..world import embedded_weights, names
    from .probe import ARMS, JUDGES, PLANNERS, Conditions, run_probe

    for name, kinds in (("judge", JUDGES), ("planner", PLANNERS)):
        if (value := getattr(options, name)) not in kinds:
            raise BadInput(f"--{name} is {value!r:.40}; choose one of {', '.join(kinds)}")
    if not 0 <= options.planner_errors <= 1:
        raise BadInput(f"--planner-errors is {options.planner_errors:g}; it must be between 0 and 1")
    if options.per_tier < 1:
        raise BadInput(f"--per-tier is {options.per_tier}; it must be at least 1")
    found = embedded_weights(options.models, options.weights)
    if found is None:
        raise BadInput(
            f"the probe needs exact truth, which only {', '.join(names())} and folders of such weights have; found "
            f"--models {options.models}"
        )
    load_models(options.models, options.weights)
    options.again = "the same command"
    world, weights = found
    conditions = Conditions(options.judge, planner_errors=options.planner_errors, planner=options.planner)
    arms = options.arms.split(",") if options.arms else ARMS
    counts = {"per_tier": options.per_tier, "seed": options.seed}
    engine = engine_of(options, options.workers or 1)
    result = run_probe(
        options.out, **counts, world=world, weights=weights, engine=engine, conditions=conditions, arms=arms
    )
    print(json.dumps(result) if options.json else (options.out / "probe.md").read_text())
    return 0
