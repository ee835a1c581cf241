"""The steps of a run as a tree of cards."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..brief import Box, Goal
from ..trajectory import Action, Candidate, Cost, EditCheck, Step, Trajectory, Verdict
from .markup import Html, chip, el, icon, join, said, shorten
from .pictures import Album
from .tree import Node, Tree, all_goals, changes, grow, handed_over, owner

SINGLE, GRID = 384, 192
"""CSS pixels for a picture alone and for one of several."""

WORDS = {"met": "met", "unmet": "unmet", "pending": "pending", "unsure": "unsure", "error": "judge error", "broken": "newly broken"}
ACTIONS = {"GENERATE": "Generate", "EDIT": "Edit", "VALIDATE": "Validate", "END": "End"}
_WORST_FIRST = ("broken", "unmet", "error", "unsure", "pending", "met")
_AT_ONCE = 8


def seconds(value: float) -> str:
    if not math.isfinite(value):
        return "unknown"
    if value < 10:
        return f"{value:.2f} s" if value < 1 else f"{value:.1f} s"
    if value < 100:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def percent(fraction: float) -> str:
    return f"{100 * fraction:.0f}\N{NO-BREAK SPACE}%" if math.isfinite(fraction) else "unknown"


def count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def state_of(verdict: Verdict, broken: frozenset[str]) -> str:
    return "broken" if verdict.goal in broken else verdict.state


def fate(step: Step, trajectory: Trajectory) -> tuple[str, str]:
    """Class and words for what became of a step."""
    if step.chosen is not None and step.action.draws and step.chosen == handed_over(trajectory):
        return "star", "handed over" if trajectory.outcome else "best so far"
    if not step.action.draws:
        return "start", "looked" if step.action.kind == "VALIDATE" else "end"
    if step.accepted:
        return "met", "accepted"
    return "back", "not kept" if step.parent is None else "rolled back"


class Cards:
    """Draws the steps of one trajectory."""

    def __init__(self, trajectory: Trajectory, album: Album) -> None:
        self.trajectory, self.album = trajectory, album
        self.goals = {goal.id: goal for goal in all_goals(trajectory)}

    def tree(self) -> Html:
        tree = grow(self.trajectory)
        return el("ol", self._start(tree), *map(self._node, tree.line), class_="line", role="list")

    def _start(self, tree: Tree) -> Html:
        brief, gate = self.trajectory.brief, self.trajectory.gate
        words = el("p", f"Empty canvas, {brief.width} × {brief.height}, seed {brief.seed}", class_="from")
        body = el("div", el("h3", "Start"), words, el("div", said(gate), class_="reason") if gate else None, class_="begin")
        return el(
            "li", el("span", icon("start"), class_="dot start"), body, *(self._branch(line, "the empty canvas") for line in tree.branches)
        )

    def _node(self, node: Node) -> Html:
        kind, _ = fate(node.step, self.trajectory)
        kept = kind != "back"
        return el(
            "li",
            el("span", icon(kind if node.step.action.draws else node.step.action.kind), class_=f"dot {kind}"),
            self._card(node.position, node.step),
            *(self._branch(line, f"step {node.step.index}") for line in node.branches),
            class_=None if kept else "rolled",
        )

    def _branch(self, line: tuple[Node, ...], origin: str) -> Html:
        tried = "Tried from" if not any(node.step.accepted for node in line) else "Also from"
        name = f"{tried} {origin}"
        return el(
            "div",
            el("p", name, class_="note"),
            el("ol", *map(self._node, line), class_="line", role="list", aria_label=name),
            class_="branch",
        )

    def _card(self, position: int, step: Step) -> Html:
        kind, words = fate(step, self.trajectory)
        action = step.action
        return el(
            "article",
            el(
                "header",
                el("h3", f"Step {step.index}", id=f"step-{position}"),
                el("span", icon(action.kind), ACTIONS[action.kind], class_="chip plain"),
                chip(kind, words[0].upper() + words[1:]) if action.draws else None,
                self._origin(step),
                class_="head",
            ),
            self._tally(position, step),
            el("div", said(step.reason), class_="reason") if step.reason else None,
            el("div", self._pictures(step), el("div", *self._words(action), self._check(step.edit), class_="told"), class_="body"),
            self._verdicts(position, step),
            self._numbers(step),
            class_=f"card {kind}",
            aria_labelledby=f"step-{position}",
        )

    def _origin(self, step: Step) -> Html | None:
        if step.parent is None:
            return el("span", "from the empty canvas", class_="from") if step.action.draws else None
        how = {"GENERATE": "drawn anew after ", "EDIT": "from "}.get(step.action.kind, "looked at ")
        return el("span", how, self._link(step.parent), class_="from")

    def _link(self, canvas: int) -> Html:
        drawn = owner(self.trajectory, canvas) is not None
        return el("a", f"canvas {canvas}", href=f"#canvas-{canvas}") if drawn else el("span", f"canvas {canvas} (never drawn)")

    def _tally(self, position: int, step: Step) -> Html | None:
        parts: list[Html] = []
        if step.verdicts:
            met = sum(verdict.state == "met" for verdict in step.verdicts)
            parts.append(el("strong", f"{met} of {count(len(step.verdicts), 'goal')} met"))
            gained, broken = changes(self.trajectory, position)
            if gained:
                parts.append(chip("met", f"{len(gained)} newly met"))
            if broken:
                parts.append(chip("broken", f"{len(broken)} newly broken"))
        if step.score is not None:
            parts.append(el("span", f"score {step.score:.3g}"))
        return el("p", *parts, class_="tally") if parts else None

    def _pictures(self, step: Step) -> Html | None:
        if not step.candidates:
            return None
        alone = len(step.candidates) == 1
        figures = [self._figure(step, candidate, SINGLE if alone else GRID) for candidate in step.candidates]
        return el("div", *figures, class_="plates alone" if alone else "plates grid")

    def _figure(self, step: Step, candidate: Candidate, side: int) -> Html:
        chosen = candidate.canvas == step.chosen
        among = f", {'chosen' if chosen else 'not chosen'} among {len(step.candidates)} candidates" if len(step.candidates) > 1 else ""
        wish = shorten(step.action.scene_prompt or step.action.edit_prompt or step.action.summary, 120)
        alt = f"Canvas {candidate.canvas}, drawn in step {step.index}{among}." + (f" Asked for: {wish}" if wish else "")
        return el(
            "figure",
            el("div", self.album.image(candidate.canvas, side, alt, candidate.file), class_="mat"),
            el("figcaption", f"canvas {candidate.canvas}", chip("chosen", "chosen", "met") if chosen and among else None),
            id=f"canvas-{candidate.canvas}",
            class_="chosen" if chosen and among else None,
        )

    def _words(self, action: Action) -> list[Html]:
        prompts = [("Scene prompt", action.scene_prompt), ("Edit prompt", action.edit_prompt)]
        if action.kind == "EDIT":
            prompts.reverse()
        rows = [(name, said(words)) for name, words in prompts if words]
        if action.goals:
            rows.append(("Goals served", el("ul", *map(self._goal_item, action.goals), class_="plainlist")))
        long = len(rows)
        if action.references:
            rows.append(("References", el("span", *map(self._reference, action.references), class_="row")))
        if action.region is not None:
            rows.append(("Region", region(action.region)))
        if action.strength is not None:
            rows.append(("Strength", el("span", f"{action.strength:.2g}")))
        facts = [
            el("div", el("dt", name), el("dd", content), class_="short" if place >= long else None)
            for place, (name, content) in enumerate(rows)
        ]
        summary = [el("div", said(action.summary), class_="summary")] if action.summary else []
        return summary + ([el("dl", *facts, class_="facts")] if facts else [])

    def _reference(self, canvas: int) -> Html:
        if owner(self.trajectory, canvas) is None:
            return self._link(canvas)
        return el("a", self.album.thumb(canvas, ""), f"canvas {canvas}", href=f"#canvas-{canvas}", class_="reference")

    def _goal_item(self, name: str) -> Html:
        return el("li", self.goal_words(name))

    def goal_words(self, name: str) -> Html:
        """The goal in a line: its id, then its words."""
        goal = self.goals.get(name, Goal(name, ""))
        return join(el("bdi", shorten(name, 40), class_="id"), " ", el("bdi", shorten(goal.text, 160)))

    def _verdicts(self, position: int, step: Step) -> Html | None:
        if not step.verdicts:
            return None
        _, broken = changes(self.trajectory, position)
        ranked = sorted(step.verdicts, key=lambda verdict: _WORST_FIRST.index(state_of(verdict, broken)))
        rows = [self._verdict(verdict, state_of(verdict, broken)) for verdict in ranked]
        open_, folded = (rows, []) if len(rows) <= _AT_ONCE else _split(rows, sum(verdict.state != "met" for verdict in ranked))
        rest = (
            el("details", el("summary", f"Show {count(len(folded), 'more verdict')}"), el("ul", *folded, class_="verdicts"), class_="fold")
            if folded
            else None
        )
        return el("section", el("h4", "Verdicts"), el("ul", *open_, class_="verdicts") if open_ else None, rest, class_="judged")

    def _verdict(self, verdict: Verdict, state: str) -> Html:
        evidence = said(verdict.evidence, 300) if verdict.evidence else None
        sure = el("span", f"{percent(verdict.confidence)} sure", class_="note") if verdict.confidence is not None else None
        return el("li", chip(state, WORDS[state]), el("div", el("p", self.goal_words(verdict.goal)), evidence), sure)

    def _check(self, check: EditCheck) -> Html | None:
        if check == EditCheck():
            return None
        kind, words = {True: ("met", "edit carried out"), False: ("unmet", "edit not carried out"), None: ("unsure", "edit not judged")}[
            check.success
        ]
        over = None if check.over_edit is None else el("span", f"over-edit {percent(check.over_edit)}")
        return el(
            "div", el("p", chip(kind, words), over, class_="row"), said(check.evidence, 300) if check.evidence else None, class_="check"
        )

    def _numbers(self, step: Step) -> Html:
        rows = [("Time by part", parts(step.cost.seconds))] if step.cost.seconds else []
        rows += [("Tokens", f"{step.cost.vlm_tokens:,} in {count(step.cost.vlm_calls, 'call')}")] if step.cost.vlm_calls else []
        if step.candidates:
            drawn = [
                el("li", f"canvas {one.canvas}: seed ", el("code", str(one.seed)), f", {one.nfe} NFE, ", el("bdi", shorten(one.file, 120)))
                for one in step.candidates
            ]
            rows.append(("Pictures", el("ul", *drawn, class_="plainlist")))
        facts = [el("div", el("dt", name), el("dd", content)) for name, content in rows]
        line = " · ".join(spent(step.cost))
        if not facts:
            return el("p", line, class_="numbers")
        return el("details", el("summary", line or "Numbers"), el("dl", *facts, class_="facts"), class_="numbers")


def _split(rows: list[Html], urgent: int) -> tuple[list[Html], list[Html]]:
    cut = min(max(urgent, 1), 2 * _AT_ONCE)
    return rows[:cut], rows[cut:]


def spent(cost: Cost) -> list[str]:
    words = [seconds(cost.wall)] if cost.seconds else []
    words += [count(cost.images, "picture")] if cost.images else []
    words += [f"{cost.evaluations:,} NFE"] if cost.evaluations else []
    words += [f"{cost.vlm_tokens:,} tokens"] if cost.vlm_tokens else []
    return words


def parts(by_part: Mapping[str, float]) -> Html:
    """Seconds by part, the longest first, each with a bar of its share."""
    total = sum(value for value in by_part.values() if math.isfinite(value)) or 1.0
    rows = [
        el(
            "li",
            el("bdi", shorten(part, 40)),
            el("span", el("span", style=f"width:{min(100.0, max(0.0, 100 * value / total)):.1f}%"), class_="bar", aria_hidden="true"),
            el("span", f"{seconds(value)}", class_="amount"),
        )
        for part, value in sorted(by_part.items(), key=lambda item: -item[1])
        if math.isfinite(value)
    ]
    return el("ul", *rows, class_="parts")


def region(box: Box) -> Html:
    """A small map of a box on the canvas, and its edges in words."""
    left, top, right, bottom = box
    words = f"left {percent(left)}, top {percent(top)}, right {percent(right)}, bottom {percent(bottom)}"
    if not all(math.isfinite(edge) for edge in box):
        return el("span", words)
    x, y = (min(1.0, max(0.0, edge)) for edge in (left, top))
    width, height = max(0.02, min(1.0, right) - x), max(0.02, min(1.0, bottom) - y)
    frame = el("rect", x="1", y="1", width="38", height="38", class_="frame")
    inner = el(
        "rect", x=f"{1 + 38 * x:.1f}", y=f"{1 + 38 * y:.1f}", width=f"{38 * width:.1f}", height=f"{38 * height:.1f}", class_="inside"
    )
    drawing = el("svg", frame, inner, viewBox="0 0 40 40", class_="map", aria_hidden="true", focusable="false")
    return el("span", drawing, el("span", words), class_="placed")
