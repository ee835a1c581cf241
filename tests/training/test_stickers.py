"""Training in the sticker world, at a size that takes seconds."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from clvr_core.cli import main
from clvr_core.errors import BadInput
from clvr_core.executor.klein import KleinExecutor
from clvr_core.executor.small_klein import patchify
from clvr_core.protocols import DrawRequest
from clvr_core.stickers import perceive, readout
from clvr_core.stickers.codes import DX, KINDS, LOOK, LOOKS, NOUN, WORD, codes, scene_of
from clvr_core.stickers.render import render
from clvr_core.stickers.scene import CANVAS, JITTER, Scene, looks
from clvr_core.training import sticker_base, sticker_flow, sticker_pictures
from clvr_core.training.drawn_latents import DrawnLatents, drawn_latents, read_codes
from clvr_core.training.sampler import TrainingSampler
from clvr_core.training.sticker_batches import SIGN_KIND, BatchRenderer, cutouts, to_uint8
from clvr_core.training.sticker_flow import prepare, token_ids
from clvr_core.training.sticker_pictures import Drawn, damaged, random_codes, weathered
from tests.stickers.test_art import needs_art

pytestmark = needs_art
STICKERS = Path(perceive.__file__).parent
TINY = {
    "base": {
        "width": 64,
        "double": 1,
        "single": 1,
        "text_width": 32,
        "vae_channels": [4, 4, 4, 8, 8, 8],
        "vae": {"batch": 2, "encoder": {"steps": 2, "log_every": 1}, "decoder": {"steps": 2, "log_every": 1}},
        "flow": {
            "batch": 4,
            "pool": {"t2i": 12, "edit": 8, "restore": 4},
            "schedule": {"steps": 3, "log_every": 1},
        },
    },
    "reader": {"batch": 2, "schedule": {"steps": 2, "log_every": 1}},
    "student": {
        "paths": 2,
        "shard": 2,
        "batch": 2,
        "generate": {"steps": 4, "guidance": 2.0},
        "edit": {"steps": 4, "guidance": 1.0},
        "schedule": {"steps": 2, "log_every": 1},
    },
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("cutouts") / "cutouts.npz"
    np.savez(path, **cutouts())  # type: ignore[arg-type]
    return path


@pytest.fixture(scope="module")
def renderer(prepared) -> BatchRenderer:
    with np.load(prepared) as saved:
        return BatchRenderer("cpu", {name: saved[name] for name in saved.files})


@pytest.fixture
def in_one_process(monkeypatch):
    """Samples are made here, since another process would spend seconds on importing torch."""
    monkeypatch.setattr(sticker_flow, "ProcessPoolExecutor", lambda *args, **named: nullcontext(Here()))


class Here:
    map = staticmethod(map)


def test_random_codes_are_scenes_that_the_world_has():
    cells, backdrops = random_codes(200, np.random.default_rng(1), signs=0.3)
    for row, backdrop in zip(cells, backdrops):
        scene = scene_of(row, backdrop)
        again, _ = codes([scene])
        assert np.array_equal(again[0], row)
        assert all(thing.color in looks(thing.noun) for thing in scene.things)
        assert all(thing.word or thing.noun != "sign" for thing in scene.things)
    assert set(np.unique(cells[..., NOUN])) == set(range(len(KINDS)))
    assert set(np.unique(cells[..., LOOK])) == set(range(len(LOOKS)))
    assert (cells[..., DX].min(), cells[..., DX].max()) == (-JITTER, JITTER)
    assert cells[..., WORD:].max() == 26


def test_the_batch_is_drawn_as_each_scene_by_itself(renderer):
    cells, backdrops = random_codes(24, np.random.default_rng(2), signs=0.3)
    together = to_uint8(renderer(cells, backdrops))
    for row, backdrop, picture in zip(cells, backdrops, together):
        alone = render(scene_of(row, backdrop)).astype(int)
        assert np.abs(alone - picture).mean() < 0.05
        assert (np.abs(alone - picture) > 12).mean() < 0.002  # at the edges of letters


def test_damage_spoils_only_filled_cells_and_is_seen(renderer):
    cells, backdrops = random_codes(16, np.random.default_rng(3))
    torch.manual_seed(0)
    what, where = torch.from_numpy(cells), torch.from_numpy(backdrops)
    pictures = renderer(cells, backdrops)
    bare = renderer(torch.zeros_like(what), where)
    spoilt, chosen = damaged(pictures, renderer(what.roll(1, 0), where), bare, what, 0.5)
    assert not chosen[what[..., NOUN] == 0].any()
    assert 0.2 < chosen[what[..., NOUN] > 0].float().mean() < 0.6
    change = (spoilt - pictures).abs().view(16, 3, 3, 64, 3, 64).mean((1, 3, 5)).flatten(1)
    assert (change[chosen] > 0.03).all()
    assert (change[~chosen] == 0).all()


def test_weather_keeps_the_picture_recognisable(renderer):
    torch.manual_seed(0)
    pictures, _, _ = Drawn(renderer, 8)("weather")
    worn = weathered((pictures + 1) / 2)
    assert worn.shape == pictures.shape
    assert worn.min() >= 0 and worn.max() <= 1
    assert 0.002 < (worn - (pictures + 1) / 2).abs().mean() < 0.15


def test_ink_weighs_the_letters_and_nothing_else(renderer):
    draw = Drawn(renderer, 4, signs=0.5)
    pictures, cells, backdrops = draw("ink")
    plain, inked = (draw.weights(pictures, cells, backdrops, ink) for ink in (0.0, 20.0))
    more = (inked - plain).view(4, 3, 64, 3, 64).amax((2, 4)).flatten(1)
    signs = cells[..., NOUN] == SIGN_KIND
    assert signs.any() and (more[signs] == 20).all() and (more[~signs] == 0).all()
    assert 0 < ((inked - plain) > 0).float().mean() < 0.1


def test_samples_are_padded_to_the_lengths_that_the_weights_read():
    made = prepare("edit", 40, 1, "seed")
    assert set(made) <= {32, 64, 128}
    for length, part in made.items():
        assert part.ids.shape[1] == length
        assert (part.lengths <= length).all()
        assert len(part.cells) == 2
        assert set(part.which) == set(range(len(part.edited))), "only what a prompt of this length tells is drawn"
        assert all(len(each) == len(part.edited) for each in (*part.cells, *part.backdrops))
    assert sum(len(part.edited) for part in made.values()) == 40


def test_a_quoted_word_is_read_letter_by_letter():
    (one,), (other,) = token_ids(['a sign that says "CAT"']), token_ids(['a sign that says "CAR"'])
    assert len(one) == len(other)
    assert sum(a != b for a, b in zip(one, other)) == 1


def drawn_by(weights: Path) -> KleinExecutor:
    executor = KleinExecutor.load(weights)
    request = DrawRequest('a red cat and a sign that says "HI" at night', 1, width=CANVAS, height=CANVAS)
    assert executor.draw([request])[0].picture.shape == (CANVAS, CANVAS, 3)
    return executor


def test_the_base_is_trained_part_by_part_and_draws(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("CLVR_CUTOUTS", str(prepared))
    config, out = tmp_path / "tiny.json", tmp_path / "out"
    base = json.loads(json.dumps(TINY["base"]))
    for schedule in (base["vae"]["encoder"], base["vae"]["decoder"], base["flow"]["schedule"]):
        schedule["lr"] = 1e-3
    config.write_text(json.dumps(base))
    command = ["train", "stickers", "base", "--out", str(out), "--config", str(config), "--workers", "1"]
    assert main([*command, "--parts", ""]) == 0
    encoder = (out / "encoder.safetensors").read_bytes()
    assert main(command) == 0
    assert (out / "encoder.safetensors").read_bytes() == encoder
    record = json.loads((out / "weights" / "training.json").read_text())
    assert {part: len(curve) for part, curve in record["curves"].items()} == {"encoder": 2, "decoder": 2, "flow": 3}
    drawn_by(out / "weights")


def test_given_weights_are_trained_on_and_their_encoder_is_kept(tiny, prepared, in_one_process, tmp_path, monkeypatch):
    monkeypatch.setenv("CLVR_CUTOUTS", str(prepared))
    config = tmp_path / "on.json"
    quick = {"steps": 1, "lr": 1e-4, "log_every": 1}
    flow = {"batch": 2, "pool": {"t2i": 12, "edit": 8, "restore": 4}, "schedule": quick}
    config.write_text(json.dumps({"vae": {"batch": 1, "encoder": quick, "decoder": quick}, "flow": flow}))
    command = ["train", "stickers", "base", "--from", str(tiny), "--config", str(config), "--workers", "1"]
    assert main([*command, "--out", str(tmp_path / "on"), "--parts", "decoder,flow"]) == 0
    before, after = tiny, tmp_path / "on" / "weights"
    assert (before / "readout.safetensors").exists() and (after / "readout.safetensors").exists()
    old, new = (load_file(each / "vae" / "diffusion_pytorch_model.safetensors") for each in (before, after))
    moved = {name.partition(".")[0] for name in old if not torch.equal(old[name], new[name])}
    assert moved == {"decoder", "post_quant_conv"}, "the flow goes on with the statistics that it was trained with"


def test_a_flow_that_is_resumed_reads_its_samples_again(prepared, in_one_process, tmp_path, monkeypatch):
    monkeypatch.setenv("CLVR_CUTOUTS", str(prepared))
    config, base = tmp_path / "signs.json", json.loads(json.dumps(TINY["base"]))
    base["flow"]["pool"] = {"t2i": 6, "signs": 6, "edit": 4, "word": 4}
    base["flow"]["share"] = {"t2i": 0.2, "signs": 0.3, "edit": 0.2, "word": 0.3}
    base["vae"]["encoder"]["lr"] = base["vae"]["decoder"]["lr"] = 1e-3
    base["flow"]["schedule"] |= {"lr": 1e-3, "save_every": 1}
    config.write_text(json.dumps(base))
    command = ["train", "stickers", "base", "--config", str(config), "--workers", "1", "--parts", "encoder,flow"]
    assert main([*command, "--out", str(tmp_path / "whole")]) == 0
    step, calls = sticker_flow.AutocastFlow.forward, []

    def stops(self, *args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return step(self, *args)

    monkeypatch.setattr(sticker_flow.AutocastFlow, "forward", stops)
    assert main([*command, "--out", str(tmp_path / "cut")]) == 130
    monkeypatch.setattr(sticker_flow, "gather_pools", None)  # nothing is made or encoded a second time
    assert main([*command, "--out", str(tmp_path / "cut")]) == 0
    part = "weights/transformer/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "whole" / part).read_bytes() == (tmp_path / "cut" / part).read_bytes()


def test_an_encoder_is_trained_on_for_its_signs_and_a_decoder_grows(tiny, prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("CLVR_CUTOUTS", str(prepared))
    config, out = tmp_path / "on.json", tmp_path / "on"
    quick = {"steps": 2, "lr": 0.05, "warmup": 0, "log_every": 1, "muon": 1.0}
    grown = [{"side": side, "batch": 2, "schedule": quick} for side in (12, 48)]
    encoder = {"keep": 0.03, "fixed": 1, "crowded": 0.5, "encoder": quick}
    config.write_text(
        json.dumps({"vae": {"batch": 2, "growth": grown, "pool": 1, "edges": 0.5, "decoder": quick} | encoder})
    )
    command = ["train", "stickers", "base", "--from", str(tiny), "--config", str(config), "--out", str(out)]
    assert main([*command, "--parts", "encoder,decoder"]) == 0
    assert all((out / name / "curve.jsonl").exists() for name in ("encoder", "decoder-12", "decoder-48", "decoder"))
    assert not (out / "decoder-24").exists()
    old, new = (load_file(each / "vae" / "diffusion_pytorch_model.safetensors") for each in (tiny, out / "weights"))
    held = {name for name in old if torch.equal(old[name], new[name])}
    assert {name for name in held if ".down_blocks." in name} == {name for name in old if ".down_blocks.0." in name}
    assert not [name for name in held if name.startswith(("encoder.down_blocks.1", "decoder.up_blocks"))]
    assert "bn.running_mean" in held  # that of the flow, which stays
    flows = [
        load_file(each / "transformer" / "diffusion_pytorch_model.safetensors") for each in (tiny, out / "weights")
    ]
    assert all(torch.equal(flows[0][name], flows[1][name]) for name in flows[0])


def test_a_decoder_learns_from_latents_that_a_flow_drew(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("CLVR_CUTOUTS", str(prepared))
    layer, said = readout.load_layer(STICKERS / "weights"), []
    drawn = drawn_latents(STICKERS / "merged", layer, 100, 0, torch.device("cpu"), said.append)
    assert drawn.asked >= 100 and drawn.asked / 5 < len(drawn.latents) <= drawn.asked
    assert drawn.latents.shape[1:] == (layer.in_features // 4, 6, 6)
    read, backdrops = read_codes(layer, patchify(drawn.latents).flatten(2).transpose(1, 2))
    assert torch.equal(read, drawn.cells) and torch.equal(backdrops, drawn.backdrops)
    signs = drawn.cells[drawn.cells[..., NOUN] == SIGN_KIND]
    assert len(signs) > 5 and (signs[:, WORD] > 0).all() and (drawn.cells[drawn.cells[..., NOUN] == 0] == 0).all()
    assert all(torch.equal(a, b) for a, b in zip(drawn.some("key", 3), drawn.some("key", 3)))
    shown = []
    forward = sticker_pictures.Decoding.forward

    def seen(self, latents, pictures, weights, cells, *rest):
        shown.append((latents, cells))
        return forward(self, latents, pictures, weights, cells, *rest)

    monkeypatch.setattr(sticker_pictures.Decoding, "forward", seen)
    config, quick = tmp_path / "on.json", {"steps": 1, "lr": 1e-4, "log_every": 1}
    config.write_text(json.dumps({"vae": {"batch": 2, "drawn": 0.5, "drawings": 100, "decoder": quick}}))
    command = ["train", "stickers", "base", "--from", str(STICKERS / "weights"), "--config", str(config)]
    given = ["--parts", "decoder", "--drawn-by", str(STICKERS / "merged"), "--out", str(tmp_path / "on")]
    assert main([*command, *given]) == 0
    ((latents, cells),) = shown
    assert len(latents) == 2 and any(torch.equal(latents[1], each) for each in drawn.latents)
    assert any(torch.equal(cells[1], each) for each in drawn.cells)
    kept = DrawnLatents.load(tmp_path / "on" / "drawn.safetensors", torch.device("cpu"))
    assert torch.equal(kept.latents, drawn.latents) and kept.asked == drawn.asked

    def again(*_, **__):
        raise AssertionError("latents that are there were drawn again")

    monkeypatch.setattr(sticker_base, "drawn_latents", again)
    assert main([*command, *given]) == 0
    (tmp_path / "on" / "drawn.safetensors").write_bytes(b"cut")
    with pytest.raises(BadInput, match=r"drawn\.safetensors is damaged .*; remove it"):
        DrawnLatents.load(tmp_path / "on" / "drawn.safetensors", torch.device("cpu"))


def test_edits_change_pictures_that_were_decoded_from_what_was_drawn_before(monkeypatch):
    asked, tokens = [], TrainingSampler.tokens

    def seen(self, pictures, batch=64):
        asked.append(pictures)
        return tokens(self, pictures, batch)

    monkeypatch.setattr(TrainingSampler, "tokens", seen)
    layer = readout.load_layer(STICKERS / "weights")
    drawn = drawn_latents(STICKERS / "merged", layer, 150, 1, torch.device("cpu"), print, edited=0.25)
    shown = [picture for pictures in asked for picture in pictures]
    assert len(shown) == 32, "a quarter of the second 128"
    assert drawn.asked == 256 and len(drawn.latents) < 250, "those that miss something are left out"
    scenes = [scene_of(*each) for each in zip(drawn.cells.numpy(), drawn.backdrops.tolist())]
    kept = [{(thing.cell, thing.noun) for thing in scene.things} for scene in scenes]
    found = [{(thing.cell, thing.noun) for thing in perceive.perceive(picture).things} for picture in shown]
    assert sum(each in kept for each in found) > 24, "what is edited was drawn before"


def test_weights_that_draw_nothing_right_teach_no_decoder(tiny, prepared, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CLVR_CUTOUTS", str(prepared))
    config = tmp_path / "on.json"
    config.write_text(json.dumps({"vae": {"drawings": 8}}))
    command = ["train", "stickers", "base", "--from", str(tiny), "--config", str(config), "--out", str(tmp_path / "on")]
    assert main([*command, "--parts", "decoder", "--drawn-by", str(tiny)]) != 0
    assert "none shows what was asked for" in capsys.readouterr().err


def test_scenes_crowded_with_signs_are_scenes(renderer):
    cells, _ = random_codes(40, np.random.default_rng(1), 0.1, 1.0)
    assert (cells[..., NOUN] > 0).all()
    assert 0.75 < (cells[..., NOUN] == len(KINDS) - 1).mean() < 0.95


def test_weights_without_their_readout_are_not_trained_on(tiny, prepared, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CLVR_CUTOUTS", str(prepared))
    shutil.copytree(tiny, tmp_path / "bare")
    (tmp_path / "bare" / "readout.safetensors").unlink()
    command = ["train", "stickers", "base", "--from", str(tmp_path / "bare"), "--out", str(tmp_path / "out")]
    assert main([*command, "--parts", "decoder"]) != 0
    assert "readout.safetensors" in capsys.readouterr().err


def test_the_reader_is_trained_and_read_back(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("CLVR_CUTOUTS", str(prepared))
    config, out = tmp_path / "tiny.json", tmp_path / "reader"
    config.write_text(json.dumps({"batch": 2, "schedule": {"steps": 2, "lr": 1e-3, "log_every": 1}}))
    assert main(["train", "stickers", "reader", "--out", str(out), "--config", str(config)]) == 0
    monkeypatch.setenv("CLVR_READER", str(out / "reader.safetensors"))
    perceive.reader.cache_clear()
    try:
        assert isinstance(perceive.perceive(render(Scene())), perceive.Perception)
    finally:
        perceive.reader.cache_clear()


def test_an_unknown_part_is_named(tmp_path, capsys):
    assert main(["train", "stickers", "base", "--out", str(tmp_path / "out"), "--parts", "encoder,legs"]) != 0
    assert "encoder,legs" in capsys.readouterr().err


@pytest.mark.skipif(not os.environ.get("CLVR_NIGHTLY"), reason="five processes that import torch: done each night")
def test_everything_in_a_given_time_gives_weights_that_draw(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("CLVR_CUTOUTS", str(prepared))
    config, out = tmp_path / "tiny.json", tmp_path / "out"
    config.write_text(json.dumps(TINY))
    command = ["train", "stickers", "all", "--out", str(out), "--config", str(config), "--workers", "1"]
    assert main([*command, "--seconds", "600", "--stages", "base,reader,student"]) == 0
    assert (out / "reader" / "reader.safetensors").exists()
    record = json.loads((out / "base" / "weights" / "training.json").read_text())
    assert set(record["curves"]) == {"encoder", "decoder", "flow"}
    drawn_by(out / "base" / "weights")
    assert drawn_by(out / "student" / "weights").recipe.generate.steps == 4
