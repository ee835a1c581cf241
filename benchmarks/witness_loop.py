"""What a witness of things is worth in the loop, on the embedded shapes world with a judge that miscounts.

The judge is exact but for numbers: from `--from` things on it takes one more or one fewer for the right number, each time
it sees the same picture. So its errors are correlated: a run ends where it should have gone on. Asked "how many?" it
also errs above four, by one, always alike for the same things. The detector is the world's exact reader, also one that
misses or doubles each thing at a set rate. All arms have the same briefs, seeds, executor and controller; the final
canvases are read exactly.

python benchmarks/witness_loop.py [--count 40] [--seed 0] [--rounds 6] [--from 3] [--arms ARM,ARM] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clvr_core.brief import Brief, Budget
from clvr_core.evaluation.statistics import RESAMPLES, interval
from clvr_core.protocols import Decision, Message, Picture, Question, Reply
from clvr_core.run.session import RunModels, Session, drive
from clvr_core.shapes import CANVAS, load_executor
from clvr_core.shapes.grammar import NotInGrammar, parse
from clvr_core.shapes.judge import SURE, ShapesVlm, holds
from clvr_core.shapes.perceive import perceive
from clvr_core.shapes.scene import COLORS, RADII, SHAPES
from clvr_core.shapes.words import NUMBERS, PLURALS
from clvr_core.witness import Witnesses
from clvr_core.witness.judge import with_witnesses
from clvr_core.witness.objects import ObjectWitness
from clvr_core.witness.things import Found, countable

BAR_WRONG = 1 / 3
ARMS = "without", "objects", "objects-errs-.05", "objects-errs-.15", "count", "objects+count"


class Miscounting(ShapesVlm):
    """Exact, but takes a number that is one off for the right one, from `least` on."""

    def __init__(self, least: int, seed: int) -> None:
        super().__init__(seed=seed)
        self.least, self.name = least, f"shapes (miscounts from {least} on, seed {seed})"

    def decide(self, images: Sequence[Picture], questions: Sequence[Question]) -> list[Decision]:
        return [self._judged(images[0], each, told) for each, told in zip(questions, super().decide(images, questions))]

    def _judged(self, picture: Picture, question: Question, told: Decision) -> Decision:
        item = _item(question.data["goal"]["text"]) if question.data.get("task") == "goal" else None
        if item is None or item.count < self.least:
            return told
        number = sum((thing.color, thing.shape) == item.key for thing in perceive(picture).things)
        return Decision(SURE, tokens=1) if abs(number - item.count) <= 1 else told

    def chat(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Reply:
        data = messages[-1].data
        if data.get("task") != "count":
            return super().chat(messages, schema)
        seen = perceive(messages[-1].images[0]).things
        counts = []
        for goal, words in data["things"].items():
            number = sum(f"{thing.color} {thing.shape}" == words for thing in seen)
            errs = number > 4 and random.Random(f"{self.seed}/{words}/{number}").random() < 0.35
            counts.append({"goal": goal, "number": number - errs})
        return Reply(json.dumps({"counts": counts}), tokens=4 * len(counts))


def _item(text: str) -> Any:
    """The one item that a goal is about; None for a goal about something else."""
    try:
        spec = parse(text)
    except NotInGrammar:
        return None
    return spec.items[0] if len(spec.items) == 1 and not spec.relations else None


class Reader:
    """The world's exact reader as a detector; `errs`: probability that it misses or doubles a thing."""

    def __init__(self, errs: float) -> None:
        self.errs, self.name = errs, f"exact reader, errs {errs:g}"
        self.seconds = 0.0

    def knows(self, thing: str) -> bool:
        return thing in SHAPES

    def find(self, picture: Picture, things: Sequence[str]) -> list[Found]:
        started = time.process_time()
        draw, found = random.Random(picture.tobytes()), []
        for thing in perceive(picture).things:
            (x, y), reach = thing.center, RADII[thing.size]
            box = tuple(edge / CANVAS for edge in (x - reach, y - reach, x + reach, y + reach))
            wrong = draw.random() < self.errs
            # A double stands elsewhere: one at the same place would be taken for the same thing.
            beside = tuple(min(1.0, edge + 2 * reach / CANVAS) for edge in box)
            shown = [] if wrong and draw.random() < 0.5 else [box, beside] if wrong else [box]
            found += [Found(thing.shape, 0.9, each) for each in shown]
        self.seconds += time.process_time() - started
        return found


@dataclass(frozen=True)
class Ended:
    """wrong, goals: of those that say a number, how many the judge calls met and are not, and how many there are."""

    wrong: int
    goals: int
    right: bool
    rounds: int
    calls: int
    witness_seconds: float


def briefs(count: int, seed: int) -> list[str]:
    """Two kinds of things, three to five of one and two to four of the other, on nine places."""
    draw, found = random.Random(seed), []
    while len(found) < count:
        (first, second), colors = draw.sample(SHAPES, 2), draw.sample(COLORS, 2)
        many, few = draw.randint(3, 5), draw.randint(2, 4)
        if many + few <= 8:
            found.append(
                f"{NUMBERS[many]} {colors[0]} {PLURALS[first]} and {NUMBERS[few]} {colors[1]} {PLURALS[second]}"
            )
    return found


def run(prompt: str, seed: int, arm: str, least: int, rounds: int, executor: Any) -> Ended:
    judge: Any = Miscounting(least, seed)
    reader = Reader(float(arm.partition("errs-")[2] or 0))
    finders = [ObjectWitness(reader)] if arm.startswith("objects") else []
    judge = with_witnesses(judge, Witnesses(finders, counts="count" in arm))
    brief = Brief(prompt, seed=seed, budget=Budget(rounds=rounds, patience=rounds), final_ab=False)
    session = Session(brief, RunModels(ShapesVlm(seed=seed), executor, judge=judge))
    trajectory = drive(session)
    step, best = trajectory.best_step, trajectory.best
    assert step is not None and best is not None
    seen = perceive(session.picture(best))
    numbers = [goal for goal in trajectory.goals if countable(goal) is not None]
    met = {verdict.goal for verdict in step.verdicts if verdict.state == "met"}
    wrong = sum(goal.id in met and not holds(goal.text, seen) for goal in numbers)
    right = bool(seen.clean and parse(prompt).holds(seen.things))
    drawn = sum(each.action.draws for each in trajectory.steps)
    return Ended(wrong, len(numbers), right, drawn, trajectory.cost.vlm_calls, reader.seconds)


def summary(ends: Sequence[Ended]) -> dict[str, Any]:
    return {
        "wrong_met": sum(each.wrong for each in ends) / max(1, sum(each.goals for each in ends)),
        "truly_met": float(np.mean([each.right for each in ends])),
        "rounds": float(np.mean([each.rounds for each in ends])),
        "vlm_calls": float(np.mean([each.calls for each in ends])),
        "witness_cpu_seconds_a_run": float(np.mean([each.witness_seconds for each in ends])),
    }


def paired(without: Sequence[Ended], ends: Sequence[Ended], seed: int) -> dict[str, Any]:
    """The difference to the arm without witnesses, brief by brief, with 95 % intervals of a paired bootstrap."""
    picks = np.random.default_rng(seed).integers(0, len(ends), (RESAMPLES, len(ends)))
    goals = np.array([each.goals for each in without], float)
    found = {}
    for name, of in (("wrong_met", lambda each: float(each.wrong)), ("truly_met", lambda each: float(each.right))):
        gap = np.array([of(other) - of(each) for each, other in zip(without, ends)])
        scale = goals if name == "wrong_met" else np.ones_like(gap)
        samples = gap[picks].sum(1) / scale[picks].sum(1)
        low_high = interval(samples)
        found[name] = [round(gap.sum() / scale.sum(), 4), round(low_high.low, 4), round(low_high.high, 4)]
    return found


def loop(count: int, seed: int, rounds: int = 6, least: int = 3, arms: Sequence[str] = ARMS) -> dict[str, Any]:
    """Run every arm on the same briefs."""
    import tqdm

    executor, ends = load_executor(), {arm: [] for arm in arms}
    for number, prompt in enumerate(tqdm.tqdm(briefs(count, seed), disable=None)):
        for arm in arms:
            ends[arm].append(run(prompt, seed * 10_000 + number, arm, least, rounds, executor))
    found = {arm: summary(each) for arm, each in ends.items()}
    for arm in arms[1:]:
        found[arm]["against_without"] = paired(ends[arms[0]], ends[arm], seed)
    return {"briefs": count, "rounds": rounds, "miscounts_from": least, "arms": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--from", type=int, default=3, dest="least")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = loop(options.count, options.seed, options.rounds, options.least, options.arms.split(","))
    print(json.dumps(result, indent=1))
    arms = result["arms"]
    if {"without", "objects"} <= arms.keys():
        share = arms["objects"]["wrong_met"] / arms["without"]["wrong_met"] if arms["without"]["wrong_met"] else 0.0
        kept = "met" if share <= BAR_WRONG else "NOT MET"
        print(f"wrong met of counts with the witness: {share:.2f} of that without (bar {BAR_WRONG:.2f}): {kept}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
