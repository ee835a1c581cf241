"""An executor that draws with the renderer: measures the planning alone, and with `fault` how planning copes with a bad executor."""

from __future__ import annotations

import random
from dataclasses import replace

from clvr_core.executor.masks import within_mask
from clvr_core.protocols import Drawing, DrawRequest
from clvr_core.shapes.grammar import Instruction, parse, parse_instruction
from clvr_core.shapes.perceive import perceive
from clvr_core.shapes.planner import closest
from clvr_core.shapes.render import render
from clvr_core.shapes.sampling import jitter, random_edit, random_thing
from clvr_core.shapes.scene import Edit, Scene, Thing, apply


class RenderExecutor:
    name = "renderer"

    def __init__(self, fault: float = 0.0, generate_nfe: int = 24, edit_nfe: int = 8, per_thing: bool = True) -> None:
        self.fault, self.generate_nfe, self.edit_nfe, self.per_thing = fault, generate_nfe, edit_nfe, per_thing
        self.requests: list[DrawRequest] = []

    def nfe(self, request: DrawRequest) -> int:
        return self.edit_nfe if request.references else self.generate_nfe

    def draw(self, requests):
        self.requests += requests
        return [Drawing(within_mask(request, render(self._scene(request))), self.nfe(request)) for request in requests]

    def _scene(self, request: DrawRequest) -> Scene:
        rng = random.Random(request.seed)
        if not request.references:
            scene = closest(parse(request.prompt), (), rng)
            scene = Scene(tuple(replace(thing, dx=jitter(rng), dy=jitter(rng)) for thing in scene.things))
            chance = 1 - (1 - self.fault) ** len(scene.things)
        else:
            scene = perceive(request.references[0]).scene()
            for change in parse_instruction(request.prompt):
                scene = self._apply(change, scene, request, rng)
            chance = self.fault
        if rng.random() < chance:
            scene = apply(random_edit(rng, scene), scene)
        return scene

    def _apply(self, change: Instruction, scene: Scene, request: DrawRequest, rng: random.Random) -> Scene:
        if change.kind == "put":
            size = change.size or random_thing(rng, 0).size
            return apply(
                Edit(
                    "put",
                    change.cell,
                    thing=Thing(change.shape, change.color, size, change.cell, jitter(rng), jitter(rng)),
                ),
                scene,
            )
        if change.kind == "restore":
            there = perceive(request.references[change.reference - 1]).scene().at(change.cell)
            return apply(Edit("put", change.cell, thing=there) if there else Edit("remove", change.cell), scene)
        if change.kind == "move" and scene.at(change.to) is not None:
            return scene
        return apply(Edit(change.kind, change.cell, color=change.color, size=change.size, to=change.to), scene)
