"""`clvr synthesize --critique`: the three parts of Think in Strokes' data (arXiv 2604.04746) in the sticker world, where the
truth is exact.

Multi-turn: pictures painted in strokes (`clvr_core/stickers/strokes.py`), rendered.
Instructions: what a controller says in the loop itself, held against the brief, with what it should have said.
Pictures: what was drawn for an instruction, held against it, with the instruction that mends it.

The last two come from runs of the strategy `strokes` with an executor that is simulated and errs often. The controller is the
one that is to be taught, so that it learns from its own mistakes.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from ..brief import Brief, Budget
from ..errors import BadInput
from ..fleet.rounds import drive_all
from ..protocols import Decision, Message, Picture, Question, Reply, Vlm
from ..reading import json_of
from ..records import from_json, to_json
from ..run.session import RunModels, Session
from ..stickers.critique import contradiction
from ..stickers.grammar import NotInGrammar, parse, parse_instruction
from ..stickers.judge import StickersVlm
from ..stickers.phrases import instruct
from ..stickers.planner import changes
from ..stickers.proxies import after
from ..stickers.sampling import random_brief
from ..stickers.scene import CANVAS, Scene, apply
from ..stickers.simulated import NFE, Rates, SimulatedExecutor, perceive_rendered, rendered
from ..stickers.strokes import painted, why
from ..storage.atomic import keep_note, write_bytes, writing
from ..storage.lock import alone_in_folder
from ..trajectory import Action, Trajectory, seed_for
from ..verifier import check_edit
from ..verifier.prompts import done_question, kept_question
from ..vlm.decisions import DECIDE, ONE_WORD
from .data import IMAGES, Row, Turn, trl, write_lines, write_rows

TURNS, INSTRUCTIONS, PICTURES = 32_012, 15_201, 15_000
"""Of the paper: multi-turn paintings, criticised instructions, and pictures held against their instruction."""
CONFLICTING, FOLLOWING = 6_905 / INSTRUCTIONS, 5_000 / PICTURES
"""Shares of the instructions that contradict the brief, and of the pictures that show what they were to."""
CRITIQUES, MIX, RUNS, SETTINGS = "critiques.jsonl", "sft.jsonl", "runs.jsonl", "settings.json"
TOGETHER = 16
"""Runs at the same time."""
MOST_RUNS = 12
"""Runs for each painting, after which parts that are not full are left as they are."""
FAULTY = Rates(thing=0.1, crowd=0.05, place=0.08, letter=0.3, edit=0.45, spill=0.25, systematic=0.0)
"""Of the simulated executor: about one edit in three does what it should and nothing else."""

Draw = Callable[[Scene], Picture]


def erring_controller(seed: int) -> Vlm:
    """The exact planner, which misunderstands a third of what a brief says, each plan anew: for data without a model."""
    return StickersVlm(seed=seed, planning=0.33, read=perceive_rendered)


@dataclass(frozen=True, slots=True)
class Critique:
    """An instruction of a run, held against the brief or against what was drawn for it.

    part: `instruction` or `picture`.
    question: as the loop asks it. answer: Yes or No.
    wrong: whether something is wrong: the instruction contradicts the brief, or the picture does not follow it.
    why: what is wrong, in words.
    better: what should have been said: a reply to the same request, or the instruction that mends the picture; "" where
        nothing is wrong.
    request: the texts of the conversation after the inspection, of an instruction that is wrong.
    images: files of the pictures that belong to the question; `shown` those of the request.
    schema: of the reply to the request.
    """

    part: Literal["instruction", "picture"]
    brief: str
    instruction: str
    question: str
    answer: Literal["Yes", "No"]
    wrong: bool
    why: str = ""
    better: str = ""
    request: tuple[tuple[str, str], ...] = ()
    images: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    schema: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Parts:
    """How many of each part are made: instructions without and with a contradiction, pictures that follow and that do
    not."""

    paintings: int
    fine: int
    conflicting: int
    following: int
    failing: int

    @classmethod
    def of(cls, count: int) -> Parts:
        """The paper's mix for so many paintings."""
        instructions, pictures = round(count * INSTRUCTIONS / TURNS), round(count * PICTURES / TURNS)
        conflicting, following = round(instructions * CONFLICTING), round(pictures * FOLLOWING)
        return cls(count, instructions - conflicting, conflicting, following, pictures - following)

    def room(self, found: Mapping[tuple[str, bool], int], part: str, wrong: bool) -> int:
        """How many more critiques of a kind are wanted. found: part and wrong -> how many there are."""
        most = {
            ("instruction", False): self.fine,
            ("instruction", True): self.conflicting,
            ("picture", False): self.following,
            ("picture", True): self.failing,
        }
        return most[part, wrong] - found.get((part, wrong), 0)

    def full(self, found: Mapping[tuple[str, bool], int]) -> bool:
        kinds = (("instruction", False), ("instruction", True), ("picture", False), ("picture", True))
        return all(self.room(found, *kind) <= 0 for kind in kinds)


@alone_in_folder
def synthesize_critiques(
    out: Path,
    count: int,
    controller: Vlm,
    draw: Draw,
    *,
    seed: int = 0,
    mended: float | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, int]:
    """Make the data set in `out`, or go on with one that was stopped there. Returns how many there are of each part.

    count: paintings; the other parts are as many as in the paper's mix.
    controller: whose instructions are criticised.
    draw: the picture of a scene.
    mended: as in `painted`; 0 for paintings that only add.

    Raises BadInput if `out` holds a data set of other settings, and CannotWrite.
    """
    parts = Parts.of(count)
    note = {"count": count, "seed": seed, "controller": controller.name, "mended": mended}
    with writing(out):
        (out / IMAGES).mkdir(parents=True, exist_ok=True)
        if not keep_note(out / SETTINGS, json.dumps(note, indent=1)):
            raise BadInput(f"{out} holds a data set of other settings; choose another folder with --out")
    rows = list(paintings(out, count, draw, seed, mended))
    report(f"{len(rows)} paintings")
    critiques = _criticised(out, parts, controller, draw, seed, report)
    mix = [trl(row) for row in rows]
    mix += [line for number, each in enumerate(critiques) for line in lessons(each, f"c{number:06d}")]
    random.Random(f"critique/{seed}/mix").shuffle(mix)
    with writing(out):
        write_rows(out, rows, [])
        write_lines(out / CRITIQUES, map(to_json, critiques))
        write_lines(out / MIX, mix)
    counts = _counts(critiques)
    return {
        "paintings": len(rows),
        "instructions that contradict": counts.get(("instruction", True), 0),
        "instructions that do not": counts.get(("instruction", False), 0),
        "pictures that follow": counts.get(("picture", False), 0),
        "pictures that do not": counts.get(("picture", True), 0),
    }


def read_critiques(folder: Path) -> list[Critique]:
    """Read critiques.jsonl. Raises BadInput for a file that is missing or does not hold this."""
    path = folder / CRITIQUES
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [from_json(Critique, json_of(line)) for line in lines]
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read ({error}); make it anew with clvr synthesize --critique") from error


def paintings(out: Path, count: int, draw: Draw, seed: int, mended: float | None = None) -> Iterator[Row]:
    """Yield random pictures painted in strokes as rows of a data set, with their pictures in `out`."""
    for number in range(count):
        rng = random.Random(f"critique/{seed}/painting/{number}")
        while True:
            target, _, prompt = random_brief(rng, rng.randint(3, 6))
            spec = parse(prompt)
            if spec.holds(target):
                break
        strokes = painted(spec, target, rng) if mended is None else painted(spec, target, rng, mended)
        turns, before = [], Scene()
        for place, stroke in enumerate(strokes):
            image = f"{IMAGES}/p{number:06d}-{place + 1}.png"
            _save(out / image, draw(stroke.scene))
            held = [statement.holds(stroke.scene) for statement in spec.statements]
            edit = place > 0
            turns.append(
                Turn(
                    "EDIT" if edit else "GENERATE",
                    why(stroke, before),
                    why(stroke, before),
                    stroke.words,
                    stroke.description,
                    image,
                    stroke.words if edit else "",
                    (place - 1,) if edit else (),
                    round(sum(held) / len(held), 4),
                )
            )
            before = stroke.scene
        yield Row(
            f"p{number:06d}", prompt, seed, tuple(turns), "I check every requirement on the last canvas. All hold."
        )


@dataclass
class Heard:
    """What a `Listening` controller said that was inspected: the question, the action, what contradicts; then the
    request that followed a contradiction, and the exact reply to it."""

    question: str
    action: Mapping[str, Any]
    why: str
    messages: tuple[Message, ...] = ()
    better: str = ""
    schema: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Listening:
    """A `Vlm` whose actions are a controller's own, and whose inspections, goals and corrections are exact."""

    controller: Vlm
    exact: Vlm
    heard: list[Heard] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.controller.name

    def chat(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Reply:
        data = messages[-1].data
        if data.get("task") == "goals":
            return self.exact.chat(messages, schema)
        last = self.heard[-1] if self.heard else None
        if data.get("task") == "action" and data.get("note") and last and last.why and not last.better:
            reply = self.exact.chat(messages, schema)
            value = json.loads(reply.text)
            ordered = {name: value.get(name) for name in schema["properties"]}
            last.schema = schema
            last.messages, last.better = tuple(messages), json.dumps(ordered, separators=(",", ":"))
            return reply
        return self.controller.chat(messages, schema)

    def decide(self, images: Sequence[Picture], questions: Sequence[Question]) -> list[Decision]:
        return [self._inspected(question) for question in questions]

    def _inspected(self, question: Question) -> Decision:
        data = question.data
        try:
            against = contradiction(parse(data["prompt"]), data["action"])
        except NotInGrammar as error:  # words of no use to this world teach nothing about a contradiction
            return Decision(None, str(error).partition("\n")[0])
        self.heard.append(Heard(question.text, data["action"], against))
        return Decision(float(bool(against)))


def _criticised(
    out: Path, parts: Parts, controller: Vlm, draw: Draw, seed: int, report: Callable[[str], None]
) -> list[Critique]:
    """Return the critiques, of which those of earlier calls are read."""
    path, batches = out / RUNS, _batches(out / RUNS)
    exact = StickersVlm(read=perceive_rendered)
    found = [critique for batch in batches for critique in batch]
    for number in range(len(batches), max(1, MOST_RUNS * parts.paintings // TOGETHER)):
        counts = _counts(found)
        if parts.full(counts):
            break
        made = list(_run(out, parts, counts, controller, exact, draw, seed, number))
        with writing(out), path.open("ab") as file:
            file.write(json.dumps([to_json(each) for each in made]).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        found += made
        report(f"{(number + 1) * TOGETHER} runs, {len(found)} critiques")
    return found


def _batches(path: Path) -> list[list[Critique]]:
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    if lines[-1]:  # a kill cut it; its runs are made again
        write_bytes(path, b"".join(line + b"\n" for line in lines[:-1]))
    try:
        return [[from_json(Critique, each) for each in json_of(line.decode())] for line in lines[:-1]]
    except ValueError as error:
        raise BadInput(f"{path} is damaged ({error}); restore it, or remove it to make the runs again") from error


def _counts(critiques: Sequence[Critique]) -> dict[tuple[str, bool], int]:
    counts: dict[tuple[str, bool], int] = {}
    for each in critiques:
        counts[each.part, each.wrong] = counts.get((each.part, each.wrong), 0) + 1
    return counts


def _run(
    out: Path,
    parts: Parts,
    counts: dict[tuple[str, bool], int],
    controller: Vlm,
    exact: Vlm,
    draw: Draw,
    seed: int,
    number: int,
) -> Iterator[Critique]:
    """Yield what runs teach, as far as it is wanted. counts: of what there is; those yielded are added."""
    rng = random.Random(f"critique/{seed}/runs/{number}")
    executor = SimulatedExecutor(FAULTY, NFE["merged"], lambda scene: rendered(scene, draw), perceive_rendered)
    sessions, listeners = [], []
    for place in range(TOGETHER):
        prompt = random_brief(rng, rng.randint(2, 6))[2]
        chance = seed_for(seed, number, place)
        brief = Brief(prompt, "strokes", chance, CANVAS, CANVAS, Budget(rounds=6, patience=3), final_ab=False)
        listeners.append(Listening(controller, exact))
        sessions.append(Session(brief, RunModels(listeners[-1], executor, judge=exact)))
    ends = drive_all(sessions, executor)
    for place, (session, end, listener) in enumerate(zip(sessions, ends, listeners)):
        name = f"{IMAGES}/r{number:05d}-{place:02d}"
        for critique, pictures in (*_of_instructions(name, end, listener), *_of_pictures(name, session, exact)):
            if parts.room(counts, critique.part, critique.wrong) > 0:
                counts[critique.part, critique.wrong] = counts.get((critique.part, critique.wrong), 0) + 1
                for file, picture in pictures.items():
                    _save(out / file, picture)
                yield critique


Found = tuple[Critique, dict[str, Picture]]
"""A critique, and the pictures of its files."""


def _of_instructions(name: str, end: Trajectory, listener: Listening) -> Iterator[Found]:
    for place, heard in enumerate(listener.heard):
        if heard.why and not heard.better:
            continue  # the run asked for no other action
        shown = [picture for message in heard.messages for picture in message.images]
        files = {f"{name}-i{place}-{number}.png": picture for number, picture in enumerate(shown)}
        critique = Critique(
            "instruction",
            end.brief.prompt,
            heard.action.get("edit_prompt") or heard.action.get("scene_prompt", ""),
            heard.question,
            "Yes" if heard.why else "No",
            bool(heard.why),
            heard.why,
            heard.better,
            tuple((message.role, message.text) for message in heard.messages),
            (),
            tuple(files),
            heard.schema,
        )
        yield critique, files


def _of_pictures(name: str, session: Session, exact: Vlm) -> Iterator[Found]:
    trajectory = session.trajectory
    for step in trajectory.steps:
        action = step.action
        if action.kind != "EDIT" or step.chosen is None or not parse_instruction(action.edit_prompt):
            continue
        before, drawn = session.picture(action.references[0]), session.picture(step.chosen)
        check, _, _ = check_edit(exact, before, drawn, action)
        done, kept = bool(check.success), (check.over_edit or 0.0) < 0.5
        wrong = not (done and kept)
        # Of a picture that follows now this is asked, now that, so that neither answer is foretold by the question.
        asked = kept_question(action) if done and (wrong or step.index % 2) else done_question(action)
        files = dict(zip((f"{name}-s{step.index}-before.png", f"{name}-s{step.index}-after.png"), (before, drawn)))
        critique = Critique(
            "picture",
            trajectory.brief.prompt,
            action.edit_prompt,
            asked.text,
            "No" if wrong else "Yes",
            wrong,
            "not carried out" if not done else "something else changed" if wrong else "",
            _mending(session, action, step.chosen) if wrong else "",
            images=tuple(files),
        )
        yield critique, files


def _mending(session: Session, action: Action, canvas: int) -> str:
    """Return the instruction that makes of what was drawn what the instruction had asked for."""
    given = [perceive_rendered(session.picture(each)).scene() for each in action.references]
    wanted = given[0]
    for change in parse_instruction(action.edit_prompt):
        wanted = after(change, wanted, given)
    seen = perceive_rendered(session.picture(canvas))
    words, scene = [], seen.scene()
    for edit in (edit for change in changes(wanted, seen) for edit in change.edits):
        words.append(instruct(edit, scene))
        scene = apply(edit, scene)
    return " and ".join(words)


def lessons(critique: Critique, name: str) -> Iterator[dict[str, Any]]:
    """Yield a critique in TRL's form of messages: the inspection as the loop asks for it, answered in one word, and what
    should have been said to the request that follows a contradiction."""
    images = [{"type": "image", "image": image} for image in critique.images]
    question = [*images, {"type": "text", "text": f"{critique.question}\n{ONE_WORD}"}]
    yield _lesson(
        name, [_said("system", DECIDE), {"role": "user", "content": question}, _said("assistant", critique.answer)]
    )
    if critique.request and critique.better:
        messages = [_said(role, text) for role, text in critique.request]
        # A request's pictures come after its words.
        messages[-1]["content"] += [{"type": "image", "image": image} for image in critique.shown]
        yield _lesson(f"{name}-better", [*messages, _said("assistant", critique.better)])


def _lesson(name: str, messages: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": name, "messages": messages, "images": []}


def _said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def _save(path: Path, picture: Picture) -> None:
    with writing(path.parent):
        Image.fromarray(picture).save(path)
