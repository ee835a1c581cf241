"""What embedded weights draw, scored by the exact reader of their world on held-out prompts: one shot by number of things, single edits.

python benchmarks/base_quality.py [--weights DIR] [--count 200] [--seed 90001] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clvr_core.executor.klein import Sampling
from clvr_core.protocols import DrawRequest, Picture
from clvr_core.world import World, world_named, world_of


class Quality:
    """Draws by one executor in one world."""

    def __init__(self, world: World, executor: Any, count: int, seed: int) -> None:
        self.world, self.executor, self.count, self.seed = world, executor, count, seed

    def draw(self, cases: Sequence[tuple[str, tuple[Picture, ...]]], rng: random.Random) -> list[Picture]:
        """cases: prompts with their references."""
        side = self.world.canvas
        requests = [DrawRequest(words, rng.randrange(2**31), given, side, side) for words, given in cases]
        return [drawing.picture for drawing in self.executor.draw(requests)]

    def one_shot(self, things: int) -> float:
        rng, world = random.Random(f"one-shot/{self.seed}/{things}"), self.world
        prompts = [world.sampling.random_brief(rng, things)[2] for _ in range(self.count)]
        pictures = self.draw([(prompt, ()) for prompt in prompts], rng)
        passed = [world.meets(prompt, world.perceive(picture)) for prompt, picture in zip(prompts, pictures)]
        return sum(passed) / self.count

    def single_edits(self, kind: str) -> tuple[float, float]:
        """Share carried out with everything else untouched, and share with everything else untouched."""
        rng, world = random.Random(f"edit/{self.seed}/{kind}"), self.world
        cases = []
        while len(cases) < self.count:
            before = world.sampling.random_scene(rng, rng.randint(1, 7))
            edit = world.sampling.random_edit(rng, before, kind)
            if edit.kind == kind:
                cases.append((before, edit, world.instruct(edit, before, rng)))
        given = [world.render(before) for before, _, _ in cases]
        drawn = self.draw([(words, (picture,)) for (_, _, words), picture in zip(cases, given)], rng)
        checks = [
            world.check_edit(
                shown, picture, self._as_drawn(world.apply(edit, before), words, picture, edit), edit.cells
            )
            for (before, edit, words), shown, picture in zip(cases, given, drawn)
        ]
        return tuple(sum(each) / self.count for each in zip(*((c.success, c.untouched_ok) for c in checks)))

    def _as_drawn(self, expected: Any, words: str, picture: Picture, edit: Any) -> Any:
        """Where the instruction leaves the size open, either is right."""
        if edit.kind != "put" or edit.thing.size in words.split():
            return expected
        drawn = self.world.perceive(picture).scene().at(edit.cell)
        if drawn is None:
            return expected
        return self.world.apply(replace(edit, thing=replace(edit.thing, size=drawn.size)), expected)

    def restores(self) -> float:
        """Edits with two references: one cell of the first brought back as the second has it."""
        rng, world = random.Random(f"restore/{self.seed}"), self.world
        cases = []
        while len(cases) < self.count:
            sample = world.sampling.restore_sample(rng)
            if any(sample.prompt == world.restore(cell) for cell in sample.cells):
                cases.append(sample)
        pairs = [tuple(map(world.render, sample.references)) for sample in cases]
        drawn = self.draw([(sample.prompt, pair) for sample, pair in zip(cases, pairs)], rng)
        checks = [
            world.check_edit(pair[0], picture, sample.target, sample.cells)
            for sample, pair, picture in zip(cases, pairs, drawn)
        ]
        return sum(check.success for check in checks) / self.count

    def measure(self) -> dict:
        result: dict = {
            "one shot": {str(things): self.one_shot(things) for things in range(1, 9)},
            "edits": {},
            "untouched": {},
        }
        kinds = tuple(self.world.sampling.EDIT_KINDS)
        for kind in kinds:
            result["edits"][kind], result["untouched"][kind] = self.single_edits(kind)
        result["edits"]["all kinds"] = sum(result["edits"].values()) / len(kinds)
        result["two references"] = self.restores()
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=world_named().base)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=90001)
    parser.add_argument("--few", action="store_true", help="also at 4 steps without guidance and at 28 with")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    world = world_of(options.weights)
    executor = world.load_executor(options.weights)
    recipe = executor.recipe
    recipes = {
        f"recipe ({recipe.generate.steps} x CFG {recipe.generate.guidance}, edits {recipe.edit.steps} x {recipe.edit.guidance})": recipe
    }
    if options.few:
        for steps, guidance in ((4, 1.0), (28, 2.5)):
            recipes[f"{steps} steps, guidance {guidance}"] = replace(
                recipe, generate=Sampling(steps, guidance), edit=Sampling(steps, guidance)
            )
    results = {}
    for name, executor.recipe in recipes.items():
        started = time.perf_counter()
        results[name] = Quality(world, executor, options.count, options.seed).measure()
        shots = " ".join(f"{things}:{rate:.3f}" for things, rate in results[name]["one shot"].items())
        edits = " ".join(f"{kind}:{rate:.3f}" for kind, rate in results[name]["edits"].items())
        print(
            f"{name}\n  one shot  {shots}\n  edits     {edits}\n  restore   {results[name]['two references']:.3f}\n"
            f"  {time.perf_counter() - started:.0f} s",
            flush=True,
        )
    if options.json:
        options.json.write_text(
            json.dumps({"count": options.count, "seed": options.seed, "results": results}, indent=1)
        )


if __name__ == "__main__":
    main()
