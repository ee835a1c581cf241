"""`clvr train stickers`: the stages of the sticker world, one by one or all in a given time."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadInput
from ..storage.atomic import keep_note, write_bytes

if TYPE_CHECKING:
    from .fit import Schedule

STAGES = ("base", "reader", "student", "trajectories", "sft", "pprl", "merged")
"""Of `clvr train stickers all`, in order. Those of WAVES that stand together are trained side by side."""
WAVES: tuple[tuple[float, tuple[str, ...]], ...] = (
    (16, ("encoder",)),
    (48, ("decoder", "flow")),
    (18, ("reader", "student")),
    (20, ("trajectories",)),
    (6, ("sft",)),
    (30, ("pprl",)),
)
"""How the time is divided: parts of it for what is done side by side."""
USED = 0.82
"""Of the time; what is left goes into starting."""


def add_sticker_stages(stages: Any, seed: Callable[[str], int]) -> None:
    """Add the stages that only the sticker world has. seed: parses one."""
    for name, text in (
        ("base", "VAE, transformer and text encoder, from nothing"),
        ("reader", "the network that reads a picture back into a scene"),
        ("all", "every stage in a given time"),
    ):
        command = stages.add_parser(name, help=text)
        command.add_argument(
            "--out", type=Path, required=True, metavar="DIR", help="an earlier run there is gone on with"
        )
        command.add_argument("--config", type=Path, metavar="FILE", help="JSON of what differs from the defaults")
        command.add_argument("--seed", type=seed, default=0)
        if name != "reader":
            command.add_argument("--workers", type=int, default=2, metavar="N", help="processes that make samples")
        if name != "reader":
            command.add_argument(
                "--start", "--from", type=Path, metavar="DIR", help="weights of this world that are trained on"
            )
        if name == "base":
            command.add_argument("--parts", default="encoder,decoder,flow", metavar="LIST", help="which parts to train")
            command.add_argument(
                "--drawn-by",
                type=Path,
                metavar="DIR",
                help="weights whose flow draws latents that the decoder learns too",
            )
        if name == "reader":
            command.add_argument(
                "--vae", type=Path, metavar="DIR", help="weights whose VAE a third of the pictures pass"
            )
            command.add_argument(
                "--start", "--from", type=Path, metavar="FILE", help="a reader.safetensors that is trained on"
            )
        if name == "all":
            command.add_argument("--seconds", type=float, required=True, metavar="S", help="how long, as a whole")
            command.add_argument("--stages", default=",".join(STAGES), metavar="LIST", help="which (default all)")
            command.add_argument("--in-turn", action="store_true", help="nothing side by side, for one core")
        command.set_defaults(run={"base": _base, "reader": _reader, "all": _all}[name])
    vlm = stages.add_parser("vlm", help="the learned controller and judge, from nothing")
    vlm.add_argument("--out", type=Path, required=True, metavar="DIR", help="an earlier run there is gone on with")
    vlm.add_argument("--seconds", type=float, required=True, metavar="S", help="how long, as a whole")
    vlm.add_argument("--seed", type=seed, default=1)
    vlm.add_argument("--workers", type=int, default=6, metavar="N", help="processes that make questions")
    add_canvases(vlm)
    vlm.add_argument("--publish", action="store_true", help="put the weights into clvr_core/stickers/vlm at the end")
    vlm.add_argument(
        "--usual", action="store_true", help="with --publish: they steer and judge where `embedded` is named, too"
    )
    vlm.set_defaults(run=_vlm)


def add_canvases(parser: argparse.ArgumentParser) -> None:
    """Add the options of `look`'s canvases."""
    parser.add_argument(
        "--canvases",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="weights of this world whose canvases are half of the single pictures, read by CLVR_READER; may be repeated",
    )
    parser.add_argument(
        "--count", type=int, default=4096, metavar="N", help="how many canvases they draw (default 4096)"
    )


def _base(options: argparse.Namespace) -> int:
    from .sticker_base import PARTS, train_stickers

    parts = tuple(part for part in options.parts.split(",") if part)
    if not set(parts) <= set(PARTS):
        raise BadInput(f"--parts {options.parts}: choose of {', '.join(PARTS)}, with commas between")
    options.again = "the same command"
    train_stickers(
        options.out,
        options.config,
        seed=options.seed,
        parts=parts,
        workers=options.workers,
        start=options.start,
        drawn_by=options.drawn_by,
    )
    return 0


def _reader(options: argparse.Namespace) -> int:
    from .sticker_base import train_sticker_reader

    options.again = "the same command"
    train_sticker_reader(options.out, options.config, seed=options.seed, vae=options.vae, start=options.start)
    return 0


def _vlm(options: argparse.Namespace) -> int:
    begun = time.monotonic()
    import torch

    from .vlm_feed import Settings, suited
    from .vlm_pretrain import look
    from .vlm_weights import publish

    options.again = "the same command"
    settings = Settings(seconds=options.seconds, seed=options.seed, workers=options.workers)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    look(suited(settings, device), options.out, device, begun, options.canvases, options.count)
    if options.publish:
        publish(options.out, usual=options.usual)
    return 0


def _all(options: argparse.Namespace) -> int:
    options.again = "the same command"
    chosen = tuple(stage for stage in options.stages.split(",") if stage)
    if not chosen or not set(chosen) <= set(STAGES):
        raise BadInput(f"--stages {options.stages}: choose of {', '.join(STAGES)}, with commas between")
    given = json.loads(options.config.read_text()) if options.config else {}
    All(options.out, given, options.seed, options.workers, options.start, options.in_turn).run(chosen, options.seconds)
    return 0


def times(chosen: Collection[str], seconds: float, in_turn: bool = False) -> dict[str, float]:
    """Return the seconds of each part of WAVES that is among the chosen stages. in_turn: nothing is side by side."""
    parts = {"base": ("encoder", "decoder", "flow")}
    wanted = {part for stage in chosen for part in parts.get(stage, (stage,))}
    waves = [(weight, [part for part in wave if part in wanted]) for weight, wave in WAVES]
    whole = sum(weight for weight, wave in waves if wave)
    found = {}
    for weight, wave in waves:
        for part in wave:
            found[part] = USED * seconds * weight / whole / (len(wave) if in_turn else 1)
    return found


@dataclass(frozen=True)
class All:
    """All stages, each in a process and a folder of its own in `out`. What is there is gone on with.

    given: what differs from the defaults, by stage: "base" (StickerBaseConfig), "reader" (ReaderConfig), "student"
        (DistilConfig), "trajectories" (count, rounds), "sft" (SftConfig), "pprl" (PprlConfig), "merged" (beta).
    start: weights of this world that are trained on, their encoder too.
    in_turn: nothing is done side by side.

    Weights: out/base/weights, out/student/weights, out/reader/reader.safetensors, out/pprl/lora, out/merged/weights.
    """

    out: Path
    given: Mapping[str, Any]
    seed: int
    workers: int
    start: Path | None = None
    in_turn: bool = False

    def run(self, chosen: Collection[str], seconds: float) -> None:
        """Run the chosen stages within about so many seconds. The others are taken as done before.

        A part whose process fails ends the whole with BadInput and its last lines; the rest is kept, and the same
        command goes on.
        """
        limits, out = times(chosen, seconds, self.in_turn), self.out
        base, student = out / "base" / "weights", out / "student" / "weights"
        if "base" in chosen:
            self._base(limits)
        few = []
        if "reader" in chosen:
            config = self._config("reader", schedule=_limited(limits["reader"], lr=1e-3, ema=0.998))
            few.append(self._stage("reader", *config, "--vae", base))
        if "student" in chosen:
            usual = {"paths": 16_384, "shard": 1024, "batch": 512}
            config = self._config("student", usual, schedule=_limited(limits["student"], lr=6e-4, ema=0.995))
            few.append(self._stage("student", *config, "--from", base))
        self._together(few)
        data = out / "trajectories"
        if "trajectories" in chosen:
            asked = {"count": 1120, "rounds": 8} | dict(self.given.get("trajectories", {}))
            options = [text for name, value in asked.items() for text in (f"--{name}", value)]
            made = ("synthesize", "--models", base, *options, "--seed", self.seed, "--out", data)
            _run([(out / "trajectories.log", _command(*made))], limits["trajectories"], self._reader())
        for name, further in (("sft", ()), ("pprl", ("--lora", out / "sft" / "lora"))):
            if name in chosen:
                schedule = asdict(_tuning(name)) | {"seconds": round(limits[name], 1)}
                config = self._config(name, schedule=schedule)
                self._together([self._stage(name, *config, "--from", base, "--data", data, *further)])
        if "merged" in chosen:
            beta = [text for name, value in self.given.get("merged", {}).items() for text in (f"--{name}", value)]
            lora = out / "pprl" / "lora"
            self._together([self._stage("merged", "--from", base, "--distilled", student, "--lora", lora, *beta)])

    def _base(self, limits: Mapping[str, float]) -> None:
        out, base = self.out, dict(self.given.get("base", {}))
        vae, flow = dict(base.get("vae", {})), dict(base.get("flow", {}))
        vae["encoder"] = _limited(limits["encoder"], lr=1.5e-3, ema=0.995) | vae.get("encoder", {})
        vae["decoder"] = _limited(limits["decoder"], lr=1.5e-3, ema=0.998) | vae.get("decoder", {})
        flow["schedule"] = _limited(limits["flow"], lr=1.5e-3, ema=0.998, warmup=200) | flow.get("schedule", {})
        config = _noted(out / "base.json", base | {"vae": vae, "flow": flow})
        start = ("--from", self.start) if self.start else ()
        same = ("--seed", self.seed, "--config", config, "--workers", self.workers, *start)
        self._together([self._stage("encoder", *same, "--parts", "encoder", stage="base")])
        for part in ("decoder", "flow"):
            (out / part).mkdir(exist_ok=True)
            shutil.copy(out / "encoder" / "encoder.safetensors", out / part / "encoder.safetensors")
        self._together([self._stage(part, *same, "--parts", part, stage="base") for part in ("decoder", "flow")])
        if not (out / "base" / "weights").exists():
            _joined(out)

    def _config(self, name: str, usual: Mapping[str, Any] | None = None, **parts: Mapping[str, Any]) -> tuple[Any, ...]:
        """Write the settings of a stage and return the options that name them. parts: tables, to which given ones
        add."""
        given = dict(self.given.get(name, {}))
        tables = {part: {**value, **given.get(part, {})} for part, value in parts.items()}
        return "--seed", self.seed, "--config", _noted(self.out / f"{name}.json", {**(usual or {}), **given, **tables})

    def _stage(self, folder: str, *options: Any, stage: str = "") -> tuple[Path, list[str]]:
        command = _command("train", "stickers", stage or folder, "--out", self.out / folder, *options)
        return self.out / f"{folder}.log", command

    def _reader(self) -> dict[str, str]:
        """The environment in which the reader that was trained here is the world's, if there is one."""
        file = self.out / "reader" / "reader.safetensors"
        return {**os.environ, **({"CLVR_READER": str(file)} if file.exists() else {})}

    def _together(self, several: list[tuple[Path, list[str]]]) -> None:
        for each in [[one] for one in several] if self.in_turn else [several]:
            _run(each, None, self._reader())


def _tuning(stage: str) -> Schedule:
    """The usual schedule of `sft` or `pprl`."""
    from .pprl import PprlConfig
    from .sft import SftConfig

    return (SftConfig() if stage == "sft" else PprlConfig()).schedule


def _limited(seconds: float, **usual: float) -> dict[str, Any]:
    """A schedule that ends after so many seconds, whatever its steps."""
    endless = {"steps": 1_000_000, "save_every": 1_000_000, "weight_decay": 0.0}
    return endless | usual | {"seconds": round(seconds, 1)}


def _noted(path: Path, value: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not keep_note(path, json.dumps(value, indent=1)):
        raise BadInput(f"{path} is of another time or other settings; choose another folder with --out")
    return path


def _command(*words: Any) -> list[str]:
    return [sys.executable, "-m", "clvr_core.cli", *map(str, words)]


def _run(several: list[tuple[Path, list[str]]], seconds: float | None, environment: Mapping[str, str]) -> None:
    """Run commands side by side, each with its lines in a file of its own. seconds: after them they are ended in order,
    and what they have done by then is enough."""
    running = []
    for log, command in several:
        with log.open("ab") as file:
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
            running.append((log, process))
    failed = []
    for log, process in running:
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.terminate()  # and not SIGINT, which is ignored by what a shell runs in the background
            process.wait()
            code = 0
        if code:
            failed.append(log)
    if failed:
        last = "\n".join(failed[0].read_text(errors="replace").splitlines()[-5:])
        raise BadInput(f"{failed[0].stem} did not end well; its last lines:\n{last}")


def _joined(out: Path) -> None:
    """Put the trained decoder into the weights of the flow."""
    from safetensors.torch import load_file, save_file

    from ..weights.manifest import write_manifest

    fresh = out / "base" / "weights-new"
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(out / "flow" / "weights", fresh)
    file = fresh / "vae" / "diffusion_pytorch_model.safetensors"
    whole, part = load_file(file), load_file(out / "decoder" / "decoder.safetensors")
    missing = set(part) - set(whole)
    if missing:
        raise BadInput(f"the decoder in {out / 'decoder'} is of another network: {sorted(missing)[:3]}; begin anew")
    save_file(whole | {name: value.to(whole[name].dtype) for name, value in part.items()}, file, {"format": "pt"})
    record = json.loads((fresh / "training.json").read_text())
    from .stage import curve_of

    record["curves"] |= {name: curve_of(out / name / name) for name in ("encoder", "decoder")}
    write_bytes(fresh / "training.json", json.dumps(record, indent=1).encode())
    write_manifest(fresh)
    fresh.rename(out / "base" / "weights")
