"""What witnesses of counts and of lettering are worth in the loop, on the sticker world. THE EXECUTOR IS SIMULATED: no weights draw.

Each brief asks for five or six of one thing, for a sign with a word of three to five letters, and for up to one thing more.
The judge is exact but agrees too easily, alike in every picture: half of the words pass with one letter wrong, and of half of the kinds
of things one more or one fewer passes for the right number from five on. The controller is exact. The executor draws what it is told
and errs at the rates of clvr_core/stickers/simulated.py: a letter in five, a thing in ten.

Arms: `without` a witness; `text` and `objects`, which know the truth; the same with `-errs-R`, which take each letter for another
one, or miss or double each thing, with probability R, alike each time they see the same picture; `rapidocr`, the real text reader (with
--rendered); `count`, the judge's own number, wrong by one for a third of the kinds from five on; and several with + between. All have the
same briefs, seeds, executor and controller; the truth is the scene that was drawn.

python benchmarks/witness_loop.py [--count 200] [--seed 0] [--rounds 8] [--arms ARM,ARM] [--rendered] [--json FILE]

--rendered: real pictures of stickers and signs, in place of blocks of colour.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clvr_core.brief import Box, Brief, Budget
from clvr_core.evaluation.statistics import RESAMPLES, interval
from clvr_core.protocols import Message, Picture, Reply
from clvr_core.run.session import RunModels, Session, drive
from clvr_core.stickers.grammar import parse
from clvr_core.stickers.judge import StickersVlm, holds
from clvr_core.stickers.misreading import MANY, MOST, WEAK, Weakness, near
from clvr_core.stickers.perceive import Perception
from clvr_core.stickers.phrases import write
from clvr_core.stickers.sampling import WORDS
from clvr_core.stickers.scene import CANVAS, CELL, GRID, NATURAL, NOUNS, SIGN, SPANS, Thing
from clvr_core.stickers.simulated import (
    NFE,
    Rates,
    SimulatedExecutor,
    perceive,
    perceive_rendered,
    picture_of,
    rendered,
)
from clvr_core.stickers.spec import Item, Spec, Statement
from clvr_core.witness import Witness, Witnesses
from clvr_core.witness.judge import with_witnesses
from clvr_core.witness.lettering import Line
from clvr_core.witness.objects import ObjectWitness
from clvr_core.witness.text import TextWitness, load_reader
from clvr_core.witness.things import Found, countable

BAR_WRONG, BOTH = 1 / 3, "text+objects"
ARMS = (
    "without",
    "text",
    "text-errs-.05",
    "text-errs-.15",
    "objects",
    "objects-errs-.15",
    "count",
    BOTH,
    "text-errs-.05+objects-errs-.05",
)
See = Callable[[Picture], Perception]
KINDS = "text", "number"
"""Of the goals that the judge misreads."""


class Agreeable(Weakness):
    """Takes words that are one letter off for the right ones, and from five on numbers that are one off."""

    __slots__ = ()

    def holds(self, statement: Statement, seen: Perception) -> bool:
        if isinstance(statement, Item) and statement.count > MANY and self._errs(f"count/{statement.key}"):
            mine = [thing for thing in seen.things if thing.key == statement.key]
            return abs(len(mine) - statement.count) <= 1
        return super().holds(statement, seen)


class Misjudging(StickersVlm):
    """Exact, but for half of the words and half of the numbers, always the same ones."""

    def __init__(self, see: See) -> None:
        super().__init__(read=see)
        self.weakness, self.name = Agreeable(MOST / WEAK, 0), "stickers (misreads words and numbers)"

    def chat(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Reply:
        data = messages[-1].data
        if data.get("task") != "count":
            return super().chat(messages, schema)
        seen = self._perceive(messages[-1].images[0]).things
        counts = []
        for goal, words in data["things"].items():
            number = sum(thing.noun == words for thing in seen)
            errs = number > MANY and random.Random(f"number/{words}").random() < 0.35
            counts.append({"goal": goal, "number": number - errs})
        return Reply(json.dumps({"counts": counts}), tokens=4 * len(counts))


def _box(thing: Thing) -> Box:
    (x, y), reach = thing.center, SPANS[thing.size] / 2
    left, top, right, bottom = (edge / CANVAS for edge in (x - reach, y - reach, x + reach, y + reach))
    return left, top, right, bottom


class Finder:
    """A detector that knows the truth. errs: probability that it misses or doubles a thing."""

    def __init__(self, see: See, errs: float) -> None:
        self.see, self.errs, self.name = see, errs, f"truth, errs {errs:g}"

    def knows(self, thing: str) -> bool:
        return thing in NOUNS

    def find(self, picture: Picture, things: Sequence[str]) -> list[Found]:
        draw, found = random.Random(picture.tobytes()), []
        # Without a colour the words of this world mean a thing's natural look.
        for thing in (each for each in self.see(picture).things if each.color == NATURAL):
            wrong, box = draw.random() < self.errs, _box(thing)
            # A double stands elsewhere: one at the same place would be taken for the same thing.
            beside = (box[0] + CELL / 2 / CANVAS, box[1], box[2] + CELL / 2 / CANVAS, box[3])
            shown = [] if wrong and draw.random() < 0.5 else [box, beside] if wrong else [box]
            found += [Found(thing.noun, 0.9, each) for each in shown]
        return found


class Reader:
    """A text reader that knows the truth. errs: probability that it takes a letter for another one."""

    def __init__(self, see: See, errs: float) -> None:
        self.see, self.errs, self.name = see, errs, f"truth, errs {errs:g}"

    def read(self, picture: Picture) -> list[Line]:
        draw = random.Random(picture.tobytes())
        signs = [thing for thing in self.see(picture).things if thing.noun == SIGN]
        taken = {
            sign.cell: "".join(near(letter, draw) if draw.random() < self.errs else letter for letter in sign.word)
            for sign in signs
        }
        return [Line(taken[sign.cell], 0.97, _box(sign)) for sign in signs]


def witnesses_of(arm: str, see: See) -> Witnesses:
    made: list[Witness] = []
    for name in arm.split("+"):
        kind, _, errs = name.partition("-errs-")
        if kind == "text":
            made.append(TextWitness(Reader(see, float(errs or 0))))
        elif kind == "objects":
            made.append(ObjectWitness(Finder(see, float(errs or 0))))
        elif kind == "rapidocr":
            made.append(TextWitness(load_reader(kind)))
        elif kind not in ("without", "count"):
            raise SystemExit(f"there is no arm {arm!r}; the head of this file names them")
    return Witnesses(made, counts="count" in arm.split("+"))


@dataclass(frozen=True)
class Ended:
    """
    wrong, goals: by kind of KINDS, how many goals the judge calls met at the end that are not, and how many there are.
    right: whether the picture shows the brief.
    met: whether the run ended as met.
    """

    wrong: Mapping[str, int]
    goals: Mapping[str, int]
    right: bool
    met: bool
    rounds: int
    calls: int


def briefs(count: int, seed: int) -> list[str]:
    draw, found = random.Random(f"witness loop/{seed}"), []
    words = [word for word in WORDS if 3 <= len(word) <= 5]
    while len(found) < count:
        many, other = draw.sample(NOUNS, 2)
        items = [Item(many, NATURAL, draw.randint(5, 6)), Item(SIGN, NATURAL, word=draw.choice(words))]
        if draw.random() < 0.5:
            items.append(Item(other, NATURAL))
        prompt = write(Spec(tuple(items)), "sentence")
        assert sum(item.count for item in items) < GRID**2
        found.append(prompt)
    return found


def run(prompt: str, seed: int, witnesses: Witnesses, rounds: int, executor: SimulatedExecutor) -> Ended:
    see = executor.read
    judge = with_witnesses(Misjudging(see), witnesses)
    budget = Budget(rounds=rounds, patience=rounds)
    brief = Brief(prompt, seed=seed, width=CANVAS, height=CANVAS, budget=budget, final_ab=False)
    session = Session(brief, RunModels(StickersVlm(read=see), executor, judge=judge))
    trajectory = drive(session)
    step, best = trajectory.best_step, trajectory.best
    assert step is not None and best is not None and trajectory.outcome is not None
    seen = see(session.picture(best))
    kinds = {
        "text": [goal for goal in trajectory.goals if goal.kind == "text"],
        "number": [goal for goal in trajectory.goals if countable(goal) is not None],
    }
    met = {verdict.goal for verdict in step.verdicts if verdict.state == "met"}
    return Ended(
        {kind: sum(goal.id in met and not holds(goal.text, seen) for goal in goals) for kind, goals in kinds.items()},
        {kind: len(goals) for kind, goals in kinds.items()},
        bool(seen.clean and parse(prompt).holds(seen.scene())),
        trajectory.outcome.met,
        sum(each.action.draws for each in trajectory.steps),
        trajectory.cost.vlm_calls,
    )


def summary(ends: Sequence[Ended]) -> dict[str, Any]:
    goals = {kind: sum(each.goals[kind] for each in ends) for kind in KINDS}
    return {
        **{f"wrong_met_{kind}": sum(each.wrong[kind] for each in ends) / max(1, goals[kind]) for kind in KINDS},
        "wrong_met": sum(sum(each.wrong.values()) for each in ends) / max(1, sum(goals.values())),
        "truly_met": float(np.mean([each.right for each in ends])),
        "called_met": float(np.mean([each.met for each in ends])),
        "rounds": float(np.mean([each.rounds for each in ends])),
        "vlm_calls": float(np.mean([each.calls for each in ends])),
    }


def paired(without: Sequence[Ended], ends: Sequence[Ended], seed: int) -> dict[str, Any]:
    """The difference to the arm without witnesses, brief by brief, with 95 % intervals of a paired bootstrap."""
    picks = np.random.default_rng(seed).integers(0, len(ends), (RESAMPLES, len(ends)))
    ones = np.ones(len(ends))

    def of(ends: Sequence[Ended], name: str) -> np.ndarray:
        value: dict[str, Callable[[Ended], float]] = {
            "wrong_met": lambda each: sum(each.wrong.values()),
            "truly_met": lambda each: each.right,
            "rounds": lambda each: each.rounds,
            **{f"wrong_met_{kind}": (lambda each, kind=kind: each.wrong[kind]) for kind in KINDS},
        }
        return np.array([value[name](each) for each in ends], float)

    scales = {
        "wrong_met": np.array([sum(each.goals.values()) for each in without], float),
        **{f"wrong_met_{kind}": np.array([each.goals[kind] for each in without], float) for kind in KINDS},
        "truly_met": ones,
        "rounds": ones,
    }
    found = {}
    for name, scale in scales.items():
        gap = of(ends, name) - of(without, name)
        bounds = interval(gap[picks].sum(1) / scale[picks].sum(1))
        found[name] = [round(gap.sum() / scale.sum(), 4), round(bounds.low, 4), round(bounds.high, 4)]
    return found


def loop(
    count: int, seed: int, rounds: int = 8, arms: Sequence[str] = ARMS, real_pictures: bool = False
) -> dict[str, Any]:
    """Run every arm on the same briefs. The first one is what the others are held against."""
    import tqdm

    paint, see = (rendered, perceive_rendered) if real_pictures else (picture_of, perceive)
    executor = SimulatedExecutor(Rates(), NFE["merged"], paint, see)
    ends: dict[str, list[Ended]] = {}
    begun = time.process_time()
    with tqdm.tqdm(total=count * len(arms), disable=None) as bar:
        for arm in arms:
            witnesses, ends[arm] = witnesses_of(arm, see), []
            for number, prompt in enumerate(briefs(count, seed)):
                ends[arm].append(run(prompt, seed * 10_000 + number, witnesses, rounds, executor))
                bar.update()
    found = {arm: summary(each) for arm, each in ends.items()}
    for arm in arms[1:]:
        found[arm]["against_without"] = paired(ends[arms[0]], ends[arm], seed)
    return {
        "briefs": count,
        "seed": seed,
        "rounds": rounds,
        "executor": "simulated",
        "pictures": "rendered" if real_pictures else "blocks",
        "arms": found,
        "cpu_seconds": round(time.process_time() - begun, 1),
    }


def table(found: Mapping[str, Any]) -> str:
    """Return the result as a Markdown table."""
    head = ["witness", "words wrongly met", "numbers wrongly met", "truly met", "difference", "rounds", "calls"]
    lines = [head, ["---"] * len(head)]
    for arm, row in found["arms"].items():
        gap = row.get("against_without", {}).get("truly_met")
        told = f"{gap[0]:+.3f} ({gap[1]:+.3f} to {gap[2]:+.3f})" if gap else ""
        shares = [f"{row[name]:.3f}" for name in ("wrong_met_text", "wrong_met_number", "truly_met")]
        lines.append([arm, *shares, told, f"{row['rounds']:.2f}", f"{row['vlm_calls']:.1f}"])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--rendered", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = loop(options.count, options.seed, options.rounds, options.arms.split(","), options.rendered)
    print(table(result))
    arms = result["arms"]
    if {"without", BOTH} <= arms.keys() and arms["without"]["wrong_met"]:
        share = arms[BOTH]["wrong_met"] / arms["without"]["wrong_met"]
        kept = "met" if share <= BAR_WRONG else "NOT MET"
        print(f"wrongly met with both witnesses: {share:.2f} of that without (bar {BAR_WRONG:.2f}): {kept}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
