"""How exactly the reader of the sticker world reads rendered scenes, and what it takes for what it is not.

Scenes of one to nine things, one thing in eight a sign, are read from their pictures: as they are, with noise, and resampled.
Each is then compared with the scene, all offsets within 3 px, and the words on its signs letter by letter. A false accept is a
picture of a scene with one change, of which the judge holds every statement of the brief of the scene without the change. The
changes are those of the world's edits, and words with one letter exchanged. Damaged cells are those of the reader's training:
blends, halves, faded, moved, smeared and blurred stickers; each should be called unclear. CLVR_READER names another reader.

python benchmarks/sticker_reader.py [--count 2000] [--seed 70001] [--json FILE]
    --count: scenes under each condition, changed scenes, and scenes with damage
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image

from clvr_core.evaluation.statistics import share
from clvr_core.protocols import Picture
from clvr_core.stickers.codes import codes
from clvr_core.stickers.comparing import matches
from clvr_core.stickers.judge import held
from clvr_core.stickers.misreading import near
from clvr_core.stickers.perceive import Perception, place, read, reader, source
from clvr_core.stickers.phrases import whole, write
from clvr_core.stickers.render import render
from clvr_core.stickers.sampling import EDIT_KINDS, random_backdrop, random_edit, random_thing
from clvr_core.stickers.scene import CANVAS, CELLS, SIGN, Scene, apply
from clvr_core.training.sticker_pictures import damaged

BATCH = 64
SIGNS = 0.125
DAMAGE = 0.25
Case = TypeVar("Case")


def any_scene(rng: random.Random, count: int) -> Scene:
    things = tuple(random_thing(rng, cell, SIGNS) for cell in rng.sample(CELLS, count))
    return Scene(things, random_backdrop(rng))


def clean(picture: Picture, _: np.random.Generator) -> Picture:
    return picture


def noise(sd: float) -> Callable[[Picture, np.random.Generator], Picture]:
    """sd: of 255."""
    return lambda picture, rng: np.clip(picture + rng.normal(0, sd, picture.shape), 0, 255).round().astype(np.uint8)


def resampled(side: int) -> Callable[[Picture, np.random.Generator], Picture]:
    """side: pixels that the picture is scaled to, and back from."""

    def there_and_back(picture: Picture, _: np.random.Generator) -> Picture:
        first = Image.Resampling.BICUBIC if side > CANVAS else Image.Resampling.LANCZOS
        other = Image.fromarray(picture).resize((side, side), first)
        back = Image.Resampling.LANCZOS if side > CANVAS else Image.Resampling.BICUBIC
        return np.asarray(other.resize((CANVAS, CANVAS), back))

    return there_and_back


CONDITIONS: dict[str, Callable[[Picture, np.random.Generator], Picture]] = {
    "clean": clean,
    "noise 10": noise(10),
    "noise 20": noise(20),
    "4 x up and down": resampled(4 * CANVAS),
    "2 x down and up": resampled(CANVAS // 2),
    "4 x down and up": resampled(CANVAS // 4),
}


def seen(pictures: Iterable[Picture], bar: Any) -> Iterator[Perception]:
    """Read pictures in batches, in their order."""
    waiting: list[Picture] = []
    for picture in pictures:
        waiting.append(picture)
        if len(waiting) == BATCH:
            yield from read(waiting, reader())
            bar.update(len(waiting))
            waiting = []
    if waiting:
        yield from read(waiting, reader())
        bar.update(len(waiting))


def letters(scene: Scene, perception: Perception) -> list[bool]:
    """Say of each letter of the scene's signs, and of each that is read beyond them, whether it is read right."""
    words = [(thing.word, perception.at(thing.cell)) for thing in scene.things if thing.noun == SIGN]
    return [a == b for word, thing in words for a, b in zip_longest(word, thing.word if thing else "")]


def reading(scenes: Sequence[Scene], degrade: Callable[[Picture, np.random.Generator], Picture], bar: Any) -> dict:
    """exact: nothing is misread or unclear. filled cells unclear: of those that hold a thing."""
    rng = np.random.default_rng(len(scenes))
    found = list(seen((degrade(render(scene), rng) for scene in scenes), bar))
    pairs = list(zip(scenes, found))
    spelt = [right for pair in pairs for right in letters(*pair)]
    words = [all(letters(scene, each)) for scene, each in pairs if any(thing.noun == SIGN for thing in scene.things)]
    filled = sum(len(scene.things) for scene in scenes)
    unclear = sum(thing.cell in each.unclear for scene, each in pairs for thing in scene.things)
    return {
        "exact": share(sum(matches(each, scene) for scene, each in pairs), len(pairs)),
        "letters": share(sum(spelt), len(spelt)),
        "scenes whose words are right": share(sum(words), len(words)),
        "filled cells unclear": share(unclear, filled),
        "backdrop": share(sum(each.backdrop == scene.backdrop for scene, each in pairs), len(pairs)),
    }


def changed(rng: random.Random, scene: Scene, kind: str) -> Scene:
    """Return the scene after one change. kind: of EDIT_KINDS, or `letter` for one letter of a word."""
    if kind != "letter":
        return apply(random_edit(rng, scene, kind), scene)
    signs = [thing for thing in scene.things if thing.noun == SIGN]
    if not signs:
        return scene
    sign = rng.choice(signs)
    return scene.with_thing(replace(sign, word=near(sign.word, rng)))


def mutants(rng: random.Random, count: int) -> Iterator[tuple[str, str, Scene]]:
    """Yield kind of change, brief of a scene of one to eight things, and the changed scene, in which the brief does not hold."""
    kinds = (*EDIT_KINDS, "letter")
    number = 0
    while number < count:
        kind = kinds[number % len(kinds)]
        scene = any_scene(rng, rng.randint(1, 8))
        spec = whole(scene)
        other = changed(rng, scene, kind)
        if not spec.holds(other):
            number += 1
            yield kind, write(spec, "prose", rng), other


def false_accepts(count: int, seed: int, bar: Any) -> dict[str, Any]:
    cases = list(mutants(random.Random(f"mutants/{seed}"), count))
    found = seen((render(other) for *_, other in cases), bar)
    accepted = [
        {"brief": brief, "change": kind}
        for (kind, brief, _), perception in zip(cases, found)
        if all(held(brief, perception))
    ]
    return share(len(accepted), len(cases)) | {"which": accepted}


def damage(count: int, seed: int, bar: Any) -> dict[str, Any]:
    """unclear: damaged cells that are called so; else they are taken for a clear thing, or for empty."""
    rng = random.Random(f"damage/{seed}")
    scenes = [any_scene(rng, rng.randint(1, 9)) for _ in range(count)]
    counts = {"unclear": 0, "clear": 0, "empty": 0}
    total = intact = alarms = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for start in range(0, count, BATCH):
            part = scenes[start : start + BATCH]
            others = [replace(scene, backdrop=mine.backdrop) for scene, mine in zip([*part[1:], part[0]], part)]
            bare = [Scene((), scene.backdrop) for scene in part]
            pictures, spoilt = damaged(
                tensor(part), tensor(others), tensor(bare), torch.from_numpy(codes(part)[0]), DAMAGE
            )
            images = (pictures.permute(0, 2, 3, 1).clamp(0, 1) * 255).round().byte().numpy()
            for scene, bad, perception in zip(part, spoilt.tolist(), read(list(images), reader())):
                for cell in CELLS:
                    if bad[cell]:
                        total += 1
                        told = "unclear" if cell in perception.unclear else "clear" if perception.at(cell) else "empty"
                        counts[told] += 1
                    elif scene.at(cell):
                        intact += 1
                        alarms += cell in perception.unclear
            bar.update(len(part))
    return {name: share(number, total) for name, number in counts.items()} | {
        "intact cells beside them unclear": share(alarms, intact)
    }


def tensor(scenes: Sequence[Scene]) -> torch.Tensor:
    """float N x 3 x 192 x 192 in 0..1."""
    return torch.from_numpy(np.stack([render(scene) for scene in scenes])).permute(0, 3, 1, 2).float() / 255


def measure(count: int, seed: int) -> dict[str, Any]:
    """Raises BadInput if the reader's weights or the pictures of the stickers are missing."""
    import tqdm

    rng = random.Random(f"reader/{seed}")
    scenes = [any_scene(rng, 1 + number % len(CELLS)) for number in range(count)]
    found: dict[str, Any] = {"count": count, "seed": seed, "reader": source() or place().name}
    with tqdm.tqdm(total=count * (len(CONDITIONS) + 2), disable=None, unit="picture") as bar:
        found["reading"] = {name: reading(scenes, degrade, bar) for name, degrade in CONDITIONS.items()}
        found["false accepts"] = false_accepts(count, seed, bar)
        found["damaged cells"] = damage(count, seed, bar)
    return found


def told(found: dict[str, Any]) -> str:
    """Return all that was found as tables of Markdown: shares and their 95 % intervals."""
    columns = [*next(iter(found["reading"].values()))]
    lines = [f"| pictures | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [
        f"| {name} | {' | '.join(_cell(row[what]) for what in columns)} |" for name, row in found["reading"].items()
    ]
    accepts = found["false accepts"]
    lines += [
        "",
        f"False accepts: {accepts['found']} of {accepts['of']} changed scenes.",
        "",
        f"| damaged cells | {' | '.join(found['damaged cells'])} |",
        "|---" * (len(found["damaged cells"]) + 1) + "|",
        f"| | {' | '.join(_cell(part) for part in found['damaged cells'].values())} |",
    ]
    return "\n".join(lines)


def _cell(part: dict[str, Any]) -> str:
    return f"{part['share']:.4f} ({part['ci95'][0]:.4f} to {part['ci95'][1]:.4f})" if part["of"] else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=70001)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = measure(options.count, options.seed)
    print(told(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
