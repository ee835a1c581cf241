"""The command `clvr spectrum`: its arguments, and its output for people or as one JSON line."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from ..errors import BadInput
from ..progress import ProgressBar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="checkpoints, as clvr merge reads them")
    parser.add_argument("--include", action="append", default=[], metavar="P", help="take only what matches")
    parser.add_argument("--exclude", action="append", default=[], metavar="P", help="leave out what matches")
    parser.add_argument(
        "--auc", type=float, nargs="+", metavar="A", help="of each file, the area under its pass rate: fits a power law"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure the files, and return the exit code. Raises BadInput."""
    from .spectrum import power_law, spectrum

    if options.auc is not None and len(options.auc) != len(options.files):
        raise BadInput(f"--auc has {len(options.auc)} numbers for {len(options.files)} files; give one for each file")
    found = []
    for path in options.files:
        with ProgressBar("", path.name, scaled=True) as bar:
            found.append(spectrum(path, options.include, options.exclude, bar.show))
    law = power_law([each.capacity for each in found], options.auc) if options.auc else None
    if options.json:
        files = [{"file": str(path), **asdict(each)} for path, each in zip(options.files, found)]
        print(json.dumps({"exit": 0, "files": files, "law": None if law is None else asdict(law)}))
        return 0
    for path, each in zip(options.files, found):
        for warning in each.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        print(
            f"I_v1 {each.capacity:.2f} ({each.share:.1%} of the smaller sides), stable rank {each.stable:.2f}, "
            f"{len(each.matrices)} matrices of {each.weights:,} weights, most of side {each.width}: {path}"
        )
    if law is not None:
        print(f"area ~ I_v1^{law.exponent:.3f}, R^2 {law.fit:.3f}, rank correlation {law.order:.3f}")
    elif options.auc:
        print("no power law: it takes three files or more, of two different I_v1, and areas above 0")
    return 0
