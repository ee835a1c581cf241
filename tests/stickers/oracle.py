"""An executor that draws with the eyes' pictures: measures the planning alone, and with `fault` how planning copes with a bad executor."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from clvr_core.executor.masks import within_mask
from clvr_core.protocols import Drawing, DrawRequest, Picture
from clvr_core.stickers.comparing import compared
from clvr_core.stickers.grammar import Instruction, parse, parse_instruction
from clvr_core.stickers.judge import StickersVlm
from clvr_core.stickers.perceive import EditCheck
from clvr_core.stickers.planner import closest
from clvr_core.stickers.proxies import after
from clvr_core.stickers.sampling import jitter, random_edit, random_thing
from clvr_core.stickers.scene import CANVAS, SIGN, Scene, apply
from clvr_core.world import world_named
from tests.stickers.eyes import perceive, picture_of

__all__ = ["CANVAS", "SIZE", "WORLD", "OracleExecutor", "load_vlm"]
SIZE = {"width": CANVAS, "height": CANVAS}
"""Of a brief whose pictures the oracle draws."""


load_vlm = partial(StickersVlm, read=perceive)
"""Makes the controller and judge of the sticker world, which see by the eyes and so need no weights."""


def check_edit(before: Picture, after: Picture, expected: Scene, cells: Iterable[int]) -> EditCheck:
    return compared(perceive(before), perceive(after), expected, cells)


WORLD = replace(world_named("stickers"), perceive=perceive, check_edit=check_edit, render=picture_of, load_vlm=load_vlm)
"""The sticker world as the eyes see it."""


class OracleExecutor:
    name = "oracle"

    def __init__(self, fault: float = 0.0, generate_nfe: int = 24, edit_nfe: int = 8) -> None:
        self.fault, self.generate_nfe, self.edit_nfe = fault, generate_nfe, edit_nfe
        self.requests: list[DrawRequest] = []

    def nfe(self, request: DrawRequest) -> int:
        return self.edit_nfe if request.references else self.generate_nfe

    def draw(self, requests):
        self.requests += requests
        return [
            Drawing(within_mask(request, picture_of(self._scene(request))), self.nfe(request)) for request in requests
        ]

    def _scene(self, request: DrawRequest) -> Scene:
        rng = random.Random(request.seed)
        if not request.references:
            scene = closest(parse(request.prompt), Scene(), rng)
            moved = tuple(replace(thing, dx=jitter(rng), dy=jitter(rng)) for thing in scene.things)
            scene = replace(scene, things=moved)
            chance = 1 - (1 - self.fault) ** len(scene.things)
        else:
            given = [perceive(reference).scene() for reference in request.references]
            scene = given[0]
            for change in parse_instruction(request.prompt):
                scene = after(self._settled(change, rng), scene, given)
            chance = self.fault
        if rng.random() < chance:
            scene = apply(random_edit(rng, scene), scene)
        return scene

    def _settled(self, change: Instruction, rng: random.Random) -> Instruction:
        """What the words leave open is drawn at random."""
        if change.kind != "put":
            return change
        thing = random_thing(rng, 0, 1.0 if change.noun == SIGN else 0.0)
        return replace(change, size=change.size or thing.size, word=change.word or thing.word or None)
