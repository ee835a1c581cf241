"""The embedded vision-language model: the Vlm protocol without a neural network.

It reads the structure beside each message instead of its words, perceives pictures exactly, and can be made to err at a
set rate, so that a loop steered by it can be measured against the exact truth.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from ..controller.conversation import offered
from ..errors import JudgeFailure
from ..policy.remarks import is_wish
from ..protocols import Decision, Message, Picture, Question, Reply
from ..trajectory import seed_for
from ..verifier.prompts import MAX_GAPS
from .controller import act, laid_out
from .grammar import NotInGrammar, parse, parse_instruction
from .perceive import Perception, check_edit, misread, perceive
from .phrases import AT_LEAST, NOTHING_BUT, goal_words
from .planning_errors import misunderstood
from .proxies import proxies
from .scene import Scene, Thing
from .spec import ANYWHERE, AtLeast, Item, Only, Relation, Spec, Statement

SURE = 0.95
Errors = Literal["independent", "correlated"]
"""How the errors of the judge hang together. independent: each picture and question has its own. correlated: what is
seen alike is misjudged alike, in every picture, as by a network."""


def goal_drafts(spec: Spec) -> list[dict[str, Any]]:
    """Return the checklist of a spec. A relation conflicts with its opposite."""
    statements = spec.statements
    return [
        _draft(statement, [place for place, other in enumerate(statements, 1) if _opposed(statement, other)])
        for statement in statements
    ]


def _draft(statement: Statement, opposed: list[int]) -> dict[str, Any]:
    text = goal_words(statement)
    kind = {Only: "global", Relation: "layout"}.get(type(statement), "local")
    return {
        "text": text,
        "kind": kind,
        "check": f"Does the picture show {text}?",
        "feasibility": _feasibility(statement),
        "conflicts_with": opposed,
    }


def _feasibility(statement: Statement) -> float:
    """Return the estimated chance that one shot draws the statement. A waymark is part of its item: 1."""
    if isinstance(statement, Item):
        return round(0.97**statement.count * (0.95 if statement.place != ANYWHERE else 1.0), 3)
    return {Only: 0.97, AtLeast: 1.0, Relation: 0.75}[type(statement)]


def _opposed(one: Statement, other: Statement) -> bool:
    if not (isinstance(one, Relation) and isinstance(other, Relation)):
        return False
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    same = (one.a, one.b) == (other.a, other.b) and opposite[one.kind] == other.kind
    return same or ((one.a, one.b) == (other.b, other.a) and one.kind == other.kind)


def holds(text: str, perception: Perception) -> bool:
    """Say whether a goal of `goal_drafts` holds on a canvas. Raises NotInGrammar for a goal in other words."""
    things = perception.things
    if text.startswith(NOTHING_BUT):
        return perception.clean and Only(parse(text.removeprefix(NOTHING_BUT)).items).holds(things)
    spec = parse(text.removeprefix(AT_LEAST))
    if text.startswith(AT_LEAST):
        return all(AtLeast(item).holds(things) for item in spec.items)
    if spec.relations:
        return all(relation.holds(things) for relation in spec.relations)
    return all(item.holds(things) for item in spec.items)


def held(prompt: str, perception: Perception) -> list[bool]:
    """Say of each statement of a brief whether it holds. That nothing else is drawn needs a canvas without junk."""
    return [
        statement.holds(perception.things) and (perception.clean or not isinstance(statement, Only))
        for statement in parse(prompt).statements
    ]


def read(goal: Mapping[str, Any], perception: Perception) -> bool | None:
    """Say whether a goal holds; None for a wish that the artist added in words beyond the grammar.

    Raises NotInGrammar for any other goal in such words.
    """
    try:
        return holds(goal["text"], perception)
    except NotInGrammar:
        if is_wish(goal["id"]):
            return None
        raise


class ShapesVlm:
    """Controller and verifier of the shapes world.

    flip: probability, 0 to 1, that a yes/no answer is inverted; a quarter of it that a thing is misread in planning. An
        error belongs to its picture and question: asked again, the same wrong answer comes back, as from a greedy
        model.
    errors: whether it belongs to the picture (independent) or to the things that the question is about (correlated).
    planning: probability, 0 to 1, that the planner misunderstands an item or a relation of the brief.
    planning_errors: whether each plan errs anew (independent) or always alike (correlated).
    """

    def __init__(
        self,
        flip: float = 0.0,
        seed: int = 0,
        errors: Errors = "independent",
        planning: float = 0.0,
        planning_errors: Errors = "independent",
    ) -> None:
        for name, rate in (("flip", flip), ("planning", planning)):
            if not 0 <= rate <= 1:
                raise ValueError(f"{name} is {rate}; it must be between 0 and 1")
        self.flip, self.seed, self.errors = flip, seed, errors
        self.planning, self.planning_errors = planning, planning_errors
        faults = [f"flip {flip:g}"] * bool(flip) + [f"planning {planning:g}"] * bool(planning)
        faults += [errors] * (bool(flip) and errors != "independent")
        faults += ["always alike"] * (bool(planning) and planning_errors != "independent")
        self.name = f"shapes ({', '.join(faults)}, seed {seed})" if faults else "shapes"

    def require_readable(self, prompt: str) -> None:
        """Raises NotInGrammar if the brief cannot be read."""
        parse(prompt)

    def chat(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Reply:
        tasks = ("goals", "action", "evidence", "proxy", "rewrite", "whole", "count")
        message = next((message for message in reversed(messages) if message.data.get("task") in tasks), None)
        if message is None:
            raise JudgeFailure("the shapes model was asked something that it has no task for")
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
        else:
            seen, step = [self._read(picture) for picture in offered(messages, message)], message.data["step"]
            value = act(message.data, seen, lambda spec: self._understood(spec, step))
        return _told(value)

    def plan(self, prompt: str, seed: int, attempt: int = 0) -> str:
        """Return the brief with a place and a size for every thing, as this planner understands it. Each attempt is
        another layout, and errs anew unless errors are correlated."""
        return laid_out(
            self._understood(parse(prompt), attempt), prompt, seed_for(seed, attempt, 0) if attempt else seed
        )

    def _understood(self, spec: Spec, attempt: int) -> Spec:
        if not self.planning:
            return spec
        key = f"{self.seed}/plan" if self.planning_errors == "correlated" else f"{self.seed}/plan/{attempt}"
        return misunderstood(spec, self.planning, random.Random(key))

    def _whole(self, data: Mapping[str, Any], pictures: Sequence[Picture]) -> dict[str, Any]:
        """Say which statements of the brief are no goal and do not seem to hold on the first picture, and which later
        picture seems to meet more of the brief."""
        drafts, known = goal_drafts(parse(data["prompt"])), {goal["text"] for goal in data["goals"]}
        seen = [self._read(picture) for picture in pictures]
        counts = [sum(holds(draft["text"], each) for draft in drafts) for each in seen]
        missing = [draft for draft in drafts if draft["text"] not in known and not holds(draft["text"], seen[0])]
        gaps = [{name: draft[name] for name in ("text", "kind", "check")} for draft in missing]
        best = counts.index(max(counts))
        return {"gaps": gaps[:MAX_GAPS], "back_to": data["canvases"][best] if counts[best] > counts[0] else None}

    def _count(self, picture: Picture, things: Mapping[str, str]) -> list[dict[str, Any]]:
        """Count the things of each goal, by colour and shape or by shape alone, as the controller sees them."""
        seen = [(thing.color, thing.shape) for thing in self._read(picture).things]
        named = Counter([*(f"{color} {shape}" for color, shape in seen), *(shape for _, shape in seen)])
        return [{"goal": goal, "number": named[words]} for goal, words in things.items()]

    def _describe(self, picture: Picture) -> str:
        names = Counter(f"{thing.size} {thing.color} {thing.shape}" for thing in self._read(picture).things)
        return "I see " + (", ".join(f"{count} x {name}" for name, count in sorted(names.items())) or "nothing")

    def decide(self, images: Sequence[Picture], questions: Sequence[Question]) -> list[Decision]:
        return [self._answer(images, question.data) for question in questions]

    def _read(self, picture: Picture) -> Perception:
        """Return the perception of the controller: each thing, and each of its three attributes, is misread at a
        quarter of the rate."""
        seen = perceive(picture)
        if self.errors == "independent":
            return misread(seen, self.flip / 4, random.Random(self._key("read", [picture])))
        things = (
            misread(Perception((thing,)), self.flip / 4, random.Random(f"{self.seed}/read/{_named([thing])}")).things
            for thing in seen.things
        )
        return Perception(tuple(thing for read in things for thing in read), seen.junk)

    def _answer(self, images: Sequence[Picture], data: Mapping[str, Any]) -> Decision:
        task = data.get("task")
        if task == "plan-check":
            return Decision(SURE if _against(data) else 1 - SURE, tokens=1)
        if task == "compare":
            return self._compare(images, data)
        if task == "choose":
            return self._choose(images, data)
        if task == "goal":
            named = data["goal"]["text"]
            truth = read(data["goal"], perceive(images[0]))
            if truth is None:
                return Decision(None, "the shapes model reads goals in the words of its grammar only", tokens=1)
        elif task in ("edit-done", "edit-kept"):
            truth, named = _edit(task, images, data["instruction"]), data["instruction"]
        else:
            raise JudgeFailure(f"the shapes model has no task {task!r}")
        return Decision(SURE if truth != self._flips(f"{task}/{named}", images) else 1 - SURE, tokens=1)

    def _choose(self, images: Sequence[Picture], data: Mapping[str, Any]) -> Decision:
        counts = self._counts(images, data)
        return Decision(SURE if counts[data["place"] - 1] == max(counts) else 1 - SURE, tokens=1)

    def _counts(self, images: Sequence[Picture], data: Mapping[str, Any]) -> list[int]:
        """Return how many of the goals each picture seems to meet."""
        counts = []
        for picture in images:
            seen = perceive(picture)
            found = [(goal["text"], read(goal, seen)) for goal in data["goals"]]
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
            about = [_seen_for(words, perceive(picture)) for picture in images]
            return f"{self.seed}/{'goal' if task == 'compare' else task}/{words}/{'/'.join(about)}"
        return f"{self.seed}/{question}/{_digest(images)}"


def _told(value: Mapping[str, Any]) -> Reply:
    text = json.dumps(value)
    return Reply(text, tokens=len(text.split()))


def _named(things: Iterable[Thing]) -> str:
    return ", ".join(sorted(f"{thing.size} {thing.color} {thing.shape} {thing.cell}" for thing in things))


def _seen_for(words: str, seen: Perception) -> str:
    """Return the things on a canvas that a goal is about; for one about the whole picture, and for an instruction, all
    of them."""
    if words.startswith(NOTHING_BUT):
        return f"{_named(seen.things)}, clean: {seen.clean}"
    try:
        keys = {item.key for item in parse(words.removeprefix(AT_LEAST)).items}
    except NotInGrammar:
        return f"{_named(seen.things)}, clean: {seen.clean}"
    return _named(thing for thing in seen.things if (thing.color, thing.shape) in keys)


def _digest(images: Sequence[Picture]) -> str:
    return hashlib.sha256(b"".join(picture.tobytes() for picture in images)).hexdigest()


def _against(data: Mapping[str, Any]) -> bool:
    """Say whether the action puts something on the canvas that the brief does not ask for."""
    wanted = {item.key for item in parse(data["prompt"]).items}
    action = data["action"]
    if action["kind"] == "EDIT":
        return any(
            change.kind == "put" and (change.color, change.shape) not in wanted
            for change in parse_instruction(action.get("edit_prompt", ""))
        )
    return any(item.key not in wanted for item in parse(action["scene_prompt"]).items)


def _edit(task: str, images: Sequence[Picture], instruction: str) -> bool:
    """Say whether an instruction was carried out, or whether all else was kept, between two pictures."""
    before, after = images[0], images[1]
    wanted = parse_instruction(instruction)
    cells = frozenset(cell for change in wanted for cell in change.cells)
    if task == "edit-kept":
        return check_edit(before, after, Scene(), cells).untouched_ok
    old, new = perceive(before).scene(), perceive(after)
    return bool(wanted) and cells.isdisjoint(new.unclear) and all(done(change, old, new.scene()) for change in wanted)


def done(change, old: Scene, new: Scene) -> bool:
    was, now = old.at(change.cell), new.at(change.cell)
    if change.kind == "remove":
        return now is None
    if change.kind == "restore":
        return True
    if change.kind == "move":
        there = new.at(change.to)
        return now is None and there is not None and (was is None or there.kind == was.kind)
    if now is None:
        return False
    named = {"shape": change.shape, "color": change.color, "size": change.size}
    return all(value is None or getattr(now, attribute) == value for attribute, value in named.items())
