"""`clvr clean`: a copy of a picture without metadata."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..errors import BadInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("picture", type=Path, metavar="PICTURE", help="a PNG, such as best.png of a run's folder")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new PNG")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from .atomic import writing
    from .png import read_png, write_png

    if options.out.exists():
        raise BadInput(f"{options.out} is there already; name a new file with --out")
    picture, _ = read_png(options.picture)
    with writing(options.out.parent):
        write_png(options.out, picture, {})
    print(json.dumps({"exit": 0, "out": str(options.out)}) if options.json else f"picture     {options.out}")
    return 0
