"""The executor over ComfyUI's samplers: what each preset does, what the model is given, what tells weights apart."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partialmethod
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from clvr_pack.nodes.executor.comfy_sampler import ComfyExecutor, Kept, escape_prompt
from clvr_pack.nodes.executor.fingerprint import fingerprint
from clvr_pack.nodes.executor.recipes import QWEN_TURBO_LEVELS, RECIPES, SAMPLERS
from clvr_pack.nodes.executor.tiled_vae import TiledVae

from clvr_core.errors import BadInput
from clvr_core.protocols import DrawRequest, Executor, Interruptible, PromptWindow, ReferenceLimit
from tests.fakes import grey
from tests.nodes.graph import Executing, Graph
from tests.nodes.pack import NODES, stubs
from tests.pixels import close

SIZE = 16
GUIDERS = stubs["comfy.samplers"].CFGGuider


class Model:
    """A MODEL that notes what is patched into it."""

    load_device = torch.device("cpu")

    def __init__(self, patches: tuple[str, ...] = ()) -> None:
        self.noted = patches
        self.model = SimpleNamespace(latent_format=None)
        self.weights, self.patches, self.backup = {"w": torch.arange(40.0)}, {}, {}

    def memory_required(self, shape: list[int]) -> int:
        return 100 * math.prod(shape)

    def model_size(self) -> int:
        return 1000

    def patched(self, patch: str) -> Model:
        return Model((*self.noted, patch))

    def clone(self) -> Model:
        return Model(self.noted)

    def get_model_object(self, name: str) -> None:
        return None

    def model_state_dict(self) -> dict[str, torch.Tensor]:
        return self.weights


class Clip:
    """A CLIP whose conditioning is its text. `encoded`: the texts."""

    cond_stage_model = None

    def __init__(self) -> None:
        self.encoded: list[str] = []
        self.patcher = Model()

    def tokenize(self, text: str) -> dict:
        return {"t": [[(word, 1.0) for word in text.split()]]}

    def encode_from_tokens_scheduled(self, tokens: dict) -> list:
        text = " ".join(word for word, _ in tokens["t"][0])
        self.encoded.append(text)
        return [[text, {}]]


class Vae:
    """A VAE whose latents are pictures. `encoded`: how many. `tiles`: size and overlap of each call in tiles."""

    first_stage_model = None

    def __init__(self) -> None:
        self.encoded = 0
        self.tiles: list[tuple[int, int, int]] = []
        self.patcher = Model()

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        self.encoded += 1
        return image.movedim(-1, 1)

    def encode_tiled(self, image: torch.Tensor, tile_x: int, tile_y: int, overlap: int) -> torch.Tensor:
        self.tiles.append((tile_x, tile_y, overlap))
        return self.encode(image)

    def decode_tiled(self, latent: torch.Tensor, tile_x: int, tile_y: int, overlap: int) -> torch.Tensor:
        self.tiles.append((tile_x, tile_y, overlap))
        return self.decode(latent)

    def spacial_compression_decode(self) -> int:
        return 16

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        picture = latent.float().mean(dim=1, keepdim=True).movedim(1, -1).expand(-1, -1, -1, 3)
        return torch.nn.functional.interpolate(picture.movedim(-1, 1), (SIZE, SIZE)).movedim(1, -1)


def make(kind: str = "klein", **changed: object) -> ComfyExecutor:
    own = {"steps": 0, "guidance": 0.0, "sampler": "recipe", "scheduler": "recipe", "strength": 0.0} | changed
    return ComfyExecutor(Model(), Clip(), Vae(), RECIPES[kind].changed(**own))


def request(*references: np.ndarray, prompt: str = "a circle", **more: object) -> DrawRequest:
    return DrawRequest(prompt, 5, references, SIZE, SIZE, **more)


class TestRecipes:
    @pytest.mark.parametrize(
        ("kind", "steps", "nfe", "scheduler"),
        [
            ("klein", 4, 4, "flux2"),
            ("klein-base", 20, 40, "flux2"),
            ("qwen-edit", 40, 80, "simple"),
            ("generic", 20, 40, "normal"),
        ],
    )
    def test_a_step_with_guidance_costs_two_evaluations(self, kind, steps, nfe, scheduler):
        recipe = RECIPES[kind]
        assert (recipe.steps, recipe.nfe, recipe.scheduler) == (steps, nfe, scheduler)
        assert len(recipe.sigmas(Model(), SIZE, SIZE, 1.0)) == steps + 1

    def test_0_and_recipe_leave_the_recipes_own(self):
        for recipe in RECIPES.values():
            assert recipe.changed(0, 0.0, "recipe", "recipe", 0.0) == recipe
        changed = RECIPES["klein"].changed(8, 2.5, "lcm", "beta", 0.5)
        assert (changed.steps, changed.guidance, changed.sampler, changed.scheduler, changed.strength) == (
            *(8, 2.5, "lcm", "beta"),
            0.5,
        )
        assert changed.window == 512 and changed.nfe == 16

    def test_a_lower_strength_takes_the_last_steps_of_a_longer_schedule(self):
        levels = RECIPES["klein"].sigmas(Model(), SIZE, SIZE, 0.5)
        assert len(levels) == 5 and float(levels[0]) == 1.0 and float(levels[-1]) == 0.0

    def test_qwen_is_patched_as_its_authors_do_and_no_other_model_is(self):
        assert RECIPES["qwen-edit"].prepared(Model()).noted == ("AuraFlow 3.1", "CFGNorm 1")
        assert RECIPES["qwen-edit"].changed(0, 1.0, "euler", "recipe", 0).prepared(Model()).noted == ("AuraFlow 3.1",)
        assert RECIPES["klein"].prepared(Model()).noted == ()
        assert RECIPES["klein-kv"].prepared(Model()).noted == ("FluxKVCache",)
        assert RECIPES["z-image"].prepared(Model()).noted == ("AuraFlow 3",)

    def test_the_key_of_a_run_of_an_earlier_recipe_stays_what_it_was(self):
        assert repr(RECIPES["klein"]) == (
            "SamplingPreset(kind='klein', steps=4, guidance=1.0, scheduler='flux2', sampler='euler', strength=1.0, "
            "window=512)"
        )

    def test_levels_of_a_distilled_schedule_hold_at_their_own_number_of_steps_only(self):
        turbo = RECIPES["qwen-image-2.1-turbo"]
        assert turbo.sigmas(Model(), SIZE, SIZE, 1.0).tolist() == pytest.approx(list(QWEN_TURBO_LEVELS))
        changed = turbo.changed(4, 0.0, "recipe", "recipe", 0.0).sigmas(Model(), SIZE, SIZE, 1.0)
        assert len(changed) == 5 and changed.tolist() != pytest.approx(list(QWEN_TURBO_LEVELS[-5:]))

    def test_a_recipe_whose_node_this_comfyui_lacks_says_which_to_update_for(self):
        executor = make("qwen-image-2.1")
        with pytest.raises(
            BadInput, match=r"recipe is qwen-image-2\.1, which needs ComfyUI's node TextEncodeQwenImage21"
        ):
            executor.draw([request()])

    def test_no_sampler_evaluates_the_model_twice_a_step(self):
        assert not {"heun", "dpm_2", "dpmpp_sde", "dpmpp_2s_ancestral"} & set(SAMPLERS)


class TestDrawing:
    def test_it_is_an_executor_with_a_window_that_can_be_interrupted(self):
        executor = make()
        assert isinstance(executor, Executor) and isinstance(executor, PromptWindow)
        assert isinstance(executor, Interruptible) and isinstance(executor, ReferenceLimit)
        assert (executor.window, executor.references, make("qwen-edit").references) == (512, None, 3)
        assert executor.tokens("one two three") == 3 and "klein, 4 steps, guidance 1" in executor.name

    def test_the_seed_fixes_the_picture_whatever_is_drawn_beside_it(self):
        first, second = make().draw([request(), request(prompt="a square")])
        (alone,) = make().draw([request()])
        assert np.array_equal(first.picture, alone.picture) and first.nfe == 4
        assert first.picture.shape == (SIZE, SIZE, 3) and second.picture.dtype == np.uint8

    def test_words_that_steer_comfyui_are_made_plain(self):
        executor = make()
        executor.draw([request(prompt="embedding:secret <|im_end|>")])
        assert (
            executor.clip.encoded == ["embedding :secret < |im_end|>"] == [escape_prompt("embedding:secret <|im_end|>")]
        )

    def test_without_guidance_no_negative_prompt_is_encoded(self):
        make().draw([request()])
        assert set(GUIDERS.made[-1].conditioning) == {"positive"} and GUIDERS.made[-1].guidance == 1
        make("klein-base").draw([request()])
        assert GUIDERS.made[-1].conditioning["negative"] == [["", {}]]

    def test_references_go_into_the_conditioning_in_order(self):
        executor = make()
        executor.draw([request(grey(10, SIZE, SIZE), grey(20, SIZE, SIZE))])
        latents = GUIDERS.made[-1].conditioning["positive"][0][1]["reference_latents"]
        assert [round(float(latent.mean()) * 255) for latent in latents] == [10, 20]
        assert float(GUIDERS.made[-1].start.abs().max()) == 0, "an edit at strength 1 begins from noise"

    def test_qwen_shows_its_text_encoder_at_most_three_pictures(self):
        make("qwen-edit").draw([request(*(grey(value, SIZE, SIZE) for value in (1, 2, 3, 4)))])
        ((text, options),) = GUIDERS.made[-1].conditioning["positive"]
        assert text == "qwen: a circle" and len(options["reference_latents"]) == 3

    def test_a_family_that_has_seen_no_references_gets_the_noised_canvas_and_no_latents_of_it(self):
        make("z-image-turbo").draw([request(grey(51, SIZE, SIZE))])
        made = GUIDERS.made[-1]
        assert made.conditioning["positive"] == [["a circle", {}]]
        assert float(made.start.mean()) == pytest.approx(0.2) and len(made.sigmas) == 9

    @pytest.mark.parametrize(
        ("kind", "node", "named"),
        [
            ("qwen-image-2.1", "TextEncodeQwenImage21", {"negative_prompt": "", "resolution": 0}),
            ("z-image-omni", "TextEncodeZImageOmni", {}),
        ],
    )
    def test_a_family_with_an_encoder_of_its_own_gives_it_the_references(self, monkeypatch, kind, node, named):
        given = {}

        class Encoder:
            @classmethod
            def execute(cls, **inputs):
                given.update(inputs)
                return SimpleNamespace(args=[[["seen", {}]]])

        monkeypatch.setitem(stubs["nodes"].NODE_CLASS_MAPPINGS, node, Encoder)
        make(kind, guidance=1.0).draw([request(*(grey(value, SIZE, SIZE) for value in (1, 2)))])
        assert GUIDERS.made[-1].conditioning["positive"] == [["seen", {}]] and given["prompt"] == "a circle"
        images = given["images"] if kind == "qwen-image-2.1" else given
        assert {name for name in images if name.startswith("image")} in ({"image_1", "image_2"}, {"image1", "image2"})
        assert named.items() <= given.items()

    def test_generic_edits_begin_from_the_noised_canvas(self):
        make("generic").draw([request(grey(51, SIZE, SIZE))])
        assert float(GUIDERS.made[-1].start.mean()) == pytest.approx(0.2) and float(GUIDERS.made[-1].sigmas[0]) < 1
        make("generic").draw([request(grey(51, SIZE, SIZE), strength=0.5)])
        assert float(GUIDERS.made[-1].sigmas[0]) == pytest.approx(0.5), "an action's own strength counts"
        make("klein").draw([request(grey(51, SIZE, SIZE), strength=0.5)])
        assert float(GUIDERS.made[-1].sigmas[0]) == 2, "but not where edits begin from noise"

    def test_outside_the_mask_the_canvas_stays_bit_for_bit(self):
        canvas = np.random.default_rng(3).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[:, :8] = 255
        (drawing,) = make().draw([request(canvas, mask=mask)])
        assert np.array_equal(drawing.picture[:, 8:], canvas[:, 8:])
        assert not np.array_equal(drawing.picture[:, :8], canvas[:, :8])
        assert GUIDERS.made[-1].mask.shape == (1, 1, SIZE, SIZE)

    def test_a_masked_canvas_of_another_size_is_refused(self):
        with pytest.raises(BadInput, match="the canvas to edit has 8 x 8 pixels and the run draws 16 x 16"):
            make().draw([request(grey(1, 8, 8), mask=np.zeros((SIZE, SIZE), np.uint8))])

    def test_texts_and_canvases_are_encoded_once(self):
        executor = make()
        for _ in range(2):
            executor.draw([request(grey(10, SIZE, SIZE)), request(grey(10, SIZE, SIZE))])
        assert executor.vae.encoded == 1 and executor.clip.encoded == ["a circle"]

    def test_candidates_share_a_batch_and_are_those_that_are_drawn_alone(self):
        before, seeds = len(GUIDERS.made), (5, 6, 7)
        together = make().draw([replace(request(), seed=seed) for seed in seeds])
        assert [guider.start.shape[0] for guider in GUIDERS.made[before:]] == [3]
        for seed, drawing in zip(seeds, together, strict=True):
            (alone,) = make().draw([replace(request(), seed=seed)])
            assert close(drawing.picture, alone.picture) and drawing.nfe == alone.nfe == 4
        assert stubs["comfy.utils"].ProgressBar.shown[-1][:2] == (4, 4)

    def test_other_requests_and_samplers_with_noise_of_their_own_keep_batches_to_themselves(self):
        before, canvas = len(GUIDERS.made), grey(10, SIZE, SIZE)
        mixed = [request(), request(canvas), request(), request(prompt="a square"), request(canvas)]
        drawings = make().draw([replace(each, seed=seed) for seed, each in enumerate(mixed)])
        assert [guider.start.shape[0] for guider in GUIDERS.made[before:]] == [2, 2, 1]
        for seed, (each, drawing) in enumerate(zip(mixed, drawings, strict=True)):
            (alone,) = make().draw([replace(each, seed=seed)])
            assert close(drawing.picture, alone.picture), "each in its own place"
        before = len(GUIDERS.made)
        make(sampler="lcm").draw([replace(request(), seed=seed) for seed in range(3)])
        assert [guider.start.shape[0] for guider in GUIDERS.made[before:]] == [1, 1, 1]

    @pytest.mark.parametrize(("kind", "references", "pictures", "sizes"), [
        ("klein", 0, 4, [4]), ("klein", 0, 3, [3]), ("klein-base", 0, 2, [2, 2]), ("klein", 1, 2, [2, 2]), ("klein", 0, 1, [1] * 4),
    ])  # fmt: skip
    def test_a_batch_is_halved_until_the_memory_takes_it(self, monkeypatch, kind, references, pictures, sizes):
        """`pictures`: how many the device takes; guidance counts twice, and so does a reference beside the picture."""
        executor, before = make(kind), len(GUIDERS.made)
        canvases = [grey(10, SIZE, SIZE)] * references
        each = executor.model.memory_required(list(executor._start_latent(request(*canvases)).shape))
        twice = (1 + references) * (2 if kind == "klein-base" else 1)
        monkeypatch.setattr(stubs["comfy.model_management"], "total_memory", pictures * twice * each + 1000)
        wanted = 3 if sizes == [3] else 4
        executor.draw([replace(request(*canvases), seed=seed) for seed in range(wanted)])
        assert [guider.start.shape[0] for guider in GUIDERS.made[before:]] == sizes

    def test_out_of_memory_halves_the_batch_and_ends_a_single_picture(self, monkeypatch):
        sample, tried = GUIDERS.sample, []

        def limited(self, noise, *given, most=2, **named):
            tried.append(len(noise))
            if len(noise) > most:
                raise torch.OutOfMemoryError
            return sample(self, noise, *given, **named)

        alone = [make().draw([replace(request(), seed=seed)])[0].picture for seed in range(5)]
        monkeypatch.setattr(GUIDERS, "sample", limited)
        drawings = make().draw([replace(request(), seed=seed) for seed in range(5)])
        assert tried == [5, 3, 2, 1, 2]
        assert all(close(drawing.picture, other) for drawing, other in zip(drawings, alone, strict=True))
        monkeypatch.setattr(GUIDERS, "sample", partialmethod(limited, most=0))
        with pytest.raises(torch.OutOfMemoryError):
            make().draw([request()])

    def test_in_tiles_the_vae_gets_pixels_and_latents_in_its_own_units(self):
        vae = Vae()
        executor = ComfyExecutor(Model(), Clip(), TiledVae(vae), RECIPES["klein"])
        executor.draw([request(grey(10, SIZE, SIZE))])
        assert vae.tiles == [(512, 512, 64), (32, 32, 4)]

    def test_a_canvas_goes_back_in_as_the_latent_it_was_drawn_with(self):
        executor = make()
        (drawn,) = executor.draw([request()])
        executor.draw([request(drawn.picture, latents=(drawn.latent,))])
        (latent,) = GUIDERS.made[-1].conditioning["positive"][0][1]["reference_latents"]
        assert executor.vae.encoded == 0 and np.array_equal(latent[0].numpy(), drawn.latent)
        assert drawn.latent.dtype == np.float32 and np.array_equal(
            executor.latent_of(drawn.picture.copy()), drawn.latent
        )

    def test_an_edit_that_begins_from_the_canvas_begins_from_that_latent(self):
        executor = make("generic")
        (drawn,) = executor.draw([request()])
        executor.draw([request(drawn.picture, latents=(drawn.latent,))])
        assert executor.vae.encoded == 0 and np.array_equal(GUIDERS.made[-1].start[0].numpy(), drawn.latent)

    def test_a_reference_without_a_latent_is_encoded_beside_one_that_has_it(self):
        executor = make()
        (drawn,) = executor.draw([request()])
        executor.draw([request(drawn.picture, grey(20, SIZE, SIZE), latents=(drawn.latent, None))])
        latents = GUIDERS.made[-1].conditioning["positive"][0][1]["reference_latents"]
        assert executor.vae.encoded == 1 and round(float(latents[1].mean()) * 255) == 20

    def test_what_a_mask_was_applied_to_has_no_latent(self):
        executor, mask = make(), np.zeros((SIZE, SIZE), np.uint8)
        mask[:, :8] = 255
        (drawing,) = executor.draw([request(grey(9, SIZE, SIZE), mask=mask)])
        assert drawing.latent is None and executor.latent_of(drawing.picture) is None

    def test_without_keeping_them_each_canvas_is_encoded_as_by_apply_references(self):
        executor = make()
        executor.keep_latents = False
        (drawn,) = executor.draw([request()])
        executor.draw([request(drawn.picture, latents=(np.zeros((3, SIZE, SIZE), np.float32),))])
        assert drawn.latent is None and executor.latent_of(drawn.picture) is None and executor.vae.encoded == 1

    def test_the_check_is_called_at_every_step_and_ends_the_drawing(self):
        executor, calls = make(), []

        def check() -> None:
            calls.append(1)
            if len(calls) == 4:
                raise KeyboardInterrupt

        executor.check = check
        with pytest.raises(KeyboardInterrupt):
            executor.draw([request()])
        assert stubs["comfy.utils"].ProgressBar.shown[-1][:2] == (3, 4)

    def test_only_the_newest_results_are_kept(self):
        kept = Kept(2)
        made = [kept.get_or(key, lambda key=key: [key]) for key in "abcab"]
        assert [value[0] for value in made] == list("abcab") and list(kept) == ["a", "b"]


class TestFingerprint:
    def of(self, model: Model, widget: object = 1.0) -> str:
        prompt = {
            "1": {"class_type": "Load", "inputs": {"strength": widget}},
            "2": {"class_type": "CLVR_Executor", "inputs": {"model": ["1", 0]}},
        }
        graph = Graph(prompt)
        with Executing(graph, "2"):
            return fingerprint(graph, {"model": model})

    def test_equal_weights_and_widgets_have_one_fingerprint(self):
        assert self.of(Model()) == self.of(Model())

    def test_weights_patches_and_widgets_tell_models_apart(self):
        other, patched, lora = Model(), Model(), Model()
        other.weights["w"] = other.weights["w"] + 1
        patched.patches["w"] = [(0.5, (torch.ones(40),), 1.0)]
        lora.patches["w"] = [(0.5, SimpleNamespace(weights=(torch.ones(4),)), 1.0)]
        found = [self.of(model) for model in (Model(), other, patched, lora)] + [self.of(Model(), 2.0)]
        assert len(set(found)) == len(found)

    def test_weights_that_a_pack_keeps_out_of_the_state_are_read_from_the_parameters(self):
        """As ComfyUI-GGUF does: its state has sizes alone, on the device meta, and its tensors are of a class with a shape of its own."""

        class Quantised(torch.Tensor):
            shape = (8, 5)

            def detach(self):
                return self

        def packed(values: torch.Tensor) -> Model:
            model, held = Model(), torch.nn.Parameter(values.as_subclass(Quantised), requires_grad=False)
            model.weights = {"w": torch.empty(8, 5, device="meta")}
            model.model = SimpleNamespace(named_parameters=lambda: iter([("w", held)]))
            return model

        values = torch.arange(40, dtype=torch.uint8)
        assert self.of(packed(values)) == self.of(packed(values.clone())) != self.of(packed(values + 1))

    def test_integers_of_a_quantised_model_tell_it_apart(self):
        """As ComfyUI-nunchaku has them in an ordinary state: packed weights in int8 and int32, scales in bfloat16."""
        one, other = Model(), Model()
        one.weights = {
            "m.qweight": torch.arange(40, dtype=torch.int8),
            "m.wscales": torch.ones(4, dtype=torch.bfloat16),
        }
        other.weights = one.weights | {"m.qweight": torch.arange(40, dtype=torch.int8) + 1}
        assert self.of(one) != self.of(other)

    def test_a_patch_that_is_in_place_now_counts_as_it_did_before(self):
        """ComfyUI writes patches into the weights when it loads them, and keeps what was there."""
        before, loaded = Model(), Model()
        loaded.backup["w"] = SimpleNamespace(weight=loaded.weights["w"])
        loaded.weights = {"w": loaded.weights["w"] * 2}
        assert self.of(loaded) == self.of(before)


class TestNodes:
    def test_the_node_makes_an_executor_of_the_recipe_and_the_size(self):
        graph = Graph({"1": {"class_type": "CLVR_Executor", "inputs": {}}})
        inputs = {"model": Model(), "clip": Clip(), "vae": Vae(), "recipe": "generic", "width": 1000, "height": 20}
        graph.nodes["1"]["inputs"] = inputs | {"steps": 6}
        (handle,) = graph.run("1")
        assert (handle.width, handle.height, handle.step) == (992, 16, 16), "sides are cut to what models can draw"
        assert handle.executor.recipe.steps == 6 and "steps=6" in handle.weights
        assert handle.executor.keep_latents and handle.weights.endswith(" latents")
        other = Graph({"1": {"class_type": "CLVR_Executor", "inputs": inputs | {"steps": 6, "keep_latents": False}}})
        (encoding,) = other.run("1")
        assert not encoding.weights.endswith(" latents") and not encoding.executor.keep_latents
        with_tiles = {"class_type": "CLVR_Executor", "inputs": graph.nodes["1"]["inputs"] | {"tiled_vae": True}}
        (tiled,) = Graph({"1": with_tiles}).run("1")
        assert (
            isinstance(tiled.executor.vae, TiledVae)
            and tiled.weights == f"{handle.weights.removesuffix(' latents')} tiled VAE latents"
        )

    def test_sticker_models_come_with_their_size_and_weights(self):
        node = NODES["CLVR_ShapesModels"]
        schema = node.define_schema()
        assert [output.io_type for output in schema.outputs] == ["CLVR_VLM", "CLVR_EXECUTOR"]
        assert schema.inputs[0].options["max"] == 0.5
