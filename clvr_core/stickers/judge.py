"""The embedded vision-language model: the Vlm protocol without a language model.

It reads the structure beside each message instead of its words, perceives pictures exactly, and can be made to err at a
set rate, so that a loop steered by it can be measured against the exact truth.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from ..controller.conversation import offered
from ..errors import JudgeFailure
from ..policy.remarks import is_wish
from ..protocols import Decision, Message, Picture, Question, Reply
from ..trajectory import seed_for
from ..verifier.prompts import MAX_GAPS
from . import perceive as reader
from .comparing import changed, same_backdrop
from .controller import act, laid_out
from .critique import contradiction, opposed
from .grammar import Instruction, NotInGrammar, parse, parse_instruction, read
from .misreading import WEAK, Weakness, misread, misread_thing
from .perceive import Perception
from .phrases import AT_LEAST, NOTHING_BUT, goal_words, noun_words
from .planning_errors import always, anew, misunderstood
from .proxies import proxies
from .scene import NATURAL, SIGN, Scene, Thing, look
from .spec import ANYWHERE, AtLeast, Backdrop, Item, Only, Relation, Spec, Statement

SURE = 0.95
Errors = Literal["independent", "correlated"]
"""How errors hang together. Of the judge: independent, each picture and question has its own; correlated, what is seen
alike is misjudged alike, in every picture, as by a network, and more often where such networks are weak (see Weakness).
Of the planner: independent, each plan errs anew; correlated, the same words are misunderstood alike in every plan."""
EXACT = Weakness(0.0, 0)


def goal_drafts(spec: Spec) -> list[dict[str, Any]]:
    """Return the checklist of a spec. A relation conflicts with its opposite."""
    statements = spec.statements
    return [
        _draft(statement, [place for place, other in enumerate(statements, 1) if _opposed(statement, other)])
        for statement in statements
    ]


def _draft(statement: Statement, opposed: list[int]) -> dict[str, Any]:
    text = goal_words(statement)
    return {
        "text": text,
        "kind": _kind(statement),
        "check": f"Does the picture show {text}?",
        "feasibility": _feasibility(statement),
        "conflicts_with": opposed,
    }


def _kind(statement: Statement) -> str:
    if isinstance(statement, Only | Backdrop):
        return "global"
    if isinstance(statement, Relation):
        return "layout"
    item = statement if isinstance(statement, Item) else statement.item
    return "text" if item.word else "local"


def _feasibility(statement: Statement) -> float:
    """Return the estimated chance that one shot draws the statement. A waymark is part of its item: 1."""
    if isinstance(statement, Item):
        chance = 0.97**statement.count * (0.95 if statement.place != ANYWHERE else 1.0)
        return round(chance * 0.85 ** len(statement.word or ""), 3)
    return {Only: 0.97, AtLeast: 1.0, Relation: 0.75, Backdrop: 0.97}[type(statement)]


def _opposed(one: Statement, other: Statement) -> bool:
    return isinstance(one, Relation) and isinstance(other, Relation) and opposed(one, other)


def holds(text: str, perception: Perception, weakness: Weakness = EXACT) -> bool:
    """Say whether a goal of `goal_drafts` holds on a canvas. Raises NotInGrammar for a goal in other words."""
    if text.startswith(NOTHING_BUT):
        return perception.clean and Only(parse(text.removeprefix(NOTHING_BUT)).items).holds(perception.scene())
    spec = read(text.removeprefix(AT_LEAST))
    if not spec.items and spec.backdrop is None:
        raise NotInGrammar(f"the goal {text!r} says nothing that the sticker world knows.")
    statements: Sequence[Statement] = spec.relations or spec.items
    if text.startswith(AT_LEAST):
        statements = [AtLeast(item) for item in spec.items]
    return spec.backdrop in (None, perception.backdrop) and all(
        weakness.holds(statement, perception) for statement in statements
    )


def held(prompt: str, perception: Perception) -> list[bool]:
    """Say of each statement of a brief whether it holds. That nothing else is drawn needs a canvas on which nothing is
    unclear."""
    scene = perception.scene()
    needed = {Only: perception.clean, Backdrop: perception.backdrop is not None}
    return [needed.get(type(each), True) and each.holds(scene) for each in parse(prompt).statements]


def read_goal(goal: Mapping[str, Any], perception: Perception, weakness: Weakness = EXACT) -> bool | None:
    """Say whether a goal holds; None for a wish that the artist added in words beyond the grammar.

    Raises NotInGrammar for any other goal in such words.
    """
    try:
        return holds(goal["text"], perception, weakness)
    except NotInGrammar:
        if is_wish(goal["id"]):
            return None
        raise


class StickersVlm:
    """Controller and verifier of the sticker world.

    flip: probability, 0 to 1, that a yes/no answer is inverted; a quarter of it that a thing is misread in planning. An
        error belongs to its picture and question: asked again, the same wrong answer comes back, as from a greedy
        model.
    errors: whether it belongs to the picture (independent) or to the things that the question is about (correlated).
    planning: probability, 0 to 1, that the planner misunderstands an item, a relation or the backdrop of the brief.
    planning_errors: whether each plan errs anew (independent) or always alike (correlated).
    read: what a picture shows; None for the world's reader.
    """

    def __init__(
        self,
        flip: float = 0.0,
        seed: int = 0,
        errors: Errors = "independent",
        planning: float = 0.0,
        planning_errors: Errors = "independent",
        read: Callable[[Picture], Perception] | None = None,
    ) -> None:
        for name, rate in (("flip", flip), ("planning", planning)):
            if not 0 <= rate <= 1:
                raise ValueError(f"{name} is {rate}; it must be between 0 and 1")
        self.flip, self.seed, self.errors = flip, seed, errors
        self.planning, self.planning_errors = planning, planning_errors
        self._perceive = read or reader.perceive
        self.weakness = Weakness(flip, seed) if errors == "correlated" else EXACT
        faults = [f"flip {flip:g} {errors}"] * bool(flip) + [f"planning {planning:g} {planning_errors}"] * bool(
            planning
        )
        about = [*faults, *([f"seed {seed}"] if faults else []), *filter(None, [reader.source()])]
        self.name = f"stickers ({', '.join(about)})" if about else "stickers"

    def require_readable(self, prompt: str) -> None:
        """Raises NotInGrammar if the brief cannot be read."""
        parse(prompt)

    def chat(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Reply:
        tasks = ("goals", "action", "evidence", "proxy", "rewrite", "whole", "complexity", "count")
        message = next((message for message in reversed(messages) if message.data.get("task") in tasks), None)
        if message is None:
            raise JudgeFailure("the stickers model was asked something that it has no task for")
        if message.data["task"] == "evidence":
            seen = self._describe(message.images[0])
            return _told({"seen": [{"goal": goal, "seen": seen} for goal in message.data["goals"]]})
        if message.data["task"] == "count":
            return _told({"counts": self._count(message.images[0], message.data["things"])})
        if message.data["task"] == "goals":
            value: dict[str, Any] = {"goals": goal_drafts(parse(message.data["prompt"]))}
        elif message.data["task"] == "proxy":
            value = proxies(message.data, [self._read(picture) for picture in message.images])
        elif message.data["task"] == "whole":
            value = self._whole(message.data, message.images)
        elif message.data["task"] == "rewrite":
            value = {"prompt": self.plan(message.data["prompt"], message.data["seed"])}
        elif message.data["task"] == "complexity":
            value = _taken_apart(parse(message.data["prompt"]))
        else:
            seen = [self._read(picture) for picture in offered(messages, message)]
            step, note = message.data["step"], message.data.get("note")
            # Told that the plan contradicts the brief, it plans anew.
            value = act(message.data, seen, lambda spec: self._understood(spec, f"{step}/{note}" if note else step))
        return _told(value)

    def plan(self, prompt: str, seed: int, attempt: int = 0) -> str:
        """Return the brief with a place and a size for every thing, as this planner understands it. Each attempt is
        another layout, and errs anew unless errors are correlated."""
        return laid_out(
            self._understood(parse(prompt), attempt), prompt, seed_for(seed, attempt, 0) if attempt else seed
        )

    def _understood(self, spec: Spec, attempt: object) -> Spec:
        if not self.planning:
            return spec
        if self.planning_errors == "correlated":
            return misunderstood(spec, self.planning, always(f"{self.seed}/plan"), WEAK)
        return misunderstood(spec, self.planning, anew(f"{self.seed}/plan/{attempt}"))

    def _whole(self, data: Mapping[str, Any], pictures: Sequence[Picture]) -> dict[str, Any]:
        """Say which statements of the brief are no goal and do not seem to hold on the first picture, and which later
        picture seems to meet more of the brief."""
        drafts, known = goal_drafts(parse(data["prompt"])), {goal["text"] for goal in data["goals"]}
        seen = [self._read(picture) for picture in pictures]
        counts = [sum(self._holds(draft["text"], each) for draft in drafts) for each in seen]
        missing = [draft for draft in drafts if draft["text"] not in known and not self._holds(draft["text"], seen[0])]
        gaps = [{name: draft[name] for name in ("text", "kind", "check")} for draft in missing]
        best = counts.index(max(counts))
        return {"gaps": gaps[:MAX_GAPS], "back_to": data["canvases"][best] if counts[best] > counts[0] else None}

    def _holds(self, text: str, seen: Perception) -> bool:
        return holds(text, seen, self.weakness)

    def _count(self, picture: Picture, things: Mapping[str, str]) -> list[dict[str, Any]]:
        """Count the things of each goal as the controller sees them; those in other words than the world's are left
        out."""
        seen = Counter(thing.key for thing in self._read(picture).things)
        counts = []
        for goal, words in things.items():
            try:
                (item,) = read(words).items
            except (NotInGrammar, ValueError):
                continue
            counts.append({"goal": goal, "number": seen[item.key]})
        return counts

    def _describe(self, picture: Picture) -> str:
        seen = self._read(picture)
        names = Counter(_called(thing) for thing in seen.things)
        told = "I see " + (", ".join(f"{count} x {name}" for name, count in sorted(names.items())) or "nothing")
        return f"{told}; scene: {seen.backdrop or 'unclear'}"

    def decide(self, images: Sequence[Picture], questions: Sequence[Question]) -> list[Decision]:
        return [self._answer(images, question.data) for question in questions]

    def _read(self, picture: Picture) -> Perception:
        """Return the perception of the controller: each thing, each of its attributes, and the backdrop is misread at a
        quarter of the rate."""
        seen, rate = self._perceive(picture), self.flip / 4
        if not rate:
            return seen
        if self.errors == "independent":
            return misread(seen, rate, random.Random(self._key("read", [picture])))
        things = []
        for thing in seen.things:
            rng = random.Random(f"{self.seed}/read/{_named([thing])}")
            if rng.random() >= rate:
                things.append(misread_thing(thing, rate, rng))
        empty = Perception((), seen.backdrop, seen.unclear)
        setting = misread(empty, rate, random.Random(f"{self.seed}/read/{seen.backdrop}"))
        return Perception(tuple(things), setting.backdrop, seen.unclear)

    def _answer(self, images: Sequence[Picture], data: Mapping[str, Any]) -> Decision:
        task = data.get("task")
        if task == "plan-check":
            action = data["action"]
            try:
                against = bool(contradiction(parse(data["prompt"]), action))
            except NotInGrammar:
                return Decision(
                    None, "the stickers model reads instructions in the words of its grammar only", tokens=1
                )
            said = action.get("edit_prompt") or action.get("scene_prompt", "")
            return Decision(SURE if against != self._flips(f"{task}/{said}", ()) else 1 - SURE, tokens=1)
        if task == "compare":
            return self._compare(images, data)
        if task == "choose":
            return self._choose(images, data)
        if task == "goal":
            named = data["goal"]["text"]
            truth = read_goal(data["goal"], self._perceive(images[0]), self.weakness)
            if truth is None:
                return Decision(None, "the stickers model reads goals in the words of its grammar only", tokens=1)
        elif task in ("edit-done", "edit-kept"):
            named = data["instruction"]
            truth = _edit(task, self._perceive(images[0]), self._perceive(images[1]), parse_instruction(named))
        else:
            raise JudgeFailure(f"the stickers model has no task {task!r}")
        return Decision(SURE if truth != self._flips(f"{task}/{named}", images) else 1 - SURE, tokens=1)

    def _choose(self, images: Sequence[Picture], data: Mapping[str, Any]) -> Decision:
        counts = self._counts(images, data)
        return Decision(SURE if counts[data["place"] - 1] == max(counts) else 1 - SURE, tokens=1)

    def _counts(self, images: Sequence[Picture], data: Mapping[str, Any]) -> list[int]:
        """Return how many of the goals each picture seems to meet."""
        counts = []
        for picture in images:
            seen = self._perceive(picture)
            found = [(goal["text"], read_goal(goal, seen, self.weakness)) for goal in data["goals"]]
            counts.append(
                sum(truth != self._flips(f"compare/{text}", [picture]) for text, truth in found if truth is not None)
            )
        return counts

    def _compare(self, images: Sequence[Picture], data: Mapping[str, Any]) -> Decision:
        counts = self._counts(images[:2], data)
        return Decision(0.5 if counts[0] == counts[1] else SURE if counts[0] > counts[1] else 1 - SURE, tokens=1)

    def _flips(self, question: str, images: Sequence[Picture]) -> bool:
        return self.flip > 0 and random.Random(self._key(question, images)).random() < self.flip

    def _key(self, question: str, images: Sequence[Picture]) -> str:
        if self.errors == "correlated":
            task, _, words = question.partition("/")
            # A goal is misjudged in a comparison as it is when it is asked about alone.
            about = [_seen_for(words, self._perceive(picture)) for picture in images]
            return f"{self.seed}/{'goal' if task == 'compare' else task}/{words}/{'/'.join(about)}"
        return f"{self.seed}/{question}/{_digest(images)}"


def _told(value: Mapping[str, Any]) -> Reply:
    text = json.dumps(value)
    return Reply(text, tokens=len(text.split()))


def _taken_apart(spec: Spec) -> dict[str, Any]:
    """Return what a brief asks for as the reply to a request of evaluation/prompt_parse.py."""
    things = [
        {
            "name": noun_words(*item.key),
            "count": item.count,
            "attributes": [
                *([item.color] if item.color != NATURAL else []),
                *([item.size] if item.size else []),
                *([" ".join(filter(None, (item.place.row, item.place.column)))] if item.place != ANYWHERE else []),
            ],
        }
        for item in spec.items
    ]
    relations = [{"of": noun_words(*each.a), "to": noun_words(*each.b), "kind": each.kind} for each in spec.relations]
    return {"things": things, "relations": relations, "absent": [], "texts": [i.word for i in spec.items if i.word]}


def _called(thing: Thing) -> str:
    if thing.noun == SIGN:
        return f'{SIGN} that says "{thing.word}"'
    return noun_words(thing.color, thing.noun, thing.size)


def _named(things: Iterable[Thing]) -> str:
    return ", ".join(sorted(f"{_called(thing)} {thing.cell}" for thing in things))


def _seen_for(words: str, seen: Perception) -> str:
    """Return what a goal is about on a canvas, things or the backdrop; for a goal about the whole picture, and for an
    instruction, all of it."""
    everything = f"{_named(seen.things)}, {seen.backdrop}, clean: {seen.clean}"
    if words.startswith(NOTHING_BUT):
        return everything
    try:
        spec = read(words.removeprefix(AT_LEAST))
    except NotInGrammar:
        return everything
    keys = {item.key for item in spec.items}
    things = _named(thing for thing in seen.things if thing.key in keys)
    return f"{things}, {seen.backdrop}" if spec.backdrop else things


def _digest(images: Sequence[Picture]) -> str:
    return hashlib.sha256(b"".join(picture.tobytes() for picture in images)).hexdigest()


def _edit(task: str, before: Perception, after: Perception, wanted: Sequence[Instruction]) -> bool:
    """Say whether the instructions were carried out, or whether all else was kept, between two canvases."""
    cells = frozenset(cell for change in wanted for cell in change.cells)
    setting = any(change.backdrop is not None for change in wanted)
    if task == "edit-kept":
        return not changed(before, after, cells) and (setting or same_backdrop(before, after))
    if not wanted or set(after.unclear) & cells or (setting and after.backdrop is None):
        return False
    old, new = before.scene(), after.scene()
    return all(done(change, old, new) for change in wanted)


def done(change: Instruction, old: Scene, new: Scene) -> bool:
    """Say whether one change of an instruction was carried out between two scenes. A restored cell may hold anything."""
    if change.backdrop is not None:
        return new.backdrop == change.backdrop
    if change.kind == "restore" or change.cell is None:
        return True
    was, now = old.at(change.cell), new.at(change.cell)
    if change.kind == "remove":
        return now is None
    if change.kind == "move" and change.to is not None:
        there = new.at(change.to)
        return now is None and there is not None and (was is None or there.kind == was.kind)
    if now is None:
        return False
    color = change.color and look(now.noun, change.color)
    named = {"noun": change.noun, "color": color, "size": change.size, "word": change.word}
    return all(value is None or getattr(now, attribute) == value for attribute, value in named.items())
