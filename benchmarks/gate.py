"""How often the director draws in one shot, by the number of goals, and how often one shot is enough. THE EXECUTOR IS SIMULATED.

python benchmarks/gate.py [--each 100] [--seed 0] [--json FILE]

Briefs of the sticker world, told with all kinds of places, sizes and relations, by the number of goals that the controller drafts. The gate
is that of the strategy `director`: plain (the product of the goals' feasibilities), guided (high feasibility and a small area, as the paper
asks, the default), and the same with --estimate (the complexity of the brief). One shot is drawn once by the simulated executor of
benchmarks/sticker_planning.py, whose rates are bars and nothing that was measured, and scored exactly. Intervals: 95 %, Wilson's.

Beside it the curve that VisionDirector (arXiv 2512.19243) shows of its own gate, on its own briefs.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

from clvr_core.brief import Brief
from clvr_core.controller import draft_goals
from clvr_core.evaluation.statistics import wilson
from clvr_core.policy.director import Director
from clvr_core.protocols import DrawRequest
from clvr_core.stickers.grammar import NotInGrammar, parse, tokens_of
from clvr_core.stickers.judge import StickersVlm
from clvr_core.stickers.phrases import write
from clvr_core.stickers.sampling import grouped_scene, tell
from clvr_core.stickers.scene import CANVAS
from clvr_core.stickers.simulated import SimulatedExecutor, perceive
from clvr_core.trajectory import seed_for

BINS = ((1, 2), (3, 5), (6, 9), (10, 13), (14, 16), (17, 20), (21, 24), (25, 28), (29, 32))
"""Numbers of goals, first and last."""
PAPER = {1: 0.96, 5: 0.93, 10: 0.90, 15: 0.85, 18: 0.78, 22: 0.48, 26: 0.22, 30: 0.08}
"""Number of goals -> share of briefs that the paper's gate draws in one shot, read from its figure."""
GATES = {
    "plain": {},
    "guided": {"guided": True},
    "estimate": {"estimate": True},
    "guided, estimate": {"guided": True, "estimate": True},
}
LONGEST = 112
TRIES = 40_000
"""Briefs that are sampled, at most."""


def sampled(each: int, seed: int) -> dict[tuple[int, int], list[tuple[str, Any, int]]]:
    """Return for each bin prompt, goals and seed of so many briefs, or of as many as there were."""
    rng, vlm = random.Random(f"gate/{seed}"), StickersVlm()
    found: dict[tuple[int, int], list[tuple[str, Any, int]]] = {each_bin: [] for each_bin in BINS}
    for _ in range(TRIES):
        if all(len(briefs) >= each for briefs in found.values()):
            break
        scene = grouped_scene(rng, rng.randint(1, 8))
        spec = tell(
            scene,
            rng,
            rng.choice((0.0, 0.5, 1.0)),
            rng.choice((0.0, 0.5, 1.0)),
            rng.choice((0, 0, 1, 2, 4, 8, 12, 16, 20)),
        )
        prompt = write(spec, "terse", rng)
        if len(tokens_of(prompt)) > LONGEST:
            continue
        try:
            goals = draft_goals(vlm, Brief(prompt)).value or ()
        except NotInGrammar:
            continue
        place = next((one for one in BINS if one[0] <= len(goals) <= one[1]), None)
        if place is not None and len(found[place]) < each:
            found[place].append((prompt, goals, rng.randrange(2**31)))
    return found


def share(values: list[bool]) -> dict[str, Any]:
    return (
        {"share": sum(values) / len(values), "ci": list(wilson(sum(values), len(values)))}
        if values
        else {"share": None}
    )


def measure(each: int = 100, seed: int = 0) -> dict[str, Any]:
    executor, rows = SimulatedExecutor(), {}
    for (first, last), briefs in sampled(each, seed).items():
        requests = [DrawRequest(prompt, seed_for(own, 0, 0), (), CANVAS, CANVAS) for prompt, _, own in briefs]
        drawn = executor.draw(requests) if requests else []
        met = [parse(prompt).holds(perceive(drawing.picture).scene()) for (prompt, _, _), drawing in zip(briefs, drawn)]
        row: dict[str, Any] = {"briefs": len(briefs), "one shot is enough": share(met)}
        for name, options in GATES.items():
            route = [
                Director().plan(Brief(prompt, "director", **options), goals).route == "one shot"
                for prompt, goals, _ in briefs
            ]
            row[name] = share(route)
            row[f"{name}, enough of those"] = share([good for good, taken in zip(met, route) if taken])
        rows[f"{first}-{last}"] = row
    return {"settings": {"each": each, "seed": seed, "executor": "simulated"}, "goals": rows, "paper": PAPER}


def table(found: dict[str, Any]) -> str:
    def number(value: dict[str, Any]) -> str:
        if value["share"] is None:
            return "-"
        return f"{value['share']:.2f} ({value['ci'][0]:.2f} to {value['ci'][1]:.2f})"

    columns = ["one shot is enough", *GATES]
    lines = [["goals", "briefs", *columns, "paper"], ["---"] * (len(columns) + 3)]
    for name, row in found["goals"].items():
        first, last = map(int, name.split("-"))
        paper = [f"{count}: {rate:.2f}" for count, rate in PAPER.items() if first <= count <= last]
        lines.append([name, str(row["briefs"]), *(number(row[column]) for column in columns), ", ".join(paper)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=100, help="briefs for each range of numbers of goals")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(options.each, options.seed)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    print(f"Simulated executor, {options.each} briefs in each range at most\n\n{table(found)}")


if __name__ == "__main__":
    main()
