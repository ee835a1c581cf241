"""A vision-language model of a real class (Qwen3-VL) whose few weights are set by hand: it sees whether the first
picture is rather red or rather blue, behind thousands of tokens too, and says Yes or No.

Random weights see nothing in a long prompt, and a server that takes them proves only that it runs. In this one each number of
the residual stream has a meaning, so that what a server answers can be foretold:

channel 0       1 for text, -1 for a picture
channel 1       of a picture: red minus blue, about -1..1
channel 2       at the last token: channel 1 of the first picture
channel 16...   which token it is
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

from clvr_core.vlm.sight import LONG
from tests.vlm import tiny

OPENING, CLOSING = '{"answers": [{"question": 1, "answer": "', '"}]}'
"""Tokens of their own, so that the model can answer one question in JSON without being held to it."""
CHANNELS, LETTERS, HEAD = 512, 16, 32
FAR, THETA = 12, 5e5
"""The pair of a head's channels by which the model tells how far back a token stands, and the base of their angles: that of
this pair goes from 0 to 0.6 over 12,000 tokens."""
KEEN = 7e3
"""How much more it looks at what stands farther back: pictures stand 6 positions apart, and an angle of 3e-4 is to decide."""
SURE = 1.5
"""Half of the distance between the logits of Yes and No, for a red and for a blue picture."""


def save(folder: Path, words_first: bool = True) -> Path:
    """Write the model as a folder like those on the hub. words_first: it begins its replies with Yes or No; else with
    JSON that answers one question.
    """
    words = tiny.tokenizer(more=[word.replace(" ", "\u0120") for word in sorted(set(re.findall(" [a-z]+", LONG)))])
    words.add_tokens([OPENING, CLOSING])
    config = Qwen3VLConfig(
        text_config=tiny._text(
            words,
            hidden_size=CHANNELS,
            num_hidden_layers=2,  # llama.cpp adds what the eye hands to the first layer, and cannot if that is the last
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=HEAD,
            max_position_embeddings=32768,
            **tiny._rope(THETA, mrope_section=[8, 4, 4], mrope_interleaved=True),
        ),
        vision_config=tiny._vision(depth=1, out_hidden_size=CHANNELS, deepstack_visual_indexes=[0]),
        **tiny._marks(words),
        tie_word_embeddings=False,
    )
    model = Qwen3VLForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if not name.endswith(("norm.weight", "layernorm.weight", "norm1.weight", "norm2.weight")):
                weight.zero_()
        _set_eye(model.model.visual)
        _set_look(model.model.language_model.layers[0].self_attn)
        _set_words(model, words, words_first)
    model.save_pretrained(folder)
    tiny.save_processor(folder, words)
    return folder


def _set_eye(eye: Any) -> None:
    """Channel 0 of each patch: red minus blue, of -1..1 each. Channel 1: a constant, so that the norm keeps how much."""
    patch = eye.patch_embed.proj
    patch.weight[0, 0], patch.weight[0, 2] = 1 / patch.weight[0, 0].numel(), -1 / patch.weight[0, 0].numel()
    patch.bias[1] = 1
    channels, merger = eye.config.hidden_size, eye.merger
    for unit, sign in ((0, 1), (1, -1)):  # gelu(x) - gelu(-x) = x
        merger.linear_fc1.weight[unit, ::channels] = sign / 4
        merger.linear_fc2.weight[1, unit] = sign / 4.6
    merger.linear_fc2.bias[0] = -1


def _set_look(look: Any) -> None:
    """Each text looks at the picture that stands farthest back, and takes its color into channel 2."""
    one = (CHANNELS / 2) ** 0.5  # what the norm makes of 1, in a vector of two ones
    look.k_proj.weight[FAR, 0] = -1
    look.q_proj.weight[FAR + HEAD // 2, 0] = -1
    look.q_norm.weight.fill_(KEEN)
    look.v_proj.weight[0, 1] = 1 / one
    look.o_proj.weight[2, 0] = 1


def _set_words(model: Any, words: Any, words_first: bool) -> None:
    table, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    one = (CHANNELS / 3) ** 0.5
    ids = {word: words.convert_tokens_to_ids(word) for word in ("Yes", "No", "yes", "no", "red", OPENING, CLOSING)}
    end = words.eos_token_id
    (newline,), (quote,), (brace,), (bracket,) = (words.encode(letter) for letter in '\n"}]')
    table[:, 0] = 1
    for token in range(len(words)):
        table[token, LETTERS + token] = 1

    def follows(word: int, token: int, logit: float) -> None:
        head[word, LETTERS + token] = logit / one

    for yes, no, before in (("Yes", "No", newline), ("yes", "no", ids[OPENING])):
        for word, sign in ((ids[yes], 1), (ids[no], -1)):
            head[word, 2] = sign * SURE / one
            follows(word, before, 14)
        for word in (ids[yes], ids[no]):
            follows(end if before == newline else ids[CLOSING], word, 14)
    follows(ids[OPENING], newline, 8 if words_first else 20)
    follows(end, ids[CLOSING], 14)
    # Held to a schema it writes what is short: "red" in each string, one entry in each list.
    for word, logit in ((quote, 3), (brace, 2), (bracket, 2), (end, 1)):
        head[word, 0] = logit / one
    follows(ids["red"], quote, 5)
