"""`clvr train vlm`: training of controllers and judges that are vision-language models."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_vlm(worlds: Any) -> None:
    """Add `vlm` to the subparsers of `clvr train`."""
    vlm = worlds.add_parser("vlm", help="a vision-language model as controller: the embedded one, or a Qwen3-VL folder")
    stages = vlm.add_subparsers(required=True, metavar="STAGE")
    sft = stages.add_parser("sft", help="goals, actions and verdicts of verified runs (clvr synthesize)")
    grpo = stages.add_parser("grpo", help="reinforcement learning of the planner through the loop")
    for command in (sft, grpo):
        command.add_argument(
            "--out", type=Path, required=True, metavar="DIR", help="an earlier run there is gone on with"
        )
        command.add_argument(
            "--start", "--from", type=Path, metavar="DIR", help="the model's folder; the embedded one if not given"
        )
        command.add_argument("--config", type=Path, metavar="FILE", help="JSON of what differs from the defaults")
        command.add_argument("--seed", type=int, default=0)
    _add_sft(sft)
    _add_grpo(grpo)


def _add_sft(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="a data set of `clvr synthesize`, with its folder runs"
    )
    command.add_argument(
        "--benchmark",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="prompts of a benchmark, one a line; briefs that are among them or near to one are refused; may be repeated",
    )
    command.add_argument(
        "--critiques",
        type=Path,
        metavar="DIR",
        help="a data set of `clvr synthesize --critique`, whose rows are mixed in (`critique` in --config is their share)",
    )
    command.add_argument(
        "--teacher",
        metavar="NAME",
        help="who rewrites the reasons of actions: the controller of models as for `clvr generate`, or a model's folder",
    )
    command.set_defaults(run=_sft)


def _sft(options: argparse.Namespace) -> int:
    from ..models.registry import load_vlm
    from ..stickers.neural import FOLDER
    from .vlm_sft import vlm_sft

    options.again = "the same command"
    teacher = load_vlm(options.teacher, "controller") if options.teacher else None
    vlm_sft(
        options.out,
        options.start or FOLDER,
        options.data,
        options.config,
        seed=options.seed,
        benchmarks=options.benchmark,
        teacher=teacher,
        critiques=options.critiques,
    )
    return 0


def _add_grpo(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--models",
        default="simulated",
        metavar="NAME",
        help="who draws and judges: simulated (the sticker world, nothing is drawn by weights), or as for `clvr generate`",
    )
    command.add_argument(
        "--reward",
        metavar="NAME",
        help="who judges the end of a rollout: a file like clvr.toml, a vision-language model's folder, or MODULE:NAME",
    )
    command.add_argument("--prompts", type=Path, metavar="FILE", help="one brief a line; random ones if not given")
    command.add_argument(
        "--errors",
        type=float,
        default=0.0,
        metavar="RATE",
        help="of the simulated world's verifier, 0 to 1 (default 0)",
    )
    command.set_defaults(run=_grpo)


def _grpo(options: argparse.Namespace) -> int:
    from ..stickers.neural import FOLDER
    from ..synthesis.engine import read_prompts
    from .vlm_grpo import grpo
    from .vlm_setup import setup_of

    options.again = "the same command"
    prompts = read_prompts(options.prompts) if options.prompts else []
    where = setup_of(options.models, options.reward, prompts, options.errors, options.seed)
    grpo(options.out, options.start or FOLDER, where, options.config, seed=options.seed)
    return 0
