"""`clvr eval sessions`: its arguments, and what it does with them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..errors import BadInput
from ..fleet.shard import WHOLE, alone
from ..policy import LOOPS
from ..progress import ProgressBar

INCOMPLETE = 3
"""Exit code if a turn was not drawn or not judged."""
RESULT = "sessions.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arms = f"oneshot (the instruction once), best-of-n, {', '.join(LOOPS[:-1])} or {LOOPS[-1]}"
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="lme_bench.json and its images")
    parser.add_argument(
        "--images", type=Path, required=True, metavar="FOLDER", help="the pictures, one subfolder a name"
    )
    parser.add_argument("--arm", required=True, metavar="ARM", help=arms)
    parser.add_argument("--name", metavar="NAME", help="of the subfolder (default: the arm)")
    parser.add_argument("--models", default="embedded", metavar="MODELS", help="a preset, or a file like clvr.toml")
    parser.add_argument("--weights", default="", metavar="FOLDER", help="where the weights of a preset lie")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same pictures (default 0)")
    parser.add_argument("--limit", type=int, metavar="N", help="the first N sessions")
    parser.add_argument(
        "--side", type=int, default=512, help="area of the pictures, as the side of a square (default 512)"
    )
    parser.add_argument("--rounds", type=int, default=8, help="of a loop, at most, for each turn (default 8)")
    parser.add_argument("--patience", type=int, default=3, help="rounds without improvement (default 3)")
    parser.add_argument("--parallel", type=int, default=4, metavar="N", help="sessions side by side (default 4)")
    parser.add_argument("--judge", metavar="MODELS", help="judge what was drawn, by these models, and draw nothing")
    parser.add_argument("--json", action="store_true", help="print one machine-readable line at the end")
    parser.set_defaults(run=_sessions)


def _sessions(options: argparse.Namespace) -> int:
    from .sessions import read_sessions
    from .store import Arm

    options.again = "the same command"
    for name in ("rounds", "patience", "parallel", "side"):
        if getattr(options, name) < 1:
            raise BadInput(f"--{name} is {getattr(options, name)}; it must be at least 1")
    sessions = read_sessions(options.data)[: options.limit]
    arm = Arm(options.images, options.name or options.arm)
    return _judged(options, sessions, arm) if options.judge else _drawn(options, sessions, arm)


def _drawn(options: argparse.Namespace, sessions, arm) -> int:
    from ..models.registry import load_models
    from .arms import PLAN, Way
    from .generate import Order
    from .sessions import Sessions
    from .variants import options_of

    Order(options.arm)  # raises BadInput for an arm that is not known
    if options.arm in ("rewrite", PLAN):
        raise BadInput(
            f"the arm {options.arm} draws a new picture, and a session edits the one before; choose another --arm"
        )
    models = load_models(options.models, options.weights)
    names = {"executor": models.executor.name, "controller": models.vlm.name}
    settings = {name: getattr(options, name) for name in ("arm", "seed", "side", "rounds", "patience")}
    with alone(arm.kept, WHOLE):
        arm.settle({"bench": "lme-bench", "models": names, **settings, **options_of(options.arm)})
        way = Way(options.arm, models, arm.runs, options.rounds, options.patience)
        work = Sessions(way, arm.folder, options.seed, options.side, options.parallel)
        with ProgressBar("turn", arm.name, keep=True) as bar:
            failed = work.run(sessions, bar.show)
    lines = [f"{len(sessions)} sessions; they lie in {arm.folder}"]
    lines += [f"warning: {turn} was not drawn: {why}" for turn, why in failed]
    found = {
        "name": arm.name,
        "sessions": len(sessions),
        "failed": [{"turn": turn, "why": why} for turn, why in failed],
    }
    return _told(options, found, lines, INCOMPLETE if failed else 0)


def _judged(options: argparse.Namespace, sessions, arm) -> int:
    from ..models.registry import load_judge
    from ..storage.atomic import write_bytes, writing
    from .sessions import AFTER, judge_sessions

    judge = load_judge(options.judge)
    with ProgressBar("session", arm.name, keep=True) as bar:
        found = {"name": arm.name, "judge": judge.name, **judge_sessions(judge, sessions, arm.folder, bar.show)}
    with writing(arm.kept):
        arm.kept.mkdir(parents=True, exist_ok=True)
        write_bytes(arm.kept / RESULT, (json.dumps(found, indent=1) + "\n").encode())
    lines = [f"{arm.name}: all turns right so far, of {found['sessions']} sessions, by {judge.name}"]
    for turn in (str(turn) for turn in AFTER if found["success"].get(str(turn)) is not None):
        low, high = found["ci95"][turn]
        lines.append(f"  after {turn}: {found['success'][turn]:.2f} ({low:.2f} to {high:.2f})")
    if found["unanswered"]:
        lines.append(f"  warning: of {found['unanswered']} sessions the judge gave no answer; they are left out")
    return _told(options, found, [*lines, f"  {arm.kept / RESULT}"], INCOMPLETE if found["unanswered"] else 0)


def _told(options: argparse.Namespace, found: dict, lines: list[str], code: int) -> int:
    print(json.dumps({"exit": code, **found}) if options.json else "\n".join(lines))
    return code
