"""Nodes that rehearsal.py puts beside the pack: what a loader made of a file, and what a vision model answers.

With CLVR_REHEARSAL_WIDTH set, ComfyUI's configurations of Qwen3 4B and Qwen3-VL 8B have a narrow width of
rehearsal_files.py, so that files of those sizes are read by the same code.
"""

from __future__ import annotations

import collections
import ctypes
import dataclasses
import gc
import inspect
import json
import os
import sys
from types import SimpleNamespace

import comfy.sd as sd
import comfy.text_encoders.llama as llama
import comfy.text_encoders.qwen3vl as qwen3vl
import numpy as np
import torch

import nodes

if width := json.loads(os.environ.get("CLVR_REHEARSAL_WIDTH", "{}")):
    for name in ("Qwen3_4BConfig", "Qwen3VL_8BConfig"):
        held = getattr(llama, name)
        fields = [(key, int, dataclasses.field(default=value)) for key, value in width["text"].items()]
        setattr(llama, name, dataclasses.make_dataclass(name, fields, bases=(held,)))
    qwen3vl.QWEN3VL_CONFIGS["qwen3vl_8b"] = llama.Qwen3VL_8BConfig
    qwen3vl.QWEN3VL_VISION["qwen3vl_8b"] = width["vision"]
    qwen3vl.QWEN3VL_VISION_COMMON["num_heads"] = width["heads"]
    by_width = sd.detect_te_model

    def detect_te_model(tensors):
        """ComfyUI knows Qwen3 4B by its width."""
        norm = tensors.get("model.layers.0.post_attention_layernorm.weight")
        narrow = norm is not None and norm.shape[0] == width["text"]["hidden_size"]
        return sd.TEModel.QWEN3_4B if narrow else by_width(tensors)

    sd.detect_te_model = detect_te_model

SCHEMA = {
    "type": "object",
    "properties": {"kind": {"type": "string", "enum": ["EDIT", "END"]}, "sure": {"type": "boolean"}},
    "required": ["kind", "sure"],
    "additionalProperties": False,
}


def protocols():
    """Those of the pack, under the name that ComfyUI gave it."""
    return next(module for name, module in sys.modules.items() if name.endswith(".clvr_core.protocols"))


class Look:
    """Says of a model as loaded: its class, how many numbers it has in which dtype, and the bytes they take."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("STRING",), "look", "rehearsal"

    @classmethod
    def INPUT_TYPES(cls):
        kinds = {name: (name.upper(),) for name in ("model", "clip", "vae")}
        return {"required": {}, "optional": kinds}

    def look(self, model=None, clip=None, vae=None):
        patcher = model or (clip or vae).patcher
        module = vae.first_stage_model if vae else patcher.model
        inner = getattr(module, "diffusion_model", None) or getattr(module, getattr(module, "clip", ""), module)
        numbers, nbytes = collections.Counter(), 0
        for value in {value.data_ptr(): value for value in module.state_dict().values() if value.numel()}.values():
            stored = getattr(value, "_qdata", value)
            numbers[str(stored.dtype).removeprefix("torch.")] += stored.numel()
            nbytes += stored.numel() * stored.element_size()
        kinds = [type(each).__name__ for each in (module, inner)]
        return (json.dumps({"class": kinds, "numbers": numbers, "bytes": nbytes}),)


class Ask:
    """Asks a vision model for decisions about a picture, and for a reply that a schema holds."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("STRING",), "ask", "rehearsal"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"vlm": ("CLVR_VLM",), "side": ("INT", {"default": 64})}}

    def ask(self, vlm, side):
        core = protocols()
        rows = np.linspace(0, 255, side, dtype=np.uint8)
        picture = np.stack(np.broadcast_arrays(rows[:, None], rows[None], np.uint8(80)), -1)
        decisions = vlm.decide((picture,), [core.Question(text) for text in ("Is it red?", "Is there a cat?")])
        messages = [core.Message("system", "You answer."), core.Message("user", "What now?", (picture,))]
        reply = vlm.chat(messages, SCHEMA)
        said = {"yes": [each.yes for each in decisions], "reply": reply.text, "finished": reply.finished}
        return (json.dumps(said),)


class Words:
    """A stand-in for the text encoder of the executor, so that the diffusion model can be alone in memory: random
    embeddings, always the same.
    """

    RETURN_TYPES, FUNCTION, CATEGORY = ("CLIP",), "make", "rehearsal"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"width": ("INT", {"default": 7680, "max": 1 << 20}), "tokens": ("INT", {"default": 64})}}

    def make(self, width, tokens):
        return (RandomWords(width, tokens),)


class RandomWords:
    cond_stage_model = tokenizer = None

    def __init__(self, width, tokens):
        self.width, self.count = width, tokens
        self.patcher = SimpleNamespace(model_state_dict=dict, patches={}, backup={})

    def tokenize(self, text, **_):
        return {"words": [[(0, 1.0)] * self.count]}

    def encode_from_tokens_scheduled(self, tokens, **_):
        random = torch.Generator().manual_seed(0)
        return [[torch.randn(1, self.count, self.width, generator=random), {"pooled_output": None}]]


class Shape:
    """Says what a conditioning holds."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("STRING",), "say", "rehearsal"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"conditioning": ("CONDITIONING",)}}

    def say(self, conditioning):
        tensor = conditioning[0][0]
        found = {"shape": list(tensor.shape), "dtype": str(tensor.dtype), "finite": bool(tensor.isfinite().all())}
        return (json.dumps(found),)


class Unproven:
    """From here on Vision Model takes weights that cannot see, and gives a reply so many tokens: CLVR Quick, which makes that
    node itself, has no widgets for it.
    """

    RETURN_TYPES, FUNCTION, CATEGORY = ("STRING",), "trust", "rehearsal"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"tokens": ("INT", {"default": 1536, "max": 1 << 20})}}

    def trust(self, tokens):
        execute = inspect.unwrap(nodes.NODE_CLASS_MAPPINGS["CLVR_VisionModel"].execute.__func__)
        assert execute.__code__.co_varnames[2:4] == ("reply_limit", "prove_sight")
        execute.__defaults__ = (tokens, False)
        return (str(tokens),)


class Trim:
    """Gives the system back what an earlier stage had taken and freed, which would hide that much of the next peak."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("STRING",), "trim", "rehearsal"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"number": ("INT", {"default": 0, "max": 1 << 30})}}

    def trim(self, number):
        gc.collect()
        if sys.platform == "linux":
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        return (str(number),)


NODE_CLASS_MAPPINGS = {
    "Rehearsal_Look": Look,
    "Rehearsal_Ask": Ask,
    "Rehearsal_Words": Words,
    "Rehearsal_Shape": Shape,
    "Rehearsal_Trim": Trim,
    "Rehearsal_Unproven": Unproven,
}
