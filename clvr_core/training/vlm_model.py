"""The embedded vision-language model: its size, its words, and a fast pass for training.

A `Qwen3VLForConditionalGeneration` with one visual token for each of the nine places of a canvas. `prepare` writes
everything of its folder but the weights.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..stickers.neural import FOLDER
from ..stickers.scene import CANVAS, GRID, NOUNS, SIGN
from ..stickers.words import BACKDROP_WORDS, EDITING, FILLER, OTHER_NAMES, OTHER_PLURALS, PLURALS, VOCABULARY

if TYPE_CHECKING:
    from torch import Tensor

    from ..trajectory import ActionKind

PATCH, MERGE = 32, 2
TOKENS = GRID * GRID
"""Visual tokens of a canvas."""
PATCHES = TOKENS * MERGE * MERGE
MERGES = 1400
MARKS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen's tokenizers split text before the merges."""
LEAST_WORDS = 4
"""Of a sentence of the prompts that is one token."""


def sentences() -> list[str]:
    """Return the fixed sentences of the prompts, each of which is one token: a small model would spend most of its time
    on reading them."""
    from .. import controller, verifier
    from ..vlm.decisions import DECIDE, ONE_WORD

    found: dict[str, None] = {DECIDE: None, ONE_WORD: None}
    for templates in (verifier.TEMPLATES, controller.TEMPLATES):
        for file in sorted(templates.folder.glob("*.txt")):
            for piece in re.split(r"\$\w+|\n", file.read_text(encoding="utf-8")):
                # A bracket belongs to what it holds.
                piece = piece.strip().strip('"').strip()
                if len(piece.split()) >= LEAST_WORDS:
                    found[piece] = None
    return list(found)


def texts() -> Iterator[str]:
    """The project's own texts, from which the merges are learned. Lettering is left out, so that it stays letters."""
    from ..controller import prompts as control
    from ..stickers.phrases import REGISTERS, write
    from .vlm_questions import asked

    for words in (*VOCABULARY, *NOUNS, *PLURALS.values(), SIGN, *OTHER_NAMES, *OTHER_PLURALS, *FILLER, *EDITING):
        yield f"{words} {words}"
        yield f'"{words}"'
    for names in BACKDROP_WORDS.values():
        yield from names
    rng = random.Random(7)
    made = asked(rng, 1500, questions=4)
    for kind, _, _, question, answer in made.rows:
        if kind != "word" and "sign" not in question and "sign" not in answer:
            yield " ".join(re.findall(r'"[^"]*"', question)) if kind not in ("by place", "by kind") else question
            yield answer
    from ..stickers.phrases import whole
    from .vlm_questions import some_scene

    for _ in range(400):
        spec = whole(some_scene(rng))
        if spec.items and all(item.noun != SIGN for item in spec.items):
            yield write(spec, rng.choice(REGISTERS), rng)
    choices: tuple[tuple[ActionKind, ...], ...] = (("GENERATE",), ("EDIT", "VALIDATE", "END"))
    for kinds in choices:
        schema = control.action_schema(kinds, [f"g{n}" for n in range(1, 20)], range(1, 20))
        reply = dict.fromkeys(schema["properties"], "") | {"kind": kinds[0], "references": [1, 2], "region": None}
        yield from [json.dumps(reply, separators=(",", ":"))] * 40
    each = control.GOALS_SCHEMA["properties"]["goals"]["items"]["properties"]
    for kind in ("global", "local", "text", "layout"):
        goal = dict.fromkeys(each, "") | {"kind": kind, "feasibility": 0.9, "conflicts_with": [], "area": None}
        yield from [json.dumps({"goals": [goal, goal]}, separators=(",", ":"))] * 20
    yield from ["Yes", "No", "Goal:", "Instruction:", "Question:", "system", "user", "assistant\n"] * 2000
    for templates in (control.TEMPLATES,):
        for file in sorted(templates.folder.glob("*.txt")):
            yield file.read_text(encoding="utf-8")


def make_tokenizer(corpus: Iterable[str] | None = None) -> Any:
    """Return a `tokenizers.Tokenizer`: bytes, merges learned from the corpus, the marks, and the sentences."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + MERGES, initial_alphabet=alphabet, show_progress=False, min_frequency=2
    )
    # Words in capitals stay letters, so that what a sign says is read letter by letter.
    plain = (re.sub("[A-Z]{2,}", " ", text) for text in (texts() if corpus is None else corpus))
    made.train_from_iterator(plain, trainer)
    made.add_special_tokens([AddedToken(mark, special=True) for mark in MARKS])
    made.add_tokens([AddedToken(sentence, normalized=False) for sentence in sentences()])
    return made


def prepare(folder: Path = FOLDER) -> None:
    """Write the tokenizer, the processor and the configuration. Needs transformers 5."""
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    words = make_tokenizer()
    saved = transformers.Qwen2TokenizerFast(  # pyright: ignore[reportAttributeAccessIssue]
        tokenizer_object=words,
        additional_special_tokens=list(MARKS),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        bos_token=None,
        model_max_length=4096,
    )
    saved.save_pretrained(folder)
    pixels = {
        "patch_size": PATCH,
        "merge_size": MERGE,
        "temporal_patch_size": 2,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        # A little apart, so that rounding makes no square larger or smaller than a canvas.
        "size": {"shortest_edge": CANVAS * CANVAS - 64, "longest_edge": CANVAS * CANVAS + 64},
    }
    transformers.Qwen2VLImageProcessorPil(**pixels).save_pretrained(folder)
    video = pixels | {"video_processor_type": "Qwen3VLVideoProcessor", "processor_class": "Qwen3VLProcessor"}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(video, indent=2) + "\n")
    make_config(words).save_pretrained(folder)
    ends = [words.token_to_id("<|im_end|>"), words.token_to_id("<|endoftext|>")]
    generation = {"eos_token_id": ends, "pad_token_id": ends[1], "do_sample": False}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")


def make_config(words: Any) -> Any:
    """Return the model's configuration for the tokenizer."""
    from transformers import Qwen3VLConfig

    name = {mark: words.token_to_id(mark) for mark in MARKS}
    hidden = 192
    return Qwen3VLConfig(
        text_config={
            "vocab_size": -(-words.get_vocab_size() // 64) * 64,
            "hidden_size": hidden,
            "intermediate_size": 384,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [12, 10, 10],
                "mrope_interleaved": True,
            },
            "tie_word_embeddings": True,
            "pad_token_id": name["<|endoftext|>"],
            "eos_token_id": name["<|im_end|>"],
            "bos_token_id": None,
        },
        vision_config={
            "depth": 4,
            "hidden_size": 192,
            "intermediate_size": 576,
            "num_heads": 6,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "out_hidden_size": hidden,
            "num_position_embeddings": PATCHES,
            "deepstack_visual_indexes": [1],
        },
        image_token_id=name["<|image_pad|>"],
        video_token_id=name["<|video_pad|>"],
        vision_start_token_id=name["<|vision_start|>"],
        vision_end_token_id=name["<|vision_end|>"],
        tie_word_embeddings=True,
    )


def patches(pictures: Tensor) -> Tensor:
    """Float N x 3 x 192 x 192 in 0..1 -> N x 36 x 3072 as the processor makes them, its second frame left out."""
    count = len(pictures)
    cut = (pictures * 2 - 1).view(count, 3, GRID, MERGE, PATCH, GRID, MERGE, PATCH)
    return cut.permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(count, PATCHES, -1)


class Pass:
    """The passes of a model for canvases of one size and texts without a mask: the same as the model's own, for many at
    once, and without anything that waits for the device."""

    def __init__(self, model: Any) -> None:
        import torch

        self.visual, self.text = model.model.visual, model.model.language_model
        self.embedding = self.text.embed_tokens
        device = self.embedding.weight.device
        config, vision = self.text.config, self.visual.config
        self.heads, self.shared, self.width = config.num_attention_heads, config.num_key_value_heads, config.head_dim
        rope = config.rope_parameters
        self.inverse = 1 / rope["rope_theta"] ** (torch.arange(0, self.width, 2, device=device).float() / self.width)
        self.section = rope["mrope_section"]
        side = GRID * MERGE
        order = torch.arange(side * side).view(GRID, MERGE, GRID, MERGE).permute(0, 2, 1, 3).flatten()
        self.order = order.to(device)
        width = vision.hidden_size // vision.num_heads
        inverse = 1 / 1e4 ** (torch.arange(0, width // 2, 2).float() / (width // 2))
        angles = torch.cat([(order // side)[:, None] * inverse, (order % side)[:, None] * inverse], -1).repeat(1, 2)
        self.turn = angles.cos().to(device), angles.sin().to(device)

    def see(self, pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Float N x 3 x 192 x 192 in 0..1 -> N x 9 x hidden, and the same for each level of the deep stack."""
        from torch.nn import functional

        visual, count = self.visual, len(pictures)
        weight = visual.patch_embed.proj.weight.sum(2).flatten(1)
        hidden = functional.linear(patches(pictures), weight, visual.patch_embed.proj.bias)
        hidden = hidden + visual.pos_embed.weight[self.order]
        heads, deep = visual.config.num_heads, []
        for index, block in enumerate(visual.blocks):
            split = block.attn.qkv(block.norm1(hidden)).view(count, PATCHES, 3, heads, -1).permute(2, 0, 3, 1, 4)
            query, key, value = split.unbind(0)
            query, key = (_turned(each, *self.turn) for each in (query, key))
            seen = _attended(query, key, value)
            hidden = hidden + block.attn.proj(seen.transpose(1, 2).flatten(2))
            hidden = hidden + block.mlp(block.norm2(hidden))
            if index in visual.deepstack_visual_indexes:
                merger = visual.deepstack_merger_list[visual.deepstack_visual_indexes.index(index)]
                deep.append(self._merged(merger, hidden))
        return self._merged(visual.merger, hidden), deep

    def _merged(self, merger: Any, hidden: Tensor) -> Tensor:
        wide = (*hidden.shape[:1], TOKENS, -1)
        joined = merger.norm(hidden.reshape(wide)) if merger.use_postshuffle_norm else merger.norm(hidden).reshape(wide)
        return merger.linear_fc2(merger.act_fn(merger.linear_fc1(joined)))

    def read(self, ids: Tensor, slots: Tensor, positions: Tensor, seen: Tensor, deep: list[Tensor]) -> Tensor:
        """Return R x T x hidden after the last norm.

        ids: long R x T, padded at the right. slots: long R x T, the visual token (picture x 9 + place) that stands there,
        or -1. positions: R x 3 x T. seen, deep: as `see` gives them.
        """
        import torch
        from torch.nn import functional

        is_seen, slot = (slots >= 0)[..., None], slots.clamp(min=0)
        hidden = self.embedding(ids)
        hidden = torch.where(is_seen, seen.flatten(0, 1)[slot].to(hidden.dtype), hidden)
        cos, sin = self._angles(positions)
        rows, length = ids.shape
        for index, layer in enumerate(self.text.layers):
            own, normed = layer.self_attn, _normed(layer.input_layernorm, hidden)
            query = _normed(own.q_norm, own.q_proj(normed).view(rows, length, self.heads, self.width)).transpose(1, 2)
            key = _normed(own.k_norm, own.k_proj(normed).view(rows, length, self.shared, self.width)).transpose(1, 2)
            value = own.v_proj(normed).view(rows, length, self.shared, self.width).transpose(1, 2)
            query, key = (_turned(each, cos, sin).to(value.dtype) for each in (query, key))
            more = self.heads // self.shared
            key, value = key.repeat_interleave(more, 1), value.repeat_interleave(more, 1)
            heard = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            hidden = hidden + own.o_proj(heard.transpose(1, 2).flatten(2))
            normed = _normed(layer.post_attention_layernorm, hidden)
            mlp = layer.mlp
            hidden = hidden + mlp.down_proj(functional.silu(mlp.gate_proj(normed)) * mlp.up_proj(normed))
            if index < len(deep):
                hidden = hidden + torch.where(is_seen, deep[index].flatten(0, 1)[slot].to(hidden.dtype), 0)
        return _normed(self.text.norm, hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        from torch.nn import functional

        return functional.linear(hidden, self.embedding.weight)

    def _angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        turns = positions.transpose(0, 1)[..., None].float() * self.inverse
        angles = turns[0].clone()
        for dimension in (1, 2):
            places = slice(dimension, self.section[dimension] * 3, 3)
            angles[..., places] = turns[dimension][..., places]
        both = torch.cat([angles, angles], -1)[:, None]
        return both.cos(), both.sin()


def _attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention without a mask, of N x heads x T x width. On a CPU as products of matrices, which are quicker there for
    so few tokens."""
    from torch.nn import functional

    if query.is_cuda:
        return functional.scaled_dot_product_attention(query, key, value)
    weights = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return weights.softmax(-1).to(value.dtype) @ value


def _turned(each: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    import torch

    half = each.shape[-1] // 2
    return (each * cos + torch.cat([-each[..., half:], each[..., :half]], -1) * sin).to(each.dtype)


def _normed(norm: Any, hidden: Tensor) -> Tensor:
    from torch.nn import functional

    return functional.rms_norm(hidden, (hidden.shape[-1],), norm.weight.to(hidden.dtype), norm.variance_epsilon)


if __name__ == "__main__":
    prepare()
