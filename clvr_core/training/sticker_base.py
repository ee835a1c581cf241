"""Base weights and reader of the sticker world."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from ..executor.klein import KleinExecutor, SamplingRecipe
from ..records import to_json
from ..stickers import readout
from ..stickers.model import RECIPE, VAE_CHANNELS, build_pipeline
from ..stickers.reader import Reader
from ..stickers.reader import load as load_reader
from ..weights.manifest import digests, write_manifest
from ..weights.shared import place_of
from .drawn_latents import DrawnLatents, drawn_latents
from .stage import curve_of, processes, save_record, save_weights, settle, stage
from .sticker_batches import BatchRenderer, load_cutouts
from .sticker_flow import StickerFlowConfig, train_flow
from .sticker_pictures import (
    Drawn,
    Encoding,
    ReaderConfig,
    StickerVaeConfig,
    channels_last,
    train_decoder,
    train_encoder,
    train_reader,
)

PARTS = ("encoder", "decoder", "flow")


@dataclass(frozen=True)
class StickerBaseConfig:
    """All settings of `clvr train stickers base`, written beside the weights."""

    width: int = 192
    double: int = 2
    single: int = 6
    text_width: int = 128
    vae_channels: tuple[int, ...] = VAE_CHANNELS
    vae: StickerVaeConfig = field(default_factory=StickerVaeConfig)
    flow: StickerFlowConfig = field(default_factory=StickerFlowConfig)
    recipe: SamplingRecipe = RECIPE


def _cutouts() -> Path | None:
    """CLVR_CUTOUTS names a file of prepared pictures (see sticker_batches.load_cutouts), for a machine without art."""
    return Path(os.environ["CLVR_CUTOUTS"]) if os.environ.get("CLVR_CUTOUTS") else None


@stage
def train_stickers(
    out: Path,
    config: Path | None = None,
    *,
    seed: int = 0,
    parts: tuple[str, ...] = PARTS,
    workers: int = 2,
    start: Path | None = None,
    drawn_by: Path | None = None,
) -> Path:
    """Train the embedded base from nothing or from given weights, or continue a run that was stopped in `out`.

    parts: which of the encoder, the decoder and the flow; decoder and flow need the encoder of the same folder and can
        be trained at the same time, in two folders with a copy of it.
    workers: processes that make samples.
    start: folder of weights with their `readout.safetensors`, whose parts are trained on; the sizes in the config are
        not used. Its encoder is kept unless `parts` names it.
    drawn_by: folder of weights with the same encoder, whose flow draws latents that the decoder learns from too.

    Returns the folder of the weights, which is written where `parts` or `start` make them complete. Raises BadInput as
    `settle` does, if the pictures of the stickers are not there, and for weights that are missing or damaged.
    """
    accelerator = processes()
    run = {"seed": seed} | ({"start": digests(start)} if start else {})
    run |= {"drawn_by": digests(drawn_by)} if drawn_by else {}
    settings = settle(out, StickerBaseConfig, config, run)
    torch.manual_seed(seed)
    torch.set_float32_matmul_precision("high")
    report = accelerator.print
    renderer = BatchRenderer(accelerator.device, load_cutouts(_cutouts()))
    if start:
        pipe = KleinExecutor.load(start).pipe.to(torch.float32)
    else:
        sizes = settings.width, settings.double, settings.single, settings.text_width, settings.vae_channels
        pipe = build_pipeline(*sizes)
    common = {"seed": seed, "accelerator": accelerator, "report": report}
    saved = out / "encoder.safetensors"
    if saved.exists():
        encoding = channels_last(Encoding(pipe.vae, settings.vae)).to(accelerator.device)
        encoding.load_state_dict(load_file(saved))
    else:
        encoding = Encoding(pipe.vae, settings.vae)
        if start:
            encoding.linear.load_state_dict(readout.load_layer(start).state_dict())
        if not start or "encoder" in parts:
            train_encoder(encoding, renderer, out / "encoder", settings.vae, **common)
        encoding = channels_last(encoding).to(accelerator.device)
        save_file({name: value.contiguous() for name, value in encoding.state_dict().items()}, saved)
    if "decoder" in parts:
        drawn = None
        if drawn_by:
            drawn = _drawn(out / "drawn.safetensors", drawn_by, encoding, settings.vae, accelerator, seed)
        train_decoder(pipe.vae, encoding, renderer, out / "decoder", settings.vae, drawn=drawn, **common)
        save_file(_part(pipe.vae, ("decoder.", "post_quant_conv.")), out / "decoder.safetensors")
    elif (out / "decoder.safetensors").exists():
        pipe.vae.load_state_dict(load_file(out / "decoder.safetensors"), strict=False)
    if "flow" in parts:
        train_flow(pipe, renderer, out / "flow", settings.flow, workers=workers, statistics=not start, **common)
    weights = out / "weights"
    if accelerator.is_main_process and (start or "flow" in parts):
        curves = {curve.parent.name: curve_of(curve.parent) for curve in sorted(out.glob("*/curve.jsonl"))}
        record = {"seed": seed, "processes": accelerator.num_processes, "config": to_json(settings), "curves": curves}
        pipe.vae.to(memory_format=torch.contiguous_format)
        save_weights(pipe.to("cpu"), weights, settings.recipe, record)
        save_file({name: value.cpu() for name, value in encoding.linear.state_dict().items()}, weights / readout.FILE)
        write_manifest(weights)
    accelerator.wait_for_everyone()
    return weights


def _drawn(
    file: Path, weights: Path, encoding: Encoding, settings: StickerVaeConfig, accelerator: Accelerator, seed: int
) -> DrawnLatents:
    """Return the latents of the file; draw them first where there is none."""
    if accelerator.is_main_process and not file.exists():
        with accelerator.autocast():
            given = settings.drawings, seed, accelerator.device, accelerator.print, settings.edited
            drawn_latents(weights, encoding.linear, *given).save(file)
    accelerator.wait_for_everyone()
    return DrawnLatents.load(file, accelerator.device)


def _part(module: torch.nn.Module, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
    return {name: value.contiguous() for name, value in module.state_dict().items() if name.startswith(names)}


@stage
def train_sticker_reader(
    out: Path, config: Path | None = None, *, seed: int = 0, vae: Path | None = None, start: Path | None = None
) -> Path:
    """Train the reader, or continue.

    vae: folder of weights whose VAE a third of the pictures pass through; None for none.
    start: file of a reader that is trained on; None to begin anew.

    Returns the file of the reader, bfloat16. Raises as `train_stickers` does.
    """
    accelerator = processes()
    reader = load_reader(start) if start else None
    begun = {"start": sha256(start.read_bytes()).hexdigest()} if start else {}
    settings = settle(out, ReaderConfig, config, {"seed": seed} | begun)
    torch.manual_seed(seed)
    torch.set_float32_matmul_precision("high")
    renderer = BatchRenderer(accelerator.device, load_cutouts(_cutouts()))
    reader = reader or Reader()
    trip: Callable[[torch.Tensor], torch.Tensor] | None = None
    if vae:
        from diffusers import AutoencoderKLFlux2

        # Any: diffusers' hints allow a tuple where this call gives an object.
        model: Any = AutoencoderKLFlux2.from_pretrained(place_of(vae, "vae")).to(accelerator.device)
        channels_last(model).requires_grad_(False)

        def through(pictures: torch.Tensor) -> torch.Tensor:
            with accelerator.autocast():
                latents = model.encode(pictures * 2 - 1).latent_dist.mode()
                noise = 0.15 * torch.rand(len(latents), 1, 1, 1, device=latents.device) * torch.randn_like(latents)
                return model.decode(latents + noise).sample.float() / 2 + 0.5

        trip = through

    train_reader(
        reader,
        Drawn(renderer, settings.batch, settings.signs),
        out / "reader",
        settings,
        seed=seed,
        accelerator=accelerator,
        vae=trip,
        report=accelerator.print,
    )
    file = out / "reader.safetensors"
    if accelerator.is_main_process:
        save_file(
            {name: value.to(torch.bfloat16).contiguous().cpu() for name, value in reader.state_dict().items()}, file
        )
        save_record(
            out / "training.json",
            {"seed": seed, "config": to_json(settings), "curve": curve_of(out / "reader")} | begun,
        )
    return file
