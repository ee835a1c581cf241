"""How often a text reader finds the right words on photographs, and how often it takes misspelt ones for right.

Signs of one to three words are set on photographs of scikit-image in fonts of Debian's packages (fonts-dejavu,
fonts-liberation, fonts-comic-neue, fonts-bebas-neue, fonts-dancingscript, fonts-kaushanscript, fonts-lobster), upright or
rotated, plain, outlined or glowing; each once right and once with one letter changed, lost, doubled or swapped.

With --stickers N the same on N signs of the embedded sticker world: 192 px, two to five letters, half of them words and half
letters at random, beside up to five stickers; the goals are those of its planner. --count 0 leaves the photographs out.
Also what witnesses of words and numbers are worth in the loop, on as many briefs, or on --loop N (benchmarks/witness_loop.py).

python benchmarks/witness.py [--count 200] [--stickers 0] [--loop 200] [--seed 0] [--side 1024] [--reader rapidocr] [--fonts FOLDER]
    [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from clvr_core.brief import Goal
from clvr_core.evaluation.statistics import wilson
from clvr_core.protocols import Picture
from clvr_core.witness.text import TextWitness, load_reader

BAR_WRONG, BAR_RIGHT = 0.01, 0.80
FONTS: Mapping[str, Sequence[str]] = {
    "plain": ("DejaVuSans.ttf", "DejaVuSerif-Bold.ttf", "LiberationSans-Bold.ttf", "LiberationSerif-Regular.ttf"),
    "display": ("BebasNeue-Regular.otf", "ComicNeue-Bold.otf"),
    "script": ("lobster.otf", "DancingScript-Bold.otf", "KaushanScript-Regular.otf"),
}
GROUNDS = "astronaut", "coffee", "cat", "rocket", "brick", "grass"
ANGLES = (0, 0, 0, 12, -12, 25)
STYLES = "plain", "outline", "glow"
WORDS = """bakery market harbor summer winter coffee bread daily fresh open closed welcome garden museum cinema library
station hotel pizza flowers music guitar rocket future dreams midnight sunrise ocean mountain river forest silver golden
happy birthday thank you forever love peace hope stop go exit left right north south april august friday monday private
keep calm quiet please caution danger vintage records orange lemon cherry honey butter sugar cinnamon theatre orchestra
travel adventure journey discover wonder magic circus carnival festival champion victory legend""".split()


@dataclass(frozen=True)
class Sign:
    """What is set where. kind: of the font."""

    text: str
    kind: str
    font: str
    ground: str
    angle: int
    style: str
    seed: int


def signs(count: int, seed: int) -> Iterator[Sign]:
    draw = random.Random(seed)
    for number in range(count):
        words = " ".join(draw.sample(WORDS, draw.choice((1, 1, 2, 2, 3))))
        kind = draw.choice(tuple(FONTS))
        text = words.upper() if kind != "script" and draw.random() < 0.6 else words.title()
        yield Sign(
            text, kind, draw.choice(FONTS[kind]), draw.choice(GROUNDS), draw.choice(ANGLES), draw.choice(STYLES), number
        )


def misspelt(sign: Sign) -> Sign:
    """The sign with one letter changed, lost, doubled or swapped with its neighbour."""
    draw = random.Random(f"{sign.text} {sign.seed}")
    letters = [place for place, mark in enumerate(sign.text) if mark.isalpha()]
    while True:
        place, how = draw.choice(letters), draw.choice(("changed", "lost", "doubled", "swapped"))
        text = list(sign.text)
        if how == "changed":
            other = draw.choice("abcdefghijklmnopqrstuvwxyz")
            text[place] = other.upper() if text[place].isupper() else other
        elif how == "lost":
            del text[place]
        elif how == "doubled":
            text.insert(
                place,
                text[place].lower() if text[place + 1 : place + 2] != [] and not sign.text.isupper() else text[place],
            )
        elif place + 1 in letters:
            text[place], text[place + 1] = text[place + 1], text[place]
        made = "".join(text)
        if made.casefold() != sign.text.casefold() and made.split() and len(made.split()) == len(sign.text.split()):
            return replace(sign, text=made)


def drawn(sign: Sign, side: int, fonts: Mapping[str, Path]) -> Picture:
    import skimage.data

    ground = np.asarray(getattr(skimage.data, sign.ground)())
    ground = ground if ground.ndim == 3 else np.repeat(ground[..., None], 3, 2)
    draw = random.Random(sign.seed)
    short = min(ground.shape[:2])
    left, top = draw.randrange(ground.shape[1] - short + 1), draw.randrange(ground.shape[0] - short + 1)
    picture = Image.fromarray(ground[top : top + short, left : left + short, :3]).resize((side, side))
    size = int(side * 0.8 / max(6, len(sign.text)) * 1.7)
    font = ImageFont.truetype(str(fonts[sign.font]), min(size, side // 6))
    ink = draw.choice(((255, 255, 255), (20, 20, 30), (230, 60, 40), (250, 220, 60)))
    edge = (20, 20, 30) if sum(ink) > 300 else (255, 255, 255)
    layer = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    middle = side // 2, int(side * draw.uniform(0.3, 0.7))
    # A sign stands on a board half of the time.
    pen = ImageDraw.Draw(layer)
    box = pen.textbbox(middle, sign.text, font=font, anchor="mm")
    if draw.random() < 0.5:
        pen.rounded_rectangle((box[0] - 20, box[1] - 14, box[2] + 20, box[3] + 14), 12, fill=(*edge, 230))
    if sign.style == "glow":
        glow = Image.new("RGBA", (side, side), (0, 0, 0, 0))
        ImageDraw.Draw(glow).text(middle, sign.text, font=font, fill=(*edge, 255), anchor="mm", stroke_width=6)
        layer.alpha_composite(glow.filter(ImageFilter.GaussianBlur(6)))
    stroke = 3 if sign.style == "outline" else 0
    pen.text(middle, sign.text, font=font, fill=(*ink, 255), anchor="mm", stroke_width=stroke, stroke_fill=(*edge, 255))
    layer = layer.rotate(sign.angle, center=middle, resample=Image.Resampling.BICUBIC)
    picture.paste(layer, (0, 0), layer)
    return np.asarray(picture)


def found_fonts(folder: Path) -> dict[str, Path]:
    found = {path.name: path for path in folder.rglob("*.[ot]tf")}
    missing = [name for names in FONTS.values() for name in names if name not in found]
    if missing:
        raise SystemExit(f"{folder} lacks the fonts {', '.join(missing)}; the head of this file names their packages")
    return found


@dataclass(frozen=True)
class Case:
    """One goal and two pictures, of which the first one meets it.

    text, wrong: what each says.
    group: in which the case is counted; `hard` ones are left out of the share of right words that are found.
    """

    goal: Goal
    text: str
    wrong: str
    right_picture: Picture
    wrong_picture: Picture
    group: str
    hard: bool = False


def on_photographs(count: int, seed: int, side: int, fonts: Path) -> Iterator[Case]:
    files = found_fonts(fonts)
    for sign in signs(count, seed):
        goal, other = Goal("g1", f'a sign that says "{sign.text}"', "text"), misspelt(sign)
        hard = abs(sign.angle) > 12
        group = "heavy rotation" if hard else sign.kind
        yield Case(goal, sign.text, other.text, drawn(sign, side, files), drawn(other, side, files), group, hard)


def on_stickers(count: int, seed: int) -> Iterator[Case]:
    from clvr_core.stickers.judge import goal_drafts
    from clvr_core.stickers.render import render
    from clvr_core.stickers.sampling import grouped_scene, random_sign, tell
    from clvr_core.stickers.scene import MOST_LETTERS, SIGN

    draw, made = random.Random(f"stickers/{seed}"), 0
    while made < count:
        scene = grouped_scene(draw, draw.randint(1, 6))
        scene = scene.without([thing.cell for thing in scene.things if thing.noun == SIGN])
        board = random_sign(draw, draw.choice(scene.free()))
        wrong = misspelt(Sign(board.word, "", "", "", 0, "", made)).text if len(board.word) > 1 else ""
        if not 1 <= len(wrong) <= MOST_LETTERS:
            continue
        made += 1
        spec = tell(scene.with_thing(board), draw, 0.0)
        (draft,) = [each for each in goal_drafts(spec) if each["kind"] == "text"]
        pictures = [render(scene.with_thing(replace(board, word=word))) for word in (board.word, wrong)]
        yield Case(
            Goal("g1", draft["text"], "text"), board.word, wrong, pictures[0], pictures[1], f"{len(board.word)} letters"
        )


def text(cases: Iterator[Case], count: int, reader: str) -> dict[str, Any]:
    """Measure the text witness on the cases, each right and misspelt."""
    import tqdm

    witness = TextWitness(load_reader(reader))
    said: dict[str, Counter[tuple[str, str]]] = {"right": Counter(), "misspelt": Counter()}
    examples, seconds, hard = [], 0.0, set[str]()
    for case in tqdm.tqdm(cases, total=count, disable=None):
        if case.hard:
            hard.add(case.group)
        shown = (("right", case.text, case.right_picture), ("misspelt", case.wrong, case.wrong_picture))
        for truth, words, picture in shown:
            started = time.process_time()
            finding = witness.look(picture, (case.goal,)).get("g1")
            seconds += time.process_time() - started
            says = finding.says if finding else "nothing"
            said[truth][case.group, says] += 1
            if (truth, says) in (("misspelt", "yes"), ("right", "no")):
                examples.append([truth, words, case.text, says, finding.words if finding else "", case.group])
    groups = sorted({group for counts in said.values() for group, _ in counts})
    by_group = {
        group: {
            truth: {says: said[truth][group, says] for says in ("yes", "no", "nothing")}
            for truth in ("right", "misspelt")
        }
        for group in groups
    }
    light = [group for group in groups if group not in hard]
    right = sum(said["right"][group, "yes"] for group in light)
    rights = sum(said["right"][group, says] for group in light for says in ("yes", "no", "nothing"))
    wrong = sum(said["misspelt"][group, "yes"] for group in groups)
    caught = sum(said["misspelt"][group, "no"] for group in groups)
    return {
        "reader": witness.name,
        "signs": count,
        "wrong_met": wrong / count,
        "wrong_met_interval": wilson(wrong, count),
        "right_met": right / rights,
        "right_met_interval": wilson(right, rights),
        "misspelling_told": caught / count,
        "groups": by_group,
        "cpu_seconds_a_picture": seconds / (2 * count),
        "examples": examples[:40],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--stickers", type=int, default=0)
    parser.add_argument("--loop", type=int, help="default: as --count")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--reader", default="")
    parser.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = {}
    if options.count:
        cases = on_photographs(options.count, options.seed, options.side, options.fonts)
        result["text"] = text(cases, options.count, options.reader)
    if options.stickers:
        result["stickers"] = text(on_stickers(options.stickers, options.seed), options.stickers, options.reader)
    if briefs := options.count if options.loop is None else options.loop:
        from witness_loop import BOTH, loop

        found = loop(briefs, options.seed)
        result["loop"] = {"without": found["arms"]["without"], "with": found["arms"][BOTH], **found}
    print(json.dumps(result, indent=1))
    for name in ("text", "stickers"):
        if found := result.get(name):
            report(name, found)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


def report(name: str, found: Mapping[str, Any]) -> None:
    """Say whether the bars are met."""
    print(
        f"{name}: wrong met {found['wrong_met']:.3f} (bar {BAR_WRONG}): {'met' if found['wrong_met'] <= BAR_WRONG else 'NOT MET'}; "
        f"right met {found['right_met']:.3f} (bar {BAR_RIGHT}): {'met' if found['right_met'] >= BAR_RIGHT else 'NOT MET'}"
    )


if __name__ == "__main__":
    main()
