"""What happens to a canvas that goes back in: encoded once or not at all, held outside a mask, and the same after a resume."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Qwen3Config, Qwen3ForCausalLM

from clvr_core.brief import Brief, Budget
from clvr_core.errors import BadInput
from clvr_core.executor.encoder_cache import EncoderCache
from clvr_core.executor.klein import KleinExecutor, Sampling, _trim, published
from clvr_core.executor.small_klein import TEXT_LAYERS
from clvr_core.models.config import ExecutorSettings
from clvr_core.models.executors import load_executor
from clvr_core.run.run_folder import JOURNAL, RunFolder
from clvr_core.run.session import RunModels, Session, drive, resume
from tests.executor.small import asked
from tests.executor.test_klein import RECIPE, noisy, one_thread, pictures, tiny
from tests.fakes import FakeVlm
from tests.pixels import CLOSE, apart

__all__ = ["one_thread"]
GIVEN = replace(RECIPE, given_latents=True, inpaint=True)
LEFT = np.zeros((96, 96), np.uint8)
LEFT[:, :32] = 255


@pytest.fixture(scope="module")
def pipe():
    return tiny()


@pytest.fixture
def executor(pipe) -> KleinExecutor:
    return KleinExecutor(pipe, GIVEN)


@contextmanager
def counted(owner: object, method: str) -> Iterator[list[int]]:
    """The batch sizes of the calls."""
    real, sizes = getattr(owner, method), []

    def call(first, *rest, **more):
        sizes.append(len(first))
        return real(first, *rest, **more)

    setattr(owner, method, call)
    try:
        yield sizes
    finally:
        delattr(owner, method)


class TestLatents:
    def test_a_drawing_carries_what_its_picture_was_decoded_from(self, executor):
        (drawing,) = executor.draw([asked("a red circle", 1)])
        assert drawing.latent.dtype == np.float32 and drawing.latent.shape == (64, 3, 3)
        vae = executor.pipe.vae
        with torch.inference_mode():
            spread = torch.sqrt(vae.bn.running_var + vae.config.batch_norm_eps).view(1, -1, 1, 1)
            latents = torch.from_numpy(drawing.latent)[None] * spread + vae.bn.running_mean.view(1, -1, 1, 1)
            decoded = vae.decode(executor.pipe._unpatchify_latents(latents)).sample[0]
        picture = ((decoded / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        assert apart(picture, drawing.picture) == 0

    def test_given_back_they_spare_the_vae_and_are_what_the_transformer_reads(self, executor):
        (drawing,) = executor.draw([asked("a red circle", 1)])
        request = asked("a blue square", 2, (drawing.picture,), latents=(drawing.latent,))
        with counted(executor.pipe.vae, "encode") as encoded:
            given = pictures(executor, request)[0]
            assert encoded == []
            other = pictures(executor, replace(request, latents=(drawing.latent + 1,)))[0]
            assert not np.array_equal(given, other)
            read = pictures(executor, replace(request, latents=()))[0]
        assert encoded == [1] and not np.array_equal(given, read)

    def test_weights_that_were_not_trained_for_it_are_given_pixels(self, pipe):
        plain = KleinExecutor(pipe, RECIPE)
        (drawing,) = plain.draw([asked("a red circle", 1)])
        assert drawing.latent is None
        with counted(pipe.vae, "encode") as encoded:
            pictures(plain, asked("a", 2, (drawing.picture,), latents=(np.zeros((64, 3, 3), np.float32),)))
        assert encoded == [1]

    def test_a_picture_that_was_put_together_has_none(self, executor):
        (drawing,) = executor.draw([asked("a", 1, (noisy(1),), mask=LEFT)])
        assert drawing.latent is None


class TestOnce:
    def test_candidates_of_one_canvas_share_its_encoding(self, executor):
        requests = [asked("a red circle", seed, (noisy(1), noisy(2))) for seed in range(3)]
        with counted(executor.pipe.vae, "encode") as encoded:
            together = pictures(executor, *requests)
            assert encoded == [1, 1]
            again = pictures(executor, *requests)
        assert encoded == [1, 1] and all(np.array_equal(one, other) for one, other in zip(together, again))

    def test_the_text_encoder_reads_a_prompt_once(self, executor):
        calls = []
        hook = executor.pipe.text_encoder.register_forward_hook(lambda module, inputs, output: calls.append(1))
        try:
            pictures(executor, asked("a red circle", 1), asked("a red circle", 2))
            pictures(executor, asked("a red circle", 3))
        finally:
            hook.remove()
        assert len(calls) == 2, "the prompt and, for guidance, the empty one"

    def test_what_is_remembered_is_bounded_and_its_order_kept(self):
        memo, made = EncoderCache(3 * 8), []

        def encode(values):
            made.append(values)
            return torch.tensor(values, dtype=torch.float64)[:, None]

        for keys in ("ab", "bc", "da", "b", "a"):
            assert memo.rows([(key, ord(key)) for key in keys], encode).flatten().tolist() == [ord(key) for key in keys]
        assert made == [[97, 98], [99], [100], [98]], "b was used longest ago when d came"
        assert memo.rows([("x", 1), ("x", 1)], encode).tolist() == [[1.0], [1.0]]


class TestInpainting:
    def test_it_is_what_diffusers_draws_and_keeps_the_rest_bit_for_bit(self, executor, pipe):
        plain = diffusers.Flux2KleinInpaintPipeline(**pipe.components, is_distilled=False)
        plain.set_progress_bar_config(disable=True)
        theirs = plain(
            prompt="a red circle",
            image=Image.fromarray(noisy(1)),
            mask_image=Image.fromarray(LEFT),
            strength=1.0,
            num_inference_steps=2,
            guidance_scale=1.0,
            generator=torch.Generator().manual_seed(3),
            max_sequence_length=32,
            text_encoder_out_layers=TEXT_LAYERS,
        ).images[0]
        mine = pictures(executor, asked("a red circle", 3, (noisy(1),), mask=LEFT))[0]
        assert np.array_equal(mine[:, 32:], noisy(1)[:, 32:])
        assert apart(mine[:, :30], np.asarray(theirs)[:, :30]) <= CLOSE, "up to the seam"

    def test_the_mask_holds_while_it_is_denoised_too(self, executor, pipe):
        request = asked("a red circle", 3, (noisy(1),), mask=LEFT)
        pasted = pictures(KleinExecutor(pipe, replace(GIVEN, inpaint=False)), request)[0]
        assert not np.array_equal(pictures(executor, request)[0][:, :32], pasted[:, :32])

    def test_a_batch_equals_one_by_one_and_other_references_matter(self, executor):
        requests = [asked("a", seed, (noisy(1), noisy(2)), mask=LEFT) for seed in (1, 2)] + [asked("a", 2, (noisy(1),))]
        together = pictures(executor, *requests)
        assert all(
            apart(picture, pictures(executor, request)[0]) <= CLOSE for request, picture in zip(requests, together)
        )
        assert not np.array_equal(
            together[1], pictures(executor, replace(requests[1], references=(noisy(1), noisy(3))))[0]
        )

    @pytest.mark.parametrize("strength", [0.3, 0.5, 1.0, None])
    def test_strength_says_how_much_is_denoised_and_what_that_costs(self, pipe, strength):
        executor = KleinExecutor(pipe, replace(GIVEN, edit=Sampling(4, 2.5)))
        request, calls = asked("a", 1, (noisy(1),), strength=strength), []
        hook = pipe.transformer.register_forward_hook(lambda module, inputs, output: calls.append(1))
        try:
            (drawing,) = executor.draw([request])
        finally:
            hook.remove()
        assert len(calls) == executor.nfe(request) == drawing.nfe == {0.3: 4, 0.5: 4, 1.0: 8, None: 8}[strength]

    def test_a_mask_of_another_size_is_refused(self, executor):
        with pytest.raises(BadInput, match="must have one size"):
            executor.draw([asked("a", 1, (noisy(1),), mask=LEFT[:64])])

    def test_a_larger_canvas_than_references_may_be_is_not_drawn_smaller(self, executor, monkeypatch):
        monkeypatch.setattr("clvr_core.executor.klein.REFERENCE_PIXELS", 90 * 90)
        picture = pictures(executor, asked("a red circle", 3, (noisy(1),), mask=LEFT))[0]
        assert picture.shape == (96, 96, 3) and np.array_equal(picture[:, 32:], noisy(1)[:, 32:])


@contextmanager
def small(vae: torch.nn.Module, most: int) -> Iterator[list[int]]:
    """A device that has room to decode so many at once, and only once what failed before has gone."""
    real, sizes, failed = vae.decode, [], []

    def decode(latents, *rest, **more):
        assert all(one() is None for one in failed), "what did not fit is still held"
        sizes.append(len(latents))
        if len(latents) > most:
            failed.append(weakref.ref(latents))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return real(latents, *rest, **more)

    vae.decode = decode
    gc.disable()
    try:
        yield sizes
    finally:
        gc.enable()
        del vae.decode


class TestRoom:
    @pytest.mark.parametrize("references", [(), (noisy(1),)], ids=["new", "edit"])
    def test_candidates_that_do_not_fit_together_are_drawn_in_halves_to_the_same_pictures(self, executor, references):
        requests = [asked("a red circle", seed, references) for seed in (1, 2, 3, 4)]
        alone = [pictures(executor, request)[0] for request in requests]
        for most, tried in ((2, [4, 2, 2]), (1, [4, 2, 1, 1, 2, 1, 1])):
            with small(executor.pipe.vae, most) as sizes:
                found = pictures(executor, *requests)
            assert sizes == tried and all(apart(one, other) <= CLOSE for one, other in zip(found, alone))
        assert all(apart(one, other) > CLOSE for one, other in pairwise(alone))

    def test_where_even_one_does_not_fit_it_is_said_with_what_can_be_done(self, executor):
        says = r"ran out of memory drawing one picture of 96 x 96 from 1 picture; close .*, or name the same models in a clvr.toml with"
        with small(executor.pipe.vae, 0) as sizes, pytest.raises(BadInput, match=says):
            executor.draw([asked("a", 1, (noisy(1),)), asked("a", 2, (noisy(1),))])
        assert sizes == [2, 1]

    @pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("no"), torch.OutOfMemoryError("no")], ids=repr)
    def test_whatever_ends_a_drawing_its_parts_leave_the_device(self, executor, monkeypatch, error):
        left = []
        monkeypatch.setattr(executor.pipe, "maybe_free_model_hooks", lambda: left.append(1))
        monkeypatch.setattr(executor, "check", lambda: (_ for _ in ()).throw(error))
        with pytest.raises(
            BadInput
            if isinstance(error, torch.OutOfMemoryError)
            else error
            if isinstance(error, type)
            else RuntimeError
        ):
            executor.draw([asked("a", 1, (noisy(1),), mask=LEFT)])
        assert left == [1], "diffusers has it do so only after a call that succeeds, and of its own pipeline"


class TestKV:
    @pytest.fixture
    def kv(self, pipe) -> diffusers.Flux2KleinKVPipeline:
        return diffusers.Flux2KleinKVPipeline(**tiny().components)

    def test_it_draws_what_diffusers_draws_and_reads_references_in_the_first_step_only(self, kv):
        executor = KleinExecutor(kv, replace(GIVEN, edit=Sampling(3), generate=Sampling(3)))
        lengths = []
        hook = kv.transformer.register_forward_pre_hook(
            lambda module, inputs, more: lengths.append(more["hidden_states"].shape[1]), with_kwargs=True
        )
        try:
            mine = pictures(executor, asked("a red circle", 3, (noisy(1),)))[0]
        finally:
            hook.remove()
        assert lengths == [18, 9, 9]
        kv.set_progress_bar_config(disable=True)
        theirs = kv(
            image=[Image.fromarray(noisy(1))],
            prompt="a red circle",
            height=96,
            width=96,
            num_inference_steps=3,
            generator=torch.Generator().manual_seed(3),
            max_sequence_length=32,
            text_encoder_out_layers=TEXT_LAYERS,
        ).images[0]
        assert apart(mine, np.asarray(theirs)) <= CLOSE
        assert executor.nfe(asked("a", 1, (noisy(1),))) == 3, "there is no guidance in it"

    def test_a_mask_is_held_without_the_pipeline_that_reads_references_in_each_step(self, kv):
        executor = KleinExecutor(kv, replace(GIVEN, edit=Sampling(3)))
        masked = asked("a red circle", 3, (noisy(1),), mask=LEFT, strength=0.5)
        (drawing,) = executor.draw([masked])
        free = pictures(executor, replace(masked, mask=None, strength=None))[0]
        assert np.array_equal(drawing.picture[:, :30], free[:, :30]) and np.array_equal(
            drawing.picture[:, 32:], noisy(1)[:, 32:]
        )
        assert "_inpaint" not in vars(executor) and drawing.nfe == 3

    def test_a_folder_says_itself_that_it_is_one(self, kv, tmp_path):
        kv.save_pretrained(tmp_path / "kv")
        painter = ExecutorSettings(folder=str(tmp_path / "kv"), dtype="float32")
        assert load_executor(painter, "cpu").is_kv
        index = tmp_path / "kv" / "model_index.json"
        index.write_text(index.read_text().replace("Flux2KleinKVPipeline", "ZImagePipeline"))
        with pytest.raises(
            BadInput, match=r"holds a ZImagePipeline, not a FLUX.2 Klein; name it with kind = 'generic'"
        ):
            load_executor(painter, "cpu")


class TestPublished:
    def test_four_steps_without_guidance_or_28_with_4(self):
        assert published(True).edit == published(True).generate == Sampling(4) and published(True).generate.nfe == 4
        assert (
            published(False).edit == published(False).generate == Sampling(28, 4.0) and published(False).edit.nfe == 56
        )
        assert published(True).given_latents and published(True).inpaint

    def test_layers_that_are_not_read_are_left_out_to_the_same_bits(self):
        torch.manual_seed(0)
        sizes = {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
        }
        encoder = Qwen3ForCausalLM(Qwen3Config(vocab_size=100, num_hidden_layers=6, **sizes)).eval()
        words = torch.arange(20)[None]
        with torch.inference_mode():
            whole = encoder(input_ids=words, output_hidden_states=True).hidden_states
            _trim(encoder, 4)
            trimmed = encoder(input_ids=words, output_hidden_states=True).hidden_states
        assert len(encoder.model.layers) == 4 and all(torch.equal(whole[index], trimmed[index]) for index in (1, 3, 4))


# Random weights repaint everything; here it is the latents that go in, and a repaired canvas has none.
BRIEF = Brief("a red circle", budget=Budget(rounds=3, tolerance=None), candidates=2, final_ab=False)
GOALS = {"goals": [{"text": "a red circle", "kind": "local", "check": "Is there a red circle?"}]}


def reply(messages) -> str:
    """Generates, then edits the canvas, then edits all there are at once."""
    data = messages[-1].data
    if data["task"] == "goals":
        return json.dumps(GOALS)
    if data["current"] is None:
        return json.dumps({"kind": "GENERATE", "summary": "new", "scene_prompt": "a red circle", "goals": ["g1"]})
    return json.dumps(
        {
            "kind": "EDIT",
            "summary": "more",
            "edit_prompt": "a blue square",
            "references": data["canvases"],
            "goals": ["g1"],
        }
    )


def models(pipe) -> tuple[FakeVlm, KleinExecutor]:
    """With nothing remembered. The judge likes every edit."""
    return FakeVlm(reply, lambda images, questions: [0.4 + 0.2 * (len(images) > 1)] * len(questions)), KleinExecutor(
        pipe, GIVEN
    )


def canvases(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("canvas-*")}


class TestResuming:
    @pytest.fixture(scope="class")
    def whole(self, pipe, tmp_path_factory):
        folder = tmp_path_factory.mktemp("runs") / "whole"
        with counted(pipe.vae, "encode") as encoded:
            trajectory = drive(Session(BRIEF, RunModels(*models(pipe)), RunFolder.create(folder)))
        assert encoded == [], "what the run has drawn it need not look at"
        assert [len(step.action.references) for step in trajectory.steps] == [0, 1, 1]
        return folder

    @pytest.mark.parametrize("lines", [3, 6, 8, 9])
    def test_stopped_anywhere_it_ends_with_the_same_bytes(self, whole, pipe, tmp_path, lines):
        folder = tmp_path / "run"
        shutil.copytree(whole, folder)
        journal = (folder / JOURNAL).read_bytes().splitlines(keepends=True)
        (folder / JOURNAL).write_bytes(b"".join(journal[:lines]))
        drawn = sum(
            len(json.loads(line)["result"]["candidates"]) for line in journal[:lines] if b'"event":"drawn"' in line
        )
        for canvas in range(drawn, 6):
            for path in folder.glob(f"canvas-{canvas:03}.*"):
                path.unlink()
        with counted(pipe.vae, "encode") as encoded:
            drive(resume(RunFolder.open(folder), RunModels(*models(pipe))))
        assert canvases(folder) == canvases(whole) and len(canvases(whole)) == 12 and encoded == []

    @pytest.mark.parametrize(
        "damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")]
    )
    def test_latents_that_are_gone_or_changed_are_named(self, whole, pipe, tmp_path, damage):
        folder = tmp_path / "run"
        shutil.copytree(whole, folder)
        journal = (folder / JOURNAL).read_bytes().splitlines(keepends=True)
        (folder / JOURNAL).write_bytes(b"".join(journal[:6]))
        damage(folder / "canvas-000.latent")
        with pytest.raises(BadInput, match=r"canvas-000.latent is missing or damaged, and the run needs it to go on"):
            drive(resume(RunFolder.open(folder), RunModels(*models(pipe))))

    def test_a_fork_takes_them_along(self, whole, tmp_path):
        RunFolder.open(whole).fork(tmp_path / "fork", 6, BRIEF.budget)
        assert {path.name for path in (tmp_path / "fork").glob("*.latent")} == {
            "canvas-000.latent",
            "canvas-001.latent",
        }
