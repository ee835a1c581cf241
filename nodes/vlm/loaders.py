"""The loader that a model came from, so that an error can name the widget to change."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import nodes as comfy_nodes

from ..host.links import is_link, provenance

SEES = "stable_diffusion"
"""The type of Load CLIP that keeps the vision tower of a vision-language model."""


@dataclass(frozen=True)
class Loader:
    """The node that loaded a model.

    title: its name and id, for an error.
    widgets: its widgets by name.
    digest: of the loader and of every node between it and ours.
    """

    title: str
    widgets: dict[str, Any]
    digest: str

    @property
    def file(self) -> str:
        """The value of its file widget, empty if it has none."""
        return next(
            (str(value) for name, value in self.widgets.items() if name.startswith(("clip_name", "ckpt_name"))), ""
        )

    @property
    def name(self) -> str:
        """The file's name without folder and extension, with the beginning of the digest."""
        return f"{PurePath(self.file).stem or self.title} ({self.digest[:8]})"

    def refusal(self, reason: str) -> str:
        """Return an error that says which widget to change, and to what. `reason`: why the model was refused."""
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
    """Find the loader behind this input by following CLIP links upstream, through LoRA loaders and the like."""
    at, source = node, dynprompt.get_node(node)["inputs"].get(name)
    while is_link(source):
        at = source[0]
        inputs = dynprompt.get_node(at)["inputs"]
        source = next((value for key, value in inputs.items() if key.startswith("clip") and is_link(value)), None)
    loader = dynprompt.get_node(at)
    kind = loader["class_type"]
    title = comfy_nodes.NODE_DISPLAY_NAME_MAPPINGS.get(kind, kind)
    widgets = {key: value for key, value in loader["inputs"].items() if not is_link(value)}
    return Loader(
        f"the node {title!r} ({dynprompt.get_display_node_id(at)})", widgets, provenance(dynprompt, node, name)
    )
