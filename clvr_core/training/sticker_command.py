"""`clvr train stickers`: the stages of the sticker world, one by one or all in a given time."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..storage.atomic import keep_note, write_bytes


@dataclass(frozen=True)
class Shares:
    """How the time of `clvr train stickers all` is divided, in parts of the whole: the encoder first, then decoder and
    flow side by side, then reader and student side by side. What is left goes into starting."""

    encoder: float = 0.16
    decoder: float = 0.48
    flow: float = 0.48
    reader: float = 0.18
    student: float = 0.18


def add_stickers(worlds: Any) -> None:
    """Add the world `stickers` to the subparsers of `clvr train`."""
    stickers = worlds.add_parser("stickers", help="the sticker world; on a GPU in minutes")
    stages = stickers.add_subparsers(required=True, metavar="STAGE")
    for name, text in (
        ("base", "VAE, transformer and text encoder, from nothing"),
        ("reader", "the network that reads a picture back into a scene"),
        ("all", "base, reader and 4-step student in a given time"),
    ):
        command = stages.add_parser(name, help=text)
        command.add_argument(
            "--out", type=Path, required=True, metavar="DIR", help="an earlier run there is gone on with"
        )
        command.add_argument("--config", type=Path, metavar="FILE", help="JSON of what differs from the defaults")
        command.add_argument("--seed", type=int, default=0)
        if name != "reader":
            command.add_argument("--workers", type=int, default=2, metavar="N", help="processes that make samples")
        if name != "reader":
            command.add_argument(
                "--start", "--from", type=Path, metavar="DIR", help="weights of this world that are trained on"
            )
        if name == "base":
            command.add_argument("--parts", default="encoder,decoder,flow", metavar="LIST", help="which parts to train")
        if name == "reader":
            command.add_argument(
                "--vae", type=Path, metavar="DIR", help="weights whose VAE a third of the pictures pass"
            )
        if name == "all":
            command.add_argument("--seconds", type=float, required=True, metavar="S", help="how long, as a whole")
        command.set_defaults(run={"base": _base, "reader": _reader, "all": _all}[name])
    vlm = stages.add_parser("vlm", help="the learned controller and judge, from nothing")
    vlm.add_argument("--out", type=Path, required=True, metavar="DIR", help="an earlier run there is gone on with")
    vlm.add_argument("--seconds", type=float, required=True, metavar="S", help="how long, as a whole")
    vlm.add_argument("--seed", type=int, default=1)
    vlm.add_argument("--workers", type=int, default=6, metavar="N", help="processes that make questions")
    vlm.add_argument("--publish", action="store_true", help="put the weights into clvr_core/stickers/vlm at the end")
    vlm.set_defaults(run=_vlm)


def _base(options: argparse.Namespace) -> int:
    from .sticker_base import PARTS, train_stickers

    parts = tuple(part for part in options.parts.split(",") if part)
    if not set(parts) <= set(PARTS):
        raise BadInput(f"--parts {options.parts}: choose of {', '.join(PARTS)}, with commas between")
    options.again = "the same command"
    train_stickers(
        options.out, options.config, seed=options.seed, parts=parts, workers=options.workers, start=options.start
    )
    return 0


def _reader(options: argparse.Namespace) -> int:
    from .sticker_base import train_sticker_reader

    options.again = "the same command"
    train_sticker_reader(options.out, options.config, seed=options.seed, vae=options.vae)
    return 0


def _vlm(options: argparse.Namespace) -> int:
    begun = time.monotonic()
    import torch

    from .vlm_pretrain import Settings, look, publish

    options.again = "the same command"
    settings = Settings(seconds=options.seconds, seed=options.seed, workers=options.workers)
    look(settings, options.out, torch.device("cuda" if torch.cuda.is_available() else "cpu"), begun)
    if options.publish:
        publish(options.out)
    return 0


def _all(options: argparse.Namespace) -> int:
    options.again = "the same command"
    given = json.loads(options.config.read_text()) if options.config else {}
    everything(options.out, options.seconds, given, seed=options.seed, workers=options.workers, start=options.start)
    return 0


def everything(
    out: Path, seconds: float, given: Mapping[str, Any], *, seed: int, workers: int, start: Path | None = None
) -> None:
    """Train all parts, each in a process and a folder of its own, within about `seconds`.

    given: what differs from the defaults, by part: "base" (StickerBaseConfig), "reader" (ReaderConfig), "student"
        (DistilConfig).
    start: weights of this world that are trained on, their encoder too.

    Weights: out/flow/weights (base), out/student/weights, out/reader/reader.safetensors; the encoder and the decoder
    are copied into the base. A part whose process fails ends the whole with BadInput and its last lines; the rest is
    kept, and the same command goes on.
    """
    shares, base = Shares(), dict(given.get("base", {}))
    vae, flow = dict(base.get("vae", {})), dict(base.get("flow", {}))
    vae["encoder"] = _limited(vae.get("encoder"), shares.encoder * seconds, lr=1.5e-3, ema=0.995)
    vae["decoder"] = _limited(vae.get("decoder"), shares.decoder * seconds, lr=1.5e-3, ema=0.998)
    flow["schedule"] = _limited(flow.get("schedule"), shares.flow * seconds, lr=1.5e-3, ema=0.998, warmup=200)
    config = _config(out / "base.json", base | {"vae": vae, "flow": flow})
    same = ("--seed", str(seed), "--config", str(config), *(("--from", str(start)) if start else ()))
    _run([_stage(out, "encoder", "base", *same, "--parts", "encoder", "--workers", str(workers))])
    for part in ("decoder", "flow"):
        (out / part).mkdir(exist_ok=True)
        shutil.copy(out / "encoder" / "encoder.safetensors", out / part / "encoder.safetensors")
    _run([_stage(out, part, "base", *same, "--parts", part, "--workers", str(workers)) for part in ("decoder", "flow")])
    if not (out / "base" / "weights").exists():
        _joined(out)
    reading = dict(given.get("reader", {}))
    reading["schedule"] = _limited(reading.get("schedule"), shares.reader * seconds, lr=1e-3, ema=0.998)
    student = {"world": "stickers", "paths": 16_384, "shard": 1024, "batch": 512} | dict(given.get("student", {}))
    student["schedule"] = _limited(student.get("schedule"), shares.student * seconds, lr=6e-4, ema=0.995)
    weights = out / "base" / "weights"
    reader = _config(out / "reader.json", reading)
    steps = _config(out / "student.json", student)
    distil = [sys.executable, "-m", "clvr_core.cli", "train", "shapes", "distil", "--out", str(out / "student")]
    _run(
        [
            _stage(out, "reader", "reader", "--seed", str(seed), "--config", str(reader), "--vae", str(weights)),
            (out / "student.log", [*distil, "--from", str(weights), "--config", str(steps), "--seed", str(seed)]),
        ]
    )


def _limited(given: Mapping[str, Any] | None, seconds: float, **usual: float) -> dict[str, Any]:
    """A schedule that ends after so many seconds, whatever its steps."""
    return (
        {"steps": 1_000_000, "save_every": 1_000_000, "weight_decay": 0.0}
        | usual
        | dict(given or {})
        | {"seconds": round(seconds, 1)}
    )


def _config(path: Path, value: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not keep_note(path, json.dumps(value, indent=1)):
        raise BadInput(f"{path} is of another time or other settings; choose another folder with --out")
    return path


def _stage(out: Path, folder: str, stage: str, *options: str) -> tuple[Path, list[str]]:
    command = [sys.executable, "-m", "clvr_core.cli", "train", "stickers", stage, "--out", str(out / folder), *options]
    return out / f"{folder}.log", command


def _run(several: list[tuple[Path, list[str]]]) -> None:
    """Run commands side by side, each with its lines in a file of its own."""
    running = []
    for log, command in several:
        with log.open("ab") as file:
            running.append((log, subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=os.environ)))
    failed = [log for log, process in running if process.wait()]
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
