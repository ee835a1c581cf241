"""Schemas of nodes. `Schema.info` is what ComfyUI answers to /object_info, made from these classes alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from _missing import missing

__getattr__ = missing(__name__)


class ControlAfterGenerate(str, Enum):
    fixed = "fixed"
    increment = "increment"


class Hidden(str, Enum):
    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"
    dynprompt = "DYNPROMPT"


class Input:
    """An input without a widget. `more`: what a widget adds, by ComfyUI's names in /object_info."""

    io_type = ""

    def __init__(
        self,
        id: str,
        *,
        optional: bool = False,
        tooltip: str | None = None,
        lazy: bool | None = None,
        raw_link: bool | None = None,
        dynamic_prompts: bool | None = None,
        advanced: bool | None = None,
        **more: Any,
    ) -> None:
        self.id, self.optional, self.lazy = id, optional, lazy
        given = {"tooltip": tooltip, "lazy": lazy, "rawLink": raw_link, "advanced": advanced, **more}
        given["dynamicPrompts"] = dynamic_prompts
        self.options = {key: value for key, value in given.items() if value is not None}

    def get_io_type(self) -> str:
        return self.io_type


def _widget(*names: str, **always: Any) -> type[Input]:
    """An input with a widget, which takes `default` and these names; `always`: what it says of itself in every case."""
    allowed = {"default", "optional", "tooltip", "lazy", "raw_link", "advanced", *names}

    class WidgetInput(Input):
        def __init__(self, id: str, **given: Any) -> None:
            if unknown := given.keys() - allowed:
                raise TypeError(f"input {id!r}: the stub knows no {sorted(unknown)} of {self.io_type}")
            super().__init__(id, **always | given)

    return WidgetInput


class Output:
    io_type = ""

    def __init__(
        self,
        id: str | None = None,
        display_name: str | None = None,
        tooltip: str | None = None,
        is_output_list: bool = False,
    ) -> None:
        self.id, self.display_name, self.tooltip = id, display_name or id, tooltip
        self.is_output_list = is_output_list


def _type(io_type: str, input: type[Input] = Input) -> type:
    """A type of links, by ComfyUI's name, with its Input and Output."""
    made = {"Input": type("Input", (input,), {"io_type": io_type})}
    made["Output"] = type("Output", (Output,), {"io_type": io_type})
    return type(io_type, (), made | {"io_type": io_type})


Custom = _type
Boolean = _type("BOOLEAN", _widget())
Int = _type("INT", _widget("min", "max", "step", "control_after_generate"))
Float = _type("FLOAT", _widget("min", "max", "step"))
String = _type("STRING", _widget("multiline", "placeholder", "dynamic_prompts", multiline=False))
Combo = _type("COMBO", _widget("options", multiselect=False))


class DynamicCombo:
    """A choice that shows further inputs."""

    io_type = "COMFY_DYNAMICCOMBO_V3"

    @dataclass
    class Option:
        key: str
        inputs: list[Input]

    class Input(Input):
        io_type = "COMFY_DYNAMICCOMBO_V3"

        def __init__(self, id: str, options: list[DynamicCombo.Option], **given: Any) -> None:
            super().__init__(id, **given)
            self.options["options"] = [{"key": each.key, "inputs": _grouped(each.inputs)} for each in options]


def _grouped(inputs: list[Input]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {"required": {}}
    for each in inputs:
        group = found.setdefault("optional" if each.optional else "required", {})
        group[each.id] = [each.get_io_type(), each.options]
    return found


AnyType = _type("*")
ClipVision = _type("CLIP_VISION")
Clip = _type("CLIP")
Conditioning = _type("CONDITIONING")
FlowControl = _type("FLOW_CONTROL")
Image = _type("IMAGE")
Mask = _type("MASK")
Model = _type("MODEL")
Vae = _type("VAE")


@dataclass
class Schema:
    node_id: str
    display_name: str
    category: str
    description: str = ""
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    search_aliases: list[str] = field(default_factory=list)
    is_output_node: bool = False
    enable_expand: bool = False
    has_intermediate_output: bool = False

    def __post_init__(self) -> None:
        for each in (self.inputs, self.outputs):
            ids = [part.id for part in each]
            if len(set(ids)) < len(ids):
                raise ValueError(f"{self.node_id}: ids must be unique, and are {ids}")

    def info(self) -> dict[str, Any]:
        """The node in /object_info, less what no node of the pack sets."""
        inputs = _grouped(self.inputs)
        hidden = list(self.hidden)
        if self.is_output_node:
            hidden += [each for each in (Hidden.prompt, Hidden.extra_pnginfo) if each not in hidden]
        if hidden:
            inputs["hidden"] = {each.name: [each.value] for each in hidden}
        return {
            "input": inputs,
            "input_order": {group: list(named) for group, named in inputs.items()},
            "output": [each.io_type for each in self.outputs],
            "output_name": [each.display_name or each.io_type for each in self.outputs],
            "output_tooltips": [each.tooltip for each in self.outputs],
            "name": self.node_id,
            "display_name": self.display_name,
            "category": self.category,
            "description": self.description,
            "output_node": self.is_output_node,
            "has_intermediate_output": self.has_intermediate_output,
            "search_aliases": self.search_aliases or None,
        }


class HiddenHolder:
    """The hidden inputs of a node that is executing; None for one that it has not asked for."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> None:
        return None


class ComfyNode:
    hidden: HiddenHolder


class NodeOutput:
    def __init__(self, *args: Any, ui: Any = None, expand: dict[str, Any] | None = None) -> None:
        self.args, self.ui, self.expand = args, ui, expand


@dataclass
class NodeReplace:
    new_node_id: str
    old_node_id: str
    old_widget_ids: list[str] | None = None
    input_mapping: list[dict[str, Any]] | None = None
    output_mapping: list[dict[str, int]] | None = None
