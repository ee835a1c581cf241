"""What is left of a picture after ten edits: sessions of ten turns on the embedded world, where the truth is exact.

python benchmarks/drift.py --sessions N --seed S --json F [--strengths 0 0.5 1] [--rounds 3] [--flip 0.05] [--arms ...]

A session begins with a clean picture of five or six things. Each turn asks for one change (put, remove, recolour, resize, move,
another word on a sign) in six of the nine cells, and the rest is to stay. An arm gets the turns one after another, as an artist's
wishes in one run:

plain      each instruction once, on the last picture; no judge
best-of-n  as plain, with as many pictures a turn as a loop may draw rounds; the loops' judge picks
loop       the closed loop (strategy clvr) without a remedy
measure    the loop, where a measured change outside decides between equals
repair     the loop, where what changed outside is put back (and measured)
depth      the loop, whose edits start from the clean picture again from depth 3 on
latents    the loop, whose canvases go back in as the latents they were decoded from
all, all without depth   as they say

All loops plan with an exact program and have the same noisy judge (--flip: share of wrong answers, each belonging to its picture and
question). Scored by the exact perceiver: `all_right`, the share of sessions whose picture after so many turns shows all that the turns
asked for, and nothing else changed; `psnr`, of the pixels of cells that no turn spoke of, against the clean picture, as the median of
the sessions, and `psnr_pooled` of their mean squared error (100 stands for equal); `outside`, the share of those pixels that changed
visibly. `--strengths`: artificial drift added to every edit (colour, offset, blur), for a model that is worse than ours. Strength 0
stands at the top of the JSON file, others below "strengths". Intervals: 95 %, Wilson's of a share, paired bootstrap of the ratio to plain.

The clean pictures are made of those of the stickers (clvr_core/stickers/art.py). Finished batches of sessions are kept in F.parts, and
the same command goes on with them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image, ImageFilter

from clvr_core.brief import Brief, Budget, Goal
from clvr_core.evaluation.statistics import wilson
from clvr_core.fleet.rounds import drive_all
from clvr_core.policy import rules
from clvr_core.policy.clvr import Clvr
from clvr_core.protocols import Decision, Drawing, DrawRequest, Message, Picture, Question, Reply
from clvr_core.run.calibration import calibration_file, read_calibration
from clvr_core.run.session import RunModels, Session
from clvr_core.run.start_image import beginning_with
from clvr_core.stickers.controller import CHANGES
from clvr_core.stickers.judge import SURE, StickersVlm
from clvr_core.stickers.perceive import Perception, perceive
from clvr_core.stickers.phrases import instruct
from clvr_core.stickers.planner import changes
from clvr_core.stickers.render import render
from clvr_core.stickers.sampling import random_backdrop, random_edit, random_thing
from clvr_core.stickers.scene import CANVAS, CELL, CELLS, GRID, Edit, Scene, apply
from clvr_core.storage.atomic import write_bytes
from clvr_core.trajectory import Remark, Step, Trajectory
from clvr_core.verifier.changes import THRESHOLD
from clvr_core.world import world_named

TURNS, ACTIVE = 10, 6
"""Turns of a session, and cells that they speak of."""
AFTER = (3, 5, 8, 10)
BATCH = 20
"""Sessions that are driven side by side and kept together."""
EQUAL = 100.0
"""Decibels that stand for equal pictures."""
REST = Goal("g1", "what no turn speaks of is as it was", check="Is all that no turn speaks of as it was?")


@dataclass(frozen=True)
class Plan:
    """The truth of one session. scenes: before the first turn, and after each."""

    number: int
    edits: tuple[Edit, ...]
    scenes: tuple[Scene, ...]

    @property
    def source(self) -> Picture:
        return render(self.scenes[0])

    def touched(self, turns: int) -> frozenset[int]:
        return frozenset().union(*(edit.cells for edit in self.edits[:turns]))


def plan_of(seed: int, number: int) -> Plan:
    rng = random.Random(f"drift/{seed}/{number}")
    active = frozenset(rng.sample(CELLS, ACTIVE))
    # Two or three things stand where no turn reaches, the others where the turns are.
    still = rng.sample(sorted(set(CELLS) - active), rng.choice((2, 3)))
    cells = [*still, *rng.sample(sorted(active), 3)]
    scene = Scene(tuple(random_thing(rng, cell) for cell in cells), random_backdrop(rng))
    edits, scenes = [], [scene]
    while len(edits) < TURNS:
        edit = random_edit(rng, scene)
        if edit.kind == "backdrop":
            continue  # it leaves no cell alone
        after = apply(edit, scene)
        same = [(thing.cell, *thing.kind) for thing in after.things] == [(one.cell, *one.kind) for one in scene.things]
        if edit.cells <= active and len(after.things) <= 7 and not same:
            edits.append(edit)
            scenes.append(scene := after)
    return Plan(number, tuple(edits), tuple(scenes))


def right_in(seen: Perception, scene: Scene, cells: Sequence[int] | frozenset[int]) -> bool:
    """Whether the cells hold what the scene has there, and nothing unclear."""
    there, spoiled = seen.scene(), set(seen.unclear)
    kind = lambda thing: thing and thing.kind  # noqa: E731
    return all(cell not in spoiled and kind(there.at(cell)) == kind(scene.at(cell)) for cell in cells)


def all_right(picture: Picture, scene: Scene) -> bool:
    seen = perceive(picture)
    return seen.clean and seen.backdrop == scene.backdrop and right_in(seen, scene, CELLS)


class Worn:
    """An executor whose edits are worn on purpose: by colour, offset and blur, the same way each time."""

    def __init__(self, executor: Any, strength: float) -> None:
        self.executor, self.strength = executor, strength
        self.name = f"{executor.name}, worn by {strength:g}"
        self.window = executor.window

    def tokens(self, prompt: str) -> int:
        return self.executor.tokens(prompt)

    def nfe(self, request: DrawRequest) -> int:
        return self.executor.nfe(request)

    def draw(self, requests: Sequence[DrawRequest]) -> list[Drawing]:
        drawn = self.executor.draw(requests)
        return [self._worn(drawing) if request.references else drawing for request, drawing in zip(requests, drawn)]

    def _worn(self, drawing: Drawing) -> Drawing:
        if not self.strength:
            return drawing
        picture = Image.fromarray(drawing.picture)
        moved = (1, 0, -0.6 * self.strength, 0, 1, -0.4 * self.strength)
        edge = np.pad(drawing.picture, ((2, 2), (2, 2), (0, 0)), mode="edge")
        wide = Image.fromarray(edge).transform(
            (picture.width + 4, picture.height + 4), Image.Transform.AFFINE, moved, Image.Resampling.BICUBIC
        )
        picture = wide.crop((2, 2, picture.width + 2, picture.height + 2))
        picture = picture.filter(ImageFilter.GaussianBlur(0.35 * self.strength))
        tinted = np.asarray(picture, np.float32) + np.float32([4, -3, 2]) * self.strength
        return replace(drawing, picture=np.clip(np.rint(tinted), 0, 255).astype(np.uint8), latent=None)


class Turns:
    """One session as a loop sees it: the artist who gives one turn after another, and the model that plans and judges.

    snapshots: the picture's canvas after each turn.
    """

    def __init__(self, plan: Plan, rounds: int, flip: float, seed: int) -> None:
        self.plan, self.rounds, self.flip, self.seed = plan, rounds, flip, seed
        self.name = f"session {plan.number}"
        self.turn, self.begun = 0, 0
        self.snapshots: list[int] = []
        self._exact = StickersVlm(read=perceive)

    def review(self, trajectory: Trajectory) -> tuple[Remark, None]:
        drawn = sum(step.action.draws for step in trajectory.steps)
        done = rules.all_met(trajectory, trajectory.current_step) or drawn - self.begun >= self.rounds
        if self.turn and not done:
            return Remark(len(trajectory.steps) - 1), None
        if self.turn:
            self.snapshots.append(trajectory.current or 0)
        if self.turn == TURNS:
            return Remark(len(trajectory.steps) - 1, "accept"), None
        words = instruct(self.plan.edits[self.turn], self.plan.scenes[self.turn])
        self.turn, self.begun = self.turn + 1, drawn
        return Remark(len(trajectory.steps) - 1, words=words), None

    def chat(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Reply:
        data, images = messages[-1].data, messages[-1].images
        assert data["task"] == "action", data["task"]
        merges = data["source"] is not None
        start = data["source"] if merges else data["canvases"][0]
        seen = perceive(images[data["canvases"].index(start)])
        edits = [edit for change in changes(self.plan.scenes[self.turn], seen) for edit in change.edits]
        scene = seen.scene()
        # A judge may err: what nothing seems wrong with is asked for again in the artist's words.
        words = [instruct(edit, scene) for edit in (edits if merges else edits[:CHANGES])]
        words = words or [instruct(self.plan.edits[self.turn - 1], self.plan.scenes[self.turn - 1])]
        goals = data["focus"] if merges else [f"a{self.turn}"]
        reply = {"kind": "EDIT", "edit_prompt": " and ".join(words), "references": [start], "goals": goals}
        return Reply(json.dumps(reply), tokens=1)

    def decide(self, images: Sequence[Picture], questions: Sequence[Question]) -> list[Decision]:
        if questions[0].data["task"] != "goal":
            return self._exact.decide(images, questions)
        seen = perceive(images[0])
        picture = hashlib.sha256(images[0].tobytes()).hexdigest()
        return [self._goal(question.data["goal"]["id"], seen, picture) for question in questions]

    def _goal(self, goal: str, seen: Perception, picture: str) -> Decision:
        scene = self.plan.scenes[self.turn]
        if goal == REST.id:
            truth = right_in(seen, scene, frozenset(CELLS) - self.plan.touched(self.turn))
        else:
            truth = right_in(seen, scene, self.plan.edits[int(goal[1:]) - 1].cells)
        wrong = random.Random(f"{self.seed}/{self.turn}/{goal}/{picture}").random() < self.flip
        return Decision(SURE if truth != wrong else 1 - SURE, tokens=1)

    def score(self, picture: Picture) -> float:
        """How many goals seem to hold."""
        seen, digest = perceive(picture), hashlib.sha256(picture.tobytes()).hexdigest()
        ids = (REST.id, *(f"a{turn}" for turn in range(1, self.turn + 1)))
        return sum((self._goal(goal, seen, digest).yes or 0.0) > 0.5 for goal in ids)


class Measured(Clvr):
    """Measures and repairs nothing."""

    name: ClassVar = "clvr"

    def repairs(self, trajectory: Trajectory, step: Step) -> bool:
        return False


@dataclass(frozen=True)
class Arm:
    """pictures: of a turn, by a judge; 0 for the loop."""

    pictures: int = 0
    tolerance: float | None = None
    depth: int | None = None
    latents: bool = False
    repairs: bool = True


def arms_of(rounds: int, tolerance: float, depth: int) -> dict[str, Arm]:
    return {
        "plain": Arm(pictures=1),
        "best-of-n": Arm(pictures=rounds),
        "loop": Arm(),
        "measure": Arm(tolerance=tolerance, repairs=False),
        "repair": Arm(tolerance=tolerance),
        "depth": Arm(depth=depth),
        "latents": Arm(latents=True),
        "all": Arm(tolerance=tolerance, depth=depth, latents=True),
        "all without depth": Arm(tolerance=tolerance, latents=True),
    }


@dataclass(frozen=True)
class Outcome:
    """One session under one arm. pictures: after each turn."""

    pictures: tuple[Picture, ...]
    evaluations: int
    calls: int


def recursive(arm: Arm, plans: Sequence[Plan], executor: Any, flip: float, seed: int) -> list[Outcome]:
    """Each turn's instruction on the last picture."""
    judges = [Turns(plan, 0, flip, seed) for plan in plans]
    pictures, calls, evaluations = [[plan.source] for plan in plans], [0] * len(plans), [0] * len(plans)
    for turn in range(TURNS):
        requests = [
            DrawRequest(
                instruct(plan.edits[turn], plan.scenes[turn]),
                random.Random(f"{seed}/{plan.number}/{turn}/{k}").randrange(2**62),
                (pictures[index][-1],),
                CANVAS,
                CANVAS,
            )
            for index, plan in enumerate(plans)
            for k in range(arm.pictures)
        ]
        drawn = executor.draw(requests)
        for index, judge in enumerate(judges):
            mine = drawn[index * arm.pictures : (index + 1) * arm.pictures]
            judge.turn = turn + 1
            evaluations[index] += sum(drawing.nfe for drawing in mine)
            pick = 0
            if len(mine) > 1:
                scores = [judge.score(drawing.picture) for drawing in mine]
                pick, calls[index] = scores.index(max(scores)), calls[index] + len(mine)
            pictures[index].append(mine[pick].picture)
    return [Outcome(tuple(each[1:]), *spent) for each, *spent in zip(pictures, evaluations, calls)]


def closed(arm: Arm, plans: Sequence[Plan], executor: Any, rounds: int, flip: float, seed: int) -> list[Outcome]:
    """One run of the loop for each session, whose artist gives the turns."""
    artists = [Turns(plan, rounds, flip, seed) for plan in plans]
    budget = Budget(rounds=TURNS * rounds, patience=rounds + 1, tolerance=arm.tolerance, depth=arm.depth)
    sessions = []
    for plan, artist in zip(plans, artists):
        brief = Brief("ten turns", seed=plan.number, budget=budget, goals=(REST,), final_ab=False)
        policy = None if arm.repairs else Measured()
        sessions.append(
            Session(
                beginning_with(brief, plan.source),
                RunModels(artist, executor),
                reviewer=artist.review,
                picture=plan.source,
                policy=policy,
            )
        )
    ends = drive_all(sessions, executor)
    return [
        Outcome(tuple(map(session.picture, artist.snapshots)), end.cost.evaluations, end.cost.vlm_calls)
        for session, artist, end in zip(sessions, artists, ends)
    ]


def measured(plan: Plan, outcome: Outcome) -> dict[str, Any]:
    """What is kept of a session: after so many turns, whether all is right, and error and change of the rest."""
    source, found = plan.source, {"evaluations": outcome.evaluations, "calls": outcome.calls}
    for turns in AFTER:
        picture, rest = outcome.pictures[turns - 1], np.zeros((CANVAS, CANVAS), bool)
        for cell in set(CELLS) - plan.touched(TURNS):
            top, left = cell // GRID * CELL, cell % GRID * CELL
            rest[top : top + CELL, left : left + CELL] = True
        difference = np.abs(picture[rest].astype(int) - source[rest])
        found[f"{turns}"] = {
            "right": all_right(picture, plan.scenes[turns]),
            "every": all(all_right(outcome.pictures[turn], plan.scenes[turn + 1]) for turn in range(turns)),
            "error": float((difference**2).mean()),
            "outside": float((difference.max(-1) >= THRESHOLD).mean()),
        }
    return found


def decibels(error: float) -> float:
    return round(min(EQUAL, 10 * float(np.log10(255**2 / error))), 2) if error else EQUAL


def times(mine: np.ndarray, plain: np.ndarray) -> dict[str, Any]:
    """The ratio of two shares of the same sessions, and its interval by a paired bootstrap; None for infinite."""
    picks = np.random.default_rng(0).integers(0, len(mine), (4000, len(mine)))
    with np.errstate(divide="ignore", invalid="ignore"):
        samples = np.nan_to_num(mine[picks].mean(1) / plain[picks].mean(1), nan=1.0, posinf=np.inf)
        bounds = np.quantile(samples, (0.025, 0.975), method="inverted_cdf")
        ratio = mine.mean() / plain.mean() if plain.any() else np.inf if mine.any() else 1.0
    finite = lambda value: round(float(value), 3) if np.isfinite(value) else None  # noqa: E731
    return {"ratio": finite(ratio), "ci": [finite(bound) for bound in bounds]}


def summary(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    result = {}
    for arm, sessions in found.items():
        at = {str(turns): [session[str(turns)] for session in sessions] for turns in AFTER}
        right = {turns: np.array([each["right"] for each in rows], float) for turns, rows in at.items()}
        result[arm] = {
            "all_right": {turns: round(float(values.mean()), 4) for turns, values in right.items()},
            "all_right_ci": {
                turns: [round(bound, 3) for bound in wilson(int(values.sum()), len(values))]
                for turns, values in right.items()
            },
            "every_turn": {
                turns: round(float(np.mean([one["every"] for one in rows])), 4) for turns, rows in at.items()
            },
            "psnr": {turns: decibels(float(np.median([one["error"] for one in rows]))) for turns, rows in at.items()},
            "psnr_pooled": {
                turns: decibels(float(np.mean([one["error"] for one in rows]))) for turns, rows in at.items()
            },
            "outside": {
                turns: round(float(np.mean([one["outside"] for one in rows])), 5) for turns, rows in at.items()
            },
            "evaluations": float(np.mean([session["evaluations"] for session in sessions])),
            "calls": float(np.mean([session["calls"] for session in sessions])),
            "sessions": len(sessions),
        }
        if "plain" in found:
            plain = np.array([session["10"]["right"] for session in found["plain"]], float)
            result[arm]["times_plain"] = times(right["10"], plain[: len(right["10"])])
    return result


def run(options: argparse.Namespace) -> dict[str, Any]:
    settings = {name: getattr(options, name) for name in ("sessions", "seed", "rounds", "flip", "tolerance", "depth")}
    parts = options.json.with_name(options.json.name + ".parts")
    parts.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(json.dumps({k: v for k, v in settings.items() if k != "sessions"}).encode()).hexdigest()[:8]
    base, result = world_named().load_executor(), {}
    recipe = base.recipe
    for strength in options.strengths:
        executor, found = Worn(base, strength), {}
        for name, arm in arms_of(options.rounds, options.tolerance, options.depth).items():
            if options.arms and name not in options.arms:
                continue
            found[name] = []
            base.recipe = replace(recipe, given_latents=arm.latents)
            for start in range(0, options.sessions, BATCH):
                count = min(BATCH, options.sessions - start)
                part = parts / f"{key}-{strength:g}-{name.replace(' ', '-')}-{start}-{count}.json"
                if not part.exists():
                    began = time.monotonic()
                    plans = [plan_of(options.seed, number) for number in range(start, start + count)]
                    base.forget()
                    if arm.pictures:
                        ends = recursive(arm, plans, executor, options.flip, options.seed)
                    else:
                        ends = closed(arm, plans, executor, options.rounds, options.flip, options.seed)
                    rows = [measured(plan, end) for plan, end in zip(plans, ends)]
                    write_bytes(part, json.dumps(rows).encode())
                    print(f"{strength:g} {name} {start + count}: {time.monotonic() - began:.0f} s", flush=True)
                found[name] += json.loads(part.read_text())
        if strength:
            result.setdefault("strengths", {})[f"{strength:g}"] = summary(found)
        else:
            result = summary(found) | result
        write_bytes(options.json, json.dumps({"settings": settings, **result}, indent=1).encode())
    return result


def table(result: Mapping[str, Any]) -> str:
    rows = [["arm", *(f"right after {turns}" for turns in AFTER), "x plain", "PSNR after 10 (pooled)", "evaluations"]]
    rows.append(["---"] * len(rows[0]))
    for arm, values in result.items():
        if "all_right" not in values:
            continue
        ratio = values.get("times_plain", {"ratio": None, "ci": [None, None]})
        rows.append(
            [
                arm,
                *(f"{share:.2f}" for share in values["all_right"].values()),
                f"{ratio['ratio']} ({ratio['ci'][0]} to {ratio['ci'][1]})",
                f"{values['psnr']['10']:.1f} ({values['psnr_pooled']['10']:.1f})",
                f"{values['evaluations']:.0f}",
            ]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.0, 0.5, 1.0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds of a turn, at most")
    parser.add_argument("--flip", type=float, default=0.05, help="share of the judge's answers that are wrong")
    parser.add_argument("--arms", nargs="+", default=[])
    own = read_calibration(calibration_file(), world_named().load_executor().name)
    parser.add_argument("--tolerance", type=float, default=own.tolerance, help="default: as measured of the executor")
    parser.add_argument("--depth", type=int, default=own.depth, help="default: as measured of the executor")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = run(options)
    print(table(result))
    for strength, worn in result.get("strengths", {}).items():
        print(f"\nartificial drift of {strength}\n\n{table(worn)}")


if __name__ == "__main__":
    main()
