"""The base is trained on what the pipeline will feed it, and one command makes a folder that loads."""

from __future__ import annotations

import functools
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from safetensors.torch import load_file

from clvr_core.errors import BadInput
from clvr_core.executor.klein import KleinExecutor, chat_text
from clvr_core.executor.small_klein import patchify
from clvr_core.protocols import DrawRequest
from clvr_core.shapes.model import TEXT_LAYERS, build_pipeline
from clvr_core.shapes.render import render
from clvr_core.shapes.sampling import random_scene
from clvr_core.shapes.scene import COLORS, RADII, SHAPES, SIZES, Scene, Thing
from clvr_core.training import pretrain
from clvr_core.training.fit import Schedule
from clvr_core.training.flow import FlowMatching, image_ids, normalise, spoil, text_ids, to_tensor
from clvr_core.training.pretrain import (
    Encoding,
    FlowConfig,
    VaeConfig,
    attention,
    encode,
    labels,
    set_statistics,
    train_base,
    train_flow,
)

SCHEDULE = {"lr": 0.001, "warmup": 2, "log_every": 1, "save_every": 2}
CONFIG = {
    "width": 32,
    "double": 1,
    "single": 1,
    "text_width": 16,
    "vae_channels": [4, 4, 4, 4, 4],
    "vae": {"batch": 2, "encoder": {**SCHEDULE, "steps": 3}, "decoder": {**SCHEDULE, "steps": 3}},
    "flow": {
        "batch": 2,
        "pool": {"t2i": 8, "edit": 8, "restore": 4},
        "long_text": 0.0,
        "schedule": {**SCHEDULE, "steps": 4},
    },
    "recipe": {
        "generate": {"steps": 2, "guidance": 2.5},
        "edit": {"steps": 1},
        "text_layers": list(TEXT_LAYERS),
        "text_lengths": [32, 64, 128],
    },
}
STAGES = {"encoder": 3, "decoder": 3, "flow": 4}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pipe():
    torch.manual_seed(0)
    made = build_pipeline(32, 1, 1, 16, (4, 4, 4, 4, 4))
    set_statistics(made.vae, seed=0, count=16)
    return made


@pytest.fixture(autouse=True)
def few_statistics(monkeypatch):
    monkeypatch.setattr(pretrain, "set_statistics", functools.partial(set_statistics, count=16))


def scenes(count: int) -> list[Scene]:
    rng = random.Random(3)
    return [random_scene(rng, rng.randint(0, 8)) for _ in range(count)]


def written(folder: Path, **changes) -> Path:
    path = folder / "config-in.json"
    path.write_text(json.dumps(CONFIG | changes))
    return path


def curve(out: Path, stage: str) -> list[dict]:
    return [json.loads(line) for line in (out / stage / "curve.jsonl").read_text().splitlines()]


def tensors(weights: Path) -> dict[str, torch.Tensor]:
    return {
        f"{file.parent.name}.{name}": value
        for file in sorted(weights.rglob("*.safetensors"))
        for name, value in load_file(file).items()
    }


class TestTrainBase:
    @pytest.fixture(scope="class")
    def trained(self, tmp_path_factory):
        out = tmp_path_factory.mktemp("trained")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pretrain, "set_statistics", functools.partial(set_statistics, count=16))
            return train_base(out / "run", written(out), seed=3)

    def test_makes_a_folder_that_loads_and_draws(self, trained):
        executor = KleinExecutor.load(trained)
        (drawing,) = executor.draw([DrawRequest("a red circle", 1)])
        assert drawing.picture.shape == (96, 96, 3) and drawing.nfe == 4

    def test_writes_beside_the_weights_what_they_were_made_from(self, trained):
        record = json.loads((trained / "training.json").read_text())
        assert record["seed"] == 3 and record["config"]["width"] == 32 and record["config"]["flow"]["pool"]["edit"] == 8
        assert {stage: len(lines) for stage, lines in record["curves"].items()} == STAGES
        assert all(np.isfinite(line["loss"]) for lines in record["curves"].values() for line in lines)

    def test_a_second_call_trains_nothing_and_gives_the_same_weights(self, trained, tmp_path, monkeypatch):
        before = tensors(trained)

        def refuse(*_, **__):
            raise AssertionError("trained again")

        for objective in (pretrain.Encoding, pretrain.Decoding, pretrain.FlowMatching):
            monkeypatch.setattr(objective, "forward", refuse)
        again = train_base(trained.parent, written(tmp_path), seed=3)
        KleinExecutor.load(again)
        after = tensors(again)
        assert (
            again == trained
            and before.keys() == after.keys()
            and all(torch.equal(before[name], after[name]) for name in before)
        )

    @pytest.mark.parametrize("stage", ["Encoding", "Decoding", "FlowMatching"])
    def test_killed_in_any_stage_it_goes_on_to_the_same_weights(self, trained, tmp_path, monkeypatch, stage):
        calls, objective = [], getattr(pretrain, stage)
        real = objective.forward

        def killed(self, *inputs):
            calls.append(1)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return real(self, *inputs)

        monkeypatch.setattr(objective, "forward", killed)
        with pytest.raises(KeyboardInterrupt):
            train_base(tmp_path / "run", written(tmp_path), seed=3)
        weights = train_base(tmp_path / "run", written(tmp_path), seed=3)
        one, other = tensors(trained), tensors(weights)
        assert all(torch.equal(one[name], other[name]) for name in one)
        assert {name: len(curve(tmp_path / "run", name)) for name in STAGES} == STAGES

    def test_another_seed_gives_other_weights(self, trained, tmp_path):
        one, other = tensors(trained), tensors(train_base(tmp_path / "run", written(tmp_path), seed=4))
        assert any(not torch.equal(one[name], other[name]) for name in one if name.startswith("transformer"))

    def test_other_settings_or_another_seed_in_the_same_folder_are_refused(self, trained, tmp_path):
        for changes, seed in (({"width": 64}, 3), ({}, 4)):
            with pytest.raises(BadInput, match="other settings, another seed or another start; choose another folder"):
                train_base(trained.parent, written(tmp_path, **changes), seed=seed)

    def test_from_given_weights_it_trains_on_and_keeps_their_vae(self, trained, tmp_path):
        out = tmp_path / "run"
        weights = train_base(out, written(tmp_path), seed=3, start=trained)
        one, other = tensors(trained), tensors(weights)
        moved = {name for name in one if not torch.equal(one[name], other[name])}
        assert moved and all(name.startswith(("transformer.", "text_encoder.")) for name in moved)
        far = torch.cat([(one[name].float() - other[name].float()).flatten() for name in moved]).abs().max()
        assert far < 0.05, "it starts from them and not from nothing"
        record = json.loads((weights / "training.json").read_text())
        assert json.loads((weights / "model_index.json").read_text())["_class_name"] == "Flux2KleinPipeline"
        assert set(record["curves"]) == {"flow"} and record["start"]["training"]["seed"] == 3
        assert record["start"]["files"]["vae/config.json"]
        with pytest.raises(BadInput, match="another start"):
            train_base(out, written(tmp_path), seed=3)
        with pytest.raises(BadInput, match="cannot be loaded"):
            train_base(out, written(tmp_path), seed=3, start=tmp_path / "nothing")

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"width": "wide"}', '{"flow": {"schedule": {"lr": 1}}}'])
    def test_a_config_that_cannot_be_read_is_refused(self, tmp_path, text):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(BadInput, match="--config"):
            train_base(tmp_path / "run", tmp_path / "bad.json")
        with pytest.raises(BadInput, match="--config"):
            train_base(tmp_path / "run", tmp_path / "none.json")


class TestTheFlow:
    def test_its_loss_falls(self, tmp_path):
        torch.manual_seed(0)
        pipe = build_pipeline(64, 1, 1, 16, (4, 4, 4, 4, 4))
        set_statistics(pipe.vae, seed=0, count=16)
        plan = Schedule(steps=40, lr=3e-3, warmup=4, ema=0.5, log_every=10, save_every=40)
        config = FlowConfig(batch=8, pool={"t2i": 8, "edit": 8, "restore": 4}, long_text=0.0, schedule=plan)
        train_flow(pipe, tmp_path / "flow", config, seed=0, accelerator=Accelerator(cpu=True), report=lambda line: None)
        losses = [line["loss"] for line in curve(tmp_path, "flow")]
        assert len(losses) == 4 and losses[-1] < 0.9 * losses[0]

    def test_it_trains_transformer_and_words_and_leaves_the_vae(self, tmp_path):
        torch.manual_seed(0)
        pipe = build_pipeline(32, 1, 1, 16, (4, 4, 4, 4, 4))
        before = {
            name: {key: value.clone() for key, value in getattr(pipe, name).state_dict().items()}
            for name in ("vae", "transformer", "text_encoder")
        }
        plan = Schedule(steps=3, lr=1e-2, warmup=1, ema=0.1, save_every=3)
        config = FlowConfig(batch=4, pool={"t2i": 4, "edit": 4, "restore": 4}, long_text=0.0, schedule=plan)
        train_flow(pipe, tmp_path / "flow", config, seed=0, accelerator=Accelerator(cpu=True), report=lambda line: None)
        changed = {
            name: {key for key, value in getattr(pipe, name).state_dict().items() if not torch.equal(value, old[key])}
            for name, old in before.items()
        }
        assert not changed["vae"] and "model.embed_tokens.weight" in changed["text_encoder"]
        assert len(changed["transformer"]) > 0.9 * len(before["transformer"])

    def test_the_transformer_is_shown_what_the_pipeline_shows_it(self, pipe):
        """Text, noise level and places of the tokens; the prompt padded as the pipeline pads it."""
        prompt, shown = "restore the top left from image 2", []
        hook = pipe.transformer.register_forward_pre_hook(
            lambda module, inputs, named: shown.append(named), with_kwargs=True
        )
        try:
            pictures = [render(scene) for scene in scenes(2)]
            pipe.set_progress_bar_config(disable=True)
            pipe(
                image=[Image.fromarray(picture) for picture in pictures],
                prompt=prompt,
                height=96,
                width=96,
                num_inference_steps=4,
                guidance_scale=1.0,
                max_sequence_length=32,
                text_encoder_out_layers=TEXT_LAYERS,
                output_type="latent",
            )
            theirs = shown[0]
            text = chat_text(pipe.tokenizer, prompt)
            batch = pipe.tokenizer([text], padding="max_length", max_length=32, return_tensors="pt")
            tokens = [normalise(encode(pipe.vae, [picture]), pipe.vae) for picture in pictures]
            objective = FlowMatching(pipe.transformer, pipe.text_encoder, 1.4, 1.2)
            with torch.no_grad():
                objective(
                    batch["input_ids"], batch["attention_mask"], torch.zeros_like(tokens[0]), tokens, torch.ones(1, 9)
                )
            ours = shown[-1]
        finally:
            hook.remove()
        assert torch.allclose(ours["encoder_hidden_states"], theirs["encoder_hidden_states"], atol=1e-5)
        assert torch.allclose(ours["hidden_states"][:, 9:], theirs["hidden_states"][:, 9:], atol=1e-4)
        assert torch.equal(ours["img_ids"], theirs["img_ids"][0]) and torch.equal(ours["txt_ids"], theirs["txt_ids"][0])
        assert theirs["timestep"].item() == pytest.approx(1.0) and 0 < ours["timestep"].item() < 1

    def test_a_perfect_velocity_has_no_loss(self, pipe):
        class Oracle(torch.nn.Module):
            """Of a blank target the mixture is sigma times the noise, so the velocity is known."""

            def forward(self, hidden_states, timestep, **_):
                return (hidden_states / timestep.view(-1, 1, 1),)

        objective = FlowMatching(Oracle(), pipe.text_encoder, 1.4, 1.2)
        ids = torch.ones(4, 32, dtype=torch.long)
        target = torch.zeros(4, 9, 64)
        assert objective(ids, torch.ones_like(ids), target, [torch.randn(4, 9, 64)], torch.ones(4, 9)).item() < 1e-6


class TestLatents:
    def test_are_patchified_as_the_pipeline_does(self, pipe):
        latents = torch.randn(2, 16, 6, 6)
        assert torch.equal(patchify(latents), pipe._patchify_latents(latents))

    def test_are_encoded_and_normalised_as_the_pipeline_does(self, pipe):
        for scene in scenes(4):
            picture = render(scene)
            shown = pipe.image_processor.preprocess(Image.fromarray(picture), height=96, width=96)
            assert torch.allclose(to_tensor([picture]), shown, atol=1e-6)
            with torch.no_grad():
                theirs = pipe._pack_latents(pipe._encode_vae_image(shown, None))
            assert torch.allclose(normalise(encode(pipe.vae, [picture]), pipe.vae), theirs, atol=1e-4)

    def test_are_normal_over_the_scenes_that_set_the_statistics(self, pipe):
        rng = random.Random("0/statistics")
        tokens = normalise(
            encode(pipe.vae, [render(random_scene(rng, rng.randint(0, 8))) for _ in range(16)]), pipe.vae
        )
        assert tokens.mean((0, 1)).abs().max() < 1e-3 and (tokens.var((0, 1)) - 1).abs().max() < 0.02

    def test_do_not_depend_on_the_batch_they_are_encoded_in(self, pipe):
        pictures = [render(scene) for scene in scenes(5)]
        assert torch.allclose(encode(pipe.vae, pictures), encode(pipe.vae, pictures, batch=2), atol=1e-5)


class TestPlaces:
    @pytest.mark.parametrize("references", [0, 1, 2, 3])
    def test_of_image_tokens_are_those_of_the_pipeline(self, pipe, references):
        latents = torch.zeros(1, 64, 3, 3)
        theirs = pipe._prepare_latent_ids(latents)[0]
        if references:
            theirs = torch.cat([theirs, pipe._prepare_image_ids([latents] * references)[0]])
        assert torch.equal(image_ids(9, references, "cpu"), theirs)

    @pytest.mark.parametrize("length", [32, 64, 128])
    def test_of_text_tokens_are_those_of_the_pipeline(self, pipe, length):
        assert torch.equal(text_ids(length, "cpu"), pipe._prepare_text_ids(torch.zeros(1, length, 8))[0])


class TestWhatTheEncoderIsAskedToTell:
    THING = Thing("cross", "cyan", "large", 5, -2, 3)

    def test_labels_name_each_cell(self):
        found = labels(Scene((self.THING,)))
        assert found.shape == (9, 5) and not found[[0, 1, 2, 3, 4, 6, 7, 8]].any()
        assert found[5].tolist() == [
            1 + SHAPES.index("cross"),
            1 + COLORS.index("cyan"),
            1 + SIZES.index("large"),
            -2,
            3,
        ]

    def test_attention_is_on_the_things_and_most_on_small_pale_ones(self):
        weights = {
            kind: attention(Scene((Thing("circle", color, size, 4),)))
            for kind, (color, size) in {
                "large": ("black", "large"),
                "small": ("black", "small"),
                "pale": ("yellow", "large"),
            }.items()
        }
        assert all(each.shape == (96, 96) and each.min() == 1 == each[0, 0] for each in weights.values())
        assert weights["small"].max() > weights["large"].max() > 1 and weights["pale"].max() > weights["large"].max()
        reach = RADII["small"] + 2
        assert weights["small"][48 - reach, 48] > 1 == weights["small"][48 - reach - 1, 48]

    def test_its_loss_falls(self, tmp_path):
        torch.manual_seed(0)
        vae = build_pipeline(32, 1, 1, 16, (4, 4, 4, 4, 4)).vae
        objective = Encoding(vae, VaeConfig())
        optimizer = torch.optim.Adam(objective.parameters(), 5e-3)
        made = scenes(8)
        pictures, wanted = (
            to_tensor([render(scene) for scene in made]),
            torch.from_numpy(np.stack([labels(scene) for scene in made])),
        )
        losses = []
        for _ in range(30):
            loss = objective(pictures, wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5]) and 0 <= objective.misread <= 1


class TestSpoiling:
    def test_touches_only_cells_that_are_to_be_edited(self):
        reference, edited = torch.randn(6, 9, 4), torch.zeros(6, 9)
        edited[:, 2] = 1
        spoiled = spoil(reference, edited, 1.0)
        assert torch.equal(spoiled[:, [0, 1, 3, 4, 5, 6, 7, 8]], reference[:, [0, 1, 3, 4, 5, 6, 7, 8]])
        assert not torch.equal(spoiled[:, 2], reference[:, 2])

    def test_of_no_share_touches_nothing(self):
        reference = torch.randn(6, 9, 4)
        assert torch.equal(spoil(reference, torch.ones(6, 9), 0.0), reference)
