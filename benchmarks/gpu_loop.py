"""What a trajectory costs at the published sizes, with random weights: the real loop, the real classes, replies of fixed length.

A run of R rounds is one generation and R - 1 edits of the canvas, each with a reply of the controller before it and decisions on ten goals
after it; prompts are read and replies written by clvr_core's own reader, prefixes remembered. Times are taken by CUDA events, medians over
repeats after a warm-up; the floors are FLOPs and bytes by what this device does in one large matrix product and one large copy. The
weights of base and merged Klein cost the same: 28 steps with guidance against 4.

Every section is printed, and written to FILE, as soon as it is measured; one that fails says why and the rest goes on.

python benchmarks/gpu_loop.py [--size 4b|9b] [--rounds 2 4] [--side 1024] [--repeat 3] [--seconds 480] [--no-compile] [--json FILE]
python benchmarks/gpu_loop.py --tiny    end to end in seconds, as it does by itself where there is no GPU; its figures mean nothing
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from gpu_clock import Clock, Cpu, Gpu, Sections, here, once
from gpu_models import SIZES, TINY, FixedVlm, Size, hand
from torch.utils.flop_counter import FlopCounterMode

from clvr_core.brief import Brief, Budget
from clvr_core.executor.klein import KleinExecutor, Sampling, SamplingRecipe
from clvr_core.run.session import RunModels, Session, drive
from clvr_core.vlm.prefix import Reader

MERGED, BASE = Sampling(4), Sampling(28, 4.0)
PAPER, NFE_RATIO = 11.3, 28 * 2 / 4
STAGES = ("VLM prefill", "VLM decode", "decisions", "text encode", "denoise", "VAE")
UNGROUPED = ("text encode", "denoise", "VAE")
"""Stages whose attention has as many keys as queries, which every torch can count."""


def trajectory(vlm: FixedVlm, executor: KleinExecutor, sampling: Sampling, rounds: int, side: int) -> dict[str, float]:
    """Seconds by stage of one run, with `total` and what is in no stage, `framework`."""
    executor.recipe = SamplingRecipe(
        sampling, sampling, executor.recipe.text_layers, executor.recipe.text_lengths, 1, given_latents=True
    )
    executor.forget()
    vlm.run += 1
    brief = Brief(
        "ten things", seed=1, width=side, height=side, budget=Budget(rounds=rounds, patience=rounds + 1), final_ab=False
    )
    clock = vlm.clock
    clock.seconds()
    started = time.perf_counter()
    run = drive(Session(brief, RunModels(vlm, executor)))
    clock.device.wait()
    total = time.perf_counter() - started
    assert sum(step.action.draws for step in run.steps) == rounds, run.outcome
    found = clock.seconds()
    found = {name: found.get(name, 0.0) for name in STAGES}
    return found | {"framework": max(total - sum(found.values()), 0.0), "total": total}


def median(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def limits(device: Cpu) -> dict[str, float]:
    """FLOP/s of one large product and bytes/s of one large copy, the best of five."""
    one = torch.randn(device.product, device.product, device=device.where, dtype=device.dtype)
    block = torch.empty(device.block, dtype=torch.uint8, device=device.where)

    def best(work: Callable[[], Any]) -> float:
        return min([once(device, work) for _ in range(8)][3:])

    return {"flops": 2 * device.product**3 / best(lambda: one @ one), "bytes": 2 * block.numel() / best(block.clone)}


def floors(vlm: FixedVlm, executor: KleinExecutor, rounds: int, side: int, limit: dict[str, float]) -> dict[str, float]:
    """By the FLOPs of a run, all with plain attention, and the bytes that writing reads."""
    clock = vlm.clock
    for counted in (STAGES, UNGROUPED):
        clock.counted, clock.flops = counted, {}
        try:
            trajectory(vlm, executor, MERGED, rounds, side)
            break
        except AssertionError:  # an older torch cannot count attention with fewer keys than queries
            if counted == UNGROUPED:
                raise
        finally:
            clock.counted = ()
    found = {name: count / limit["flops"] for name, count in clock.flops.items()}
    replies = rounds + 1  # and the list of goals
    return found | {"VLM decode": replies * vlm.size.reply * vlm.bytes_a_token / limit["bytes"]}


@torch.inference_mode()
def writing(vlm: FixedVlm, limit: dict[str, float], compiles: bool, sections: Sections) -> None:
    """Milliseconds a token in each way, and the reader of the fastest for what follows."""
    device, floor = vlm.device, vlm.bytes_a_token / limit["bytes"]
    ways: dict[str, Any] = {"launched one by one": None, "CUDA graph": device.record}
    if compiles:
        ways["compiled, CUDA graph"] = lambda step: device.record(torch.compile(step, **device.compiles))
    fastest, reader = float("inf"), vlm.reader

    def measured(record: Any) -> dict[str, float]:
        vlm.reader = Reader(vlm.model, record=record)
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "error", "replies are written slowly"
            )  # as the reader says that it could not record
            for count in (8, vlm.size.reply):
                run = vlm.reader.read(vlm.prompt(vlm.size.prompt, ()))
                seconds = once(device, lambda run=run, count=count: vlm.write(run, count)) / count
        return {"ms": seconds * 1000, "x floor": seconds / floor}

    for name, record in ways.items():
        found = sections.measure(f"VLM decode, {name}", lambda record=record: measured(record))
        if found:
            sections.say(
                f"VLM decode, {name}: {found['ms']:.2f} ms a token, {found['x floor']:.2f} x its floor of {floor * 1000:.2f}"
            )
        if found and found["ms"] < fastest:
            fastest, reader = found["ms"], vlm.reader
        vlm.reader = reader


@torch.inference_mode()
def denoising(
    executor: KleinExecutor, size: Size, side: int, device: Cpu, limit: dict[str, float], sections: Sections
) -> None:
    """Milliseconds of one pass of the transformer without and with a reference; compiled from then on if that is faster."""
    transformer, tokens = executor.pipe.transformer, (side // 16) ** 2
    flops: dict[int, int] = {}

    def inputs(references: int) -> dict[str, Any]:
        made, count = {"device": device.where, "dtype": device.dtype}, tokens * (1 + references)
        return {
            "hidden_states": torch.randn(1, count, transformer.config.in_channels, **made),
            "encoder_hidden_states": torch.randn(1, size.words, transformer.config.joint_attention_dim, **made),
            "timestep": torch.full((1,), 0.5, **made),
            "img_ids": torch.arange(count, device=device.where)[:, None].repeat(1, 4),
            "txt_ids": torch.zeros(size.words, 4, dtype=torch.long, device=device.where),
            "return_dict": False,
        }

    def measured(references: int) -> dict[str, float]:
        given = inputs(references)
        seconds = min([once(device, lambda: transformer(**given)) for _ in range(5)][2:])
        if references not in flops:
            with FlopCounterMode(display=False) as counter:
                transformer(**given)
            flops[references] = counter.get_total_flops()
        return {"ms": seconds * 1000, "x floor": seconds * limit["flops"] / flops[references]}

    def told(name: str) -> float:
        """Milliseconds of both together."""
        total = 0.0
        for references in (0, 1):
            found = sections.measure(
                f"{name}, {references} references", lambda references=references: measured(references)
            )
            if not found:
                return float("inf")
            sections.say(f"{name}, {references} references: {found['ms']:.1f} ms, {found['x floor']:.2f} x its floor")
            total += found["ms"]
        return total

    plain = told("denoise")
    if device.compiles is None:
        return
    compiled = sections.measure(
        "denoise, compiling", lambda: transformer.compile_repeated_blocks(fullgraph=True, **device.compiles) or True
    )
    if compiled and told("denoise, compiled") > plain:
        sections.say("denoise: the compiled blocks are left aside")
        for module in transformer.modules():
            module._compiled_call_impl = None


def table(rounds: int, found: dict[str, float], floor: dict[str, float], tokens: int) -> str:
    lines = [f"| {rounds} rounds, 4 steps | seconds | share | floor | x floor |", "|---|---|---|---|---|"]
    for name, seconds in found.items():
        least = floor.get(name)
        times = f"{least:.4f} | {seconds / least:.2f}" if least else " | "
        lines.append(f"| {name} | {seconds:.4f} | {seconds / found['total']:.1%} | {times} |")
    lines.append(
        f"| VLM decode, a token | {found['VLM decode'] / tokens:.5f} | | {floor.get('VLM decode', 0) / tokens:.5f} | |"
    )
    return "\n".join(lines)


def verdicts(
    found: dict[str, float], floor: dict[str, float], ratio: float | None, size: str, rounds: int
) -> list[str]:
    bars = [("framework share", found["framework"] / found["total"], 0.02, "at most")]
    for name, what, bar in (
        ("denoise", "denoise over its FLOP floor", 2.0),
        ("VLM decode", "VLM decode over its bandwidth floor", 2.5),
    ):
        if floor.get(name):
            bars.append((what, found[name] / floor[name], bar, "at most"))
    if ratio:
        bars.append(("base(28x2) over merged(4), whole trajectory", ratio, PAPER, "at least"))
    if size == "4b" and rounds == 2:
        bars.append(("seconds of two rounds", found["total"], 4.0, "at most"))
    told = []
    for what, value, bar, sense in bars:
        met = value <= bar if sense == "at most" else value >= bar
        told.append(f"{what}: {value:.3g}, wanted {sense} {bar:g}: {'met' if met else 'NOT MET'}")
    return told


def measure_rounds(
    vlm: FixedVlm, executor: KleinExecutor, rounds: int, side: int, floor: Any, repeat: int, sections: Sections
) -> None:
    def merged() -> dict[str, float]:
        return median([trajectory(vlm, executor, MERGED, rounds, side) for _ in range(1 + repeat)][1:])

    fast, floor = sections.measure(f"{rounds} rounds, merged", merged), floor or {}
    if fast is None:
        return
    sections.say(f"\n{table(rounds, fast, floor, (rounds + 1) * vlm.size.reply)}")
    slow = sections.measure(f"{rounds} rounds, base", lambda: trajectory(vlm, executor, BASE, rounds, side))
    ratio = slow["total"] / fast["total"] if slow else None
    if slow:
        parts = slow["denoise"] / fast["denoise"]
        sections.say(
            f"base(28x2) : merged(4) is {parts:.1f} in denoising (evaluations: {NFE_RATIO:g}), {ratio:.1f} in all"
        )
    size = sections.result["size"]
    if size != "tiny":
        told = sections.measure(f"{rounds} rounds, verdicts", lambda: verdicts(fast, floor, ratio, size, rounds))
        sections.say("\n".join(told or ()))


def run_all(device: Cpu, size: Size, side: int, repeat: int, rounds: Sequence[int], sections: Sections) -> None:
    clock = Clock(device)
    limit = sections.measure("limits", lambda: limits(device))
    if limit is None:
        return
    sections.say(f"one product: {limit['flops'] / 1e12:.3g} TFLOP/s; one copy: {limit['bytes'] / 1e12:.3g} TB/s")
    torch.manual_seed(0)
    made: list[Any] = []

    def weights() -> dict[str, float]:
        started = time.perf_counter()
        made[:] = FixedVlm(size, clock), hand(size, clock)
        device.wait()
        return {"seconds": time.perf_counter() - started, "bytes": device.held()}

    found = sections.measure("weights", weights)
    if found is None:
        return
    sections.say(f"weights: made in {found['seconds']:.1f} s, {found['bytes'] / 1e9:.1f} GB")
    vlm, executor = made
    # Counted before anything is compiled or recorded; these first runs warm up, too.
    floor = {
        count: sections.measure(
            f"floors of {count} rounds", lambda count=count: floors(vlm, executor, count, side, limit)
        )
        for count in rounds
    }
    writing(vlm, limit, device.compiles is not None, sections)
    denoising(executor, size, side, device, limit, sections)
    for count in rounds:
        measure_rounds(vlm, executor, count, side, floor[count], repeat, sections)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="4b", choices=SIZES)
    parser.add_argument("--rounds", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--side", type=int, default=1024, help="of the canvas in pixels")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=480.0, help="after which no further section is begun")
    parser.add_argument("--no-compile", action="store_true", help="neither the transformer's blocks nor the VLM's step")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    device = here()
    tiny = options.tiny or not isinstance(device, Gpu)
    size, side, name = (TINY, 64, "tiny") if tiny else (SIZES[options.size], options.side, options.size)
    if options.no_compile:
        device.compiles = None
    versions = {module.__name__: module.__version__ for module in (torch, transformers, diffusers)}
    head = {"size": name, "device": device.name, "side": side, "repeat": options.repeat, "versions": versions}
    sections = Sections(options.json, options.seconds, head)
    sections.say(f"{name} on {device.name}, {side} px, torch {torch.__version__}, median of {options.repeat}")
    run_all(device, size, side, options.repeat, options.rounds, sections)


if __name__ == "__main__":
    main()
