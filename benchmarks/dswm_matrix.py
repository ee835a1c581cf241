"""DSWM in an embedded world: {base, + align, + distil, + both, aligned distilled anew} x {4 steps, 28 steps with guidance} on held-out
briefs.

python benchmarks/dswm_matrix.py --distilled DIR --lora FILE [--strength 1] [--beta 1] [--redistilled DIR] [--per-tier 12] [--seed 41]
    [--more 42 43] [--json FILE]

One shot and trajectories of two rounds, pass by tier of description length, scored by the world's exact reader; paired bootstrap intervals;
norms and cosine of the deltas; seconds of a two-round trajectory, which count the processor's time, so that other work on the machine
does not matter. `--more`: seeds of other briefs, as many each, for the three cells that are compared. Each cell is kept in the JSON file
when it is done, and not measured again by the same command.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file

from clvr_core.brief import Brief, Budget
from clvr_core.cli import main as clvr
from clvr_core.evaluation.probe import TIERS, tier_briefs
from clvr_core.evaluation.statistics import auc, interval, ratio, resample
from clvr_core.executor.klein import KleinExecutor, Sampling
from clvr_core.fleet.rounds import drive_all
from clvr_core.protocols import DrawRequest
from clvr_core.run.session import RunModels, Session
from clvr_core.world import EXACT, world_named, world_of

FILE = "transformer/diffusion_pytorch_model.safetensors"
FEW, MANY = Sampling(4, 1.0), Sampling(28, 2.0)
COLUMNS = {"4": FEW, "28 x CFG": MANY}
TASKS = "one shot", "two rounds"
TOGETHER = "both tasks"
"""Of each brief the mean of the two, so that a brief is drawn into a resample with both."""
JUDGED = {"+ both, 4": ("+ both", "4"), "+ align, 28 x CFG": ("+ align", "28 x CFG"), "+ distil, 4": ("+ distil", "4")}
"""The cells that are compared, with row and column."""
PAPER = {"align": 0.0230, "distil": 0.0279}
"""Relative norms of the deltas of FLUX.2 Klein 4B (arXiv 2605.14876)."""


def made(
    base: Path, distilled: Path, lora: Path, strengths: tuple[float, float], redistilled: Path | None, folder: Path
) -> dict[str, dict[str, torch.Tensor]]:
    """The rows' transformers, the merged ones by `clvr merge` in float32. strengths: of the LoRA and of the distilled delta in the merge of
    both; alone each stands as it was trained."""
    strength, beta = strengths
    rows = {"base": load_file(base / FILE), "+ distil": load_file(distilled / FILE)}
    both = ["--lora", f"{lora}:{strength}", "--distilled", str(distilled / FILE), "--beta", str(beta)]
    for name, given in (("+ align", ["--lora", str(lora)]), ("+ both", both)):
        out = folder / f"{name.strip('+ ')}.safetensors"
        command = ["merge", "--base", str(base / FILE), *given, "--out", str(out), "--dtype", "fp32", "--json"]
        if clvr(command):
            raise SystemExit(f"clvr {' '.join(command)} failed")
        rows[name] = load_file(out)
    if redistilled:
        rows["aligned, distilled anew"] = load_file(redistilled / FILE)
    return {name: {key: value.float() for key, value in state.items()} for name, state in rows.items()}


def deltas(rows: dict[str, dict[str, torch.Tensor]]) -> dict[str, float]:
    base = torch.cat([value.flatten() for value in rows["base"].values()]).double()
    align, distil = (
        torch.cat([rows[name][key].flatten() for key in rows["base"]]).double() - base
        for name in ("+ align", "+ distil")
    )
    return {
        "align": float(align.norm() / base.norm()),
        "distil": float(distil.norm() / base.norm()),
        "cosine": float(align @ distil / (align.norm() * distil.norm())),
    }


class Bench:
    """One pipeline whose transformer and schedule change."""

    def __init__(self, base: Path, distilled: Path, per_tier: int, seed: int, conditioning: str, window: int) -> None:
        self.executor, self.world = KleinExecutor.load(base), world_of(base)
        many = self.executor.pipe.scheduler
        few = FlowMatchEulerDiscreteScheduler.from_pretrained(distilled, subfolder="scheduler")
        self.schedulers = {FEW: few, MANY: many}
        self.briefs = [brief for tier in range(TIERS) for brief in tier_briefs(self.world, tier, per_tier, seed)]
        self.per_tier, self.conditioning, self.window = per_tier, conditioning, window
        self.medians = medians_of([self])

    def use(self, state: dict[str, torch.Tensor], sampling: Sampling) -> None:
        self.executor.pipe.transformer.load_state_dict(state)
        self.executor.pipe.scheduler = self.schedulers[sampling]
        self.executor.recipe = replace(self.executor.recipe, generate=sampling, edit=replace(sampling))

    def measured(self, state: dict[str, torch.Tensor], sampling: Sampling) -> dict[str, list]:
        self.use(state, sampling)
        return {"one shot": self.one_shot().tolist(), "two rounds": self.two_rounds().tolist()}

    def one_shot(self) -> np.ndarray:
        side = self.world.canvas
        drawings = self.executor.draw([DrawRequest(brief.prompt, brief.seed, (), side, side) for brief in self.briefs])
        return self._passed([drawing.picture for drawing in drawings])

    def two_rounds(self) -> np.ndarray:
        sessions, ends = self._driven(self.briefs)
        return self._passed([session.picture(end.best) for session, end in zip(sessions, ends)])

    def seconds(self, rivals: list[tuple[dict[str, torch.Tensor], Sampling]], count: int) -> list[float]:
        """Of the processor, for a trajectory of each rival that took both rounds, driven alone, as one who waits for it does. The rivals
        take turns at each brief, so that a machine that is slower for a while is so for all."""
        spent: list[list[float]] = [[] for _ in rivals]
        for brief in self.briefs[:: max(1, len(self.briefs) // count)]:
            for times, rival in zip(spent, rivals):
                self.use(*rival)
                self.executor.forget()
                started = time.process_time()
                _, (end,) = self._driven([brief])
                if len(end.steps) == 2:
                    times.append(time.process_time() - started)
        return [float(np.mean(times)) if times else float("nan") for times in spent]

    def _driven(self, briefs):
        whole = self.executor.recipe
        self.executor.recipe = replace(
            whole, text_lengths=tuple(length for length in whole.text_lengths if length <= self.window)
        )
        kept = {"budget": Budget(2), "final_ab": False, "conditioning": self.conditioning}
        sessions = [
            Session(
                Brief(brief.prompt, "clvr", brief.seed, self.world.canvas, self.world.canvas, **kept),
                RunModels(self.world.vlm(EXACT), self.executor),
            )
            for brief in briefs
        ]
        try:
            return sessions, drive_all(sessions, self.executor)
        finally:
            self.executor.recipe = whole

    def _passed(self, pictures) -> np.ndarray:
        """tiers x briefs of 0 and 1."""
        world = self.world
        passed = [world.meets(brief.prompt, world.perceive(picture)) for brief, picture in zip(self.briefs, pictures)]
        return np.array(passed, float).reshape(TIERS, self.per_tier)


def medians_of(benches: list[Bench]) -> np.ndarray:
    """Bits of the briefs of each tier."""
    bits = [np.array([brief.bits for brief in bench.briefs]).reshape(TIERS, -1) for bench in benches]
    return np.median(np.concatenate(bits, 1), 1)


def show(name: str, cell: dict) -> None:
    shown = {task: np.array(cell[task]).mean(1) for task in TASKS}
    tiers = " ".join(f"{rate:.2f}" for rate in shown["two rounds"])
    seconds = f" {cell['seconds']:.3f} s" if "seconds" in cell else ""
    print(
        f"{name:34s} one shot {shown['one shot'].mean():.3f}  two rounds {shown['two rounds'].mean():.3f} [{tiers}]{seconds}",
        flush=True,
    )


def compared(cells: dict[str, dict], task: str, medians: np.ndarray) -> dict:
    """merged / aligned and merged - distilled in area under the curve, with paired 95 % intervals."""
    parts = TASKS if task == TOGETHER else (task,)
    passed = {cell: np.mean([values[each] for each in parts], axis=0) for cell, values in cells.items()}
    few, many, rival = JUDGED
    samples = resample(passed, medians)
    areas = {name: float(auc(values, medians)) for name, values in passed.items()}
    part, more = ratio(samples, few, many), interval(samples[few] - samples[rival])
    result = {
        "merged / aligned": areas[few] / areas[many] if areas[many] else None,
        "merged / aligned 95 %": [part.low, part.high],
        "merged - distilled": areas[few] - areas[rival],
        "merged - distilled 95 %": [more.low, more.high],
    }
    print(task, json.dumps(result))
    return {"pass": {name: values.mean(1).tolist() for name, values in passed.items()}, "areas": areas} | result


def joined(cells: list[dict[str, dict]]) -> dict[str, dict]:
    """The cells that are compared, with the briefs of all seeds."""
    return {name: {task: np.concatenate([each[name][task] for each in cells], 1) for task in TASKS} for name in JUDGED}


def kept(path: Path | None, result: dict) -> tuple[dict[str, dict], dict[str, dict]]:
    """The cells in the file, and those of more seeds, if they were measured with the same settings and weights."""
    before = json.loads(path.read_text()) if path and path.exists() else {}
    same = before and all(before.get(key) == value for key, value in result.items())
    return (before["cells"], before["more"]) if same else ({}, {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=world_named().base)
    parser.add_argument("--distilled", type=Path, required=True)
    parser.add_argument("--lora", type=Path, required=True)
    parser.add_argument("--strength", type=float, default=1.0, help="of the LoRA in the merge of both (default 1)")
    parser.add_argument(
        "--beta", type=float, default=1.0, help="strength of the distilled delta in the merge of both (default 1)"
    )
    parser.add_argument("--redistilled", type=Path)
    parser.add_argument("--per-tier", type=int, default=12)
    parser.add_argument("--seed", type=int, default=41)
    parser.add_argument("--more", type=int, nargs="*", default=[])
    parser.add_argument(
        "--conditioning", default="trace", help="what the executor is told in the trajectories (default trace)"
    )
    parser.add_argument(
        "--window", type=int, default=64, help="tokens of a trace, as many as the LoRA was trained with (default 64)"
    )
    parser.add_argument(
        "--timed",
        type=int,
        default=10,
        help="trajectories timed of each cell; four times as many in turns (default 10)",
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        strengths = options.strength, options.beta
        rows = made(options.base, options.distilled, options.lora, strengths, options.redistilled, Path(folder))

    def bench_of(seed: int) -> Bench:
        return Bench(options.base, options.distilled, options.per_tier, seed, options.conditioning, options.window)

    bench = bench_of(options.seed)
    result: dict = {"per tier": options.per_tier, "seed": options.seed, "timed": options.timed}
    result |= {
        "strength": options.strength,
        "beta": options.beta,
        "conditioning": options.conditioning,
        "window": options.window,
    }
    result |= {"deltas": deltas(rows), "paper": PAPER, "medians": bench.medians.tolist()}
    print("deltas: align {align:.2%}, distil {distil:.2%}, cosine {cosine:.3f}".format(**result["deltas"]))
    cells, more = kept(options.json, result)

    def save(**added: dict) -> None:
        if options.json:
            options.json.write_text(json.dumps(result | added | {"cells": cells, "more": more}, indent=1))

    for name, state in rows.items():
        for column, sampling in COLUMNS.items():
            cell = f"{name}, {column}"
            if cell not in cells:
                (seconds,) = bench.seconds([(state, sampling)], options.timed)
                cells[cell] = {"seconds": seconds} | bench.measured(state, sampling)
                save()
            show(cell, cells[cell])
    benches = [bench]
    for seed in options.more:
        benches.append(bench_of(seed))
        found = more.setdefault(str(seed), {})
        for cell, (name, column) in JUDGED.items():
            if cell not in found:
                found[cell] = benches[-1].measured(rows[name], COLUMNS[column])
                save()
            show(f"{cell}, seed {seed}", found[cell])
    added: dict = {task: compared(cells, task, bench.medians) for task in (*TASKS, TOGETHER)}
    if options.more:
        print(f"seeds {options.seed}, {', '.join(map(str, options.more))}:")
        every, medians = joined([cells, *(more[str(seed)] for seed in options.more)]), medians_of(benches)
        added["all seeds"] = {task: compared(every, task, medians) for task in (*TASKS, TOGETHER)}
    slow, fast = bench.seconds([(rows["base"], MANY), (rows["+ both"], FEW)], 4 * options.timed)
    added |= {"in turns": [slow, fast], "times faster": slow / fast}
    print(f"a two-round trajectory takes {slow / fast:.1f} times less with the merged weights than with the base")
    save(**added)


if __name__ == "__main__":
    main()
