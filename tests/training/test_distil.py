"""The student is taught the teacher's own paths, from the base and not far from it."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from clvr_core.errors import BadInput
from clvr_core.executor.klein import KleinExecutor, Sampling
from clvr_core.executor.small_klein import save_pipeline
from clvr_core.protocols import DrawRequest
from clvr_core.stickers.model import RECIPE, build_pipeline
from clvr_core.stickers.scene import Scene
from clvr_core.training import distil as distilling
from clvr_core.training.distil import DistilConfig, Imitation, distil, load_paths, subdivide, walk
from clvr_core.training.drawn_latents import LatentReader
from clvr_core.training.sampler import Condition, TrainingSampler
from clvr_core.training.samples import Samples, Window

pytestmark = pytest.mark.usefixtures("oracle_world")
SCHEDULE = {"steps": 6, "lr": 0.002, "warmup": 2, "log_every": 1, "save_every": 3, "ema": 0.5}
CONFIG = {
    "generate": {"steps": 4, "guidance": 2.0},
    "edit": {"steps": 4},
    "paths": 32,
    "shard": 8,
    "share": {"t2i": 0.5, "edit": 0.5},
    "batch": 4,
    "schedule": SCHEDULE,
}


def written(folder, **changes):
    path = folder / "distil.json"
    path.write_text(json.dumps(CONFIG | changes))
    return path


@pytest.fixture(scope="module")
def student(oracle_world, tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("student")
    return distil(out / "run", tiny, written(out), seed=2)


class TestThePaths:
    def test_go_through_the_students_noise_levels(self):
        fine = subdivide(torch.tensor([1.0, 0.9, 0.5, 0.0]), 7)
        assert fine.tolist() == pytest.approx([1.0, 0.95, 0.9, 0.7, 0.5, 0.25, 0.0])

    def test_end_where_the_pipeline_would(self, tiny):
        """The same noise, words and guidance through diffusers' own loop."""
        executor = KleinExecutor.load(tiny)
        sampler = TrainingSampler(executor)
        condition = Condition(sampler.text(["a red cat", "two blue cars"]))
        noise = sampler.noise(condition, torch.Generator().manual_seed(3))
        path = walk(sampler, condition, noise, Sampling(4, 2.0), sampler.sigmas(4, 9))
        theirs = executor.pipe(
            prompt=["a red cat", "two blue cars"],
            latents=noise.transpose(1, 2).unflatten(2, (3, 3)),
            height=192,
            width=192,
            num_inference_steps=4,
            guidance_scale=2.0,
            max_sequence_length=32,
            text_encoder_out_layers=executor.recipe.text_layers,
            output_type="np",
        ).images
        ours = sampler.pictures(path[:, -1], (3, 3))
        assert (
            abs(torch.tensor(theirs) * 255 - torch.stack([torch.from_numpy(picture).float() for picture in ours])).max()
            <= 1.01
        )
        assert torch.equal(path[:, 0], noise) and torch.allclose(
            path[:, -1], sampler.sample(executor.pipe.transformer, condition, noise, Sampling(4, 2.0)), atol=1e-5
        )

    def test_a_student_that_goes_straight_to_the_next_waymark_has_no_loss(self):
        sigmas, marks = torch.tensor([1.0, 0.5, 0.0]), torch.randn(2, 3, 9, 4)

        class Straight(torch.nn.Module):
            def forward(self, hidden_states, timestep, **_):
                index = (timestep < 1).long()
                each = torch.arange(2)
                return ((hidden_states - marks[each, index + 1]) / (sigmas[index] - sigmas[index + 1]).view(-1, 1, 1),)

        condition = Condition(torch.zeros(2, 4, 8))
        assert Imitation(Straight(), sigmas, 0.1)(marks, torch.tensor([0, 1]), condition).item() < 1e-10


class TestTheStudent:
    def test_draws_in_four_evaluations_and_is_near_the_base(self, student, tiny):
        executor = KleinExecutor.load(student)
        (drawing,) = executor.draw([DrawRequest("a red cat", 1, width=192, height=192)])
        assert drawing.nfe == 4 and executor.recipe.generate == executor.recipe.edit == Sampling(4)
        record = json.loads((student / "training.json").read_text())
        assert 0 < record["delta"] < 0.2 and record["start"]["files"]["transformer/diffusion_pytorch_model.safetensors"]
        for part in ("vae", "text_encoder"):
            one, other = (load_file(next((folder / part).glob("*.safetensors"))) for folder in (student, tiny))
            assert all(torch.equal(one[name], other[name]) for name in one), part

    def test_killed_it_goes_on_to_the_same_weights_with_the_paths_it_had(self, student, tiny, tmp_path, monkeypatch):
        calls, real = [], Imitation.forward

        def killed(self, *inputs):
            calls.append(1)
            if len(calls) == 5:
                raise KeyboardInterrupt
            return real(self, *inputs)

        monkeypatch.setattr(Imitation, "forward", killed)
        with pytest.raises(KeyboardInterrupt):
            distil(tmp_path / "run", tiny, written(tmp_path), seed=2)
        (tmp_path / "run" / "paths" / "00001.safetensors").write_bytes(b"cut")
        kept = (tmp_path / "run" / "paths" / "00000.safetensors").stat().st_mtime_ns
        weights = distil(tmp_path / "run", tiny, written(tmp_path), seed=2)
        file = "transformer/diffusion_pytorch_model.safetensors"
        one, other = load_file(student / file), load_file(weights / file)
        assert all(torch.equal(one[name], other[name]) for name in one)
        assert (tmp_path / "run" / "paths" / "00000.safetensors").stat().st_mtime_ns == kept

    def test_its_loss_falls(self, tiny, tmp_path):
        schedule = SCHEDULE | {"steps": 40, "lr": 0.005, "log_every": 10, "save_every": 40}
        weights = distil(tmp_path / "run", tiny, written(tmp_path, batch=8, schedule=schedule), seed=2)
        losses = [line["loss"] for line in json.loads((weights / "training.json").read_text())["curves"]["student"]]
        assert losses[-1] < 0.9 * losses[0]

    def test_a_run_of_another_base_is_refused(self, student, tiny, tmp_path):
        with pytest.raises(BadInput, match="another start"):
            distil(student.parent, student, written(tmp_path), seed=2)

    def test_as_many_paths_as_were_asked_for_are_there(self, student):
        shards = load_paths(student.parent / "paths")
        assert sum(len(shard.prompts) for shard in shards) == DistilConfig(paths=32).paths
        assert {len(shard.references) for shard in shards} == {0, 1}

    def test_some_are_told_by_traces_and_edit_the_canvases_of_trajectories(self, tiny, rows, tmp_path):
        few = SCHEDULE | {"steps": 2, "save_every": 2}
        distil(
            tmp_path / "run", tiny, written(tmp_path, paths=8, traces=48, window=48, schedule=few), data=rows, seed=2
        )
        plain, *traced = load_paths(tmp_path / "run" / "paths")
        assert not any("Step " in prompt for prompt in plain.prompts) and len(traced) == 6
        executor, steps = KleinExecutor.load(tiny), Samples.read(rows).train
        wanted = {step.text("trace", Window(executor, 48)): step for step in steps}
        for shard in traced:
            assert len(set(map(executor.text_length, shard.prompts))) == 1
            for place, prompt in enumerate(shard.prompts):
                step = wanted[prompt]
                (*given,) = (tokens[place] for tokens in shard.references)
                assert len(given) == len(step.references)
                assert all(
                    torch.allclose(TrainingSampler(executor).tokens([picture])[0], tokens, atol=1e-4)
                    for picture, tokens in zip(step.pictures, given)
                )
        assert {len(shard.references) for shard in traced} == {0, 1}

    def test_an_earlier_one_is_gone_on_with(self, student, tiny, tmp_path):
        still = SCHEDULE | {"steps": 2, "lr": 0.0, "save_every": 2, "ema": 0.0}
        weights = distil(tmp_path / "run", tiny, written(tmp_path, schedule=still), student=student, seed=3)
        file = "transformer/diffusion_pytorch_model.safetensors"
        before, after, base = (load_file(folder / file) for folder in (student, weights, tiny))
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert not all(torch.equal(base[name], after[name]) for name in base)
        record, earlier = (json.loads((folder / "training.json").read_text()) for folder in (weights, student))
        assert record["student"]["files"][file] and record["delta"] == pytest.approx(
            earlier["delta"], rel=0.01
        )  # of saved weights, which are rounded
        with pytest.raises(BadInput, match="another start"):
            distil(tmp_path / "run", tiny, written(tmp_path, schedule=still), student=tiny, seed=3)

    def test_one_of_another_architecture_is_refused(self, tiny, tmp_path):
        wide = build_pipeline(64, 1, 1, 16, (4,) * 6)
        save_pipeline(wide, tmp_path / "wide", RECIPE)
        with pytest.raises(BadInput, match=r"wide has another transformer than the base: size mismatch"):
            distil(tmp_path / "run", tiny, written(tmp_path, paths=8), student=tmp_path / "wide", seed=2)

    def test_paths_that_do_not_end_in_what_was_asked_for_are_left_out(self, tiny, tmp_path, monkeypatch):
        """Random weights draw nothing that was asked for. Where every other sample asks for what is read, half is kept."""
        with pytest.raises(BadInput, match=r"no path of .* leave `right` out of the config"):
            distil(tmp_path / "none", tiny, written(tmp_path, right=True), seed=2)
        holds, asked = Scene(), []

        def cases(*given):
            prompts, references, met = real(*given)
            asked.append(prompts)
            return (
                prompts,
                references,
                [[holds.__eq__, Scene(backdrop="sea").__eq__][row % 2] for row in range(len(met))],
            )

        real = distilling._cases
        monkeypatch.setattr(distilling, "_cases", cases)
        monkeypatch.setattr(LatentReader, "__call__", lambda self, tokens: [holds] * len(tokens))
        weights = distil(tmp_path / "half", tiny, written(tmp_path, right=True), seed=2)
        shards = load_paths(weights.parent / "paths")
        assert [shard.prompts for shard in shards] == [tuple(prompts[::2]) for prompts in asked]
        assert all(len(shard.waymarks) == len(shard.prompts) == 4 for shard in shards)
        assert all(len(tokens) == 4 for shard in shards for tokens in shard.references)

    def test_traces_without_trajectories_are_refused(self, tiny, tmp_path):
        with pytest.raises(BadInput, match=r"traces is 8, and there are no trajectories.*--data"):
            distil(tmp_path / "run", tiny, written(tmp_path, traces=8), seed=2)
