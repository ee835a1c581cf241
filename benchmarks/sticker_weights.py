"""What weights of the sticker world draw, read from the decoded pictures by the reader, which never saw what draws.

One shot: briefs of one to eight things in all registers. Exact: all that the brief says holds, nothing else is there and nothing
is unclear. Words aside: the same with the letters on signs left out. Words: of the briefs that ask for a word, those with all of
their words. Edits: of rendered scenes of one to seven things. Whole: the target is as wanted and every other cell and the
backdrop are as they were. Lettering: a sign alone. Round trip: rendered scenes through the VAE, read exactly. Edits and round trip
need the pictures of the stickers (`npm ci` in tests/web, or CLVR_ART). CLVR_READER names another reader.

python benchmarks/sticker_weights.py WEIGHTS [--count 200] [--seed 80001] [--steps N] [--guidance G] [--json FILE]
    WEIGHTS: a folder of weights; sampled as its recipe says, unless --steps or --guidance say otherwise
    --count: pictures in each row
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clvr_core.evaluation.statistics import share
from clvr_core.executor.klein import KleinExecutor, Sampling
from clvr_core.protocols import DrawRequest, Picture
from clvr_core.stickers.comparing import compared, matches
from clvr_core.stickers.perceive import Perception, perceived, place, reader, source
from clvr_core.stickers.phrases import instruct
from clvr_core.stickers.reader import SPLIT
from clvr_core.stickers.render import render
from clvr_core.stickers.sampling import (
    EDIT_KINDS,
    brief_of,
    random_backdrop,
    random_brief,
    random_edit,
    random_scene,
    random_sign,
)
from clvr_core.stickers.scene import CANVAS, CELLS, LETTERS, MOST_LETTERS, NATURAL, SIGN, Scene, Thing, apply
from clvr_core.stickers.spec import Spec

BATCH = 64
THINGS = range(1, 9)
LENGTHS = range(1, MOST_LETTERS + 1)


def draw(
    executor: KleinExecutor, prompts: Sequence[str], canvases: Sequence[Picture], seed: int, bar: Any
) -> list[Picture]:
    """Draw in batches; each picture has a seed of its own. canvases: to be edited, one for each prompt, or none."""
    requests = [
        DrawRequest(prompt, seed + number, (canvases[number],) if canvases else (), CANVAS, CANVAS)
        for number, prompt in enumerate(prompts)
    ]
    # Prompts of one padded length are drawn together.
    order = sorted(range(len(requests)), key=lambda number: executor.text_length(prompts[number]))
    pictures: dict[int, Picture] = {}
    for start in range(0, len(order), BATCH):
        some = order[start : start + BATCH]
        drawings = executor.draw([requests[number] for number in some])
        pictures |= {number: drawing.picture for number, drawing in zip(some, drawings)}
        bar.update(len(some))
    return [pictures[number] for number in range(len(requests))]


def read(pictures: Sequence[Picture]) -> list[tuple[Perception, Perception]]:
    """Return what each picture shows, and the same with A on every sign, whether its letters are clear or not."""
    network, found = reader(), []
    starts = np.cumsum((0, *SPLIT))[4:-1]
    for start in range(0, len(pictures), BATCH):
        batch = torch.from_numpy(np.stack(pictures[start : start + BATCH])).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            cells, whole = (part.float().numpy() for part in network(batch))
        lettered = cells.copy()
        lettered[..., starts[0] :] = 0
        lettered[..., [starts[0] + 1, *starts[1:]]] = 100
        found += [(perceived(*pair), perceived(other, pair[1])) for pair, other in zip(zip(cells, whole), lettered)]
    return found


def meets(spec: Spec, seen: Perception) -> bool:
    """Say whether the picture is exactly what the spec asks for."""
    return seen.clean and spec.holds(seen.scene())


def wordless(spec: Spec) -> Spec:
    return replace(spec, items=tuple(replace(item, word=None) for item in spec.items))


def says(spec: Spec, seen: Perception) -> bool:
    """Say whether the signs say all the words that are asked for, each as often as it is."""
    shown = [thing.word for thing in seen.things if thing.noun == SIGN]
    return all(shown.count(item.word) >= item.count for item in spec.items if item.word)


def one_shot(executor: KleinExecutor, things: int, count: int, seed: int, bar: Any) -> dict[str, Any]:
    rng = random.Random(f"one-shot/{seed}/{things}")
    briefs = [random_brief(rng, things) for _ in range(count)]
    found = read(draw(executor, [prompt for *_, prompt in briefs], (), seed, bar))
    rows = [(spec, *pair) for (_, spec, _), pair in zip(briefs, found)]
    signed = [(spec, seen) for spec, seen, _ in rows if spec.written]
    return {
        "exact": share(sum(meets(spec, seen) for spec, seen, _ in rows), count),
        "words aside": share(sum(meets(wordless(spec), bare) for spec, _, bare in rows), count),
        "words": share(sum(says(*row) for row in signed), len(signed)),
        "unclear": share(sum(not seen.clean for _, seen, _ in rows), count),
    }


def edits(executor: KleinExecutor, kind: str, count: int, seed: int, bar: Any) -> dict[str, Any]:
    rng = random.Random(f"edit/{seed}/{kind}")
    cases = []
    while len(cases) < count:
        before = random_scene(rng, rng.randint(1, 7))
        edit = random_edit(rng, before, kind)
        if edit.kind == kind:
            cases.append((before, edit, instruct(edit, before, rng)))
    canvases = [render(before) for before, *_ in cases]
    found = read(draw(executor, [words for *_, words in cases], canvases, seed, bar))
    checks = [
        compared(Perception(before.things, before.backdrop), seen, apply(edit, before), edit.cells)
        for (before, edit, _), (seen, _) in zip(cases, found)
    ]
    return {
        "whole": share(sum(check.success for check in checks), count),
        "target": share(sum(check.target_ok for check in checks), count),
        "untouched": share(sum(check.untouched_ok for check in checks), count),
    }


def lettering(executor: KleinExecutor, length: int, count: int, seed: int, bar: Any) -> dict[str, Any]:
    """letters: of those asked for, and those read beyond them."""
    rng = random.Random(f"lettering/{seed}/{length}")
    briefs = []
    for _ in range(count):
        word = "".join(rng.choices(LETTERS, k=length))
        scene = Scene((replace(random_sign(rng, rng.choice(CELLS)), word=word),), random_backdrop(rng))
        briefs.append((word, *brief_of(scene, rng)))
    found = [seen for seen, _ in read(draw(executor, [prompt for *_, prompt in briefs], (), seed, bar))]
    words = [next((thing.word for thing in seen.things if thing.noun == SIGN), "") for seen in found]
    right = [a == b for (word, *_), said in zip(briefs, words) for a, b in zip_longest(word, said)]
    return {
        "exact": share(sum(meets(spec, seen) for (_, spec, _), seen in zip(briefs, found)), count),
        "word": share(sum(word == said for (word, *_), said in zip(briefs, words)), count),
        "letters": share(sum(right), len(right)),
    }


def round_trip(executor: KleinExecutor, count: int, seed: int, bar: Any) -> dict[str, Any]:
    """exact: of rendered scenes, read after the VAE. before: the same pictures, read as they are."""
    rng = random.Random(f"round-trip/{seed}")
    scenes = [random_scene(rng, rng.randint(1, 9)) for _ in range(count)]
    pictures = [render(scene) for scene in scenes]
    after = []
    for picture in pictures:
        after.append(executor.round_trip(picture))
        bar.update()
    error = np.mean([np.abs(one.astype(int) - other).mean() for one, other in zip(pictures, after)])
    pairs = {name: list(zip(read(some), scenes)) for name, some in (("before", pictures), ("exact", after))}
    return {
        name: share(sum(matches(seen, scene) for (seen, _), scene in rows), count) for name, rows in pairs.items()
    } | {
        "words aside": share(sum(matches(bare, lettered_a(scene)) for (_, bare), scene in pairs["exact"]), count),
        "mean error of 255": round(float(error), 3),
    }


def lettered_a(scene: Scene) -> Scene:
    return replace(scene, things=tuple(replace(thing, word="A" if thing.word else "") for thing in scene.things))


def sampled(executor: KleinExecutor, steps: int | None, guidance: float | None) -> None:
    """Set steps and guidance of the recipe, where they are given."""

    def other(known: Sampling) -> Sampling:
        return Sampling(steps or known.steps, known.guidance if guidance is None else guidance)

    recipe = executor.recipe
    executor.recipe = replace(recipe, generate=other(recipe.generate), edit=other(recipe.edit), batch=BATCH)


def measure(executor: KleinExecutor, count: int, seed: int, bar: Any) -> dict[str, Any]:
    """Raises BadInput if the reader's weights or the pictures of the stickers are missing."""
    rows: dict[str, tuple[Callable[..., dict[str, Any]], Sequence[Any]]] = {
        "one shot": (one_shot, THINGS),
        "edits": (edits, tuple(EDIT_KINDS)),
        "lettering": (lettering, LENGTHS),
    }
    found: dict[str, Any] = {}
    for name, (part, keys) in rows.items():
        found[name] = {str(key): part(executor, key, count, seed, bar) for key in keys}
        bar.write(told(name, found[name]))
    found["round trip"] = round_trip(executor, count, seed, bar)
    return found


def told(name: str, rows: dict[str, dict[str, Any]]) -> str:
    """Return the rows as a table of Markdown, a column each: shares and their 95 % intervals."""
    lines = [f"| {name} | {' | '.join(rows)} |", "|---" * (len(rows) + 1) + "|"]
    for what in next(iter(rows.values())):
        cells = [_cell(row[what]) for row in rows.values()]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(part: Any) -> str:
    if not isinstance(part, dict):
        return f"{part}"
    if not part["of"]:
        return ""
    return f"{part['share']:.2f} ({part['ci95'][0]:.2f} to {part['ci95'][1]:.2f})"


def main() -> None:
    import tqdm

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=80001)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    render(Scene((Thing("cat", NATURAL, "large", 0),)))  # refuses at once where the pictures are not there
    executor = KleinExecutor.load(options.weights)
    sampled(executor, options.steps, options.guidance)
    total = options.count * (len(THINGS) + len(EDIT_KINDS) + len(LENGTHS) + 1)
    with tqdm.tqdm(total=total, disable=None, unit="picture") as bar:
        found = measure(executor, options.count, options.seed, bar)
    found = {
        "weights": options.weights.name,
        "count": options.count,
        "seed": options.seed,
        "reader": source() or place().name,
        "generate": asdict(executor.recipe.generate),
        "edit": asdict(executor.recipe.edit),
    } | found
    print(told("VAE", {"round trip": found["round trip"]}))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
