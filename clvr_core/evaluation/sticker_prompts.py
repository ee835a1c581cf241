"""Prompts of the sticker world in the forms of public benchmarks: GenEval's six tasks, and LGBench's long briefs.

All are drawn from a seed: the same seed gives the same files, byte for byte.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..stickers.grammar import NotInGrammar, parse, tokens_of
from ..stickers.phrases import article, goal_words, write
from ..stickers.planner import layout
from ..stickers.sampling import random_backdrop, random_sign, tell
from ..stickers.scene import CELLS, COLORS, NATURAL, NOUNS, OWN, PLAIN, SIZES, Scene, Thing, looks
from ..stickers.spec import AtLeast, Relation, Spec
from ..stickers.words import NUMBERS, OTHER_NAMES, PLURALS, RELATIONS
from ..storage.atomic import write_bytes, writing
from .names import EMBEDDED_GENEVAL, EMBEDDED_LGBENCH

TASKS = {"single_object": 80, "two_object": 99, "counting": 80, "colors": 94, "position": 100, "color_attr": 100}
"""Prompts of each of GenEval's tasks, as many as it has itself."""
MOST_COUNTED = 4
GOALS = (10, 22)
"""Goals of a long brief, fewest and most."""
LONGEST = 112
"""Words and marks of a long brief, at most; a letter on a sign is one. The world's text encoder holds 128 tokens, its chat
template among them."""


def _clause(noun: str, **more: Any) -> dict[str, Any]:
    return {"class": noun, "count": 1, **more}


def _record(tag: str, prompt: str, *include: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"tag": tag, "include": list(include), **more, "prompt": f"a photo of {prompt}"}


def _singles(rng: random.Random) -> Iterator[dict[str, Any]]:
    """Every noun once by its usual name, then some by another."""
    others = list(OTHER_NAMES.items())
    rng.shuffle(others)
    for name, noun in [*((noun, noun) for noun in NOUNS), *others]:
        yield _record("single_object", article(name), _clause(noun))


def _drawn(tag: str, rng: random.Random) -> dict[str, Any]:
    a, b = rng.sample(NOUNS, 2)
    if tag == "two_object":
        return _record(tag, f"{article(a)} and {article(b)}", _clause(a), _clause(b))
    if tag == "counting":
        count = rng.randint(2, MOST_COUNTED)
        clause, limit = {"class": a, "count": count}, {"class": a, "count": count + 1}
        return _record(tag, f"{NUMBERS[count]} {PLURALS[a]}", clause, exclude=[limit])
    if tag == "colors":
        color = rng.choice(COLORS)
        return _record(tag, article(f"{color} {a}"), _clause(a, color=color))
    if tag == "position":
        kind = rng.choice(RELATIONS)
        return _record(tag, f"{article(a)} {kind} {article(b)}", _clause(b), _clause(a, position=[kind, 0]))
    one, other = rng.sample(COLORS, 2)
    words = f"{article(f'{one} {a}')} and {article(f'{other} {b}')}"
    return _record(tag, words, _clause(a, color=one), _clause(b, color=other))


def geneval_records(seed: int = 0) -> list[dict[str, Any]]:
    """Return 553 records in the form of GenEval's evaluation_metadata.jsonl, no prompt twice, each in words of the world."""
    rng = random.Random(f"embedded geneval/{seed}")
    found: dict[str, dict[str, Any]] = {}
    for tag, count in TASKS.items():
        singles, left = _singles(rng), count
        while left:
            record = next(singles) if tag == "single_object" else _drawn(tag, rng)
            if record["prompt"] not in found and knows(record):
                found[record["prompt"]] = record
                left -= 1
    return list(found.values())


def knows(record: Mapping[str, Any]) -> bool:
    """Say whether the world can read a record of GenEval's form: it has every noun and word, and reads the prompt as the
    clauses mean it."""
    try:
        spec = parse(record["prompt"])
    except NotInGrammar:
        return False
    wanted = [
        (clause["class"], _look(clause["class"], clause.get("color")), clause.get("count", 1))
        for clause in record["include"]
    ]
    related = [
        (clause["class"], clause["position"][0], record["include"][clause["position"][1]]["class"])
        for clause in record["include"]
        if "position" in clause
    ]
    return sorted(wanted) == sorted((item.noun, item.color, item.count) for item in spec.items) and related == [
        (relation.a[1], relation.kind, relation.b[1]) for relation in spec.relations
    ]


def _look(noun: str, color: str | None) -> str:
    return NATURAL if color is None or OWN.get(noun) == color else color


def _scene(rng: random.Random) -> Scene:
    """Return a scene of six to eight things, most of a kind of their own, with a sign and a backdrop."""
    count = rng.randint(6, 8)
    cells = rng.sample(CELLS, count)
    things = [random_sign(rng, cells[0])]
    while len(things) < count:
        noun = rng.choice(NOUNS)
        look = rng.choice(looks(noun))
        if any(thing.key == (look, noun) for thing in things):
            continue
        number = rng.choices((1, 2, 3), (0.85, 0.1, 0.05))[0]
        size = rng.choice(SIZES)
        things += [Thing(noun, look, size, cell) for cell in cells[len(things) : len(things) + number]]
    backdrop = random_backdrop(rng)
    while backdrop == PLAIN:
        backdrop = random_backdrop(rng)
    return Scene(tuple(things), backdrop)


def goals_of(spec: Spec) -> list[str]:
    """Return the goals of a spec in words: all its statements but the waymarks, which are the planner's own."""
    return [goal_words(statement) for statement in spec.statements if not isinstance(statement, AtLeast)]


def long_brief(rng: random.Random, goals: int) -> tuple[Spec, str]:
    """Return a spec with exactly so many goals, among them some of every kind (global, local, text, layout), and its
    prompt of at most LONGEST words.

    A scene meets it, which the planner finds, and the prompt parses back to the spec. Raises ValueError for a number of
    goals outside GOALS.
    """
    if not GOALS[0] <= goals <= GOALS[1]:
        raise ValueError(f"{goals} goals; a long brief has {GOALS[0]} to {GOALS[1]}")
    while True:
        scene = _scene(rng)
        items = len({thing.key for thing in scene.things})
        # Beside the items: the backdrop, and that nothing else is there.
        relations = goals - items - 2
        if relations < 1:
            continue
        # A long brief leaves most places open, since the words would not fit.
        placed = rng.choice((0.0, 0.3, 0.6)) if relations < 8 else 0.0
        spec = tell(scene, rng, placed, 0.3 if relations < 8 else 0.0, 4 * relations)
        spec = Spec(spec.items, spec.relations[:relations], spec.backdrop)
        if len(goals_of(spec)) != goals:
            continue
        prompt = write(spec, rng.choice(("terse", "sentence")), rng)
        if len(tokens_of(prompt)) > LONGEST:
            prompt = write(spec, "terse", rng)
        if len(tokens_of(prompt)) > LONGEST or not _same(parse(prompt), spec):
            continue
        if layout(spec, Scene(), random.Random(0)) is not None:
            return spec, prompt


def _same(one: Spec, other: Spec) -> bool:
    def parts(spec: Spec) -> tuple[frozenset, frozenset[Relation], str | None]:
        return frozenset(spec.items), frozenset(spec.relations), spec.backdrop

    return parts(one) == parts(other)


def lgbench_records(count: int = 100, seed: int = 0) -> list[dict[str, Any]]:
    """Return long briefs in the form of LGBench's records: 10 to 22 goals, every number equally often."""
    rng = random.Random(f"embedded lgbench/{seed}")
    low, high = GOALS
    found = []
    for number in range(count):
        spec, prompt = long_brief(rng, low + number % (high - low + 1))
        goals = {f"Goal_{place}": text for place, text in enumerate(goals_of(spec), 1)}
        found.append({"id": f"draw-{number + 1:04d}", "category": "stickers", "Prompt": prompt, **goals})
    return found


def compose(form: str, out: Path, count: int = 100, seed: int = 0) -> Path:
    """Write a benchmark's data of the sticker world into the folder, and return the file.

    form: geneval or lgbench.
    count: of tasks, of lgbench only.

    Raises BadInput for another form, and CannotWrite.
    """
    if form not in ("geneval", "lgbench"):
        raise BadInput(f"the form is {form!r:.40}; geneval and lgbench can be composed")
    if count < 1:
        raise BadInput(f"{count} tasks are asked for; at least 1 is expected")
    records = geneval_records(seed) if form == "geneval" else lgbench_records(count, seed)
    path = out / (EMBEDDED_GENEVAL if form == "geneval" else EMBEDDED_LGBENCH)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        write_bytes(path, lines.encode())
    return path
