"""Proxy prompts of the shapes world: what a canvas should show after an instruction, computed from what is seen before
it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .grammar import Instruction, parse_instruction
from .perceive import Perception
from .phrases import whole, write
from .scene import Scene, Thing


def proxies(data: Mapping[str, Any], seen: Sequence[Perception]) -> dict[str, Any]:
    """Return the reply to a proxy request.

    seen: the canvases given to the instruction, the one to edit first.
    """
    if not seen:
        return {"scene_prompt": data["words"], "edit_prompt": "", "references": []}
    scene, used = seen[0].scene(), {1}
    for change in parse_instruction(data["words"]):
        used |= {change.reference} - {None}
        scene = after(change, scene, [each.scene() for each in seen])
    references = [place for place in range(1, len(seen) + 1) if place in used]
    return {
        "scene_prompt": write(whole(scene), "terse") if scene.things else "",
        "edit_prompt": data["words"],
        "references": references,
    }


def after(change: Instruction, scene: Scene, given: Sequence[Scene]) -> Scene:
    """Return the scene after one change of an instruction. What the words leave open stays as it is; a new thing is
    small."""
    rest, there = scene.without([change.cell]), scene.at(change.cell)
    if change.kind == "restore":
        earlier = (
            given[change.reference - 1].at(change.cell)
            if change.reference and change.reference <= len(given)
            else there
        )
        return Scene((*rest.things, earlier)) if earlier else rest
    if change.kind == "put" and change.shape and change.color:
        size = change.size or (there.size if there else "small")
        return Scene((*rest.things, Thing(change.shape, change.color, size, change.cell)))
    if there is None or change.kind == "remove":
        return rest
    if change.kind == "move" and change.to is not None:
        return scene if scene.at(change.to) else Scene((*rest.things, replace(there, cell=change.to, dx=0, dy=0)))
    named = {"color": change.color, "size": change.size}
    return Scene((*rest.things, replace(there, **{name: value for name, value in named.items() if value})))
