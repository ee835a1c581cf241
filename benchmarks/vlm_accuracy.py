"""How often a vision-language model judges the sticker world right, by type of question, and how well it steers and
criticises instructions (--requests).

The questions are the verifier's own, half of each type true; the truth is the scene's. Pictures are renders, and with
--weights canvases that these weights drew from briefs and edits, labelled by the reader.

python benchmarks/vlm_accuracy.py [--backend local|server|comfyui] [--model FOLDER or URL] [--count 1000] [--seed 0]
    [--requests 0] [--weights FOLDER] [--worn] [--json FILE] [--answers FILE] [--against FILE]

With --answers the probability of each answer is written, and with --against compared with those of another backend on the
same questions: where two that serve the same weights differ by more than .01, one of them is at fault. That needs no
weights that have learnt anything, so --untrained FOLDER writes the model with random ones, to be given to each.

Renders need the pictures of the stickers (clvr_core/stickers/art.py); comfyui needs ComfyUI's Python and COMFYUI_DIR. The exit
status is 1 if a bar is missed, or if the backends differ.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clvr_core.controller import contradicts, draft_goals, next_action
from clvr_core.evaluation.statistics import wilson
from clvr_core.protocols import Message, Picture, Question, Reply, Vlm
from clvr_core.stickers.grammar import NotInGrammar, parse, parse_instruction
from clvr_core.stickers.neural import FOLDER, NeuralVlm
from clvr_core.stickers.perceive import perceive
from clvr_core.stickers.proxies import after
from clvr_core.stickers.render import render
from clvr_core.stickers.scene import CANVAS, Scene
from clvr_core.stickers.spec import Spec
from clvr_core.training.vlm_control import (
    Request,
    comparison,
    criticised,
    request_for_action,
    request_for_goals,
    worked_on,
)
from clvr_core.training.vlm_questions import (
    DENSE,
    MIX,
    ONE,
    SIGHT,
    TWO,
    asked,
    flat_picture,
    goal_text,
    statement_about,
    statement_words,
)
from clvr_core.trajectory import Action

BAR_RENDERS, BAR_DRAWN, BAR_ECE, BAR_APART = 0.95, 0.93, 0.03, 0.01
SPREAD, LOUD = 0.1, 40.0
"""Of untrained weights: how far words are apart, and how much louder than others Yes and No are."""
COMPARED = ("compare", "choose")
ALL = (*ONE, *TWO, *COMPARED)
BINS = 10
MET = 0.65
"""Probability from which up the loop takes a goal for met (`Budget.met`)."""


@dataclass
class Told:
    """What was said of each type: (probability of yes, truth); and how often there was no answer."""

    said: dict[str, list[tuple[float, bool]]] = field(default_factory=lambda: defaultdict(list))
    silent: int = 0

    def add(self, kind: str, yes: float | None, truth: bool) -> None:
        if yes is None:
            self.silent += 1
        self.said[kind].append((0.5 if yes is None else yes, truth))

    def accuracy(self) -> dict[str, float]:
        return {
            kind: round(float(np.mean([(yes > 0.5) == truth and yes != 0.5 for yes, truth in said])), 4)
            for kind, said in self.said.items()
        }

    def ece(self) -> float:
        """Expected calibration error of the probability of yes, in bins of equal width."""
        pairs = np.array([pair for said in self.said.values() for pair in said], float)
        bins = np.minimum((pairs[:, 0] * BINS).astype(int), BINS - 1)
        off = [abs(float((pairs[bins == bin_, 0] - pairs[bins == bin_, 1]).sum())) for bin_ in range(BINS)]
        return round(sum(off) / len(pairs), 4)

    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % by Wilson."""
        found = {}
        for kind, said in self.said.items():
            low, high = wilson(sum((yes > 0.5) == truth for yes, truth in said), len(said))
            found[kind] = round(low, 4), round(high, 4)
        return found


Asked = tuple[Sequence[Picture], list[tuple[str, str, bool]]]
"""Pictures, and the type, the text and the truth of questions about them."""


def about_renders(chance: random.Random, wear: Callable[[Picture], Picture]) -> Iterator[Asked]:
    """Yield pictures with questions of every type, without end."""
    while True:
        made = asked(chance, 40, questions=12, dense=False)
        pictures = [
            wear(flat_picture(made.flat[place]) if place in made.flat else render(scene))
            for place, scene in enumerate(made.scenes)
        ]
        rows: dict[tuple[int, int], list[tuple[str, str, bool]]] = defaultdict(list)
        for kind, one, two, question, answer in made.rows:
            if kind not in DENSE:
                rows[one, two].append((kind, question, answer == "Yes"))
        for (one, two), questions in rows.items():
            yield ([pictures[one]] if two < 0 else [pictures[one], pictures[two]]), questions
        for kind in (kind for kind in COMPARED for _ in range(6)):
            if found := comparison(chance, kind):
                parts, answer = found
                text = str(parts[-1]).rsplit("\n", 1)[0]
                yield [wear(render(part)) for part in parts if isinstance(part, Scene)], [(kind, text, answer == "Yes")]


def worn(picture: Picture, chance: np.random.Generator) -> Picture:
    """The picture resampled to a side between 72 and 160 pixels and back, with noise of at most 10 levels."""
    side, high = int(chance.integers(72, 161)), picture.shape[0]
    small = (
        Image.fromarray(picture)
        .resize((side, side), Image.Resampling.BILINEAR)
        .resize((high, high), Image.Resampling.BICUBIC)
    )
    noisy = np.asarray(small, np.float32) + chance.normal(0, chance.uniform(0, 10), picture.shape)
    return noisy.round().clip(0, 255).astype(np.uint8)


def about_drawn(chance: random.Random, weights: Path, batch: int = 16) -> Iterator[Asked]:
    """Yield canvases that the weights drew, the clear ones with questions about what the reader sees on them."""
    from clvr_core.executor.klein import KleinExecutor
    from clvr_core.protocols import DrawRequest
    from clvr_core.stickers.sampling import random_brief
    from clvr_core.stickers.scene import CANVAS

    executor = KleinExecutor.load(weights)
    while True:
        briefs = [random_brief(chance, chance.randint(1, 6))[2] for _ in range(batch)]
        seeds = [chance.randrange(1 << 31) for _ in range(batch)]
        first = executor.draw([DrawRequest(brief, seed, (), CANVAS, CANVAS) for brief, seed in zip(briefs, seeds)])
        for drawing in first:
            seen = perceive(drawing.picture)
            if not seen.clean:
                continue
            scene, questions = seen.scene(), []
            for _ in range(12):
                kind, wanted = chance.choice(MIX), chance.random() < 0.5
                if statement := statement_about(scene, kind, wanted, chance):
                    questions.append((kind, goal_text(statement_words(statement, chance), chance), wanted))
            yield [drawing.picture], questions


def judge(vlm: Vlm, source: Iterator[Asked], count: int, types: Sequence[str]) -> Told:
    """Ask until there are `count` answers of each type, half of them about what is true."""
    told, left = Told(), {(kind, truth): count // 2 for kind in types for truth in (True, False)}
    for pictures, questions in source:
        wanted = []
        for kind, text, truth in questions:
            if left.get((kind, truth), 0) > 0:
                left[kind, truth] -= 1
                wanted.append((kind, text, truth))
        if wanted:
            decisions = vlm.decide(pictures, [Question(text) for _, text, _ in wanted])
            for (kind, _, truth), decision in zip(wanted, decisions, strict=True):
                told.add(kind, decision.yes, truth)
        if not any(left.values()):
            return told
    return told


class Blanked:
    """A `Vlm` that sees no structured data beside the messages."""

    def __init__(self, vlm: Vlm) -> None:
        self.vlm, self.name, self.calls, self.text = vlm, vlm.name, 0, ""

    def chat(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Reply:
        self.calls += 1
        reply = self.vlm.chat([Message(each.role, each.text, each.images) for each in messages], schema)
        self.text = reply.text
        return reply

    def decide(self, images: Sequence[Picture], questions: Sequence[Question]) -> Any:
        return self.vlm.decide(images, [Question(each.text) for each in questions])


def false_met(vlm: Vlm, chance: random.Random, count: int) -> float:
    """Share of canvases that do not meet a brief of which every goal is judged met."""
    from clvr_core.brief import Goal
    from clvr_core.stickers.judge import goal_drafts
    from clvr_core.stickers.planner import closest
    from clvr_core.stickers.sampling import random_brief
    from clvr_core.verifier.prompts import goal_question

    wrong = asked_for = 0
    while asked_for < count:
        target, _, prompt = random_brief(chance, chance.randint(1, 8))
        spec = parse(prompt)
        scene = worked_on(closest(spec, target, chance) or target, chance)
        if all(statement.holds(scene) for statement in spec.statements):
            continue
        goals = [Goal(f"g{n}", each["text"], each["kind"]) for n, each in enumerate(goal_drafts(spec), 1)]
        decisions = vlm.decide([render(scene)], [Question(goal_question(goal).text) for goal in goals])
        wrong += all(decision.yes is not None and decision.yes >= MET for decision in decisions)
        asked_for += 1
    return round(wrong / count, 4)


def steer(vlm: Vlm, chance: random.Random, count: int) -> dict[str, float]:
    """Measure goal lists and actions on so many requests each.

    valid: replies of the schema that can be carried out. goals: lists with the exact goals, in any order. gain: share of
    actions after which as many statements of the brief hold as after the exact controller's; and of each kind of that one's.
    """
    totals: dict[str, list[bool]] = defaultdict(list)
    while len(totals["goals"]) < count:
        made = request_for_goals(chance)
        if made is None:
            continue
        blank = Blanked(vlm)
        answer = draft_goals(blank, made.brief)
        totals["valid"].append(answer.value is not None and blank.calls == 1)
        wanted = sorted((goal.kind, goal.text) for goal in made.goals)
        totals["goals"].append(answer.value is not None and sorted((g.kind, g.text) for g in answer.value) == wanted)
    while len(totals["gain"]) < count:
        made = request_for_action(chance)
        if made is None or made.situation is None or made.action is None:
            continue
        blank = Blanked(vlm)
        pictures = {canvas: render(made.scenes[canvas]) for canvas in made.situation.pictures}
        answer = next_action(blank, replace(made.situation, pictures=pictures))
        totals["valid"].append(answer.value is not None and blank.calls == 1)
        exact = made.action
        totals["same"].append(
            answer.value is not None
            and (answer.value.kind, answer.value.edit_prompt) == (exact.kind, exact.edit_prompt)
        )
        gained = answer.value is not None and _met(made, answer.value) >= _met(made, exact)
        totals["gain"].append(gained)
        totals[f"gain of {exact.kind}"].append(gained)
    return {name: round(float(np.mean(values)), 4) for name, values in totals.items()} | {"requests": count}


def criticise(vlm: Vlm, chance: random.Random, count: int) -> dict[str, float]:
    """Ask of so many instructions by a controller that misunderstands some of the brief whether they contradict it.
    Precision, recall and F1 of those that do; silent: questions without an answer."""
    hits, said, wrong, silent, asked_for = 0, 0, 0, 0, 0
    while asked_for < count:
        if (made := criticised(chance)) is None:
            continue
        asked_for += 1
        request, action, truth = made
        found = contradicts(Blanked(vlm), request.brief, action).value
        hits, said, wrong = hits + (truth and bool(found)), said + bool(found), wrong + truth
        silent += found is None
    precision, recall = hits / max(1, said), hits / max(1, wrong)
    f1 = 2 * precision * recall / max(1e-9, precision + recall)
    shares = {"f1": f1, "precision": precision, "recall": recall, "contradicting": wrong / count}
    return {name: round(each, 4) for name, each in shares.items()} | {"silent": silent, "count": count}


def _met(made: Request, action: Action) -> int:
    """Return how many statements of the brief hold once the action is carried out to the letter; -1 if it cannot be."""
    assert made.situation is not None
    current = made.situation.trajectory.current
    scene = Scene() if current is None else made.scenes[current]
    try:
        if action.kind == "GENERATE":
            scene = _drawn(parse(action.scene_prompt))
        elif action.kind == "EDIT":
            given = [made.scenes[canvas] for canvas in action.references]
            scene = given[0]
            for change in parse_instruction(action.edit_prompt):
                scene = after(change, scene, given)
    except (NotInGrammar, ValueError, IndexError):
        return -1
    return sum(statement.holds(scene) for statement in made.spec.statements)


def _drawn(spec: Spec) -> Scene:
    from clvr_core.stickers.planner import closest

    return closest(spec, Scene(), random.Random(0)) or Scene()


def load(backend: str, model: str, name: str = "") -> Vlm:
    """name: of the model, as the server knows it; "" for the first that it lists."""
    if backend == "server":
        from clvr_core.vlm.server import Endpoint, ServerVlm

        return ServerVlm(Endpoint(model, name, image_side=CANVAS))
    if backend == "comfyui":
        from comfy_clip import load_clip_vlm

        return load_clip_vlm(Path(model))
    return NeuralVlm(Path(model))


def save_untrained(folder: Path, seed: int) -> None:
    """Write the embedded model's folder with random weights that answer Yes or No, some surer than others.

    One channel of the stream is the same for every token of a text, and the rows of Yes and No in the head answer to it.
    """
    import shutil

    import torch
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("*.safetensors*"))
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(Qwen3VLConfig.from_pretrained(FOLDER))
    words = json.loads((FOLDER / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=SPREAD if "embed_tokens" in name else weight[0].numel() ** -0.5)
            if "language_model" in name and name.endswith(("o_proj.weight", "down_proj.weight")):
                weight[0] = 0
        head = model.get_input_embeddings().weight
        head[:, 0] = 1
        head[[words["Yes"], words["No"]], 0] = LOUD
    model.save_pretrained(folder)


def compare(answers: Mapping[str, Sequence[float]], other: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return for each type the greatest difference of the probabilities of yes. Raises SystemExit for answers to other
    questions."""
    if {kind: len(found) for kind, found in answers.items()} != {kind: len(found) for kind, found in other.items()}:
        raise SystemExit("the other answers are to other questions; give both the same --count and --seed")
    return {kind: round(max(abs(a - b) for a, b in zip(found, other[kind])), 5) for kind, found in answers.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=("local", "server", "comfyui"), default="local")
    parser.add_argument("--model", default=str(FOLDER))
    parser.add_argument("--name", default="", help="of the model, as the server knows it")
    parser.add_argument("--count", type=int, default=1000, help="questions of each type")
    parser.add_argument("--requests", type=int, default=0, help="to the controller, of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, help="folder of the weights that draw canvases to be judged")
    parser.add_argument("--worn", action="store_true", help="resample the renders and add noise")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--answers", type=Path, help="file for the probability of each answer")
    parser.add_argument("--against", type=Path, help="--answers of another backend, to compare with")
    parser.add_argument("--untrained", type=Path, help="write the model with random weights here, and do nothing else")
    given = parser.parse_args()
    if given.untrained:
        save_untrained(given.untrained, given.seed)
        return 0
    vlm, start = load(given.backend, given.model, given.name), time.perf_counter()
    noise = np.random.default_rng(given.seed)
    wear: Callable[[Picture], Picture] = (
        (lambda picture: worn(picture, noise)) if given.worn else (lambda picture: picture)
    )
    told = judge(vlm, about_renders(random.Random(f"renders {given.seed}"), wear), given.count, (*ALL, SIGHT))
    found: dict[str, Any] = {
        "renders": told.accuracy(),
        "intervals": told.intervals(),
        "ece": told.ece(),
        "silent": told.silent,
    }
    found["mean"] = round(float(np.mean([found["renders"][kind] for kind in ALL])), 4)
    missed = [kind for kind in ALL if found["renders"][kind] < BAR_RENDERS]
    if given.weights:
        drawn = judge(vlm, about_drawn(random.Random(f"drawn {given.seed}"), given.weights), given.count, ONE)
        found |= {"drawn": drawn.accuracy(), "ece": drawn.ece()}
        missed += [f"{kind} (drawn)" for kind in ONE if found["drawn"][kind] < BAR_DRAWN]
    found["false_met"] = false_met(vlm, random.Random(f"briefs {given.seed}"), max(20, given.count // 4))
    if given.requests:
        found["controller"] = steer(vlm, random.Random(f"requests {given.seed}"), given.requests)
        found["critique"] = criticise(vlm, random.Random(f"critiques {given.seed}"), given.requests)
    found |= {
        "backend": given.backend,
        "model": vlm.name,
        "count": given.count,
        "seed": given.seed,
        "worn": given.worn,
        "seconds": round(time.perf_counter() - start, 1),
    }
    print(json.dumps(found, indent=2))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    answers = {kind: [round(yes, 6) for yes, _ in said] for kind, said in told.said.items()}
    if given.answers:
        given.answers.write_text(json.dumps(answers) + "\n", encoding="utf-8")
    if given.against:
        apart = compare(answers, json.loads(given.against.read_text(encoding="utf-8")))
        print(f"apart from {given.against.name}:", json.dumps(apart))
        missed += [f"{kind} (backends differ by {value})" for kind, value in apart.items() if value > BAR_APART]
    missed += ["ece"] * (found["ece"] > BAR_ECE)
    print("missed bars:", ", ".join(missed) or "none")
    return int(bool(missed))


if __name__ == "__main__":
    raise SystemExit(main())
