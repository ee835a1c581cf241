"""What the embedded vision-language model is taught by as a controller: the project's own requests, and the exact
controller's replies as compact JSON in the order of the schema.

The requests are made by `clvr_core.controller` itself, from runs that are written down as if they had been made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..brief import Brief, Goal
from ..controller import Situation, draft_goals, next_action
from ..controller.prompts import inspect_text
from ..policy.base import Policy
from ..policy.clvr import Clvr
from ..policy.director import Director
from ..protocols import Decision, Message, Question, Reply
from ..records import to_json
from ..stickers.controller import act
from ..stickers.critique import contradiction
from ..stickers.grammar import NotInGrammar, parse
from ..stickers.judge import goal_drafts
from ..stickers.perceive import Perception
from ..stickers.planner import closest
from ..stickers.planning_errors import anew, misunderstood
from ..stickers.sampling import random_brief
from ..stickers.scene import CANVAS, Scene, apply
from ..stickers.spec import Spec, Statement
from ..trajectory import Action, Candidate, Step, Trajectory, Verdict
from ..verifier import prompts
from ..vlm.decisions import ONE_WORD
from .vlm_questions import COMPARED, CRITIQUE, Chance, some_edit

COUNTS = {1: 2, 2: 3, 3: 4, 4: 4, 5: 3, 6: 3, 7: 2, 8: 2}
"""How often a brief has so many things."""
BLANK = np.zeros((CANVAS, CANVAS, 3), np.uint8)
TASKS = ("goals", "action", *COMPARED, CRITIQUE)
MIX = (0.35, 0.4, 0.08, 0.05, 0.12)
MISTAKEN = 0.4
"""Share of what a brief says that is misunderstood in an instruction that is to be criticised."""
FIRST = 0.3
"""Share of the actions that are taught which come before any canvas; each run has one, and every thing depends on it."""
CLVR = 0.75
"""Share of the actions that are asked for by CLVR's strategy; the others are by VisionDirector's."""


class Teacher:
    """A `Vlm` that answers as the exact controller does, and keeps the request and the reply. understand: what the brief
    says -> what it takes it for."""

    name = "teacher"

    def __init__(
        self, spec: Spec, scenes: Mapping[int, Scene], understand: Callable[[Spec], Spec] = lambda spec: spec
    ) -> None:
        self.spec, self.scenes, self.understand = spec, scenes, understand
        self.messages: Sequence[Message] = ()
        self.reply = ""

    def chat(self, messages: Sequence[Message], schema: Mapping[str, Any]) -> Reply:
        data = messages[-1].data
        if data["task"] == "goals":
            # The text says it all, so the question is left out.
            value: dict[str, Any] = {"goals": [draft | {"check": "", "area": None} for draft in goal_drafts(self.spec)]}
        else:
            seen = [Perception(self.scenes[canvas].things, self.scenes[canvas].backdrop) for canvas in data["canvases"]]
            value = act(data, seen, self.understand) | {"region": None}
        self.messages, self.reply = messages, json.dumps(ordered(value, schema), separators=(",", ":"))
        return Reply(self.reply, 1)

    def decide(self, images: Sequence[Any], questions: Sequence[Question]) -> list[Decision]:
        raise NotImplementedError


def ordered(value: Any, schema: Mapping[str, Any]) -> Any:
    """Return the value with its fields in the order of the schema, and whole numbers without a point."""
    if isinstance(value, dict):
        return {name: ordered(value[name], part) for name, part in schema["properties"].items()}
    if isinstance(value, (list, tuple)):
        return [ordered(each, schema["items"]) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def worked_on(target: Scene, rng: Chance) -> Scene:
    """Return a canvas on the way to the target, with up to four things that are wrong or missing."""
    scene = target
    for _ in range(rng.choices(range(5), (1, 4, 3, 2, 1))[0]):
        if scene.things and rng.random() < 0.5:
            scene = scene.without([rng.choice(scene.things).cell])
        else:
            scene = apply(some_edit(scene, rng), scene)
    return scene


def verdicts(goals: Sequence[Goal], statements: Sequence[Statement], scene: Scene) -> tuple[Verdict, ...]:
    return tuple(
        Verdict(goal.id, "met" if statement.holds(scene) else "unmet", "", 0.95)
        for goal, statement in zip(goals, statements, strict=True)
    )


@dataclass
class Request:
    """A request as the controller makes it, and what the exact controller replies.

    scenes: canvas -> what it shows. situation: of an action; None for a list of goals. action: the exact one.
    parts: the system's words and those of the request, then the scenes of its pictures.
    """

    brief: Brief
    spec: Spec
    goals: tuple[Goal, ...]
    parts: list[str | Scene]
    reply: str
    scenes: dict[int, Scene] = field(default_factory=dict)
    situation: Situation | None = None
    action: Action | None = None


def some_brief(rng: Chance) -> tuple[Brief, Spec, Scene]:
    """Return a brief, what the grammar reads in it, and a scene that meets it. Raises NotInGrammar where it reads nothing."""
    target, _, prompt = random_brief(rng, rng.choices(list(COUNTS), list(COUNTS.values()))[0])
    spec = parse(prompt)
    brief = Brief(prompt, seed=rng.randrange(1 << 30), width=CANVAS, height=CANVAS)
    return brief, spec, closest(spec, target, rng) or target


def goals_of(spec: Spec) -> tuple[Goal, ...]:
    return tuple(
        Goal(f"g{place}", draft["text"], draft["kind"], draft["check"], draft["feasibility"])
        for place, draft in enumerate(goal_drafts(spec), 1)
    )


def request_for_goals(rng: Chance) -> Request | None:
    """Return a request for the goals of a brief. None where the grammar cannot read the brief."""
    try:
        brief, spec, _ = some_brief(rng)
    except NotInGrammar:
        return None
    teacher = Teacher(spec, {})
    goals = draft_goals(teacher, brief).value or ()
    return Request(brief, spec, goals, [message.text for message in teacher.messages], teacher.reply)


def request_for_action(rng: Chance, mistaken: float = 0.0, rounds: int | None = None) -> Request | None:
    """Return a request for an action in the midst of a run. None where none would be made. mistaken: the rate at which that
    action misunderstands what the brief says. rounds: before it, at most; None for up to three."""
    try:
        brief, spec, base = some_brief(rng)
    except NotInGrammar:
        return None
    goals = goals_of(spec)
    if len({goal.text for goal in goals}) < len(goals):
        return None
    policy: Policy = Clvr() if rng.random() < CLVR else Director()
    plan = policy.plan(brief, goals)
    trajectory = Trajectory(replace(brief, strategy=policy.name), goals, plan=plan.batches, route=plan.route)
    scenes: dict[int, Scene] = {}
    for number in range(rng.choices(range(4), (2, 5, 3, 1))[0] if rounds is None else rounds):
        directive = policy.directive(trajectory)
        action = directive.fixed or next_action(Teacher(spec, scenes), _situation(trajectory, policy)).value
        if action is None or not action.draws:
            break
        scenes[number] = drawn = worked_on(base, rng)
        judged = verdicts(goals, spec.statements, drawn)
        met = sum(verdict.state == "met" for verdict in judged)
        kept = number == 0 or rng.random() < 0.8
        reason = f"Goals that hold: {met}." if kept else "No goal was gained."
        candidates = (Candidate(number, "", 0, ""),)
        step = Step(number, action, trajectory.current, candidates, number, judged, accepted=kept, reason=reason)
        trajectory = replace(
            trajectory, steps=(*trajectory.steps, step), current=number if kept else trajectory.current
        )
    directive, situation = policy.directive(trajectory), _situation(trajectory, policy)
    if directive.fixed or not (directive.focus or "END" in directive.allowed):
        return None
    chance = anew(str(rng.random()))
    teacher = Teacher(spec, scenes, lambda said: misunderstood(said, mistaken, chance) if mistaken else said)
    action = next_action(teacher, situation).value
    if action is None:
        return None
    shown = [scenes[canvas] for canvas in situation.canvases]
    parts = [*(message.text for message in teacher.messages), *shown]
    return Request(brief, spec, goals, parts, teacher.reply, scenes, situation, action)


def _situation(trajectory: Trajectory, policy: Policy) -> Situation:
    directive = policy.directive(trajectory)
    return Situation(trajectory, directive.focus, directive.allowed, dict.fromkeys(trajectory.offered, BLANK))


def comparison(rng: Chance, task: str) -> tuple[list[str | Scene], str] | None:
    """Return pictures of one brief with the verifier's question which fits it better or best, and Yes or No. None where
    two fit alike."""
    try:
        brief, spec, base = some_brief(rng)
    except NotInGrammar:
        return None
    goals, count = goals_of(spec), 2 if task == "compare" else rng.choice((2, 3, 4))
    scenes = [worked_on(base, rng) for _ in range(count)]
    met = [sum(statement.holds(scene) for statement in spec.statements) for scene in scenes]
    best = [place for place, value in enumerate(met) if value == max(met)]
    if len(best) > 1:
        return None
    if task == "compare":
        text, holds = prompts.compare_question(brief, goals).text, best[0] == 0
    else:
        place = best[0] if rng.random() < 0.5 else rng.randrange(count)
        text, holds = prompts.best_question(brief, goals, place + 1, count).text, place == best[0]
    return [*scenes, f"{text}\n{ONE_WORD}"], "Yes" if holds else "No"


def criticised(rng: Chance) -> tuple[Request, Action, bool] | None:
    """Return a request, an instruction by a controller that misunderstands some of the brief, and whether it contradicts
    that. None where there is no instruction."""
    request = request_for_action(rng, MISTAKEN)
    if request is None or request.action is None or not request.action.draws:
        return None
    return request, request.action, bool(contradiction(request.spec, to_json(request.action)))


@dataclass(frozen=True)
class Critique:
    """The loop's question whether an instruction contradicts the brief. instruction: as it stands in the question. brief: what
    the grammar reads in it. answer: Yes or No."""

    question: str
    instruction: str
    brief: Spec
    answer: str


def critique(rng: Chance) -> Critique | None:
    """Return a question that criticises an instruction. None where there is no instruction."""
    found = criticised(rng)
    if found is None:
        return None
    request, action, wrong = found
    question = f"{inspect_text(request.brief, action)}\n{ONE_WORD}"
    return Critique(question, action.edit_prompt or action.scene_prompt, request.spec, "Yes" if wrong else "No")


def critiques(rng: Chance, count: int) -> list[Critique]:
    made: list[Critique] = []
    while len(made) < count:
        made += filter(None, [critique(rng)])
    return made


def requests(rng: Chance, count: int) -> list[tuple[str, list[str | Scene], str]]:
    """Return so many requests and comparisons: the task, the parts, the reply. A picture is given by its scene."""
    made: list[tuple[str, list[str | Scene], str]] = []
    while len(made) < count:
        task = rng.choices(TASKS, MIX)[0]
        found: tuple[list[str | Scene], str] | None
        if task in COMPARED:
            found = comparison(rng, task)
        elif task == CRITIQUE:
            asked = critique(rng)
            found = asked and ([asked.question], asked.answer)
        else:
            first = 0 if rng.random() < FIRST else None
            request = request_for_goals(rng) if task == "goals" else request_for_action(rng, rounds=first)
            found = request and (request.parts, request.reply)
        if found:
            made.append((task, *found))
    return made
