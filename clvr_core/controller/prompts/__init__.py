"""The prompts of the controller, the schemas of its replies, and the types that replies are parsed into."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...brief import GOAL_KINDS, Brief, DraftedKind, Goal, part_in_words
from ...records import to_json
from ...templates import Templates
from ...text import clip, one_line
from ...trajectory import Action, ActionKind, Step, Trajectory, Verdict

MAX_GOALS = 40
MAX_GOAL_TEXT = 400
MAX_SUMMARY = 800
MAX_PROMPT_FIELD = 1_999
"""Characters, about the 512 tokens that FLUX.2 Klein's text encoder reads. Not 2,000: llama.cpp before September 2026
cannot parse that number in a schema (llama.cpp#27087)."""
MAX_REFERENCES = 8
MAX_NOTE = 4_000
MAX_EVIDENCE = 160
MAX_CHECKS, MAX_CHECK = 3, 200
"""Questions of a step's own checklist, and characters of each."""
QUOTED = 400
"""Characters of an earlier reply that are quoted in a list."""

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class GoalDraft:
    """A goal as the model writes it; fields as in `Goal`. conflicts_with: positions in the list, from 1.

    A field without a type is optional: what is wrong in it is left out, and the rest of the reply stands.
    """

    text: str
    kind: DraftedKind = "local"
    check: str = ""
    feasibility: Any = 1.0
    conflicts_with: Any = ()
    area: Any = None


@dataclass(frozen=True)
class GoalsReply:
    goals: tuple[GoalDraft, ...]


@dataclass(frozen=True)
class ActionReply:
    """An action as the model writes it; fields as in `Action`.

    strength: parsed but not in the schema, since a controller does not know the executor's settings.
    region, strength: without a type, as in `GoalDraft`.
    """

    kind: ActionKind
    summary: str = ""
    goals: tuple[str, ...] = ()
    references: tuple[int, ...] = ()
    edit_prompt: str = ""
    scene_prompt: str = ""
    region: Any = None
    strength: Any = None
    checks: tuple[str, ...] = ()


Sight = Literal["met", "unmet", "unsure"]


@dataclass(frozen=True)
class Seen:
    goal: str
    state: Sight
    evidence: str = ""


@dataclass(frozen=True)
class FusedReply(ActionReply):
    verdicts: tuple[Seen, ...] = ()


def _object(**properties: Schema) -> Schema:
    # Every property required and none beyond: what the strict mode of the servers demands.
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _string(limit: int) -> Schema:
    return {"type": "string", "maxLength": limit}


def _array(items: Schema, most: int, least: int = 0) -> Schema:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


_FRACTION: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_BOX_OR_NULL: Schema = {"anyOf": [_array(_FRACTION, 4, 4), {"type": "null"}]}

GOALS_SCHEMA = _object(
    goals=_array(
        _object(
            text=_string(MAX_GOAL_TEXT),
            kind={"type": "string", "enum": list(GOAL_KINDS)},
            check=_string(MAX_GOAL_TEXT),
            feasibility=_FRACTION,
            conflicts_with=_array({"type": "integer", "minimum": 1, "maximum": MAX_GOALS}, MAX_GOALS),
            area=_BOX_OR_NULL,
        ),
        MAX_GOALS,
        least=1,
    )
)


def action_schema(
    allowed: Sequence[ActionKind], goals: Sequence[str], canvases: Sequence[int], checks: bool = False
) -> Schema:
    """The schema of one action here and now: only allowed kinds, known goals and offered canvases can be said. `checks`:
    the action brings a checklist of its own.

    The long fields stand last, so that a reply that is cut loses a prompt, which is noticed, and not a reference, which
    is not.
    """
    return _object(
        summary=_string(MAX_SUMMARY),
        kind={"type": "string", "enum": list(allowed)},
        goals=_array({"type": "string", "enum": list(goals)}, len(goals)) if goals else _array({"type": "string"}, 0),
        references=(
            _array({"type": "integer", "enum": list(canvases)}, min(len(canvases), MAX_REFERENCES))
            if canvases
            else _array({"type": "integer"}, 0)
        ),
        region=_BOX_OR_NULL,
        **({"checks": _array(_string(MAX_CHECK), MAX_CHECKS)} if checks else {}),
        edit_prompt=_string(MAX_PROMPT_FIELD),
        scene_prompt=_string(MAX_PROMPT_FIELD),
    )


_STATES: Mapping[str, str] = {
    "met": "holds",
    "unmet": "does not hold",
    "pending": "planned for a later step; that it is not there yet is no error",
    "unsure": "the judge could not tell",
    "error": "not judged, because the judge gave no answer; this says nothing about the picture",
}


def fused_schema(
    allowed: Sequence[ActionKind], goals: Sequence[str], canvases: Sequence[int], checks: bool = False
) -> Schema:
    """An action after a verdict on each of the goals, at least one."""
    state = {"type": "string", "enum": list(Sight.__args__)}
    seen = _object(goal={"type": "string", "enum": list(goals)}, state=state, evidence=_string(MAX_EVIDENCE))
    verdicts = _array(seen, len(goals), least=len(goals))
    return _object(verdicts=verdicts, **action_schema(allowed, goals, canvases, checks)["properties"])


TEMPLATES = Templates(Path(__file__).parent)
NUMBERED = "1"
"""The wording of earlier runs, in which a step is told the numbers alone of the goals that it is to serve."""
NEWEST = TEMPLATES.version
WORDINGS = (NUMBERED, NEWEST)
"""A run is steered to its end in the words that it began with."""


def wording_of(trajectory: Trajectory) -> str:
    """Return the version of the words that a run is asked in."""
    return trajectory.prompts.get("controller", NEWEST)


def system_text() -> str:
    return TEMPLATES.text("system")


def goals_text(brief: Brief) -> str:
    return TEMPLATES.text("goals", most=str(MAX_GOALS), brief=brief.prompt)


def action_text(
    trajectory: Trajectory,
    focus: Sequence[str],
    allowed: Sequence[ActionKind],
    canvases: Sequence[int],
    note: str,
    stage: str = "",
    wrong: Sequence[str] = (),
    source: int | None = None,
) -> str:
    """What is fixed for the run stands first, what grows next, what changes last: a server can keep the prefix."""
    failed = trajectory.failed
    taken_back = {step.index for step in failed}
    style = f"strategy_{trajectory.brief.strategy}"
    return TEMPLATES.text(
        "action",
        brief=trajectory.brief.prompt,
        strategy=TEMPLATES.text(style) if style in TEMPLATES else "",
        goals="\n".join(_goal_line(goal) for goal in trajectory.goals),
        steps="\n".join(_step_line(step) for step in trajectory.steps if step.index not in taken_back) or "none yet",
        failed="\n".join(map(_failed_line, failed)),
        canvases="\n".join(
            filter(None, (_canvases_text(trajectory, canvases), _references_text(trajectory, canvases)))
        ),
        current=str(trajectory.current),
        verdicts=_verdicts_text(trajectory),
        stroke=_step_text(trajectory, focus, allowed, stage, wrong, source),
        focus=_focus_text(trajectory, focus),
        remark=clip(note, MAX_NOTE).strip(),
        kinds="\n".join(_kind_lines(trajectory, allowed)),
    )


def turn_text(
    trajectory: Trajectory,
    steps: Sequence[Step],
    said: Sequence[str],
    focus: Sequence[str],
    allowed: Sequence[ActionKind],
    offered: Sequence[int],
    shown: Sequence[int],
    note: str,
    stage: str = "",
    wrong: Sequence[str] = (),
    source: int | None = None,
) -> str:
    """Write a later request of a conversation: what came of the last one, and what this step is to serve. What the
    conversation has said is not said again.

    steps: that came of the last request, oldest first. said: the requests so far. shown: canvases that are new in it.
    """
    line = lambda step: _failed_line(step) if step in trajectory.failed else _step_line(step)  # noqa: E731
    new = lambda lines: [each for each in lines if not any(each in text for text in said)]  # noqa: E731
    canvases = _canvases_text(trajectory, shown) if shown else ""
    dropped = trajectory.remark.dropped if trajectory.remark and steps else ()
    return TEMPLATES.text(
        "turn",
        results="\n".join(map(line, steps)),
        goals="\n".join(new(map(_goal_line, trajectory.goals))),
        dropped=", ".join(dropped),
        canvases=canvases,
        offered=", ".join(map(str, offered)),
        current=str(trajectory.current),
        verdicts=_verdicts_text(trajectory) if steps and (trajectory.remark or steps[-1].accepted) else "",
        stroke=_step_text(trajectory, focus, allowed, stage, wrong, source),
        focus=_focus_text(trajectory, focus),
        remark=clip(note, MAX_NOTE).strip(),
        kinds="\n".join(new(_kind_lines(trajectory, allowed))),
        allowed=", ".join(allowed),
    )


def reply_text(action: Action, checks: bool = False) -> str:
    """Return the action as a model that is held to `action_schema` writes it: compact JSON in the order of its fields.
    checks: as there."""
    fields = action_schema((), (), (), checks)["properties"]
    return json.dumps(
        {name: to_json(getattr(action, name)) for name in fields}, separators=(",", ":"), ensure_ascii=False
    )


def goals_reply_text(goals: Sequence[Goal], checks: bool = True) -> str:
    """Return the goals as a model that is held to GOALS_SCHEMA writes them. checks: with their questions."""
    places = {goal.id: place for place, goal in enumerate(goals, 1)}
    listed = [
        {
            "text": goal.text,
            "kind": goal.kind,
            "check": goal.check if checks else "",
            "feasibility": int(goal.feasibility) if goal.feasibility in (0, 1) else goal.feasibility,
            "conflicts_with": [places[other] for other in goal.conflicts_with],
            "area": to_json(goal.area),
        }
        for goal in goals
    ]
    return json.dumps({"goals": listed}, separators=(",", ":"), ensure_ascii=False)


def _step_text(
    trajectory: Trajectory,
    focus: Sequence[str],
    allowed: Sequence[ActionKind],
    stage: str,
    wrong: Sequence[str],
    source: int | None,
) -> str:
    parts = (
        TEMPLATES.text(stage, wrong=", ".join(wrong)) if stage else "",
        _depth_text(trajectory, source),
        TEMPLATES.text("together") if trajectory.brief.guided and len(focus) > 1 and "EDIT" in allowed else "",
    )
    return "\n\n".join(filter(None, parts))


def _kind_lines(trajectory: Trajectory, allowed: Sequence[ActionKind]) -> list[str]:
    kinds = [TEMPLATES.text(f"kind_{kind.lower()}") for kind in allowed]
    return [*kinds, TEMPLATES.text("checks")] if trajectory.brief.guided else kinds


def fused_text(request: str, canvas: int | None) -> str:
    return TEMPLATES.text("fused", request=request, canvas=str(canvas))


def inspect_text(brief: Brief, action: Action) -> str:
    said = "\n".join(text for text in (action.edit_prompt, action.scene_prompt) if text)
    return TEMPLATES.text("inspect", brief=brief.prompt, instruction=clip(said, 2 * MAX_PROMPT_FIELD))


def contradiction_text(action: Action) -> str:
    return TEMPLATES.text("contradiction", instruction=action.edit_prompt or action.scene_prompt)


def repeat_text(step: Step) -> str:
    tried = step.action.edit_prompt or step.action.scene_prompt
    return TEMPLATES.text("repeat", step=str(step.index), tried=one_line(tried, QUOTED))


def _goal_line(goal: Goal) -> str:
    conflicts = f"; cannot hold beside {', '.join(goal.conflicts_with)}" if goal.conflicts_with else ""
    return f"- {goal.id} ({goal.kind}{conflicts}): {one_line(goal.text, MAX_GOAL_TEXT)}"


def _focus_text(trajectory: Trajectory, focus: Sequence[str]) -> str:
    """The goals of a step once more in words: a small model does not find a number's words in a long list."""
    if wording_of(trajectory) == NUMBERED:
        return TEMPLATES.text("focus_1", focus=", ".join(focus))
    texts = {goal.id: one_line(goal.text, MAX_GOAL_TEXT) for goal in trajectory.goals}
    lines = (f"- {goal}: {texts[goal]}" if goal in texts else f"- {goal}" for goal in focus)
    return TEMPLATES.text("focus", focus="\n".join(lines))


def _step_line(step: Step) -> str:
    origin = "" if step.parent is None else f" of canvas {step.parent}"
    result = "" if step.chosen is None else f", which gave canvas {step.chosen}"
    summary = one_line(step.action.summary, QUOTED) or "I left no summary."
    reason = f" Result: {one_line(step.reason, QUOTED)}" if step.reason else ""
    return f"- Step {step.index}, {step.action.kind}{origin}{result}. {summary}{reason}"


def _failed_line(step: Step) -> str:
    origin = "from nothing" if step.parent is None else f"on canvas {step.parent}"
    tried = step.action.edit_prompt if step.action.kind == "EDIT" else step.action.scene_prompt
    reason = one_line(step.reason, QUOTED) or "it was no better"
    missed = f" Not carried out: {one_line('; '.join(step.edit.missed), QUOTED)}" if step.edit.missed else ""
    words = [finding.words for finding in step.edit.witnesses if finding.says == "no"]
    missed += f" Measured: {one_line('; '.join(words), QUOTED)}." if words else ""
    asked = f'I asked for "{one_line(tried, QUOTED)}"'
    return f"- Step {step.index}, {step.action.kind} {origin}, {asked}. Rolled back: {reason}{missed}"


def _depth_text(trajectory: Trajectory, source: int | None) -> str:
    """Tells that the edit has to start from this canvas, and what was asked for since; "" if it need not."""
    if source is None or trajectory.current is None:
        return ""
    edits = trajectory.edits_since_source(trajectory.current)
    return TEMPLATES.text(
        "depth",
        current=str(trajectory.current),
        source=str(source),
        depth=str(trajectory.depth(trajectory.current)),
        edits="\n".join(f'- "{one_line(step.action.edit_prompt, QUOTED)}"' for step in edits),
    )


def _canvases_text(trajectory: Trajectory, canvases: Sequence[int]) -> str:
    current = trajectory.current

    def edits(canvas: int) -> str:
        # Said only where the run counts it, so that an earlier run is asked in its own words.
        count = 0 if trajectory.brief.budget.depth is None else trajectory.depth(canvas)
        return f", edited {count} times since it was clean" if count else ""

    if not canvases:
        return (
            "There is no canvas yet."
            if current is None
            else f"No canvas is shown; the current one is canvas {current}."
        )
    shown = (
        f"picture {place} is canvas {canvas}{', the current one' if canvas == current else ''}{edits(canvas)}"
        for place, canvas in enumerate(canvases, 1)
    )
    return f"The canvases before you, to be named by their canvas number in references: {'; '.join(shown)}."


def _references_text(trajectory: Trajectory, canvases: Sequence[int]) -> str:
    """What the pictures after the canvases are; "" for a brief without references."""
    shown = [
        f'picture {place} is the reference "{each.name}", whose {each.keeps} is to be kept'
        for place, each in enumerate(trajectory.brief.references, len(canvases) + 1)
    ]
    if not shown:
        return ""
    return (
        f"After the canvases: {'; '.join(shown)}. The executor gets them with every action, by these names; they are no "
        "canvases, and are not named in references."
    )


def _verdicts_text(trajectory: Trajectory) -> str:
    step = trajectory.current_step
    if step is None or not trajectory.goals:
        return ""
    return "\n".join(_verdict_line(goal, step.verdict(goal.id)) for goal in trajectory.goals)


def _verdict_line(goal: Goal, verdict: Verdict | None) -> str:
    if verdict is None:
        return f"- {goal.id}: not judged yet"
    # The evidence of an error is the fault of a connection, not something seen in the picture.
    seen = f" ({one_line(verdict.evidence, QUOTED)})" if verdict.evidence and verdict.state != "error" else ""
    return f"- {goal.id}: {_STATES[verdict.state]}{seen}{_fault_text(verdict)}"


def _fault_text(verdict: Verdict) -> str:
    """Where the fault lies, in words and as a region; "" if no witness says."""
    fault = verdict.fault
    if fault is None:
        return ""
    numbers = ", ".join(f"{edge:.2f}" for edge in fault)
    return f"; what is wrong lies in {part_in_words(fault)}, region [{numbers}]"
