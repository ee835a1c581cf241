"""SFT and PPRL in the embedded world and on a tiny FLUX.2 Klein, and what goes wrong with data."""

from __future__ import annotations

import json
import pickle
import shutil
import threading
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch.nn import Linear

from clvr_core.cli import main
from clvr_core.errors import BadInput
from clvr_core.executor.klein import KleinExecutor, Sampling, SamplingRecipe
from clvr_core.fleet.crew import Lost
from clvr_core.protocols import DrawRequest
from clvr_core.records import from_json, to_json
from clvr_core.stickers.scene import Scene, Thing
from clvr_core.training import pprl as module
from clvr_core.training.adapter import FILE, FrozenCopy, Lora, attach, trained
from clvr_core.training.fit import Schedule
from clvr_core.training.pprl import Learning, PprlConfig, Rollouts, pprl
from clvr_core.training.rewards import ARMS, ExactReward, VlmReward, WorldReward, final, last, named, proxy
from clvr_core.training.sampler import TrainingSampler
from clvr_core.training.samples import Samples, Window, one_shot
from clvr_core.training.sft import Following, SftConfig, sft
from tests.fakes import FakeVlm
from tests.stickers.eyes import picture_of
from tests.stickers.oracle import load_vlm
from tests.training.world import WORLD, Brightness
from tests.waiting import HUNG

SCHEDULE = {"steps": 4, "lr": 0.01, "warmup": 1, "log_every": 1, "save_every": 2, "ema": 0.5}
LORA = {"rank": 4, "alpha": 4}
SFT = {"batch": 4, "lora": LORA, "schedule": SCHEDULE}
PPRL = {
    "groups": 2,
    "size": 4,
    "measured": 4,
    "measure_every": 2,
    "sampling": {"steps": 1},
    "lora": LORA,
    "schedule": SCHEDULE,
}


def written(folder, settings, **changes):
    path = folder / "config-in.json"
    path.write_text(json.dumps(settings | changes))
    return path


def accelerator():
    return Accelerator(cpu=True)


def tuned(out, tiny, rows, seed=1, **changes):
    out.parent.mkdir(exist_ok=True)
    return sft(out, tiny, rows, written(out.parent, SFT, **changes), seed=seed, world=WORLD, accelerator=accelerator())


def learned(out, tiny, rows, reward=None, seed=1, **changes):
    out.parent.mkdir(exist_ok=True)
    lora, engine = changes.pop("start_lora", None), changes.pop("engine", None)
    config = written(out.parent, PPRL, **changes)
    run = {"seed": seed, "lora": lora, "world": WORLD, "accelerator": accelerator(), "engine": engine}
    return pprl(out, tiny, rows, reward or Brightness(), config, **run)


class Elsewhere:
    """An engine whose worker lives here, and gets all things pickled. lost: what comes of each piece instead."""

    def __init__(self, lost=None):
        self.lost, self.drawn, self.closed = lost, 0, False

    @contextmanager
    def crew(self, task):
        with pickle.loads(pickle.dumps(task)).open(threading.Event()) as self.do:
            yield self
        self.closed = True

    def run(self, pieces):
        # The last one ends first.
        for number, piece in reversed(list(enumerate(pieces))):
            self.drawn += 1
            yield number, self.lost or self.do(pickle.loads(pickle.dumps(piece)), lambda what: None)


class Words:
    window = 1000

    def tokens(self, prompt):
        return len(prompt.split())


@pytest.fixture(scope="module")
def lora(tiny, rows, tmp_path_factory):
    return tuned(tmp_path_factory.mktemp("sft") / "run", tiny, rows)


class TestSft:
    def test_an_n_step_trajectory_gives_n_samples_with_the_trace_and_the_earlier_canvas(self, rows):
        samples = Samples.read(rows)
        assert len(samples.train) == 8 * 3 and len(samples.held) == 3 and not samples.skipped
        assert [whole.target for whole in samples.wholes] == [sample.target for sample in samples.train[2::3]]
        assert (
            samples.wholes[0].text("trace", Window(Words())) == samples.train[0].brief
            and not samples.wholes[0].references
        )
        first, second, third = samples.train[:3]
        assert not first.references and second.references == (first.target,) and third.references == (second.target,)
        whole = Window(Words(), None)
        text = third.text("trace", whole)
        assert text.startswith(third.brief) and first.words in text and text.endswith(third.words)
        assert third.text("proxy", whole) == third.words
        short = third.text("trace", Window(Words(), len(text.split()) - 1))
        assert short == f"{third.brief}\nStep 2: I go on. {second.words}\nStep 3: I go on. {third.words}"

    def test_makes_a_lora_that_diffusers_and_the_merge_read(self, lora, tiny, tmp_path):
        """Loaded beside the base and merged into it, it draws the same."""
        beside, merged = KleinExecutor.load(tiny), KleinExecutor.load(tiny)
        beside.pipe.load_lora_weights(str(lora), weight_name=FILE)
        assert any(value.abs().max() > 0 for name, value in load_file(lora / FILE).items() if "lora_B" in name)
        base = tiny / "transformer" / "diffusion_pytorch_model.safetensors"
        out = tmp_path / "merged.safetensors"
        assert (
            main(
                [
                    "merge",
                    "--base",
                    str(base),
                    "--lora",
                    str(lora / FILE),
                    "--out",
                    str(out),
                    "--dtype",
                    "fp32",
                    "--json",
                ]
            )
            == 0
        )
        merged.pipe.transformer.load_state_dict(load_file(out))
        request = DrawRequest("a red cat", 1, width=192, height=192)
        one, other = (executor.draw([request])[0].picture.astype(int) for executor in (beside, merged))
        assert abs(one - other).max() <= 1 and (one != KleinExecutor.load(tiny).draw([request])[0].picture).any()
        record = json.loads((lora / "training.json").read_text())
        assert record["samples"] == 24 and len(record["curves"]["sft"]) == 4

    def test_killed_it_goes_on_to_the_same_lora(self, lora, tiny, rows, tmp_path, monkeypatch):
        calls, real = [], Following.forward

        def killed(self, *inputs):
            calls.append(1)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return real(self, *inputs)

        monkeypatch.setattr(Following, "forward", killed)
        with pytest.raises(KeyboardInterrupt):
            tuned(tmp_path / "run", tiny, rows)
        again = tuned(tmp_path / "run", tiny, rows)
        one, other = load_file(lora / FILE), load_file(again / FILE)
        assert all(torch.equal(one[name], other[name]) for name in one)

    def test_replays_scenes_of_the_world_where_it_draws_from_nothing(self, tiny, rows, tmp_path, monkeypatch):
        told, fresh, real = [], [], (TrainingSampler.text, TrainingSampler.tokens)

        def tokens(self, pictures):
            if told:  # the references come before the words, the targets after them
                fresh.extend(zip(told.pop(), pictures, strict=True))
            return real[1](self, pictures)

        monkeypatch.setattr(TrainingSampler, "text", lambda self, texts: told.append(texts) or real[0](self, texts))
        monkeypatch.setattr(TrainingSampler, "tokens", tokens)
        tuned(
            tmp_path / "run",
            tiny,
            rows,
            replay=1.0,
            trace=1.0,
            drop_text=0.0,
            schedule=SCHEDULE | {"steps": 8, "save_every": 8},
        )
        known = {text for text, _ in fresh if "Step " not in text}
        assert len(known) >= SFT["batch"] and any("Step " in text for text, _ in fresh)
        for text, picture in fresh:
            if text in known:
                assert WORLD.meets(text, WORLD.perceive(picture)), text

    def test_replay_outside_an_embedded_world_is_refused(self, tiny, rows, tmp_path):
        with pytest.raises(BadInput, match=r"replay is 0\.5, and only an embedded world has scenes to replay"):
            sft(tmp_path / "run", tiny, rows, written(tmp_path, SFT, replay=0.5))

    def test_rank_0_trains_all_weights(self, tiny, rows, tmp_path):
        weights = tuned(tmp_path / "run", tiny, rows, lora={"rank": 0})
        one, other = (
            load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors") for folder in (tiny, weights)
        )
        assert sum(not torch.equal(one[name], other[name]) for name in one) > 0.9 * len(one)


class TestPprl:
    def test_learns_from_what_it_drew_and_writes_down_what_it_saw(self, lora, tiny, rows, tmp_path):
        made = learned(tmp_path / "run", tiny, rows, start_lora=lora)
        one, other = load_file(lora / FILE), load_file(made / FILE)
        assert one.keys() == other.keys() and any(not torch.equal(one[name], other[name]) for name in one)
        measures = [json.loads(line) for line in (tmp_path / "run" / "measures.jsonl").read_text().splitlines()]
        drawn = [measure for measure in measures if "reward" in measure]
        assert [measure["step"] for measure in drawn] == [0, 2]
        assert all(0 <= measure["zero_variance"] <= 1 and measure["diversity"] > 0 for measure in drawn)
        assert [measure["step"] for measure in measures if "held_scenes" in measure] == [0, 2, 4]
        assert (tmp_path / "run" / "pprl.png").stat().st_size > 1000

    def test_killed_it_goes_on_to_the_same_lora_and_the_same_measures(self, tiny, rows, tmp_path, monkeypatch):
        whole, calls, real = learned(tmp_path / "whole", tiny, rows), [], Learning.forward

        def killed(self, *inputs):
            calls.append(1)
            if len(calls) == 4:
                raise KeyboardInterrupt
            return real(self, *inputs)

        monkeypatch.setattr(Learning, "forward", killed)
        with pytest.raises(KeyboardInterrupt):
            learned(tmp_path / "halves", tiny, rows)
        halves = learned(tmp_path / "halves", tiny, rows)
        one, other = load_file(whole / FILE), load_file(halves / FILE)
        assert all(torch.equal(one[name], other[name]) for name in one)
        assert (tmp_path / "whole" / "measures.jsonl").read_text() == (
            tmp_path / "halves" / "measures.jsonl"
        ).read_text()

    @pytest.mark.parametrize("groups", [1, 2])
    def test_workers_draw_what_this_process_would_have_drawn(self, lora, tiny, rows, tmp_path, groups):
        crew = Elsewhere()
        here = learned(tmp_path / "here", tiny, rows, start_lora=lora, groups=groups)
        there = learned(tmp_path / "there", tiny, rows, start_lora=lora, groups=groups, engine=crew)
        assert crew.drawn == 2 * groups and crew.closed
        one, other = load_file(here / FILE), load_file(there / FILE)
        seen = [(tmp_path / name / "measures.jsonl").read_text() for name in ("here", "there")]
        if groups == 1:
            assert all(torch.equal(one[name], other[name]) for name in one) and seen[0] == seen[1]
        else:  # here all groups are one batch, which may differ in the last bits
            assert all(torch.allclose(one[name], other[name], atol=1e-3) for name in one)

    def test_a_group_that_kills_its_workers_ends_the_training_with_a_sentence(self, tiny, rows, tmp_path):
        with pytest.raises(BadInput, match="the pictures to learn from cannot be drawn: it died; mend that and go on"):
            learned(tmp_path / "run", tiny, rows, engine=Elsewhere(Lost("it died")))

    def test_groups_without_variance_are_passed_over_and_counted(self, tiny, rows, tmp_path):
        class Flat(Brightness):
            scene = said = edit = lambda self, *inputs: 0.5

        made = learned(tmp_path / "run", tiny, rows, Flat())
        assert all(value.abs().max() == 0 for name, value in load_file(made / FILE).items() if "lora_B" in name)
        measures = [json.loads(line) for line in (tmp_path / "run" / "measures.jsonl").read_text().splitlines()]
        assert [measure["zero_variance"] for measure in measures if "zero_variance" in measure] == [1.0, 1.0]

    def test_a_sample_without_an_answer_teaches_nothing_and_is_counted(self, tiny, rows, tmp_path):
        class Silent(Brightness):
            scene = said = edit = lambda self, *inputs: None

        learned(tmp_path / "run", tiny, rows, Silent())
        measures = [json.loads(line) for line in (tmp_path / "run" / "measures.jsonl").read_text().splitlines()]
        assert [measure["unanswered"] for measure in measures if "unanswered" in measure] == [8, 8]

    def test_one_sample_a_group(self):
        assert module.diversity([np.zeros((2, 2, 3), np.uint8)] * 4) == 0
        assert module.diversity([np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)]) == 1

    @pytest.mark.parametrize(
        "changes, said", [({"arm": "best"}, "arm"), ({"size": 1}, "size"), ({"reuse": 3}, "reuse")]
    )
    def test_settings_that_make_no_sense_are_refused(self, tiny, rows, tmp_path, changes, said):
        with pytest.raises(BadInput, match=said):
            learned(tmp_path / "run", tiny, rows, **changes)


def test_a_lora_beside_weights_in_bfloat16_is_trained_in_float32(tiny):
    transformer = KleinExecutor.load(tiny).pipe.transformer.to(torch.bfloat16)
    attach(transformer, Lora(4, 4))
    assert transformer.dtype == torch.bfloat16 and {parameter.dtype for parameter in trained(transformer)} == {
        torch.float32
    }


class TestTheOldPolicy:
    def test_stands_in_and_goes_again(self):
        model = Linear(2, 2)
        old = FrozenCopy(model)
        before = model.weight.detach().clone()
        with torch.no_grad():
            model.weight += 1
        with old.standing_in(model):
            assert torch.equal(model.weight, before)
        assert torch.equal(model.weight, before + 1)
        old.follow(model, 0.25)
        assert torch.allclose(old.tensors[0], before + 0.75)


class TestRewards:
    BEFORE = Scene((Thing("cat", "red", "large", 0), Thing("car", "blue", "small", 4)))

    def sample(self, **changes):
        made = one_shot("a large red cat at the top left, a small blue car at the middle center and a green bird")
        return made.__class__(**{**made.__dict__, **changes})

    def test_the_arms_judge_by_their_own_words(self):
        asked = []

        class Asked:
            def scene(self, picture, prompt):
                asked.append(("scene", prompt))
                return 1.0

            def edit(self, picture, references, instruction):
                asked.append(("edit", instruction, len(references)))
                return 0.5

            def said(self, picture, words):
                asked.append(("said", words))
                return 0.25

        sample = self.sample(
            scene_prompt="the scene", edit_prompt="the edit", last=one_shot("the last").last, references=(1,)
        )
        sample.__dict__["pictures"] = (picture_of(self.BEFORE),)
        assert (
            proxy(Asked(), sample, None) == 0.75
            and last(Asked(), sample, None) == 0.25
            and final(Asked(), sample, None) == 1.0
        )
        assert asked == [("scene", "the scene"), ("edit", "the edit", 1), ("said", "the last"), ("scene", sample.brief)]
        assert set(ARMS) == {"proxy", "last", "final"}

    def test_only_the_proxy_arm_sees_that_something_else_was_lost(self):
        words = "add a green bird at the bottom right"
        bird = Thing("bird", "green", "small", 8)
        kept, lost = picture_of(Scene((*self.BEFORE.things, bird))), picture_of(Scene((self.BEFORE.things[0], bird)))
        scene = "large red cat top left, small blue car middle center, green bird bottom right"
        sample = self.sample(scene_prompt=scene, edit_prompt=words, last=one_shot(words).last, references=(1,))
        sample.__dict__["pictures"] = (picture_of(self.BEFORE),)
        reward = WorldReward(WORLD)
        assert proxy(reward, sample, kept) == 1.0 > proxy(reward, sample, lost)
        assert last(reward, sample, kept) == last(reward, sample, lost) == 1.0

    def test_exact_is_all_or_nothing(self):
        picture = picture_of(self.BEFORE)
        assert ExactReward(WORLD).scene(picture, "large red cat, small blue car") == 1.0
        assert (
            ExactReward(WORLD).scene(picture, "large red cat, blue cat")
            == 0.0
            < WorldReward(WORLD).scene(picture, "large red cat, blue cat")
        )
        assert ExactReward(WORLD).edit(picture, (picture,), "remove the red cat at the top left") == 0.0

    def test_a_vision_language_model_judges_by_decisions(self):
        reward, picture = VlmReward(load_vlm()), picture_of(self.BEFORE)
        right, wrong = (reward.scene(picture, prompt) for prompt in ("large red cat, small blue car", "3 green birds"))
        assert right == pytest.approx(0.95) and wrong < 0.4
        after = picture_of(self.BEFORE.without([4]))
        assert reward.edit(after, (picture,), "remove the blue car at the middle center") > 0.9
        assert reward.edit(picture, (picture,), "remove the blue car at the middle center") < 0.6

    def test_a_judge_behind_a_server_is_asked_about_many_pictures_at_the_same_time(self):
        together = threading.Barrier(3)

        class Server(FakeVlm):
            parallel = 3

            def decide(self, images, questions):
                together.wait(HUNG)
                return super().decide(images, questions)

        vlm = Server(decisions=[[0.9]] * 6)
        rollouts = Rollouts.__new__(Rollouts)
        rollouts.reward, rollouts.config = VlmReward(vlm), PprlConfig(arm="last")
        samples = [SimpleNamespace(references=(1,), words=words) for words in ("red", "blue")]
        rewards, missing = rollouts.judge(samples, [[picture_of(self.BEFORE)] * 3] * 2)
        assert rewards.flatten().tolist() == pytest.approx([0.9] * 6) and missing == 0
        assert VlmReward(FakeVlm()).parallel == 1

    def test_quotation_marks_in_the_words_do_not_end_the_quotation(self):
        vlm = FakeVlm(decisions=[[0.9]])
        VlmReward(vlm).said(picture_of(self.BEFORE), 'a sign "OPEN"')
        assert 'these words: "a sign \\"OPEN\\""?' in vlm.decides[0].questions[0].text

    def test_any_callable_is_named_by_its_module(self):
        assert isinstance(named("stickers"), WorldReward) and isinstance(
            named(f"{ExactReward.__module__}:ExactReward"), ExactReward
        )
        for wrong in ("nothing", "no.such:Thing", "json:nothing"):
            with pytest.raises(BadInput, match="cannot be loaded"):
                named(wrong)


class TestBadData:
    def test_a_row_without_its_picture_is_left_out_and_counted(self, rows, tmp_path):
        folder = shutil.copytree(rows, tmp_path / "data")
        (folder / "images" / "2-1.png").unlink()
        (folder / "images" / "4-0.png").write_bytes(b"\x89PNG\r\n\x1a\nhalf")
        said = []
        samples = Samples.read(folder, said.append)
        assert samples.skipped == 2 and len(samples.train) + len(samples.held) == 7 * 3
        assert "row 000002 is left out" in said[0] and "row 000004" in said[1]

    def test_no_row_at_all_is_refused(self, rows, tmp_path):
        folder = shutil.copytree(rows, tmp_path / "data")
        shutil.rmtree(folder / "images")
        with pytest.raises(BadInput, match="9 of 9 left out"):
            Samples.read(folder, lambda line: None)

    def test_a_damaged_line_is_named(self, rows, tmp_path):
        folder = shutil.copytree(rows, tmp_path / "data")
        with (folder / "trajectories.jsonl").open("a") as file:
            file.write('{"id": 3}\n')
        with pytest.raises(BadInput, match="line 10"):
            Samples.read(folder)
        with pytest.raises(BadInput, match="clvr synthesize"):
            Samples.read(tmp_path)

    def test_a_lora_that_does_not_fit_is_refused(self, lora, tiny, tmp_path):
        transformer = KleinExecutor.load(tiny).pipe.transformer
        with pytest.raises(BadInput, match="LoRA"):
            attach(transformer, Lora(8, 8), lora)
        with pytest.raises(BadInput, match="cannot be loaded"):
            attach(KleinExecutor.load(tiny).pipe.transformer, Lora(4, 4), tmp_path)
        with pytest.raises(BadInput, match="rank 0"):
            attach(transformer, Lora(0), lora)


class TestKlein:
    """FLUX.2 Klein's own schedule, text window and number of tokens, on canvases of another size than the embedded world's."""

    @pytest.fixture(scope="class")
    def klein(self, tiny):
        from diffusers import FlowMatchEulerDiscreteScheduler

        executor = KleinExecutor.load(tiny)
        executor.pipe.register_modules(
            scheduler=FlowMatchEulerDiscreteScheduler(
                shift=3.0,
                use_dynamic_shifting=True,
                base_shift=0.5,
                max_shift=1.15,
                base_image_seq_len=256,
                max_image_seq_len=4096,
            )
        )
        executor.recipe = SamplingRecipe(
            Sampling(2, 4.0), Sampling(2, 4.0), executor.recipe.text_layers, (96,), batch=2
        )
        return executor

    @pytest.fixture(scope="class")
    def photos(self, rows, tmp_path_factory):
        from PIL import Image

        folder = shutil.copytree(rows, tmp_path_factory.mktemp("photos") / "data")
        for path in (folder / "images").iterdir():
            Image.open(path).resize((128, 64)).save(path)
        return folder

    def test_sft_and_pprl_run_with_guidance_and_a_vlm_as_the_reward(self, klein, tiny, photos, tmp_path):
        config = written(tmp_path, SFT, batch=1, window=None)
        made = sft(tmp_path / "sft", tiny, photos, config, executor=klein, accelerator=accelerator())
        klein.pipe.transformer.delete_adapters("default")
        config = written(tmp_path, PPRL, window=None, sampling={"steps": 2, "guidance": 4.0}, kl=1e-5)
        after = pprl(
            tmp_path / "rl",
            tiny,
            photos,
            Brightness(),
            config,
            lora=made,
            executor=klein,
            accelerator=accelerator(),
        )
        one, other = load_file(made / FILE), load_file(after / FILE)
        assert any(not torch.equal(one[name], other[name]) for name in one)
        measures = [json.loads(line) for line in (tmp_path / "rl" / "measures.jsonl").read_text().splitlines()]
        assert any("held_edits" in measure for measure in measures) and any(
            "held_scenes" in measure for measure in measures
        )


CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    "name, cls", [("klein-sft-lora", SftConfig), ("klein-sft-full", SftConfig), ("klein-pprl", PprlConfig)]
)
def test_the_shipped_settings_for_klein_can_be_read_and_name_nothing_unknown(name, cls):
    data = json.loads((CONFIGS / f"{name}.json").read_text())
    settings = to_json(from_json(cls, data))
    assert set(data) <= {field.name for field in fields(cls)} and settings["lora"] == data["lora"]
    assert set(data["schedule"]) <= {field.name for field in fields(Schedule)}


def test_the_shipped_fsdp2_settings_wrap_the_blocks_of_the_transformer(tiny):
    from accelerate.commands.config.config_args import load_config_from_file

    settings = load_config_from_file(str(CONFIGS / "fsdp2.yaml"))
    wrapped = settings.fsdp_config["fsdp_transformer_layer_cls_to_wrap"].split(",")
    there = {type(module).__name__ for module in KleinExecutor.load(tiny).pipe.transformer.modules()}
    assert settings.fsdp_config["fsdp_version"] == 2 and set(wrapped) <= there
