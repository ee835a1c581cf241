"""The command `clvr extract`: its arguments, and its output for people or as one JSON line."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..progress import ProgressBar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base", type=Path, required=True, metavar="B", help="what the other was made from")
    parser.add_argument("--tuned", type=Path, required=True, metavar="T", help="fine-tuned or distilled weights")
    parser.add_argument("--out", type=Path, required=True, metavar="O", help="the LoRA, a .safetensors file")
    parser.add_argument("--rank", type=int, metavar="R", help="default 32; with --energy the largest, default 128")
    parser.add_argument(
        "--energy", type=float, metavar="E", help="the smallest rank that holds this share of the squared norm, as 0.9"
    )
    parser.add_argument("--include", action="append", default=[], metavar="P", help="take only what matches")
    parser.add_argument("--exclude", action="append", default=[], metavar="P", help="leave out what matches")
    parser.add_argument(
        "--layout",
        default="bfl",
        choices=("bfl", "diffusers"),
        help="naming of FLUX.2: bfl for ComfyUI and diffusers (default), or diffusers",
    )
    parser.add_argument("--dtype", default="bf16", choices=("bf16", "fp16", "fp32"), help="default bf16")
    parser.add_argument("--limit", type=float, default=0.5, help="as in clvr merge (default 0.5)")
    parser.add_argument(
        "--fp8", default="refuse", choices=("refuse", "dequantise"), help="weights of 8 bits or fewer (default refuse)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Extract, and return the exit code. Raises BadInput."""
    from .extract import extract

    options.again = "the same command"
    with ProgressBar("", scaled=True) as bar:
        made = extract(
            options.base,
            options.tuned,
            options.out,
            rank=options.rank,
            energy=options.energy,
            include=tuple(options.include),
            exclude=tuple(options.exclude),
            layout=options.layout,
            dtype=options.dtype,
            limit=options.limit,
            fp8=options.fp8,
            overwrite=options.overwrite,
            progress=bar.show,
        )
    if options.json:
        found = {"out": str(made.out), "bytes": made.nbytes, "rank": made.rank, "held": round(made.held, 6)}
        found |= {"relative_norm": made.relative_norm, "modules": made.modules, "left": made.left}
        print(json.dumps({"exit": 0, **found, "warnings": made.warnings, "seconds": round(made.seconds, 3)}))
        return 0
    for warning in made.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    least = min(made.modules, key=made.modules.__getitem__)
    print(
        f"rank {made.rank} holds {made.held:.1%} of the difference's norm ({made.held**2:.1%} of its energy), "
        f"least in {least} ({made.modules[least]:.1%})"
    )
    print(f"the difference is {made.relative_norm:.2%} of the base's norm")
    print(f"{made.nbytes / 1e6:.3g} MB in {made.seconds:.1f} s\nout        {made.out}")
    return 0
