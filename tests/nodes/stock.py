"""ComfyUI's own templates: the graphs of the package comfyui-workflow-templates-json, read for how they sample."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = "comfyui_workflow_templates_json"
WIDGETS = {
    "KSampler": ("seed", "after", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerSelect": ("sampler_name",),
    "Flux2Scheduler": ("steps", "width", "height"),
    "ManualSigmas": ("sigmas",),
    "CFGGuider": ("cfg",),
    "UNETLoader": ("unet_name", "weight_dtype"),
    "CLIPLoader": ("clip_name", "type", "device"),
    "VAELoader": ("vae_name",),
    "ModelSamplingAuraFlow": ("shift",),
    "EmptyFlux2LatentImage": ("width", "height"),
    "EmptySD3LatentImage": ("width", "height"),
    "EmptyLatentImage": ("width", "height"),
    "ComfySwitchNode": ("switch",),
    "PrimitiveInt": ("value",),
    "PrimitiveFloat": ("value",),
    "PrimitiveBoolean": ("value",),
}
"""Class type -> names of its widgets, in their order."""
UNKNOWN = object()
"""A value that comes from a node which is not in WIDGETS."""


def folder() -> Path | None:
    """COMFYUI_TEMPLATES, or the folder of the package that is installed here or beside ComfyUI; None if there is none."""
    if named := os.environ.get("COMFYUI_TEMPLATES"):
        return Path(named)
    if spec := importlib.util.find_spec(PACKAGE):
        return Path(spec.origin).parent / "templates"
    if python := os.environ.get("COMFYUI_PYTHON"):
        code = f"import {PACKAGE}; print({PACKAGE}.__file__)"
        found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
        return None if found.returncode else Path(found.stdout.strip()).parent / "templates"
    return None


@dataclass(frozen=True)
class Sampling:
    """How one sampler of a graph is set. A value is None where the graph has no node for it."""

    template: str
    model: str
    encoder: str
    type: str
    vae: str
    steps: int
    cfg: float
    sampler: str
    scheduler: str
    shift: float | None
    size: tuple[int, int] | None
    kinds: frozenset[str]
    """Class types of all nodes that the picture depends on."""


@cache
def samplings(path: Path) -> tuple[Sampling, ...]:
    """Every sampler of this template, in subgraphs too, switched as the template is."""
    root = Level(json.loads(path.read_text(encoding="utf-8")), None, None)
    return tuple(_sampling(path.stem, level, node) for level in root.levels() for node in level.samplers())


class Level:
    """A graph, or a subgraph in the place of one of the nodes that stand for it."""

    def __init__(self, graph: dict[str, Any], outer: Level | None, place: dict[str, Any] | None) -> None:
        self.graph, self.outer, self.place = graph, outer, place
        self.nodes = {node["id"]: node for node in graph["nodes"]}
        self.links = {link["id"]: link for link in map(_link, graph["links"])}
        self.subgraphs: dict[str, Any] = (
            outer.subgraphs
            if outer
            else {each["id"]: each for each in graph.get("definitions", {}).get("subgraphs", ())}
        )

    def levels(self) -> Iterator[Level]:
        yield self
        for node in self.nodes.values():
            if node["type"] in self.subgraphs:
                yield from Level(self.subgraphs[node["type"]], self, node).levels()

    def samplers(self) -> list[dict[str, Any]]:
        return [node for node in self.nodes.values() if node["type"] in ("KSampler", "SamplerCustomAdvanced")]

    def source(self, node: dict[str, Any], name: str) -> tuple[Level, dict[str, Any], int] | None:
        """The node behind an input, with the level that it is in and its output; None if nothing is linked there."""
        link = next((each.get("link") for each in node.get("inputs", ()) if each["name"] == name), None)
        return self._follow(self.links[link]) if link is not None else None

    def _follow(self, link: dict[str, Any]) -> tuple[Level, dict[str, Any], int] | None:
        if link["origin_id"] in self.nodes:
            return self, self.nodes[link["origin_id"]], link["origin_slot"]
        # The subgraph's own input.
        return self.outer.source(self.place, self.graph["inputs"][link["origin_slot"]]["name"])

    def value(self, node: dict[str, Any], name: str) -> Any:
        """What a widget of this node is set to: by a link, by the subgraph's own widget, or by itself."""
        slot = next((each for each in node.get("inputs", ()) if each["name"] == name), {})
        if (link := slot.get("link")) is not None:
            return self._by_link(self.links[link], node, name)
        values = node.get("widgets_values") or []
        place = WIDGETS[node["type"]].index(name)
        return values[place] if place < len(values) else None

    def _by_link(self, link: dict[str, Any], node: dict[str, Any], name: str) -> Any:
        if link["origin_id"] not in self.nodes:
            entry = self.graph["inputs"][link["origin_slot"]]
            outer = next((each for each in self.place.get("inputs", ()) if each["name"] == entry["name"]), {})
            if outer.get("link") is not None:
                return self.outer._by_link(self.outer.links[outer["link"]], self.place, entry["name"])
            return self._promoted(entry, node, name)
        origin = self.nodes[link["origin_id"]]
        if origin["type"] == "ComfySwitchNode":
            side = "on_true" if self.value(origin, "switch") else "on_false"
            behind = next(each["link"] for each in origin["inputs"] if each["name"] == side)
            return self._by_link(self.links[behind], node, name)
        return self.value(origin, "value") if origin["type"].startswith("Primitive") else UNKNOWN

    def _promoted(self, entry: dict[str, Any], node: dict[str, Any], name: str) -> Any:
        """A widget that the subgraph shows: in the order of its inputs, or as proxyWidgets lists them; where the place
        has no values, the inner node's own.
        """
        values = self.place.get("widgets_values") or []
        proxies = self.place.get("properties", {}).get("proxyWidgets")
        shown = (
            [tuple(map(str, each)) for each in proxies]
            if proxies
            else [
                each["name"]
                for each in self.graph["inputs"]
                if each["type"] in ("STRING", "INT", "FLOAT", "COMBO", "BOOLEAN")
            ]
        )
        wanted = (str(node["id"]), name) if proxies else entry["name"]
        if wanted in shown and len(values) >= len(shown):
            return values[shown.index(wanted)]
        own = node.get("widgets_values") or []
        return own[WIDGETS[node["type"]].index(name)]

    def upstream(self, node: dict[str, Any]) -> Iterator[tuple[Level, dict[str, Any]]]:
        """The node and all nodes that it depends on, through switches as they are set."""
        todo, seen = [(self, node)], set()
        while todo:
            level, at = todo.pop()
            if (id(level.graph), at["id"]) in seen:
                continue
            seen.add((id(level.graph), at["id"]))
            yield level, at
            names = [each["name"] for each in at.get("inputs", ())]
            if at["type"] == "ComfySwitchNode":
                names = ["on_true" if level.value(at, "switch") else "on_false"]
            for name in names:
                if found := level.source(at, name):
                    inner, origin, slot = found
                    if origin["type"] in inner.subgraphs:
                        inside = Level(inner.subgraphs[origin["type"]], inner, origin)
                        output = inside.graph["outputs"][slot]
                        ends = [inside.links[each] for each in output.get("linkIds", ())]
                        todo += [
                            (inside, inside.nodes[end["origin_id"]]) for end in ends if end["origin_id"] in inside.nodes
                        ]
                    else:
                        todo.append((inner, origin))


def _link(link: Any) -> dict[str, Any]:
    if isinstance(link, dict):
        return link
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    return dict(zip(names, link))


def _vae(level: Level) -> str:
    """The VAE that decodes: it is in the sampler's graph, and not upstream of it."""
    loader = next(node for node in level.nodes.values() if node["type"] == "VAELoader")
    return level.value(loader, "vae_name")


def _sampling(template: str, level: Level, node: dict[str, Any]) -> Sampling:
    parts = list(level.upstream(node))
    kinds = frozenset(each["type"] for _, each in parts)

    def first(kind: str, name: str) -> Any:
        return next((at.value(each, name) for at, each in parts if each["type"] == kind), None)

    def of(*places: tuple[str, str]) -> Any:
        return next((value for kind, name in places if (value := first(kind, name)) is not None), None)

    levels = first("ManualSigmas", "sigmas")
    sizes = [kind for kind in WIDGETS if kind.startswith("Empty") and kind in kinds]
    size = tuple(first(sizes[0], side) for side in ("width", "height")) if sizes else None
    encoder = [
        (at.value(each, "clip_name"), at.value(each, "type")) for at, each in parts if each["type"] == "CLIPLoader"
    ]
    # The others rewrite prompts.
    encoder = next(pair for pair in encoder if not any(word in pair[0] for word in ("upsampler", "_pe_")))
    return Sampling(
        template,
        *(first("UNETLoader", "unet_name"), *encoder, _vae(level)),
        len(levels.split(",")) - 1 if levels else of(("KSampler", "steps"), ("Flux2Scheduler", "steps")),
        of(("KSampler", "cfg"), ("CFGGuider", "cfg")),
        of(("KSampler", "sampler_name"), ("KSamplerSelect", "sampler_name")),
        levels or ("flux2" if "Flux2Scheduler" in kinds else first("KSampler", "scheduler")),
        first("ModelSamplingAuraFlow", "shift"),
        None if size is None or UNKNOWN in size or None in size else size,
        kinds,
    )
