"""Proxy prompts of the sticker world: what a canvas should show after an instruction, computed from what is seen before
it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .grammar import MOST_THINGS, Instruction, parse_instruction
from .perceive import Perception
from .phrases import whole, write
from .scene import NATURAL, SIGN, Scene, Thing, look


def proxies(data: Mapping[str, Any], seen: Sequence[Perception]) -> dict[str, Any]:
    """Return the reply to a proxy request; without words for a scene that no brief can say, empty or of nine things.

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
        "scene_prompt": write(whole(scene), "terse") if 0 < len(scene.things) <= MOST_THINGS else "",
        "edit_prompt": data["words"],
        "references": references,
    }


def after(change: Instruction, scene: Scene, given: Sequence[Scene]) -> Scene:
    """Return the scene after one change of an instruction. What the words leave open stays as it is; a new sticker is
    small, and a new sign says A."""
    if change.backdrop is not None:
        return replace(scene, backdrop=change.backdrop)
    if change.cell is None:
        return scene
    rest, there = scene.without([change.cell]), scene.at(change.cell)
    if change.kind == "restore":
        earlier = (
            given[change.reference - 1].at(change.cell)
            if change.reference and change.reference <= len(given)
            else there
        )
        return scene.with_thing(earlier) if earlier else rest
    if change.kind == "put" and change.noun == SIGN:
        word = change.word or (there.word if there and there.word else "A")
        return scene.with_thing(Thing(SIGN, NATURAL, "large", change.cell, word=word))
    if change.kind == "put" and change.noun and change.color:
        size = change.size or (there.size if there else "small")
        return scene.with_thing(Thing(change.noun, change.color, size, change.cell))
    if there is None or change.kind == "remove":
        return rest
    if change.kind == "move" and change.to is not None:
        return scene if scene.at(change.to) else rest.with_thing(replace(there, cell=change.to, dx=0, dy=0))
    if there.noun == SIGN:
        return scene.with_thing(replace(there, word=change.word)) if change.word else scene
    color = look(there.noun, change.color) if change.color else there.color
    return scene.with_thing(replace(there, color=color, size=change.size or there.size))
