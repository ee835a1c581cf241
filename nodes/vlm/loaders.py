"""Which loader a model came from, so that a message can name the widget to turn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import nodes as comfy_nodes

from ..host.links import is_link, provenance

SEES = "stable_diffusion"
"""The type of Load CLIP that keeps the eyes of a vision-language model."""


@dataclass(frozen=True)
class Loader:
    """The node at the beginning of a link. `widgets`: what stands in it. `digest`: of all that stands between, too."""

    title: str
    widgets: dict[str, Any]
    digest: str

    @property
    def file(self) -> str:
        return next(
            (str(value) for name, value in self.widgets.items() if name.startswith(("clip_name", "ckpt_name"))), ""
        )

    @property
    def name(self) -> str:
        return f"{PurePath(self.file).stem or self.title} ({self.digest[:8]})"

    def refusal(self, reason: str) -> str:
        """A sentence to the person who is to choose another value of one of the widgets."""
        type_of = self.widgets.get("type")
        if type_of in (None, SEES):
            widget = next((name for name in self.widgets if name.startswith(("clip_name", "ckpt_name"))), "its file")
            return (
                f"{self.title} has {widget} {self.file!r}, which cannot judge pictures: {reason}. Choose there a vision-language model, "
                "such as qwen3vl_4b_fp8_scaled.safetensors"
            )
        return (
            f"{self.title} has type {type_of!r}, which makes a text encoder of {self.file!r}: {reason}. Choose type {SEES!r} for the "
            "judge, in a loader of its own if the file also encodes prompts"
        )


def loader_of(dynprompt: Any, node: str, name: str) -> Loader:
    """By the first CLIP link upwards from this input of the node, through LoRA loaders and their like."""
    at, source = node, dynprompt.get_node(node)["inputs"].get(name)
    while is_link(source):
        at = source[0]
        inputs = dynprompt.get_node(at)["inputs"]
        source = next((value for key, value in inputs.items() if key.startswith("clip") and is_link(value)), None)
    told = dynprompt.get_node(at)
    kind = told["class_type"]
    title = comfy_nodes.NODE_DISPLAY_NAME_MAPPINGS.get(kind, kind)
    widgets = {key: value for key, value in told["inputs"].items() if not is_link(value)}
    return Loader(
        f"the node {title!r} ({dynprompt.get_display_node_id(at)})", widgets, provenance(dynprompt, node, name)
    )
