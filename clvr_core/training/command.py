"""`clvr train`: the stages that make the weights of the embedded world, and those that train FLUX.2 Klein."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadInput
from ..fleet.arguments import add_engine, engine_of
from ..world import EMBEDDED, FORMER, World, world_named, world_of
from .sticker_command import add_sticker_stages
from .vlm_command import add_vlm

if TYPE_CHECKING:
    from ..executor.klein import KleinExecutor

Seed = Callable[[str], int]
KLEIN = "klein"
BETA = 0.85
"""Strength of the distilled delta in a merge of small weights; see docs/training.md."""


def add_train(train: argparse.ArgumentParser, seed: Seed) -> None:
    """Add the embedded world, the learned models and Klein with their stages to `clvr train`. seed: parses one."""
    worlds = train.add_subparsers(required=True, metavar="WORLD")
    world = worlds.add_parser(EMBEDDED, help="the embedded world")
    stages = world.add_subparsers(required=True, metavar="STAGE")
    add_sticker_stages(stages, seed)
    _add_student(stages, EMBEDDED, seed)
    _add_tuning(stages, EMBEDDED, seed)
    _add_merged(stages, EMBEDDED)
    _add_publish(stages)
    former = worlds.add_parser(FORMER)
    former.add_argument("rest", nargs=argparse.REMAINDER)
    former.set_defaults(run=_former)
    add_vlm(worlds)
    klein = worlds.add_parser(KLEIN, help="a FLUX.2 Klein folder; run under `accelerate launch` for several GPUs")
    _add_tuning(klein.add_subparsers(required=True, metavar="STAGE"), KLEIN, seed)


def _add_student(stages: Any, world: str, seed: Seed) -> None:
    student = stages.add_parser(
        "distil", aliases=["student"], help="few steps without guidance, taught by many with it"
    )
    student.add_argument("--data", type=Path, metavar="DIR", help="a data set of `clvr synthesize`, for `traces`")
    student.add_argument("--student", type=Path, metavar="DIR", help="weights of an earlier student to go on from")
    _add_run(student, seed)
    _add_start(student, world)
    student.set_defaults(run=_student)


def _add_tuning(stages: Any, world: str, seed: Seed) -> None:
    tuning = stages.add_parser("sft", help="diffusion SFT on the trajectories of `clvr synthesize`")
    tuning.set_defaults(run=_sft)
    learning = stages.add_parser("pprl", help="RL with proxy prompts on the same trajectories")
    learning.add_argument("--lora", type=Path, metavar="DIR", help="the LoRA of `sft` to go on from")
    usual = None if world == KLEIN else world
    learning.add_argument(
        "--reward",
        default=usual,
        required=usual is None,
        metavar="NAME",
        help="who judges the pictures: a world's exact reader, a file like clvr.toml, a vision-language model's folder, or "
        "MODULE:NAME",
    )
    add_engine(learning)
    learning.set_defaults(run=_pprl)
    for command in (tuning, learning):
        command.add_argument("--data", type=Path, required=True, metavar="DIR", help="a data set of `clvr synthesize`")
        _add_run(command, seed)
        _add_start(command, world)


def _add_merged(stages: Any, world: str) -> None:
    merged = stages.add_parser("merged", help="the merge of base, student and LoRA, as a folder that draws")
    merged.add_argument("--out", type=Path, required=True, metavar="DIR", help="its weights go into a folder in it")
    _add_start(merged, world)
    merged.add_argument("--distilled", type=Path, metavar="DIR", help="the student's weights (default: installed)")
    merged.add_argument("--lora", type=Path, metavar="DIR", help="the LoRA of `pprl` or `sft` (default: installed)")
    merged.add_argument("--beta", type=float, default=BETA, help=f"of the student's delta (default {BETA})")
    merged.set_defaults(run=_merged)


def _add_publish(stages: Any) -> None:
    publish = stages.add_parser("publish", help="put the weights of a training where clvr finds them, each part once")
    for name, metavar, text in (
        ("base", "DIR", "weights of `base`"),
        ("student", "DIR", "weights of `distil`"),
        ("lora", "DIR", "the LoRA of `pprl` or `sft`"),
        ("merged", "DIR", "weights of `merged`"),
        ("reader", "FILE", "the reader.safetensors of `reader`"),
    ):
        publish.add_argument(f"--{name}", type=Path, required=True, metavar=metavar, help=text)
    publish.add_argument("--out", type=Path, metavar="DIR", help="where they go (default: into the installed package)")
    publish.set_defaults(run=_publish)


def _add_run(command: argparse.ArgumentParser, seed: Seed) -> None:
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="an earlier run there is gone on with")
    command.add_argument("--config", type=Path, metavar="FILE", help="JSON of what differs from the defaults")
    command.add_argument("--seed", type=seed, default=0)


def _add_start(command: argparse.ArgumentParser, world: str) -> None:
    """Add the weights to start from and, in an embedded world, --quick."""
    # --from, because torchrun takes an option that begins like one of its own (--start...) for that one.
    command.add_argument(
        "--start",
        "--from",
        type=Path,
        required=world == KLEIN,
        metavar="DIR",
        help="weights" if world == KLEIN else "weights of this world (default: the base that is installed)",
    )
    command.set_defaults(world=world, quick=False)
    if world != KLEIN:
        command.add_argument(
            "--quick", action="store_true", help="compiled blocks in bfloat16; a minute or two to begin with"
        )


def _former(options: argparse.Namespace) -> int:
    raise BadInput(f"the {FORMER} world is no longer part of clvr; train the embedded one with `clvr train {EMBEDDED}`")


def _student(options: argparse.Namespace) -> int:
    from .distil import distil

    options.again = "the same command"
    start, _ = _embedded_start(options)
    more = {"data": options.data, "student": options.student, "seed": options.seed, "quick": options.quick}
    distil(options.out, start, options.config, **more)
    return 0


def _embedded_start(options: argparse.Namespace) -> tuple[Path, World]:
    """Return the weights to start from and their world. Raises BadInput for weights of another."""
    world = world_named(options.world)
    start = options.start or world.base
    if not start.exists():
        raise BadInput(
            f"the weights {start} are not there; name a folder of weights of the {world.name} world with --from"
        )
    if (other := world_of(start)) is not world:
        raise BadInput(f"{start} has weights of the {other.name} world; train them with `clvr train {other.name}`")
    return start, world


def _start(options: argparse.Namespace) -> tuple[Path, World | None, KleinExecutor | None]:
    """Return the folder of the weights to start from, its world if it is an embedded one, and for Klein its executor.

    The executor is on the CPU, because only the training stage knows which GPU belongs to this process.
    """
    if options.world != KLEIN:
        return *_embedded_start(options), None
    return options.start, None, _klein(options.start)


def _klein(start: Path) -> KleinExecutor:
    """Load a real Klein on the CPU. Raises BadInput for another folder."""
    from ..executor.klein import KleinExecutor
    from ..models.config import ExecutorSettings
    from ..models.executors import load_executor

    executor = load_executor(ExecutorSettings(folder=str(start)), "cpu")
    if not isinstance(executor, KleinExecutor):
        raise BadInput(f"--start {start} holds no FLUX.2 Klein; give the diffusers folder of one")
    return executor


def _sft(options: argparse.Namespace) -> int:
    from .sft import sft

    options.again = "the same command"
    start, world, executor = _start(options)
    run = {"seed": options.seed, "world": world, "quick": options.quick, "executor": executor}
    sft(options.out, start, options.data, options.config, **run)
    return 0


def _pprl(options: argparse.Namespace) -> int:
    from .pprl import pprl
    from .rewards import named

    options.again = "the same command"
    reward = named(options.reward)
    start, world, executor = _start(options)
    run = {"seed": options.seed, "world": world, "quick": options.quick, "executor": executor, "lora": options.lora}
    run |= {"engine": engine_of(options, options.workers or 1), "weights": executor and partial(_klein, start)}
    pprl(options.out, start, options.data, reward, options.config, **run)
    return 0


def _merged(options: argparse.Namespace) -> int:
    from .merged import merge_weights

    options.again = "the same command"
    start, world = _embedded_start(options)
    distilled = options.distilled or world.folder / "distilled"
    lora = options.lora or world.folder / "aligned"
    print(merge_weights(options.out, start, distilled, lora, options.beta))
    return 0


def _publish(options: argparse.Namespace) -> int:
    from .publish import publish

    out = options.out or world_named().folder
    sizes = publish(out, options.base, options.student, options.lora, options.merged, options.reader)
    for name, size in (*sizes.items(), ("all", sum(sizes.values()))):
        print(f"{size / 1e6:6.1f} MB  {name}")
    return 0
