"""Flow matching trains on what the pipeline will feed the transformer."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from clvr_core.executor.klein import chat_text
from clvr_core.executor.small_klein import TEXT_LAYERS, patchify
from clvr_core.stickers.model import build_pipeline
from clvr_core.training.flow import FlowMatching, image_ids, normalise, spoil, text_ids, to_tensor
from tests.stickers.oracle import CANVAS
from tests.training.world import pictures, tiny_pipeline


@pytest.fixture(scope="module")
def pipe():
    return tiny_pipeline()


@torch.no_grad()
def tokens(pipe, *shown) -> torch.Tensor:
    return normalise(patchify(pipe.vae.encode(to_tensor(shown)).latent_dist.mode()), pipe.vae)


def words(pipe, *prompts: str) -> dict[str, torch.Tensor]:
    texts = [chat_text(pipe.tokenizer, prompt) for prompt in prompts]
    return pipe.tokenizer(texts, padding="max_length", max_length=32, return_tensors="pt")


class TestTheLoss:
    def test_falls_and_teaches_transformer_and_words_alike(self):
        torch.manual_seed(0)
        pipe = build_pipeline(64, 1, 1, 16, (4,) * 6)
        objective = FlowMatching(pipe.transformer, pipe.text_encoder, 1.4, 1.2)
        before = {name: value.clone() for name, value in objective.state_dict().items()}
        target, (reference,) = torch.randn(8, 9, 128).clamp(-1, 1), torch.randn(1, 8, 9, 128)
        said = words(pipe, *("a red cat", "a blue car") * 4)
        inputs = said["input_ids"], said["attention_mask"], target, [reference], torch.ones(8, 9)
        optimizer = torch.optim.Adam(objective.parameters(), 3e-3)
        losses = []
        for _ in range(40):
            loss = objective(*inputs)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert sum(losses[-8:]) < 0.9 * sum(losses[:8])
        moved = {name for name, value in objective.state_dict().items() if not torch.equal(value, before[name])}
        assert "words.embed_tokens.weight" in moved and len(moved) > 0.9 * len(before)

    def test_shows_the_transformer_what_the_pipeline_shows_it(self, pipe):
        """Text, noise level and places of the tokens; the prompt padded as the pipeline pads it."""
        prompt, shown = "restore the top left from image 2", []
        hook = pipe.transformer.register_forward_pre_hook(
            lambda module, inputs, named: shown.append(named), with_kwargs=True
        )
        try:
            canvases = pictures(2)
            pipe.set_progress_bar_config(disable=True)
            pipe(
                image=[Image.fromarray(canvas) for canvas in canvases],
                prompt=prompt,
                height=CANVAS,
                width=CANVAS,
                num_inference_steps=4,
                guidance_scale=1.0,
                max_sequence_length=32,
                text_encoder_out_layers=TEXT_LAYERS,
                output_type="latent",
            )
            theirs = shown[0]
            said, given = words(pipe, prompt), [tokens(pipe, canvas) for canvas in canvases]
            objective = FlowMatching(pipe.transformer, pipe.text_encoder, 1.4, 1.2)
            with torch.no_grad():
                objective(
                    said["input_ids"], said["attention_mask"], torch.zeros_like(given[0]), given, torch.ones(1, 9)
                )
            ours = shown[-1]
        finally:
            hook.remove()
        assert torch.allclose(ours["encoder_hidden_states"], theirs["encoder_hidden_states"], atol=1e-5)
        assert torch.allclose(ours["hidden_states"][:, 9:], theirs["hidden_states"][:, 9:], atol=1e-4)
        assert torch.equal(ours["img_ids"], theirs["img_ids"][0]) and torch.equal(ours["txt_ids"], theirs["txt_ids"][0])
        assert theirs["timestep"].item() == pytest.approx(1.0) and 0 < ours["timestep"].item() < 1

    def test_is_none_for_the_right_velocity(self, pipe):
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
        latents = torch.randn(2, 32, 6, 6)
        assert torch.equal(patchify(latents), pipe._patchify_latents(latents))

    def test_are_encoded_and_normalised_as_the_pipeline_does(self, pipe):
        for canvas in pictures(4):
            shown = pipe.image_processor.preprocess(Image.fromarray(canvas), height=CANVAS, width=CANVAS)
            assert torch.allclose(to_tensor([canvas]), shown, atol=1e-6)
            with torch.no_grad():
                theirs = pipe._pack_latents(pipe._encode_vae_image(shown, None))
            assert torch.allclose(tokens(pipe, canvas), theirs, atol=1e-4)

    def test_are_normal_over_the_scenes_that_set_the_statistics(self, pipe):
        found = tokens(pipe, *pictures(16))
        assert found.mean((0, 1)).abs().max() < 1e-3 and (found.var((0, 1)) - 1).abs().max() < 0.02


class TestPlaces:
    @pytest.mark.parametrize("references", [0, 1, 2, 3])
    def test_of_image_tokens_are_those_of_the_pipeline(self, pipe, references):
        latents = torch.zeros(1, 128, 3, 3)
        theirs = pipe._prepare_latent_ids(latents)[0]
        if references:
            theirs = torch.cat([theirs, pipe._prepare_image_ids([latents] * references)[0]])
        assert torch.equal(image_ids(9, references, "cpu"), theirs)

    @pytest.mark.parametrize("length", [32, 64, 128])
    def test_of_text_tokens_are_those_of_the_pipeline(self, pipe, length):
        assert torch.equal(text_ids(length, "cpu"), pipe._prepare_text_ids(torch.zeros(1, length, 8))[0])


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
