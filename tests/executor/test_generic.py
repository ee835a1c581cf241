"""Pipelines of other families, known by their signature alone."""

from __future__ import annotations

from dataclasses import replace

import diffusers
import numpy as np
import pytest
import torch
from diffusers.hooks.group_offloading import _get_group_onload_device
from diffusers.pipelines.flux import pipeline_flux_kontext
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus

from clvr_core.errors import BadInput
from clvr_core.executor.generic import GenericExecutor, inputs_of
from clvr_core.executor.qwen import QwenEditExecutor, tell_image_tokens
from clvr_core.models.config import ExecutorSettings
from clvr_core.models.executors import load_executor, place
from clvr_core.protocols import DrawRequest
from tests.executor import tiny
from tests.executor.test_klein import one_thread, pictures
from tests.fakes import FakeExecutor
from tests.run.script import edit, generate, play, scripted

__all__ = ["one_thread"]
SMALL = {"width": 64, "height": 64}


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def counted(module: torch.nn.Module) -> list[int]:
    calls: list[int] = []
    module.register_forward_hook(lambda owner, inputs, output: calls.append(len(output[0])))
    return calls


class TestSignatures:
    @pytest.mark.parametrize(
        ("kind", "lacks"),
        [
            ("ZImagePipeline", "no image"),
            ("AudioLDM2Pipeline", "no image"),
            ("StableVideoDiffusionPipeline", "no prompt"),
        ],
    )
    def test_a_pipeline_that_does_not_draw_and_edit_is_refused_with_what_it_lacks(self, kind, lacks):
        one = type(kind, (), {"__call__": getattr(diffusers, kind).__call__})()
        with pytest.raises(
            BadInput, match=f"{kind} takes {lacks}; an executor draws from a prompt and edits from an image"
        ):
            GenericExecutor(one)

    @pytest.mark.parametrize(
        "kind", ["Flux2KleinPipeline", "FluxKontextPipeline", "QwenImageEditPlusPipeline", "ZImageOmniPipeline"]
    )
    def test_those_that_do_are_known_by_it(self, kind):
        one = type(kind, (), {"__call__": getattr(diffusers, kind).__call__})()
        assert {"prompt", "image", "generator", "num_inference_steps"} <= inputs_of(one).keys()
        GenericExecutor(one)

    def test_the_window_is_what_the_pipeline_reads_less_its_frame(self):
        class Reads:
            tokenizer = staticmethod(lambda words: {"input_ids": words.split()})

            def __call__(self, prompt, image=None, max_sequence_length=256):
                pass

        executor = GenericExecutor(Reads())
        assert executor.window == 240 and executor.tokens("one two") == 2
        Reads.tokenizer = None
        assert executor.window is None

    def test_a_pipeline_may_not_draw_another_size_unsaid(self):
        class Stubborn:
            def __call__(self, prompt, image=None, generator=None):
                import PIL.Image

                return type("Out", (), {"images": [PIL.Image.new("RGB", (32, 64))]})

        with pytest.raises(
            BadInput, match=r"stub drew 32 x 64 where 64 x 64 was asked for; set width = 32 and height = 64"
        ):
            GenericExecutor(Stubborn(), name="stub").draw([DrawRequest("a", 1, **SMALL)])

    @pytest.mark.parametrize(
        ("error", "new", "edit", "two"),
        [
            (
                RuntimeError("CUDA error: launch failed"),
                "failed while drawing: CUDA",
                "drawing: CUDA",
                "2 pictures: CUDA.+; if",
            ),
            (
                ValueError("height is odd"),
                "failed while drawing: height",
                "failed while drawing: height",
                "2 pictures: height.+; if",
            ),
            (
                ValueError("`image` must be given"),
                "cannot draw without a picture",
                "failed while drawing",
                "from 2 pictures: `image`",
            ),
            (
                AttributeError("no size"),
                "cannot draw without a picture",
                "failed while drawing: no size",
                "cannot edit from 2 pictures",
            ),
        ],
        ids=str,
    )
    def test_a_failure_is_only_laid_to_the_pictures_where_it_comes_of_them(self, error, new, edit, two):
        class Fails:
            def __call__(self, prompt, image=None, generator=None):
                raise error

        class Needs:
            def __call__(self, prompt, image, generator=None):
                raise error

        for says, shown in ((new, 0), (edit, 1), (two, 2)):
            with pytest.raises(BadInput, match=says):
                GenericExecutor(Fails()).draw([DrawRequest("a", 1, tuple(map(picture, range(shown))), **SMALL)])
        with pytest.raises(BadInput, match="Needs cannot draw without a picture to start from"):
            GenericExecutor(Needs()).draw([DrawRequest("a", 1, **SMALL)])

    def test_what_was_said_in_words_already_is_not_said_again(self):
        class Says:
            def __call__(self, prompt, image=None, generator=None):
                raise BadInput("the disk is full")

        with pytest.raises(BadInput, match=r"^the disk is full$"):
            GenericExecutor(Says()).draw([DrawRequest("a", 1, **SMALL)])

    def test_a_mask_is_kept_to_bit_for_bit(self):
        class White:
            def __call__(self, prompt, image=None, generator=None):
                import PIL.Image

                return type("Out", (), {"images": [PIL.Image.new("RGB", (64, 64), "white")]})

        mask = np.zeros((64, 64), np.uint8)
        mask[:20] = 255
        found = pictures(GenericExecutor(White()), DrawRequest("a", 1, (picture(1),), mask=mask, **SMALL))[0]
        assert (found[:18] == 255).all() and np.array_equal(found[20:], picture(1)[20:])


class TestFromDisk:
    """Pipelines of three more families, saved and loaded as `clvr.toml` has them."""

    @pytest.fixture(scope="class")
    def load(self, tmp_path_factory):
        place = tmp_path_factory.mktemp("pipelines")

        def loaded(make, **settings) -> GenericExecutor:
            folder = place / make.__name__
            if not folder.exists():
                make().save_pretrained(folder)
            return load_executor(
                ExecutorSettings(kind="generic", folder=str(folder), dtype="float32", steps=2, **settings), "cpu"
            )

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipeline_flux_kontext, "PREFERRED_KONTEXT_RESOLUTIONS", [(64, 64)])
            yield loaded

    def test_kontext_draws_and_edits_at_the_size_that_is_asked_for(self, load):
        executor = load(tiny.kontext)
        assert type(executor.pipe) is diffusers.FluxKontextPipeline and executor.window == 512 - 16
        calls = counted(executor.pipe.transformer)
        drawing, edit = executor.draw(
            [DrawRequest("a red circle", 1, **SMALL), DrawRequest("more", 1, (picture(1),), **SMALL)]
        )
        assert drawing.picture.shape == edit.picture.shape == (64, 64, 3)
        assert len(calls) == 4 and drawing.nfe == edit.nfe == executor.nfe(DrawRequest("a", 1)) == 2, (
            "its guidance is an input"
        )
        others = [
            DrawRequest("more", 1, (picture(2),), **SMALL),
            DrawRequest("a red circle", 1, (picture(1),), **SMALL),
        ]
        assert all(not np.array_equal(edit.picture, other) for other in pictures(executor, *others))

    def test_a_guidance_that_is_an_input_of_the_transformer_costs_nothing(self, load):
        strong = load(tiny.kontext, guidance=9.0)
        calls = counted(strong.pipe.transformer)
        drawn = pictures(strong, DrawRequest("a red circle", 1, **SMALL))[0]
        assert calls == [1, 1] and not np.array_equal(
            drawn, pictures(load(tiny.kontext), DrawRequest("a red circle", 1, **SMALL))[0]
        )

    def test_one_that_edits_from_one_picture_says_so_and_is_shown_the_canvas_alone(self, load):
        request = DrawRequest("more", 1, (picture(1), picture(2)), **SMALL)
        with pytest.raises(
            BadInput, match=r"FluxKontextPipeline failed while drawing from 2 pictures: .+; if it edits from one alone"
        ):
            load(tiny.kontext).draw([request])
        one = load(tiny.kontext, references=1)
        assert np.array_equal(
            pictures(one, request)[0], pictures(one, replace(request, references=request.references[:1]))[0]
        )

    def test_one_that_edits_only_edits_and_is_refused_a_first_canvas_in_a_sentence(self, load):
        executor = load(tiny.pix2pix)
        assert type(executor.pipe) is diffusers.StableDiffusionInstructPix2PixPipeline
        request = DrawRequest("make it red", 1, (picture(1),), **SMALL)
        (edit,) = executor.draw([request])
        assert edit.picture.shape == (64, 64, 3) and edit.nfe == 6, (
            "two steps, in each with words, with the picture alone, with neither"
        )
        assert not np.array_equal(edit.picture, pictures(executor, replace(request, references=(picture(2),)))[0])
        with pytest.raises(
            BadInput, match="StableDiffusionInstructPix2PixPipeline cannot draw without a picture to start from"
        ):
            executor.draw([replace(request, references=())])

    @pytest.mark.skipif(not hasattr(diffusers, "QwenImage21Pipeline"), reason="this diffusers has no Qwen-Image-2.1")
    def test_qwen_image_21_draws_and_edits_from_several_pictures(self):
        """Not from disk: its processor has a part for video, which is loaded only where torchvision is."""
        executor = GenericExecutor(tiny.qwen21(), steps=2)
        calls = counted(executor.pipe.transformer)
        two = DrawRequest("more", 1, (picture(1), picture(2)), **SMALL)
        drawing, edit = executor.draw([DrawRequest("a red circle", 1, **SMALL), two])
        assert drawing.picture.shape == edit.picture.shape == (64, 64, 3) and len(calls) == drawing.nfe + edit.nfe == 4
        assert not np.array_equal(
            edit.picture, pictures(executor, replace(two, references=(picture(1), picture(3))))[0]
        )


def test_canvases_that_an_executor_is_not_shown_are_a_warning_of_the_run():
    executor = FakeExecutor()
    executor.references = 1
    run = play(
        scripted([generate(), edit("add a cat", 0), edit("add a moon", 1, 0)], {0: "muu", 1: "mmu", 2: "mmm"}), executor
    )
    assert [step.action.references for step in run.steps] == [(), (0,), (1, 0)]
    assert run.warnings == ("step 2: the executor edits from 1 of 2 pictures; left out: canvas 0",)


@pytest.mark.parametrize("mode", ["offloaded", "streamed"])
def test_a_pipeline_that_says_no_order_of_its_parts_is_streamed(monkeypatch, mode):
    pipe = tiny.pix2pix()
    request = DrawRequest("more", 1, (picture(1),), **SMALL)
    whole = pictures(GenericExecutor(pipe, steps=1), request)[0]
    monkeypatch.setattr(type(pipe), "model_cpu_offload_seq", None)
    place(pipe, "cpu", mode, torch.float32)
    assert np.array_equal(pictures(GenericExecutor(pipe, steps=1), request)[0], whole)
    assert _get_group_onload_device(pipe.unet) == torch.device("cpu")


@pytest.mark.skipif(not hasattr(diffusers, "Flux3Transformer2DModel"), reason="this diffusers has no FLUX.3")
class TestModular:
    @pytest.mark.parametrize("mode", ["offloaded", "streamed"])
    def test_it_shares_a_device_as_others_do_and_draws_the_same(self, executor, mode):
        request = DrawRequest("more", 1, (picture(1),), **SMALL)
        pipe = tiny.flux3()
        place(pipe, "cpu", mode, torch.float32)
        assert np.array_equal(pictures(GenericExecutor(pipe, steps=2), request)[0], pictures(executor, request)[0])
        assert _get_group_onload_device(pipe.transformer) == torch.device("cpu")

    @pytest.fixture(scope="class")
    def executor(self):
        return GenericExecutor(tiny.flux3(), steps=2, name="flux3")

    def test_flux3_draws_and_edits(self, executor):
        calls = counted(executor.pipe.transformer)
        drawing, edit = executor.draw(
            [DrawRequest("a red circle", 1, **SMALL), DrawRequest("more", 1, (picture(1), picture(2)), **SMALL)]
        )
        assert drawing.picture.shape == edit.picture.shape == (64, 64, 3) and drawing.nfe + edit.nfe == sum(calls)
        assert not np.array_equal(
            edit.picture, pictures(executor, DrawRequest("more", 1, (picture(1), picture(3)), **SMALL))[0]
        )
        assert np.array_equal(drawing.picture, pictures(executor, DrawRequest("a red circle", 1, **SMALL))[0])


class TestQwenEdit:
    @pytest.fixture(scope="class")
    def executor(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipeline_qwenimage_edit_plus, "CONDITION_IMAGE_SIZE", 64 * 64)
            patch.setattr(pipeline_qwenimage_edit_plus, "VAE_IMAGE_SIZE", 64 * 64)
            yield QwenEditExecutor(tiny.edit_plus(), steps=2)

    def test_a_canvas_is_drawn_and_edited_and_evaluations_are_counted(self, executor):
        calls = counted(executor.pipe.transformer)
        for request in (
            DrawRequest("a red circle", 1, **SMALL),
            DrawRequest("more", 1, (picture(1), picture(2)), **SMALL),
        ):
            calls.clear()
            (drawing,) = executor.draw([request])
            assert drawing.picture.shape == (64, 64, 3)
            assert len(calls) == drawing.nfe == executor.nfe(request) == 4, "two steps, with guidance"

    def test_candidates_are_drawn_in_one_batch_and_each_is_what_it_would_be_alone(self, executor):
        requests = [DrawRequest("more", seed, (picture(1),), **SMALL) for seed in (1, 2, 3)]
        calls = counted(executor.pipe.transformer)
        together = pictures(executor, *requests)
        assert calls == [3] * 4
        for request, found in zip(requests, together):
            assert int(abs(found.astype(int) - pictures(executor, request)[0].astype(int)).max()) <= 1

    def test_words_are_read_to_the_end_of_the_window_and_counted_by_its_tokenizer(self, executor):
        assert executor.window == 1024 and executor.tokens("red") < executor.tokens("red circle") <= len("red circle")
        long = "a " * 350 + "red circle"
        assert 600 < executor.tokens(long) < executor.window
        one, other = (
            pictures(executor, DrawRequest(words, 1, **SMALL))[0] for words in (long, long + " and a blue square")
        )
        assert not np.array_equal(one, other)

    def test_each_reference_and_the_words_matter(self, executor):
        request = DrawRequest("more", 1, (picture(1), picture(2)), **SMALL)
        base = pictures(executor, request)[0]
        for other in (replace(request, prompt="less"), replace(request, references=(picture(1), picture(3)))):
            assert not np.array_equal(base, pictures(executor, other)[0])

    def test_the_text_encoder_is_given_the_positions_of_the_picture(self):
        encoder = tiny.edit_plus().text_encoder
        given = []
        encoder.model.language_model.register_forward_pre_hook(
            lambda module, inputs, more: given.append(more.get("position_ids")), with_kwargs=True
        )
        read = tiny.processor(tiny.Qwen2VLProcessor, 14)
        image = diffusers.image_processor.PIL.Image.fromarray(picture(1))
        words = read(text=["<|vision_start|><|image_pad|><|vision_end|>red"], images=[image], return_tensors="pt")
        words = {name: words[name] for name in ("input_ids", "attention_mask", "pixel_values", "image_grid_thw")}
        with torch.inference_mode():
            before = encoder(**words).logits
            tell_image_tokens(encoder)
            after = encoder(**words).logits
        assert given[0] is None and given[1] is not None, "transformers 5 leaves the positions to the text"
        assert given[1].shape[0] >= 3 and not torch.equal(given[1][-1], given[1][-2])
        assert not torch.allclose(before, after)

    def test_another_pipeline_is_not_taken_for_it(self, executor):
        with pytest.raises(
            BadInput, match="holds a QwenImagePipeline, not a QwenImageEditPlusPipeline; name it with kind = 'generic'"
        ):
            QwenEditExecutor(executor._blank)

    def test_without_a_picture_the_plain_pipeline_says_that_it_needs_one(self, executor):
        with pytest.raises(BadInput, match="QwenImageEditPlusPipeline cannot draw without a picture to start from"):
            GenericExecutor(executor.pipe, steps=1).draw([DrawRequest("a", 1, **SMALL)])
