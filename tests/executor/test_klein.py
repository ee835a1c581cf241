"""The executor is diffusers' own Klein pipeline: same classes, same pictures, only with references of its own for each sample."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import accelerate
import diffusers
import numpy as np
import pytest
import torch
import transformers
from diffusers.hooks import apply_group_offloading
from PIL import Image
from safetensors.torch import load_file, save_file

from clvr_core.errors import BadInput
from clvr_core.executor.klein import RECIPE as RECIPE_FILE
from clvr_core.executor.klein import KleinExecutor, Sampling, SamplingRecipe
from clvr_core.executor.small_klein import SPECIAL, TEXT_LAYERS, save_pipeline
from clvr_core.protocols import DrawRequest, Picture
from clvr_core.records import from_json
from clvr_core.weights.manifest import FILES
from tests.executor import small
from tests.executor.small import asked
from tests.pixels import CLOSE, apart, close

RECIPE = SamplingRecipe(Sampling(2, 2.5), Sampling(2, 1.0), TEXT_LAYERS, (32, 64, 128))
PARTS = ("transformer", "text_encoder", "vae")


def tiny():
    torch.manual_seed(0)
    return small.klein()


def flat(value: int) -> Picture:
    return np.full((96, 96, 3), value, np.uint8)


def noisy(seed: int) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (96, 96, 3), dtype=np.uint8)


def pictures(executor: KleinExecutor, *requests: DrawRequest) -> list[Picture]:
    return [drawing.picture for drawing in executor.draw(requests)]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def executor() -> KleinExecutor:
    return KleinExecutor(tiny(), RECIPE)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    save_pipeline(tiny(), folder, RECIPE)
    return folder


class TestWhatItIs:
    def test_the_pipeline_and_its_parts_are_those_of_diffusers_and_transformers(self, executor):
        assert isinstance(executor.pipe, diffusers.Flux2KleinPipeline)
        kinds = {
            "vae": diffusers.AutoencoderKLFlux2,
            "transformer": diffusers.Flux2Transformer2DModel,
            "scheduler": diffusers.FlowMatchEulerDiscreteScheduler,
            "text_encoder": transformers.Qwen3ForCausalLM,
            "tokenizer": transformers.PreTrainedTokenizerFast,
        }
        assert {name: type(part) for name, part in executor.pipe.components.items()} == kinds

    def test_only_the_reading_of_references_and_the_search_for_its_place_are_its_own(self, executor):
        kinds = type(executor.pipe).__mro__
        ours = [
            kind
            for kind in kinds[: kinds.index(diffusers.Flux2KleinPipeline)]
            if kind.__module__.startswith("clvr_core")
        ]
        own = {name for kind in ours for name in vars(kind) if not name.startswith("__")}
        assert own - {"_abc_impl"} == {"given", "prepare_image_latents", "_modules", "_execution_device"}

    @pytest.mark.parametrize("library", ["accelerate", "diffusers"])
    def test_its_place_is_where_hooks_that_came_after_a_drawing_will_take_it(self, library):
        executor = KleinExecutor(tiny(), RECIPE)
        pictures(executor, asked("a red circle", 1))
        assert executor.pipe._execution_device == torch.device("cpu")
        for part in (executor.pipe.vae, executor.pipe.text_encoder, executor.pipe.transformer):
            if library == "diffusers":
                apply_group_offloading(part, torch.device("cuda"), offload_type="leaf_level")
            else:
                accelerate.cpu_offload_with_hook(part, torch.device("cuda"))
        assert executor.pipe._execution_device == torch.device("cuda")


class TestDrawing:
    def test_the_same_seed_gives_the_same_picture_and_another_another(self, executor):
        one, again, other = (pictures(executor, asked("a red circle", seed))[0] for seed in (1, 1, 2))
        assert np.array_equal(one, again) and not np.array_equal(one, other)
        assert one.shape == (96, 96, 3) and one.dtype == np.uint8

    def test_the_words_matter(self, executor):
        one, other = pictures(executor, asked("a red circle", 1), asked("two blue squares", 1))
        assert not np.array_equal(one, other)

    def test_a_batch_with_references_of_its_own_for_each_equals_one_by_one(self, executor):
        requests = [
            asked("a red circle", 1),
            asked("remove the object at the top left", 2, (noisy(1),)),
            asked("a blue square", 3),
            asked("make the object at the top left red", 4, (noisy(2),)),
            asked("restore the top left from image 2", 5, (noisy(3), noisy(4))),
            asked("remove the object at the top left", 2, (noisy(5),)),
            asked("restore the top left from image 2", 5, (noisy(4), noisy(3))),
        ]
        together = pictures(executor, *requests)
        for request, picture in zip(requests, together):
            assert apart(picture, pictures(executor, request)[0]) <= CLOSE
        assert apart(together[1], together[5]) > CLOSE

    def test_a_prompt_of_another_length_in_the_batch_changes_nothing(self, executor):
        long = asked(", ".join(["a red circle"] * 12), 1)
        short = asked("a red circle", 2)
        assert executor.text_length(long.prompt) == 64 and executor.text_length(short.prompt) == 32
        assert apart(pictures(executor, long, short)[1], pictures(executor, short)[0]) <= CLOSE

    def test_canvases_of_different_sizes_are_drawn_in_their_order(self, executor):
        drawn = pictures(executor, asked("a", 1), asked("a", 1, width=64, height=32), asked("a", 1))
        assert [picture.shape for picture in drawn] == [(96, 96, 3), (32, 64, 3), (96, 96, 3)]

    def test_more_requests_than_a_batch_holds_are_drawn_in_parts(self, executor):
        requests = [asked("a red circle", seed) for seed in range(3)]
        parted = KleinExecutor(executor.pipe, replace(RECIPE, batch=2))
        assert all(
            apart(one, other) <= CLOSE for one, other in zip(pictures(executor, *requests), pictures(parted, *requests))
        )

    def test_a_check_that_raises_ends_it_after_that_denoising_step(self, executor, monkeypatch):
        calls = []

        def check():
            calls.append(1)
            raise KeyboardInterrupt

        monkeypatch.setattr(executor, "check", check)
        with pytest.raises(KeyboardInterrupt):
            pictures(executor, asked("a red circle", 1), asked("a red circle", 2))
        assert len(calls) == 1

    def test_nothing_is_drawn_for_no_requests(self, executor):
        assert executor.draw([]) == []


class TestReferences:
    def test_each_of_two_references_matters(self, executor):
        base, first, second = pictures(
            executor,
            asked("a", 1, (noisy(1), noisy(2))),
            asked("a", 1, (noisy(3), noisy(2))),
            asked("a", 1, (noisy(1), noisy(3))),
        )
        assert not np.array_equal(base, first) and not np.array_equal(base, second)

    def test_their_order_matters(self, executor):
        one, other = pictures(executor, asked("a", 1, (noisy(1), noisy(2))), asked("a", 1, (noisy(2), noisy(1))))
        assert not np.array_equal(one, other)

    def test_they_are_read_as_the_plain_pipeline_reads_them(self, executor):
        plain = diffusers.Flux2KleinPipeline(**executor.pipe.components, is_distilled=False)
        plain.set_progress_bar_config(disable=True)
        pair = (noisy(1), noisy(2))
        theirs = plain(
            image=[Image.fromarray(picture) for picture in pair],
            prompt="a red circle",
            height=96,
            width=96,
            num_inference_steps=2,
            guidance_scale=1.0,
            generator=torch.Generator().manual_seed(3),
            max_sequence_length=32,
            text_encoder_out_layers=TEXT_LAYERS,
        ).images[0]
        assert apart(pictures(executor, asked("a red circle", 3, pair))[0], np.asarray(theirs)) <= CLOSE


class TestMask:
    MASK = np.zeros((96, 96), np.uint8)
    MASK[:, :40] = 255

    def test_outside_it_the_first_reference_is_kept_bit_for_bit(self, executor):
        reference = noisy(1)
        masked, free = pictures(executor, asked("a", 1, (reference,), mask=self.MASK), asked("a", 1, (reference,)))
        assert np.array_equal(masked[:, 40:], reference[:, 40:]) and close(masked[:, :38], free[:, :38])

    def test_without_a_reference_there_is_nothing_to_keep(self, executor):
        masked, free = pictures(executor, asked("a", 1, mask=self.MASK), asked("a", 1))
        assert apart(masked, free) <= CLOSE


class TestEvaluations:
    @pytest.mark.parametrize("distilled", [False, True])
    @pytest.mark.parametrize("sampling", [Sampling(3, 1.0), Sampling(3, 2.5), Sampling(1, 1.0)])
    def test_are_counted_as_the_transformer_is_called(self, executor, sampling, distilled):
        pipe = diffusers.Flux2KleinPipeline(**executor.pipe.components, is_distilled=distilled)
        counted = KleinExecutor(pipe, replace(RECIPE, generate=sampling, edit=Sampling(2, 1.0)))
        calls = []
        hook = pipe.transformer.register_forward_hook(lambda module, inputs, output: calls.append(len(output[0])))
        try:
            drawings = counted.draw([asked("a", seed) for seed in range(3)])
            assert sum(calls) == sum(drawing.nfe for drawing in drawings) == 3 * counted.nfe(asked("a", 0))
            calls.clear()
            (edited,) = counted.draw([asked("a", 0, (noisy(1),))])
            assert sum(calls) == edited.nfe == counted.nfe(asked("b", 9, (flat(0),))) == 2
        finally:
            hook.remove()

    def test_guidance_doubles_them_unless_the_weights_are_distilled(self):
        assert Sampling(4, 1.0).nfe == 4 and Sampling(4, 2.5).nfe == 8


class TestText:
    def test_a_prompt_longer_than_the_weights_read_is_refused_with_the_numbers(self, executor):
        with pytest.raises(BadInput, match=r"has 6\d\d tokens; these weights read at most 128; shorten the brief"):
            executor.draw([asked("a red circle " * 200, 1)])

    @pytest.mark.parametrize(("words", "length"), [(1, 32), (25, 32), (26, 64), (57, 64), (58, 128), (121, 128)])
    def test_the_shortest_length_that_holds_every_token_is_used(self, executor, words, length):
        """Seven tokens of the chat frame stand around the prompt."""
        assert executor.text_length("red " * words) == length

    def test_case_and_white_space_do_not_matter(self, executor):
        one, other = pictures(
            executor, asked("a red circle, a blue square", 1), asked(" A Red  circle,A BLUE square", 1)
        )
        assert apart(one, other) <= CLOSE

    def test_every_word_of_its_vocabulary_is_one_token_and_no_other_is_known(self, executor):
        tokenizer = executor.pipe.tokenizer
        ids = [tokenizer(word)["input_ids"] for word in (*small.WORDS, *SPECIAL)]
        assert all(len(each) == 1 for each in ids) and len({each[0] for each in ids}) == len(ids)
        assert tokenizer("photorealistic")["input_ids"] == [tokenizer.unk_token_id]


class TestSaving:
    def test_what_is_loaded_draws_what_was_saved(self, executor, saved):
        loaded, rounded = KleinExecutor.load(saved), tiny().to(torch.bfloat16).to(torch.float32)
        for request in (asked("a red circle", 1), asked("a", 2, (noisy(1), noisy(2)))):
            found = pictures(loaded, request)[0]
            assert apart(found, pictures(KleinExecutor(rounded, RECIPE), request)[0]) <= CLOSE
            assert apart(found, pictures(executor, request)[0]) <= 12

    def test_the_plain_pipeline_loads_the_folder_and_draws_the_same(self, saved):
        plain = diffusers.Flux2KleinPipeline.from_pretrained(saved)
        assert type(plain) is diffusers.Flux2KleinPipeline
        theirs = plain.to(torch.float32)(
            prompt="a red circle at the top left",
            height=96,
            width=96,
            num_inference_steps=2,
            guidance_scale=2.5,
            generator=torch.Generator().manual_seed(7),
            max_sequence_length=32,
            text_encoder_out_layers=TEXT_LAYERS,
        ).images[0]
        ours = pictures(KleinExecutor.load(saved), asked("a red circle at the top left", 7))[0]
        assert apart(ours, np.asarray(theirs)) <= CLOSE

    def test_the_recipe_lies_beside_the_weights(self, saved):
        assert (
            from_json(SamplingRecipe, json.loads((saved / RECIPE_FILE).read_text()))
            == RECIPE
            == KleinExecutor.load(saved).recipe
        )

    def test_weights_are_bfloat16_safetensors_and_nothing_is_pickled(self, saved):
        for part in PARTS:
            (file,) = (saved / part).glob("*.safetensors")
            assert {tensor.dtype for tensor in load_file(file).values()} <= {torch.bfloat16, torch.int64}
        assert {file.suffix for file in saved.rglob("*") if file.is_file()} <= {".json", ".jinja", ".safetensors"}

    def test_the_folder_holds_what_transformers_4_needs(self, saved):
        index = json.loads((saved / "model_index.json").read_text())
        assert index["_class_name"] == "Flux2KleinPipeline" and index["is_distilled"] is False
        assert index["tokenizer"] == ["transformers", "PreTrainedTokenizerFast"]
        assert index["text_encoder"] == ["transformers", "Qwen3ForCausalLM"]
        tokenizer = json.loads((saved / "tokenizer" / "tokenizer_config.json").read_text())
        assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"
        assert tokenizer["additional_special_tokens"] == list(SPECIAL[1:5])
        assert (tokenizer["unk_token"], tokenizer["pad_token"], tokenizer["eos_token"]) == (
            "<unk>",
            "<|endoftext|>",
            "<|im_end|>",
        )
        assert not {"extra_special_tokens", "backend", "is_local"} & set(tokenizer)
        assert "enable_thinking" in (saved / "tokenizer" / "chat_template.jinja").read_text()
        encoder = json.loads((saved / "text_encoder" / "config.json").read_text())
        # 4.x knows no rope_parameters and takes its default, 10,000.
        assert (
            encoder["model_type"] == "qwen3"
            and encoder.get("rope_parameters", {"rope_theta": 10_000.0})["rope_theta"] == 10_000.0
        )
        assert encoder["tie_word_embeddings"] is True and encoder["num_hidden_layers"] == len(TEXT_LAYERS)


def gone(*path: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        target = folder.joinpath(*path)
        shutil.rmtree(target) if target.is_dir() else next(target.parent.glob(target.name)).unlink()

    return damage


def cut(part: str, share: float) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (file,) = (folder / part).glob("*.safetensors")
        data = file.read_bytes()
        file.write_bytes(data[: int(share * len(data))])

    return damage


def written(text: str, *path: str) -> Callable[[Path], None]:
    return lambda folder: next(folder.joinpath(*path[:-1]).glob(path[-1])).write_text(text)


def without_a_tensor(part: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (file,) = (folder / part).glob("*.safetensors")
        tensors = load_file(file)
        tensors.pop(max(tensors, key=lambda name: tensors[name].numel()))
        save_file(tensors, file, {"format": "pt"})

    return damage


def of_another_width(part: str, key: str, value: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        file = folder / part / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))

    return damage


DAMAGES = {
    "no folder": shutil.rmtree,
    "no recipe": gone(RECIPE_FILE),
    "no index": gone("model_index.json"),
    "no tokenizer": gone("tokenizer"),
    "no scheduler": gone("scheduler"),
    "no words": gone("tokenizer", "tokenizer.json"),
    "no template": gone("tokenizer", "chat_template.jinja"),
    "recipe cut": written('{"generate": {"steps"', RECIPE_FILE),
    "recipe empty": written("{}", RECIPE_FILE),
    "recipe of another kind": written('{"generate": {"steps": "many"}, "edit": {"steps": 1}}', RECIPE_FILE),
    "index cut": written("{", "model_index.json"),
    "words cut": written('{"version"', "tokenizer", "tokenizer.json"),
    **{f"{part} gone": gone(part) for part in PARTS},
    **{f"{part} without config": gone(part, "config.json") for part in PARTS},
    **{f"{part} without weights": gone(part, "*.safetensors") for part in PARTS},
    **{f"{part} cut to {share:.0%}": cut(part, share) for part in PARTS for share in (0.0, 0.001, 0.5, 0.999)},
    **{f"{part} is text": written("not weights", part, "*.safetensors") for part in PARTS},
    **{f"{part} config cut": written("{", part, "config.json") for part in PARTS},
    **{f"{part} lacks a tensor": without_a_tensor(part) for part in PARTS},
    "transformer of another width": of_another_width("transformer", "num_attention_heads", 3),
    "text encoder of another width": of_another_width("text_encoder", "intermediate_size", 48),
    "vae of another width": of_another_width("vae", "latent_channels", 8),
}


def flipped(folder: Path) -> None:
    (file,) = (folder / "vae").glob("*.safetensors")
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)


DAMAGES["one bit of the vae"] = flipped
FOUND_IN_LOADING = (
    "no recipe",
    "no index",
    "no tokenizer",
    "no words",
    "no template",
    "words cut",
    "text_encoder without config",
    "text_encoder without weights",
    "transformer cut to 50%",
    "text_encoder cut to 50%",
    "vae is text",
    "transformer lacks a tensor",
    "transformer of another width",
    "text encoder of another width",
)


def refusal(folder: Path) -> str:
    with pytest.raises(BadInput) as error:
        KleinExecutor.load(folder)
    message = str(error.value)
    assert (
        str(folder) in message
        and message.endswith("; restore the folder or reinstall clvr")
        and "\n" not in message
        and len(message) < 600
    )
    return message


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_refused_in_a_sentence_that_names_the_file(saved, tmp_path, damage):
    folder = tmp_path / "weights"
    shutil.copytree(saved, folder)
    DAMAGES[damage](folder)
    message = refusal(folder)
    assert damage == "no folder" or " is missing" in message or " is damaged" in message


@pytest.mark.parametrize("damage", FOUND_IN_LOADING)
def test_so_is_one_without_a_list_of_its_files(saved, tmp_path, damage):
    folder = tmp_path / "weights"
    shutil.copytree(saved, folder)
    (folder / FILES).unlink()
    DAMAGES[damage](folder)
    refusal(folder)


def test_a_checkout_that_turned_the_line_ends_is_whole(saved, tmp_path):
    folder = tmp_path / "weights"
    shutil.copytree(saved, folder)
    for file in folder.rglob("*.json"):
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    KleinExecutor.load(folder)
