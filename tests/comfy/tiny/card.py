"""A graphics card that is not there: ComfyUI's own manager loads onto it and unloads from it, by figures of ours.

The device is the processor under its other name, which ComfyUI does not take for the processor when it makes room. How large each model
is, and how much of the card is free, is as it would be for FLUX.2 Klein 4B with Qwen3-VL 4B as eyes.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import MutableMapping
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

CARD = torch.device("cpu", 0)
GIB = 1 << 30
SIZES = {"eyes": 8.0, "text": 7.5, "model": 7.25, "vae": 0.25}
"""GiB."""


class Placed(ModelPatcher):
    """Tells the server's log when it is put to work, and when it is unloaded, always with what is on the card then."""

    room = 0.0
    """GiB that the card has."""
    placed: ClassVar[MutableMapping[str, Any]] = WeakValueDictionary()
    """By its name in SIZES, each module that is to work there. One that was kept alive here would make ComfyUI's manager
    collect garbage, which takes it long, before each model that is loaded from then on."""

    @classmethod
    def of(cls, patcher: ModelPatcher, name: str) -> Placed:
        patcher.__class__, patcher.load_device = cls, CARD
        patcher.offload_device, patcher.size = torch.device("cpu"), int(SIZES[name] * GIB)
        cls.placed[name] = patcher.model
        return patcher

    @classmethod
    def held(cls) -> list[str]:
        return [name for name, module in cls.placed.items() if module.model_loaded_weight_memory > 0]

    @classmethod
    def free(cls) -> float:
        """Bytes."""
        return (cls.room - sum(SIZES[name] for name in cls.held())) * GIB

    @property
    def called(self) -> str:
        return next(name for name, module in self.placed.items() if module is self.model)

    def tell(self, what: str) -> None:
        print(f"card: {json.dumps([self.called, what, self.held()])}", flush=True)

    def loaded_size(self) -> int:
        return self.size if self.model.model_loaded_weight_memory else 0

    def partially_load(self, *args, **kwargs):
        loaded = super().partially_load(*args, **kwargs)
        self.tell("works")
        return loaded

    def partially_unload(self, *args, **kwargs) -> int:
        return 0  # whole, or not at all

    def detach(self, unpatch_all: bool = True):
        module = super().detach(unpatch_all)
        if unpatch_all:
            self.tell("leaves")
        return module


free_memory_of = comfy.model_management.get_free_memory


def get_free_memory(dev=None, torch_free_too=False):
    if dev != CARD:
        return free_memory_of(dev, torch_free_too)
    return (Placed.free(), 0) if torch_free_too else Placed.free()


comfy.model_management.get_free_memory = get_free_memory


class Card(io.ComfyNode):
    """The same models, on a card of this size that is empty."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="Tiny_Card",
            category="tiny",
            inputs=[
                io.Float.Input("room"),
                io.Clip.Input("eyes"),
                io.Clip.Input("clip"),
                io.Model.Input("model"),
                io.Vae.Input("vae"),
            ],
            outputs=[io.Clip.Output("e"), io.Clip.Output("c"), io.Model.Output("m"), io.Vae.Output("v")],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> int:
        return time.time_ns()

    @classmethod
    def execute(cls, room: float, eyes, clip, model, vae) -> io.NodeOutput:
        comfy.model_management.unload_all_models()
        Placed.room, Placed.placed = room, WeakValueDictionary()
        eyes, clip, model, vae = eyes.clone(), clip.clone(), model.clone(), copy.copy(vae)
        vae.patcher = vae.patcher.clone()
        for name, patcher in {"eyes": eyes.patcher, "text": clip.patcher, "model": model, "vae": vae.patcher}.items():
            Placed.of(patcher, name)
        return io.NodeOutput(eyes, clip, model, vae)


class Prompted:
    """A vision model that begins with all that it is asked, and then says what the script says."""

    def __init__(self, vlm, script) -> None:
        self.name, self.vlm, self.script = vlm.name, vlm, script
        vlm.reply_limit = 2
        vlm._grammars = None  # the words are not used; to hold them to a schema takes longer than all the rest

    def chat(self, messages, schema):
        self.vlm.chat(messages, schema)
        return self.script.chat(messages, schema)

    def decide(self, images, questions):
        self.vlm.decide(images, questions)
        return self.script.decide(images, questions)


class Prompter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        kind = io.Custom("CLVR_VLM")
        return io.Schema(
            node_id="Tiny_Prompter",
            category="tiny",
            inputs=[kind.Input("vlm"), kind.Input("script")],
            outputs=[kind.Output()],
        )

    @classmethod
    def execute(cls, vlm, script) -> io.NodeOutput:
        return io.NodeOutput(Prompted(vlm, script))
