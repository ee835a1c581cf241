"""The controller: turns a brief into goals, and a trajectory into the next action.

Each function calls the model at most twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ..brief import Brief, Goal
from ..errors import BadInput
from ..protocols import Message, Picture, Question, Vlm
from ..records import to_json
from ..text import one_line
from ..trajectory import Action, ActionKind, Trajectory, Verdict, states
from ..vlm.decisions import decide
from ..vlm.replies import Answer, Malformed, Runs, ask, last_said, settled
from . import prompts
from .optional import Optional
from .prompts import (
    MAX_GOALS,
    TEMPLATES,
    ActionReply,
    FusedReply,
    GoalDraft,
    GoalsReply,
    contradiction_text,
    repeat_text,
)

__all__ = [
    "FALLBACK_KINDS",
    "TEMPLATES",
    "Fused",
    "Situation",
    "ask_for_action",
    "ask_fused",
    "contradiction_text",
    "contradicts",
    "draft_goals",
    "fallback",
    "next_action",
    "repeat_text",
    "request",
]


A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Situation:
    """What the controller decides on.

    trajectory: the run so far.
    focus: ids of the goals that the next action should serve.
    allowed: kinds of action to choose from, at least one.
    pictures: canvas index -> uint8 H x W x 3, of the current canvas and any others that may be referenced.
    note: a refine remark or the artist's words; empty if there is none.
    stage: name of the prompt template on this step; empty for none.
    wrong: ids of goals that an earlier step should have met and did not; a value in that template.
    source: canvas that an EDIT has to start from, among the pictures; None for any of them.
    references: the named references of the brief, in its order, uint8 H x W x 3.
    """

    trajectory: Trajectory
    focus: tuple[str, ...] = ()
    allowed: tuple[ActionKind, ...] = ("GENERATE", "EDIT", "VALIDATE", "END")
    pictures: Mapping[int, Picture] = field(default_factory=dict)
    note: str = ""
    stage: str = ""
    wrong: tuple[str, ...] = ()
    source: int | None = None
    references: Mapping[str, Picture] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.allowed:
            raise BadInput("the controller is asked for an action, but no kind of action is allowed")

    def fields(self) -> Optional:
        """A reader of the optional fields of one reply."""
        return Optional(self.trajectory.brief.width, self.trajectory.brief.height)

    @property
    def canvases(self) -> tuple[int, ...]:
        """Indices of the pictures, the current canvas first, the others in the order of `pictures`."""
        return tuple(sorted(self.pictures, key=lambda canvas: canvas != self.trajectory.current))


def draft_goals(vlm: Vlm, brief: Brief) -> Answer[tuple[Goal, ...]]:
    """Ask for the goals of the brief: at most 40, with ids g1, g2, ... in their order, without repetitions.

    Conflicts are made symmetric. `check` is empty if the model gave no question for a goal.
    """
    message = Message("user", prompts.goals_text(brief), data={"task": "goals", "prompt": brief.prompt})
    check = lambda reply: _goals(reply, Optional(brief.width, brief.height))  # noqa: E731
    answer = ask(vlm, _conversation(message), prompts.GOALS_SCHEMA, GoalsReply, check)
    return _with_value(answer, _goals, Optional(brief.width, brief.height))


def next_action(vlm: Vlm, situation: Situation) -> Answer[Action]:
    """Ask for the next action: of an allowed kind, with known goals and offered canvases only.

    An EDIT without references edits the current canvas. References of other kinds are dropped: only an edit reads them.
    """
    return ask_for_action(vlm, situation, _conversation(request(situation)))


def ask_for_action(vlm: Vlm, situation: Situation, messages: Sequence[Message]) -> Answer[Action]:
    """Ask for the next action by these messages, of which the last is a `request`."""
    guided = situation.trajectory.brief.guided
    schema = prompts.action_schema(situation.allowed, _ids(situation), situation.canvases, guided)
    convert = lambda reply, fields: _action(reply, situation, fields)  # noqa: E731
    answer = ask(vlm, messages, schema, ActionReply, lambda reply: convert(reply, situation.fields()))
    return _with_value(answer, convert, situation.fields())


@dataclass(frozen=True)
class Fused:
    """One reply with two parts.

    verdicts: on the current canvas, one for each goal.
    action: what to do next if the canvas is kept.
    """

    verdicts: tuple[Verdict, ...]
    action: Action


def ask_fused(vlm: Vlm, situation: Situation) -> Answer[Fused]:
    """Ask for verdicts on the current canvas and the next action, in one reply.

    A reply that leaves out a goal is asked for again.
    """
    text = prompts.fused_text(_action_text(situation), situation.trajectory.current)
    message = replace(request(situation, text), data={"task": "fused"})
    guided = situation.trajectory.brief.guided
    schema = prompts.fused_schema(situation.allowed, _ids(situation), situation.canvases, guided)
    convert = lambda reply, fields: _fused(reply, situation, fields)  # noqa: E731
    check = lambda reply: convert(reply, situation.fields())  # noqa: E731
    answer = ask(vlm, _conversation(message), schema, FusedReply, check, _unraised)
    return _with_value(answer, convert, situation.fields())


def _with_value(answer: Answer[A], convert: Callable[[A, Optional], B], fields: Optional) -> Answer[B]:
    value = None if answer.value is None else convert(answer.value, fields)
    return Answer(value, answer.failure, answer.tokens, answer.calls, tuple(fields.warnings))


def _action_text(situation: Situation) -> str:
    return prompts.action_text(
        situation.trajectory,
        situation.focus,
        situation.allowed,
        situation.canvases,
        situation.note,
        situation.stage,
        situation.wrong,
        situation.source,
    )


def _ids(situation: Situation) -> list[str]:
    return [goal.id for goal in situation.trajectory.goals]


def _fused(reply: FusedReply, situation: Situation, fields: Optional) -> Fused:
    """Raises Malformed for verdicts that do not name every goal once, and as `_action` does."""
    seen = {verdict.goal: verdict for verdict in reply.verdicts}
    if len(seen) != len(reply.verdicts) or seen.keys() != set(_ids(situation)):
        raise Malformed(f"verdicts must name every goal once: {', '.join(_ids(situation))}")
    verdicts = (
        Verdict(goal, seen[goal].state, one_line(seen[goal].evidence, prompts.MAX_EVIDENCE)) for goal in _ids(situation)
    )
    return Fused(tuple(verdicts), _action(reply, situation, fields))


def _unraised(runs: Runs[FusedReply]) -> FusedReply:
    """Return the last object. Raises Malformed if it says of a goal that it holds after one before it said less."""
    said = settled([[_ranks(reply) for reply in run] for run in runs])
    if doubtful := [goal for goal, rank in said.items() if rank is None]:
        raise Malformed(f"it says two things of the goals {', '.join(doubtful)[:200]}; one object is asked for")
    return last_said(runs)


def _ranks(reply: FusedReply) -> dict[str, float | None]:
    """Return the least that is said of each goal."""
    ranks = {"met": 1.0, "unsure": 0.5, "unmet": 0.0}
    least_last = sorted(((seen.goal, ranks[seen.state]) for seen in reply.verdicts), key=lambda pair: -pair[1])
    return dict(least_last)


def request(situation: Situation, text: str = "") -> Message:
    """Return the request for an action. text: its words; "" for those that tell all of the run."""
    text = text or _action_text(situation)
    trajectory, canvases = situation.trajectory, situation.canvases
    step = trajectory.current_step
    return Message(
        "user",
        text,
        images=(*(situation.pictures[canvas] for canvas in canvases), *situation.references.values()),
        data={
            "task": "action",
            "prompt": trajectory.brief.prompt,
            "goals": to_json(trajectory.goals),
            "verdicts": {} if step is None else states(step.verdicts),
            "focus": list(situation.focus),
            "allowed": list(situation.allowed),
            "current": trajectory.current,
            "canvases": list(canvases),
            "shown": list(canvases),
            "failed": [
                {
                    "parent": failed.parent,
                    "kind": failed.action.kind,
                    "edit_prompt": failed.action.edit_prompt,
                    "scene_prompt": failed.action.scene_prompt,
                    "reason": failed.reason,
                }
                for failed in trajectory.failed
            ],
            "step": len(trajectory.steps),
            "seed": trajectory.brief.seed,
            "note": situation.note,
            "source": situation.source,
            "guided": trajectory.brief.guided,
        },
    )


def contradicts(vlm: Vlm, brief: Brief, action: Action) -> Answer[bool]:
    """Ask whether the instruction contradicts the brief, the text inspection of Think in Strokes. Goals that it leaves
    for later do not count.

    An action without a prompt contradicts nothing; the model is not called.
    """
    if not (action.edit_prompt.strip() or action.scene_prompt.strip()):
        return Answer(False)
    question = Question(
        prompts.inspect_text(brief, action),
        data={"task": "plan-check", "prompt": brief.prompt, "action": to_json(action)},
    )
    decided = decide(vlm, (), (question,))
    decision = decided.decisions[0]
    if decision.yes is None:
        return Answer(None, decision.evidence, decided.tokens, decided.calls)
    return Answer(decision.yes > 0.5, "", decided.tokens, decided.calls)


FALLBACK_KINDS: tuple[ActionKind, ...] = ("GENERATE", "EDIT")
"""Kinds of the action that `fallback` returns."""


def fallback(trajectory: Trajectory, focus: Iterable[str], source: int | None = None) -> Action:
    """Return the action if the controller gave none: generate the brief, or on a canvas an EDIT that asks for the goals
    in focus.

    source: canvas that the edit starts from; None for the current one.
    """
    wanted = tuple(focus)
    if trajectory.current is None:
        return Action(
            "GENERATE",
            summary="The controller gave no action, so I draw the brief in its own words.",
            scene_prompt=trajectory.brief.prompt,
            goals=wanted,
        )
    texts = [trajectory.goal(goal).text for goal in wanted] or [trajectory.brief.prompt]
    return Action(
        "EDIT",
        summary="The controller gave no action, so I ask for the missing goals in their own words and for nothing else.",
        edit_prompt=f"Change the picture so that it shows: {'; '.join(texts)}. Keep everything else exactly as it is.",
        references=(trajectory.current if source is None else source,),
        goals=wanted,
    )


def _conversation(message: Message) -> tuple[Message, ...]:
    return Message("system", prompts.system_text()), message


def _goals(reply: GoalsReply, fields: Optional) -> tuple[Goal, ...]:
    """Convert a reply. Raises Malformed for an empty list and for a text that is too long."""
    ids: dict[str, str] = {}
    id_at: dict[int, str] = {}
    firsts: dict[str, tuple[int, GoalDraft]] = {}
    for place, draft in enumerate(reply.goals, 1):
        key = " ".join(draft.text.casefold().split()).rstrip(".;,")
        if not key or (key not in ids and len(ids) == MAX_GOALS):
            continue
        id_at[place] = ids.setdefault(key, f"g{len(ids) + 1}")
        firsts.setdefault(id_at[place], (place, draft))
    if not firsts:
        raise Malformed("the list of goals is empty")
    conflicts: set[tuple[str | None, str | None]] = set()
    for place, draft in enumerate(reply.goals, 1):
        for other in fields.places(f"a conflict of goal {place}", draft.conflicts_with, len(reply.goals)):
            conflicts |= {(id_at.get(place), id_at.get(other)), (id_at.get(other), id_at.get(place))}
    return tuple(
        Goal(
            id=goal,
            text=_bounded(f"the text of goal {place}", draft.text, prompts.MAX_GOAL_TEXT),
            kind=draft.kind,
            check=_bounded(f"the check of goal {place}", draft.check, prompts.MAX_GOAL_TEXT),
            feasibility=fields.fraction(f"the feasibility of goal {place}", draft.feasibility, 1.0) or 0.0,
            area=fields.box(f"the area of goal {place}", draft.area),
            conflicts_with=tuple(other for other in firsts if other != goal and (goal, other) in conflicts),
        )
        for goal, (place, draft) in firsts.items()
    )


def _action(reply: ActionReply, situation: Situation, fields: Optional) -> Action:
    """Convert a reply. Raises Malformed for an action that cannot be carried out in this situation."""
    trajectory, offered = situation.trajectory, situation.canvases
    if reply.kind not in situation.allowed:
        raise Malformed(f"kind {reply.kind} is not allowed now; choose one of {', '.join(situation.allowed)}")
    known = [goal.id for goal in trajectory.goals]
    for goal in reply.goals:
        if goal not in known:
            raise Malformed(f"there is no goal {goal!r:.40}; the goals are {', '.join(known) or 'none'}")
    for canvas in reply.references:
        if canvas not in offered:
            raise Malformed(
                f"canvas {canvas!r:.20} was not offered; references may name {', '.join(map(str, offered)) or 'none'}"
            )
    references = tuple(dict.fromkeys(reply.references))
    if reply.kind == "EDIT" and not references:
        if trajectory.current not in offered:
            raise Malformed("an EDIT needs at least one reference, the canvas to change first")
        references = (trajectory.current,)
    if reply.kind == "EDIT" and situation.source is not None and references[0] != situation.source:
        raise Malformed(
            f"the edit starts from canvas {references[0]}; it must start from canvas {situation.source}, which is clean, "
            "so name that one first in references"
        )
    if len(references) > prompts.MAX_REFERENCES:
        raise Malformed(f"there are {len(references)} references; at most {prompts.MAX_REFERENCES} can be given")
    action = Action(
        kind=reply.kind,
        summary=_bounded("summary", reply.summary, prompts.MAX_SUMMARY),
        scene_prompt=_bounded("scene_prompt", reply.scene_prompt, prompts.MAX_PROMPT_FIELD),
        edit_prompt=_bounded("edit_prompt", reply.edit_prompt, prompts.MAX_PROMPT_FIELD),
        references=references if reply.kind == "EDIT" else (),
        goals=tuple(dict.fromkeys(reply.goals)),
        region=fields.box("the region", reply.region),
        strength=fields.fraction("the strength", reply.strength, None),
        checks=_checks(reply) if trajectory.brief.guided else (),
    )
    if action.kind == "EDIT" and not action.edit_prompt:
        raise Malformed("an EDIT needs an edit_prompt, the instruction with what must stay")
    if action.kind == "GENERATE" and not action.scene_prompt:
        raise Malformed("a GENERATE needs a scene_prompt, the whole picture in words")
    return action


def _checks(reply: ActionReply) -> tuple[str, ...]:
    said = dict.fromkeys(one_line(check, prompts.MAX_CHECK) for check in reply.checks)
    return tuple(check for check in said if check)[: prompts.MAX_CHECKS]


def _bounded(name: str, text: str, limit: int) -> str:
    # A prompt that is cut silently would ask for another picture, so a text that is too long is an error.
    if len(text := text.strip()) > limit:
        raise Malformed(f"{name} has {len(text):,} characters; at most {limit:,}")
    return text
