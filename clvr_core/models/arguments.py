"""The flags of the command line that choose models."""

from __future__ import annotations

import argparse

from ..world import current


def add_models(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--models",
        default="embedded",
        type=current,
        metavar="NAME",
        help="embedded: small models that come with this, no download (default); a folder of such weights; a set that "
        "clvr doctor lists; or a file like clvr.toml",
    )


def add_witness(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--witness",
        default="",
        metavar="KINDS",
        help="what looks at each picture beside the judge, with commas between: text, objects=FOLDER, count, changes, "
        "likeness=FOLDER@0.6; or none",
    )


def add_weights(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--weights",
        default="",
        metavar="DIR",
        help="embedded weights in place of those installed; or where the weights of a set lie (default: CLVR_MODELS, ./models)",
    )
