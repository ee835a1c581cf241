"""The models of gpu_loop.py: the real classes at the published sizes with random weights, which say what is scripted."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline, Flux2Transformer2DModel
from gpu_clock import Clock, Cpu
from PIL import Image
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from clvr_core.executor.encoder_cache import digest
from clvr_core.executor.klein import KleinExecutor, Sampling, SamplingRecipe
from clvr_core.protocols import Decision, Picture, Reply
from clvr_core.stickers.model import build_tokenizer
from clvr_core.vlm.prefix import Reader
from clvr_core.vlm.prompt import Prompt

GOALS = 10
IMAGE, VIDEO, BEGIN, END, WORDS = 0, 1, 2, 3, 16
"""Ids of the marks around pictures, and the first of those that stand for words."""
SHOWN = 4
"""Pictures that a prompt has room for."""


@dataclass(frozen=True)
class Size:
    """Published configs: FLUX.2 Klein's transformer and text encoder, and Qwen3-VL. prompt, reply, question: tokens; picture: pixels of the
    side that the VLM looks at; words: tokens that the text encoder reads."""

    transformer: dict[str, Any]
    encoder: dict[str, Any]
    text: dict[str, Any]
    vision: dict[str, Any]
    vae: dict[str, Any]
    layers: tuple[int, ...]
    words: int
    prompt: int
    reply: int
    question: int
    picture: int
    vocabulary: int = 151_936


def published(
    double: int, single: int, heads: int, width: int, hidden: int, depth: int, vision: int, mlp: int, deep: list[int]
) -> Size:
    language = {"hidden_size": width, "intermediate_size": hidden, "num_hidden_layers": 36, "num_attention_heads": 32}
    language |= {"num_key_value_heads": 8, "head_dim": 128}
    return Size(
        {"num_layers": double, "num_single_layers": single, "attention_head_dim": 128, "num_attention_heads": heads,
         "joint_attention_dim": 3 * width, "guidance_embeds": False},
        language,
        language,
        {"depth": depth, "hidden_size": vision, "intermediate_size": mlp, "deepstack_visual_indexes": deep, "num_heads": 16},
        {},
        (9, 18, 27),
        words=512, prompt=900, reply=200, question=24, picture=512,
    )  # fmt: skip


SIZES = {
    "4b": published(5, 20, 24, 2560, 9728, 24, 1024, 4096, [5, 11, 17]),
    "9b": published(8, 24, 32, 4096, 12288, 27, 1152, 4304, [8, 16, 24]),
}
_SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
TINY = Size(
    {"in_channels": 64, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2,
     "joint_attention_dim": 96, "axes_dims_rope": (4, 4, 4, 4), "guidance_embeds": False},
    _SMALL | {"head_dim": 8},
    _SMALL | {"head_dim": 8, "num_hidden_layers": 2},
    {"depth": 1, "hidden_size": 32, "intermediate_size": 64, "deepstack_visual_indexes": [0], "num_heads": 2},
    {"block_out_channels": (4, 4, 4, 4), "layers_per_block": 1, "latent_channels": 16, "norm_num_groups": 2,
     "mid_block_add_attention": False},
    (1, 2, 3),
    words=64, prompt=60, reply=4, question=6, picture=64, vocabulary=512,
)  # fmt: skip


def random_weights(make: Callable[[], Any], device: Cpu) -> Any:
    """On the device, in its dtype, from the start: its default initialisation takes seconds there, and minutes here."""
    torch.set_default_dtype(device.dtype)
    try:
        with torch.device(device.where):
            return make().eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(torch.float32)


def vlm_config(size: Size) -> Qwen3VLConfig:
    head = size.text["head_dim"] // 2
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [head - 2 * (head // 3), head // 3, head // 3]}
    return Qwen3VLConfig(
        text_config=size.text | {"vocab_size": size.vocabulary, "rope_parameters": rope | {"mrope_interleaved": True}},
        vision_config=size.vision
        | {"patch_size": 16, "out_hidden_size": size.text["hidden_size"], "num_position_embeddings": 2304},
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=BEGIN,
        vision_end_token_id=END,
        tie_word_embeddings=size.text["hidden_size"] < 4096,
    )


class FixedVlm:
    """Qwen3-VL with random weights, read and written by clvr_core's reader. Every prompt and every reply has its fixed length; what is said
    is scripted. A prompt begins as the one before it in its run does, and ends as no other."""

    name = "fixed-vlm"

    def __init__(self, size: Size, clock: Clock) -> None:
        self.size, self.clock, self.device = size, clock, clock.device
        self.model = random_weights(lambda: Qwen3VLForConditionalGeneration(vlm_config(size)), self.device)
        # Since 5 transformers has one that needs no torchvision.
        kind = getattr(transformers, "Qwen2VLImageProcessorPil", None) or transformers.Qwen2VLImageProcessor
        pixels = size.picture**2
        self.eyes = kind(
            patch_size=16, merge_size=2, temporal_patch_size=2, size={"shortest_edge": pixels, "longest_edge": pixels}
        )
        self.reader = Reader(self.model, record=None)
        self.run = self.call = 0

    @property
    def bytes_a_token(self) -> int:
        """What decoding must read: the layers and the head, not the table of words."""
        language = sum(
            each.numel() * each.element_size() for each in self.model.model.language_model.layers.parameters()
        )
        return language + self.model.lm_head.weight.numel() * self.model.lm_head.weight.element_size()

    @property
    def room(self) -> int:
        """Tokens of the longest prompt."""
        return self.size.prompt + SHOWN * ((self.size.picture // 32) ** 2 + 2) + self.size.question

    def prompt(self, length: int, pictures: Sequence[Picture]) -> Prompt:
        """So many words, the same in one run, then pictures, then a question that is asked for the first time."""
        self.call += 1
        words = self.size.vocabulary - WORDS
        ids = [WORDS + (self.run * 7919 + number) % words for number in range(length)]
        keys: list[Any] = list(ids)
        shown = tuple(Image.fromarray(picture).resize((self.size.picture, self.size.picture)) for picture in pictures)
        tokens, spans = (self.size.picture // 32) ** 2, []
        for picture in pictures:
            spans.append((len(ids) + 1, len(ids) + 1 + tokens))
            ids += [BEGIN, *[IMAGE] * tokens, END]
            keys += [BEGIN, *[digest(picture)] * tokens, END]
        asked = [WORDS + (self.call * 104_729 + number) % words for number in range(self.size.question)]
        ids, keys = ids + asked, keys + asked
        tensor = torch.tensor([ids], device=self.device.where)
        typed = {"mm_token_type_ids": (tensor == IMAGE).int()}
        made = self.eyes(list(shown), return_tensors="pt") if shown else {}
        seen = {name: made[name].to(self.device.where) for name in ("pixel_values", "image_grid_thw") if name in made}
        if seen:
            seen["pixel_values"] = seen["pixel_values"].to(self.model.dtype)
        given = seen | typed | {"input_ids": tensor, "attention_mask": torch.ones_like(tensor)}
        takes = inspect.signature(self.model.model.get_rope_index).parameters
        places = self.model.model.get_rope_index(**{name: value for name, value in given.items() if name in takes})[0]
        return Prompt(tensor, tuple(keys), places, tuple(spans), shown, typed, seen, self.eyes)

    @torch.inference_mode()
    def chat(self, messages: Any, schema: Any) -> Reply:
        data = messages[-1].data
        prompt = self.prompt(self.size.prompt, [image for message in messages for image in message.images][-SHOWN:])
        with self.clock.stage("VLM prefill"):
            run = self.reader.read(prompt)
        with self.clock.stage("VLM decode"):
            self.write(run, self.size.reply)
        self.reader.finish(run)
        return Reply(json.dumps(said(data)), len(prompt) + self.size.reply)

    def write(self, run: Any, tokens: int) -> None:
        with self.reader.writing(run, max(tokens, self.room + self.size.reply - len(run.keys))):
            for _ in range(tokens):
                self.reader.extend(run, [int(run.logits.argmax())])

    @torch.inference_mode()
    def decide(self, images: Any, questions: Any) -> list[Decision]:
        prompt = self.prompt(2 * self.size.question, images)
        tails = [[WORDS + number] * self.size.question for number in range(len(questions))]
        with self.clock.stage("decisions"):
            run = self.reader.read(prompt)
            self.reader.continuations(run, tails)
        self.reader.finish(run)
        edited = len(images) > 1
        return [Decision(0.9 if edited else 0.5 + 0.001 * number) for number in range(len(questions))]


def said(data: dict[str, Any]) -> dict[str, Any]:
    if data["task"] == "goals":
        return {
            "goals": [{"text": f"thing {number}", "kind": "local", "check": "Is it there?"} for number in range(GOALS)]
        }
    words = "put the missing thing in its place and keep everything else exactly as it is"
    kind = "GENERATE" if data["current"] is None else "EDIT"
    references = [] if data["current"] is None else [data["current"]]
    return {
        "kind": kind,
        "summary": words,
        "scene_prompt": words,
        "edit_prompt": words,
        "goals": ["g1"],
        "references": references,
    }


def hand(size: Size, clock: Clock) -> KleinExecutor:
    device, layers = clock.device, max(size.layers)
    encoder = Qwen3Config(
        vocab_size=size.vocabulary, **size.encoder | {"num_hidden_layers": layers}, tie_word_embeddings=True
    )
    scheduler = FlowMatchEulerDiscreteScheduler(
        shift=3.0,
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )
    pipe = Flux2KleinPipeline(
        scheduler=scheduler,
        vae=random_weights(lambda: AutoencoderKLFlux2(**size.vae), device),
        text_encoder=random_weights(lambda: Qwen3ForCausalLM(encoder), device),
        tokenizer=build_tokenizer(),
        transformer=random_weights(lambda: Flux2Transformer2DModel(**size.transformer), device),
    )
    pipe.text_encoder.lm_head = torch.nn.Identity()  # as the executor leaves it out
    for part, name in (("text_encoder", "text encode"), ("transformer", "denoise")):
        module = getattr(pipe, part)
        module.forward = clock.timed(name, module.forward)
    pipe.vae.encode, pipe.vae.decode = clock.timed("VAE", pipe.vae.encode), clock.timed("VAE", pipe.vae.decode)
    return KleinExecutor(
        pipe,
        SamplingRecipe(Sampling(4), Sampling(4), size.layers, (size.words,), 1, given_latents=True),
        "random-klein",
    )
