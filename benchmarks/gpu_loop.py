"""What a trajectory costs at the published sizes, with random weights: the real loop, the real classes, replies of fixed length.

A run of R rounds is one generation and R - 1 edits of the canvas, each with a reply of the controller before it and decisions on ten goals
after it. Stages are timed by CUDA events, medians over repeats after a warm-up; the floors are their FLOPs and bytes by what this device
does in one large matrix product and one large copy. The weights of base and merged Klein cost the same: 28 steps with guidance against 4.

python benchmarks/gpu_loop.py [--size 4b|9b] [--rounds 2 4] [--side 1024] [--repeat 3] [--compile] [--json FILE]
python benchmarks/gpu_loop.py --tiny    end to end in seconds, as it does by itself where there is no GPU; its figures mean nothing
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline, Flux2Transformer2DModel
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3VLConfig, Qwen3VLForConditionalGeneration

from clvr_core.brief import Brief, Budget
from clvr_core.executor.klein import KleinExecutor, Recipe, Sampling
from clvr_core.protocols import Decision, Reply
from clvr_core.session import Session, drive
from clvr_core.shapes.model import build_tokenizer

GOALS = 10
MERGED, BASE = Sampling(4), Sampling(28, 4.0)
PAPER, NFE_RATIO = 11.3, 28 * 2 / 4
STAGES = ("VLM prefill", "VLM decode", "decisions", "text encode", "denoise", "VAE")
IMAGE, VIDEO, BEGIN, END, WORDS = 0, 1, 2, 3, 16
"""Ids of the marks around pictures, and the first of those that stand for words."""


@dataclass(frozen=True)
class Size:
    """Published configs: FLUX.2 Klein's transformer and text encoder, and Qwen3-VL. tokens: of a picture that the VLM looks at."""

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


def published(double: int, single: int, heads: int, width: int, hidden: int, depth: int, vision: int, mlp: int, deep: list[int]) -> Size:
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
_SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
TINY = Size(
    {"in_channels": 64, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2,
     "joint_attention_dim": 96, "axes_dims_rope": (4, 4, 4, 4), "guidance_embeds": False},
    _SMALL | {"head_dim": 8},
    _SMALL | {"head_dim": 8},
    {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "deepstack_visual_indexes": [0, 1], "num_heads": 2},
    {"block_out_channels": (4, 4, 4, 4), "layers_per_block": 1, "latent_channels": 16, "norm_num_groups": 2,
     "mid_block_add_attention": False},
    (1, 2, 3),
    words=64, prompt=60, reply=8, question=6, picture=64, vocabulary=512,
)  # fmt: skip


class Clock:
    """Seconds by stage; on a GPU by events, which are read only at the end, so that nothing waits for them."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"
        self.spans: dict[str, list[tuple[Any, Any]]] = defaultdict(list)
        self.counts: dict[str, int] = {}
        self.flops: dict[str, int] | None = None

    def mark(self) -> Any:
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = self.mark()
        if self.flops is None:
            yield
        else:
            with FlopCounterMode(display=False) as counter:
                yield
            self.flops[name] = self.flops.get(name, 0) + counter.get_total_flops()
        self.spans[name].append((started, self.mark()))

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            with self.stage(name):
                return function(*arguments, **more)

        return call

    def seconds(self) -> dict[str, float]:
        if self.cuda:
            torch.cuda.synchronize()
        found = {
            name: sum(start.elapsed_time(end) / 1000 if self.cuda else end - start for start, end in spans)
            for name, spans in self.spans.items()
        }
        self.counts = {name: len(spans) for name, spans in self.spans.items()}
        self.spans.clear()
        return found


def random_weights(make: Callable[[], Any], device: str) -> Any:
    """In bfloat16 on the device from the start: its default initialisation takes seconds there, and minutes here."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return make().eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(torch.float32)


def vlm_config(size: Size) -> Qwen3VLConfig:
    head = size.text["head_dim"] // 2
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [head - 2 * (head // 3), head // 3, head // 3]}
    return Qwen3VLConfig(
        text_config=size.text | {"vocab_size": size.vocabulary, "rope_parameters": rope | {"mrope_interleaved": True}},
        vision_config=size.vision | {"patch_size": 16, "out_hidden_size": size.text["hidden_size"], "num_position_embeddings": 2304},
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=BEGIN,
        vision_end_token_id=END,
        tie_word_embeddings=size.text["hidden_size"] < 4096,
    )


class FixedVlm:
    """Qwen3-VL with random weights. Every prompt and every reply has its fixed length; what is said is scripted. The prompt is read anew
    for each reply."""

    name = "fixed-vlm"

    def __init__(self, size: Size, clock: Clock, device: str) -> None:
        self.size, self.clock, self.device = size, clock, device
        self.model = random_weights(lambda: Qwen3VLForConditionalGeneration(vlm_config(size)), device)

    @property
    def bytes_a_token(self) -> int:
        """What decoding must read: the layers and the head, not the table of words."""
        language = sum(each.numel() * each.element_size() for each in self.model.model.language_model.layers.parameters())
        return language + self.model.lm_head.weight.numel() * self.model.lm_head.weight.element_size()

    def _inputs(self, pictures: int) -> dict[str, Any]:
        side = self.size.picture // 16
        tokens = (side // 2) ** 2
        ids = [WORDS + number % (self.size.vocabulary - WORDS) for number in range(self.size.prompt)]
        for _ in range(pictures):
            ids += [BEGIN, *[IMAGE] * tokens, END]
        ids.append(WORDS)
        tensor = torch.tensor([ids], device=self.device)
        inputs = {"input_ids": tensor, "attention_mask": torch.ones_like(tensor), "mm_token_type_ids": (tensor == IMAGE).int()}
        if pictures:
            inputs["pixel_values"] = torch.rand(pictures * side * side, 3 * 2 * 16 * 16, device=self.device, dtype=self.model.dtype)
            inputs["image_grid_thw"] = torch.tensor([[1, side, side]] * pictures, device=self.device)
        return inputs

    @torch.inference_mode()
    def chat(self, messages: Any, schema: Any) -> Reply:
        data = messages[-1].data
        inputs = self._inputs(sum(len(message.images) for message in messages))
        reply = self.size.reply
        with self.clock.stage("VLM prefill"):
            self.model(**inputs, use_cache=True, logits_to_keep=1)
        started = self.clock.mark()
        fixed = {"max_new_tokens": reply, "min_new_tokens": reply, "do_sample": False, "pad_token_id": WORDS}
        if self.device == "cuda":
            fixed["cache_implementation"] = "static"  # which transformers compiles, with CUDA graphs
        self.model.generate(**inputs, **fixed)
        self.clock.spans["VLM reply"].append((started, self.clock.mark()))
        return Reply(json.dumps(said(data)), inputs["input_ids"].shape[1] + reply)

    @torch.inference_mode()
    def decide(self, images: Any, questions: Any) -> list[Decision]:
        with self.clock.stage("decisions"):
            read = self.model(**self._inputs(len(images)), use_cache=True, logits_to_keep=1)
            cache, length = read.past_key_values, self.size.question
            cache.batch_repeat_interleave(len(questions))
            ids = torch.full((len(questions), length), WORDS, device=self.device)
            start = cache.get_seq_length()
            places = torch.arange(start, start + length, device=self.device).expand(3, len(questions), length)
            self.model(input_ids=ids, position_ids=places, past_key_values=cache, use_cache=True, logits_to_keep=1)
        edited = len(images) > 1
        return [Decision(0.9 if edited else 0.5 + 0.001 * number) for number in range(len(questions))]


def said(data: dict[str, Any]) -> dict[str, Any]:
    if data["task"] == "goals":
        return {"goals": [{"text": f"thing {number}", "kind": "local", "check": "Is it there?"} for number in range(GOALS)]}
    words = "put the missing thing in its place and keep everything else exactly as it is"
    kind = "GENERATE" if data["current"] is None else "EDIT"
    references = [] if data["current"] is None else [data["current"]]
    return {"kind": kind, "summary": words, "scene_prompt": words, "edit_prompt": words, "goals": ["g1"], "references": references}


def hand(size: Size, clock: Clock, device: str, compiled: bool) -> KleinExecutor:
    tokenizer = build_tokenizer()
    layers = max(size.layers)
    encoder = Qwen3Config(vocab_size=size.vocabulary, **size.encoder | {"num_hidden_layers": layers}, tie_word_embeddings=True)
    scheduler = FlowMatchEulerDiscreteScheduler(
        shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=4096
    )
    pipe = Flux2KleinPipeline(
        scheduler=scheduler,
        vae=random_weights(lambda: AutoencoderKLFlux2(**size.vae), device),
        text_encoder=random_weights(lambda: Qwen3ForCausalLM(encoder), device),
        tokenizer=tokenizer,
        transformer=random_weights(lambda: Flux2Transformer2DModel(**size.transformer), device),
    )
    pipe.text_encoder.lm_head = torch.nn.Identity()  # as the executor leaves it out
    if compiled:
        pipe.transformer.compile_repeated_blocks(fullgraph=True)
    for part, name in (("text_encoder", "text encode"), ("transformer", "denoise")):
        module = getattr(pipe, part)
        module.forward = clock.timed(name, module.forward)
    pipe.vae.encode, pipe.vae.decode = clock.timed("VAE", pipe.vae.encode), clock.timed("VAE", pipe.vae.decode)
    return KleinExecutor(pipe, Recipe(MERGED, MERGED, size.layers, (size.words,), 1, given_latents=True), "random-klein")


def trajectory(vlm: FixedVlm, executor: KleinExecutor, sampling: Sampling, rounds: int, side: int) -> dict[str, float]:
    """Seconds by stage of one run, with `total` and what is in no stage, `framework`."""
    executor.recipe = Recipe(sampling, sampling, executor.recipe.text_layers, executor.recipe.text_lengths, 1, given_latents=True)
    executor.forget()
    brief = Brief("ten things", seed=1, width=side, height=side, budget=Budget(rounds=rounds, patience=rounds + 1), final_ab=False)
    clock = vlm.clock
    clock.seconds()
    started = time.perf_counter()
    run = drive(Session(brief, vlm, executor))
    if clock.cuda:
        torch.cuda.synchronize()
    total = time.perf_counter() - started
    assert sum(step.action.draws for step in run.steps) == rounds, run.outcome
    found = clock.seconds()
    # A reply was timed with its prompt, which was also read by itself, for the difference; that second reading is no part of the run.
    reply, again = found.pop("VLM reply"), found["VLM prefill"]
    found["VLM decode"] = max(reply - again, 0.0)
    found = {name: found.get(name, 0.0) for name in STAGES}
    total -= again
    return found | {"framework": max(total - sum(found.values()), 0.0), "total": total}


def median(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def limits(device: str) -> tuple[float, float]:
    """FLOP/s of one large product and bytes/s of one large copy, the best of five."""
    side, dtype = (8192, torch.bfloat16) if device == "cuda" else (512, torch.float32)
    one = torch.randn(side, side, device=device, dtype=dtype)
    block = torch.empty((1 << 30) if device == "cuda" else (1 << 24), dtype=torch.uint8, device=device)

    def best(work: Callable[[], Any]) -> float:
        times = []
        for _ in range(8):
            clock = Clock(device)
            with clock.stage("x"):
                work()
            times.append(clock.seconds()["x"])
        return min(times[3:])

    return 2 * side**3 / best(lambda: one @ one), 2 * block.numel() / best(block.clone)


def floors(vlm: FixedVlm, executor: KleinExecutor, rounds: int, side: int, device: str) -> dict[str, float]:
    clock = vlm.clock
    clock.flops = {}
    trajectory(vlm, executor, MERGED, rounds, side)
    flops, clock.flops = clock.flops, None
    speed, bandwidth = limits(device)
    replies = rounds + 1  # and the list of goals
    found = {name: count / speed for name, count in flops.items()}
    return found | {"VLM decode": replies * (vlm.size.reply - 1) * vlm.bytes_a_token / bandwidth}


def table(rounds: int, found: dict[str, float], floor: dict[str, float]) -> str:
    lines = [f"| {rounds} rounds, 4 steps | seconds | share | floor | x floor |", "|---|---|---|---|---|"]
    for name, seconds in found.items():
        least = floor.get(name)
        times = f"{least:.4f} | {seconds / least:.2f}" if least else " | "
        lines.append(f"| {name} | {seconds:.4f} | {seconds / found['total']:.1%} | {times} |")
    return "\n".join(lines)


def verdicts(found: dict[str, float], floor: dict[str, float], ratio: float, size: str) -> list[str]:
    bars = [
        ("framework share", found["framework"] / found["total"], 0.02, "at most"),
        ("denoise over its FLOP floor", found["denoise"] / floor["denoise"], 2.0, "at most"),
        ("VLM decode over its bandwidth floor", found["VLM decode"] / floor["VLM decode"], 2.5, "at most"),
        ("base(28x2) over merged(4), whole trajectory", ratio, PAPER, "at least"),
    ]
    if size == "4b":
        bars.append(("seconds of two rounds", found["total"], 4.0, "at most"))
    told = []
    for what, value, bar, sense in bars:
        met = value <= bar if sense == "at most" else value >= bar
        told.append(f"{what}: {value:.2f}, wanted {sense} {bar:g}: {'met' if met else 'NOT MET'}")
    return told


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="4b", choices=SIZES)
    parser.add_argument("--rounds", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--side", type=int, default=1024, help="of the canvas in pixels")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="the transformer's repeated blocks")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tiny = options.tiny or device == "cpu"
    size, side, name = (TINY, 64, "tiny") if tiny else (SIZES[options.size], options.side, options.size)
    clock = Clock(device)
    torch.manual_seed(0)
    vlm, executor = FixedVlm(size, clock, device), hand(size, clock, device, options.compile)
    place = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(f"{name} on {place}, {side} px, torch {torch.__version__}, median of {options.repeat}")
    result: dict[str, Any] = {"size": name, "device": place, "side": side, "repeat": options.repeat, "runs": {}}
    for rounds in options.rounds:
        trajectory(vlm, executor, MERGED, rounds, side)
        merged = median([trajectory(vlm, executor, MERGED, rounds, side) for _ in range(options.repeat)])
        base = median([trajectory(vlm, executor, BASE, rounds, side) for _ in range(max(options.repeat // 2, 1))])
        floor = floors(vlm, executor, rounds, side, device)
        print(f"\n{table(rounds, merged, floor)}")
        parts = {"denoise": base["denoise"] / merged["denoise"], "total": base["total"] / merged["total"]}
        print(f"base(28x2) : merged(4) is {parts['denoise']:.1f} in denoising (evaluations: {NFE_RATIO:g}), {parts['total']:.1f} in all")
        result["runs"][str(rounds)] = {"merged": merged, "base": base, "floors": floor, "ratio": parts}
        if not tiny and rounds == 2:
            print("\n".join(verdicts(merged, floor, parts["total"], name)))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
