"""What the embedded weights draw, scored by the exact perceiver on held-out prompts: one shot by number of things, single edits by canvas.

python benchmarks/base_quality.py [--weights DIR] [--count 200] [--seed 90001] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import replace
from pathlib import Path

from clvr_core.executor.klein import Sampling
from clvr_core.protocols import DrawRequest
from clvr_core.shapes import WEIGHTS, load_executor
from clvr_core.shapes.perceive import check_edit, perceive
from clvr_core.shapes.phrases import instruct, restore
from clvr_core.shapes.render import render
from clvr_core.shapes.sampling import random_brief, random_edit, random_scene, restore_sample
from clvr_core.shapes.scene import apply

KINDS = ("put", "remove", "recolor", "resize", "move")


def one_shot(executor, things: int, count: int, seed: int) -> float:
    rng = random.Random(f"one-shot/{seed}/{things}")
    briefs = [random_brief(rng, things) for _ in range(count)]
    drawings = executor.draw([DrawRequest(prompt, rng.randrange(2**31)) for _, _, prompt in briefs])
    seen = [perceive(drawing.picture) for drawing in drawings]
    return sum(each.clean and spec.holds(each.things) for (_, spec, _), each in zip(briefs, seen)) / count


def single_edits(executor, kind: str, count: int, seed: int) -> tuple[float, float]:
    """Share carried out with everything else untouched, and share with everything else untouched."""
    rng = random.Random(f"edit/{seed}/{kind}")
    cases = []
    while len(cases) < count:
        before = random_scene(rng, rng.randint(1, 7))
        edit = random_edit(rng, before, kind)
        if edit.kind == kind:
            cases.append((before, edit, instruct(edit, before, rng)))
    pictures = [render(before) for before, _, _ in cases]
    drawings = executor.draw(
        [DrawRequest(words, rng.randrange(2**31), (picture,)) for (_, _, words), picture in zip(cases, pictures)]
    )
    checks = [
        check_edit(picture, drawing.picture, _as_drawn(apply(edit, before), words, drawing.picture, edit), edit.cells)
        for (before, edit, words), picture, drawing in zip(cases, pictures, drawings)
    ]
    return sum(check.success for check in checks) / count, sum(check.untouched_ok for check in checks) / count


def _as_drawn(expected, words: str, picture, edit):
    """Where the instruction leaves the size open, either is right."""
    if edit.kind != "put" or edit.thing.size in words.split():
        return expected
    drawn = perceive(picture).scene().at(edit.cell)
    return expected if drawn is None else apply(replace(edit, thing=replace(edit.thing, size=drawn.size)), expected)


def restores(executor, count: int, seed: int) -> float:
    """Edits with two references: one cell of the first brought back as the second has it."""
    rng = random.Random(f"restore/{seed}")
    cases = []
    while len(cases) < count:
        sample = restore_sample(rng)
        if any(sample.prompt == restore(cell) for cell in sample.cells):
            cases.append(sample)
    pictures = [tuple(render(scene) for scene in sample.references) for sample in cases]
    drawings = executor.draw(
        [DrawRequest(sample.prompt, rng.randrange(2**31), pair) for sample, pair in zip(cases, pictures)]
    )
    return (
        sum(
            check_edit(pair[0], drawing.picture, sample.target, sample.cells).success
            for sample, pair, drawing in zip(cases, pictures, drawings)
        )
        / count
    )


def measure(executor, count: int, seed: int) -> dict:
    result: dict = {
        "one shot": {str(things): one_shot(executor, things, count, seed) for things in range(1, 9)},
        "edits": {},
        "untouched": {},
    }
    for kind in KINDS:
        result["edits"][kind], result["untouched"][kind] = single_edits(executor, kind, count, seed)
    result["edits"]["all kinds"] = sum(result["edits"].values()) / len(KINDS)
    result["two references"] = restores(executor, count, seed)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=90001)
    parser.add_argument("--few", action="store_true", help="also at 4 steps without guidance and at 28 with")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    executor = load_executor(options.weights)
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
        results[name] = measure(executor, options.count, options.seed)
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
