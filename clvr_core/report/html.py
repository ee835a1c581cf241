"""A run as one page that needs nothing beside itself: no script, no request, pictures inside."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..brief import Goal
from ..trajectory import Trajectory, Verdict
from .atomic import write_bytes
from .markup import Html, chip, el, icons, join, said, shorten
from .pictures import Album
from .steps import WORDS, Cards, count, fate, parts, percent, region, seconds, state_of
from .style import CSS
from .tree import all_goals, changes, handed_over, known, owner

HERO = 480
TITLE = 280
"""A brief up to this length stands whole in the heading."""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Even if markup of a model slipped through, the page would run nothing and ask no one."""


def write_report(trajectory: Trajectory, pictures: Callable[[int], Path | None] | Mapping[int, Path], out: str | os.PathLike[str]) -> None:
    """Writes the page, UTF-8, whole or not at all.

    pictures: canvas index -> its file (PNG, JPEG or WebP). A picture that is missing or unreadable leaves a placeholder that says so.
    Pictures above 256 x 256 pixels are reduced to what the page shows. Raises OSError if `out` cannot be written.
    """
    write_bytes(out, page(trajectory, Album(pictures)).encode())


def page(trajectory: Trajectory, album: Album) -> str:
    title = f"{_outcome(trajectory)[1]}: {shorten(trajectory.brief.prompt, 70)}"
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", title),
        el("style", Html(CSS)),
    )
    cards = Cards(trajectory, album)
    body = el(
        "body",
        icons(),
        el("a", "Skip to the steps", href="#steps", class_="skip"),
        _top(trajectory),
        el(
            "main",
            _hero(trajectory, album),
            _warnings(trajectory),
            _goals(trajectory, album),
            _section("steps", "Steps", el("p", _HOW_TO_READ, class_="note"), cards.tree()),
            _totals(trajectory),
        ),
        el("footer", el("p", f"Made by clvr from a trajectory of schema {trajectory.schema}. This page loads nothing and runs no script.")),
    )
    return f"<!doctype html>\n{el('html', head, body, lang='en')}\n"


_HOW_TO_READ = (
    "Down the line, each step starts from the canvas of the step above it. Indented branches start from the canvas of the step they hang "
    "on; a branch that was rolled back stays here with its reason."
)


def _section(name: str, heading: str, *content: Html | None) -> Html:
    return el("section", el("h2", heading, id=name), *content, aria_labelledby=name)


def _top(trajectory: Trajectory) -> Html:
    places = [("goals", "Goals"), ("steps", "Steps"), ("totals", "Totals")]
    links = (el("li", el("a", words, href=f"#{name}")) for name, words in places)
    return el(
        "header",
        el("p", el("strong", "CLVR"), " run report", class_="brand"),
        el("nav", el("ul", *links, role="list"), aria_label="Sections"),
        class_="top",
    )


def _outcome(trajectory: Trajectory) -> tuple[str, str]:
    if trajectory.outcome is None:
        return "pending", "Not finished"
    return ("met", "Brief met") if trajectory.outcome.met else ("unmet", "Brief not met")


def _hero(trajectory: Trajectory, album: Album) -> Html:
    brief, outcome, canvas = trajectory.brief, trajectory.outcome, handed_over(trajectory)
    kind, ending = _outcome(trajectory)
    whole = len(brief.prompt) <= TITLE and "\n" not in brief.prompt.strip()
    long = [
        ("Why it stopped", said(outcome.reason) if outcome and outcome.reason else None),
        (_whose(trajectory), _which(trajectory)),
    ]
    short = [
        ("Goals", _score_line(trajectory)),
        ("Strategy", el("span", brief.strategy)),
        ("Size", el("span", f"{brief.width} × {brief.height}")),
        ("Seed", el("code", str(brief.seed))),
    ]
    facts = [el("div", el("dt", name), el("dd", words)) for name, words in long if words]
    facts += [el("div", el("dt", name), el("dd", words), class_="short") for name, words in short if words]
    told = el(
        "div",
        el("p", "The brief", class_="eyebrow"),
        el(
            "h1",
            brief.prompt.strip() if whole else shorten(brief.prompt, TITLE // 2),
            dir="auto",
            class_="long" if len(brief.prompt) > 90 else None,
        ),
        None if whole else said(brief.prompt),
        el("p", chip(f"big {kind}", ending, kind), class_="verdict"),
        el("dl", *facts, class_="facts"),
        class_="told",
    )
    return el("section", _plate(trajectory, album, canvas), told, class_="hero", aria_label="Outcome")


def _plate(trajectory: Trajectory, album: Album, canvas: int | None) -> Html:
    if canvas is None:
        picture = el(
            "span", el("strong", "No picture"), "This run hands over no canvas.", class_="missing", role="img", aria_label="No picture"
        )
        return el("figure", el("div", picture, class_="mat"))
    place = owner(trajectory, canvas)
    file = "" if place is None else trajectory.candidate(canvas).file
    name = _whose(trajectory).lower()
    alt = f"The picture {name}: canvas {canvas}. The brief: {shorten(trajectory.brief.prompt, 200)}"
    caption = el("figcaption", f"canvas {canvas}", el("bdi", shorten(file, 120)) if file else None)
    return el("figure", el("div", album.image(canvas, HERO, alt, file), class_="mat"), caption)


def _whose(trajectory: Trajectory) -> str:
    return "Handed over" if trajectory.outcome else "Best so far"


def _which(trajectory: Trajectory) -> Html | None:
    canvas, choice = handed_over(trajectory), trajectory.outcome.choice if trajectory.outcome else ""
    if canvas is None:
        return join(el("span", "No canvas"), said(choice) if choice else None)
    place = owner(trajectory, canvas)
    origin = f", drawn in step {trajectory.steps[place].index}" if place is not None else ""
    return join(el("p", el("a", f"canvas {canvas}", href=f"#canvas-{canvas}"), origin), said(choice) if choice else None)


def _score_line(trajectory: Trajectory) -> Html | None:
    goals = all_goals(trajectory)
    if not goals or handed_over(trajectory) is None:
        return None
    last = known(trajectory.steps, handed_over(trajectory))
    met = sum(verdict.state == "met" for verdict in last.values())
    return el("span", f"{met} of {len(goals)} met by the judge's word")


def _warnings(trajectory: Trajectory) -> Html | None:
    if not trajectory.warnings:
        return None
    items = (el("li", said(warning)) for warning in trajectory.warnings)
    heading = count(len(trajectory.warnings), "warning")
    return el("section", el("h2", heading, id="warnings"), el("ul", *items), class_="warnings", aria_labelledby="warnings")


def _goals(trajectory: Trajectory, album: Album) -> Html:
    goals = all_goals(trajectory)
    if not goals:
        return _section("goals", "Goals", el("p", "No goals were made.", class_="note"))
    final = known(trajectory.steps, handed_over(trajectory))
    broken = [changes(trajectory, position)[1] for position in range(len(trajectory.steps))]
    heads = [el("th", "Goal", scope="col"), el("th", _whose(trajectory), scope="col", class_="final")]
    heads += [_step_head(trajectory, album, position) for position in range(len(trajectory.steps))]
    rows = []
    for goal in goals:
        cells = [_cell(final.get(goal.id), frozenset(), "final")]
        cells += [_cell(step.verdict(goal.id), broken[position]) for position, step in enumerate(trajectory.steps)]
        rows.append(el("tr", _goal_head(goal), *cells))
    foot = [el("th", "Goals met", scope="row"), el("td", _share([*final.values()]), class_="final")]
    foot += [el("td", _share(step.verdicts)) for step in trajectory.steps]
    table = el(
        "table",
        el("caption", "What the judge said of each goal, one column a step", class_="unseen"),
        el("thead", el("tr", *heads)),
        el("tbody", *rows),
        el("tfoot", el("tr", *foot)),
    )
    box = el("div", table, class_="scroll", role="region", tabindex="0", aria_label="Goals by step; scrolls sideways")
    return _section("goals", "Goals", box, _legend(), _plan(trajectory))


def _step_head(trajectory: Trajectory, album: Album, position: int) -> Html:
    step = trajectory.steps[position]
    kind, words = fate(step, trajectory)
    thumb = album.thumb(step.chosen, f"Canvas {step.chosen}") if step.chosen is not None and step.action.draws else None
    return el("th", thumb, el("a", f"Step {step.index}", href=f"#step-{position}"), el("small", words, class_=kind), scope="col")


def _goal_head(goal: Goal) -> Html:
    rows = [("Question to the judge", said(goal.check))] if goal.check else []
    rows += [("Chance in one shot", el("span", percent(goal.feasibility)))] if goal.feasibility < 1 else []
    rows += [("Conflicts with", el("span", *_names(goal.conflicts_with)))] if goal.conflicts_with else []
    rows += [("Area", region(goal.area))] if goal.area is not None else []
    facts_list = el("dl", *(el("div", el("dt", name), el("dd", content)) for name, content in rows), class_="facts")
    return el(
        "th",
        said(goal.text, 200) if goal.text else None,
        el(
            "p",
            el("bdi", shorten(goal.id, 60), class_="id"),
            f" · {goal.kind if goal.text else 'not among the goals of the run'}",
            class_="note",
        ),
        el("details", el("summary", "Details"), facts_list) if rows else None,
        scope="row",
    )


def _cell(verdict: Verdict | None, broken: frozenset[str], place: str | None = None) -> Html:
    if verdict is None:
        return el("td", el("span", "–", aria_hidden="true"), el("span", "not judged", class_="unseen"), class_=place)
    state = state_of(verdict, broken)
    return el("td", chip(state, WORDS[state]), class_=place)


def _share(verdicts: tuple[Verdict, ...] | list[Verdict]) -> str:
    return f"{sum(verdict.state == 'met' for verdict in verdicts)} of {len(verdicts)}" if verdicts else "–"


def _legend() -> Html:
    meanings = {
        "met": "the judge saw it",
        "unmet": "the judge did not see it",
        "broken": "held on the canvas this step started from, no longer after it",
        "pending": "left for a later step",
        "unsure": "the judge could not decide",
        "error": "the judge gave no usable answer; says nothing of the picture",
    }
    items = (el("li", chip(state, WORDS[state]), " ", meaning) for state, meaning in meanings.items())
    return el("details", el("summary", "What the words mean"), el("ul", *items, class_="legend"), class_="fold")


def _plan(trajectory: Trajectory) -> Html | None:
    if not trajectory.plan:
        return None
    batches = (el("li", *_names(batch)) for batch in trajectory.plan)
    note = el("p", "Goals in the order in which they are to be served.", class_="note")
    return el("div", el("h3", "Plan"), note, el("ol", *batches), class_="block")


def _names(goals: Sequence[str]) -> list[Html]:
    return [join(", " if place else None, el("bdi", shorten(goal, 60), class_="id")) for place, goal in enumerate(goals)]


def _totals(trajectory: Trajectory) -> Html:
    cost, budget = trajectory.cost, trajectory.brief.budget
    rounds = sum(step.action.draws for step in trajectory.steps)
    rows: list[tuple[str, str, float, float | None, str]] = [
        ("Rounds", f"{rounds:,}", rounds, budget.rounds, f"{budget.rounds:,}"),
        ("Pictures", f"{cost.images:,}", cost.images, budget.images, f"{budget.images or 0:,}"),
        ("Evaluations (NFE)", f"{cost.evaluations:,}", cost.evaluations, budget.evaluations, f"{budget.evaluations or 0:,}"),
        ("VLM tokens", f"{cost.vlm_tokens:,}", cost.vlm_tokens, budget.vlm_tokens, f"{budget.vlm_tokens or 0:,}"),
        ("Time", seconds(cost.wall), cost.wall, budget.seconds, seconds(budget.seconds or 0.0)),
        ("VLM calls", f"{cost.vlm_calls:,}", cost.vlm_calls, None, ""),
    ]
    tiles = el("dl", *(_tile(*row) for row in rows), class_="tiles")
    patience = f"Gives up after {count(budget.patience, 'round')} without improvement. A total without a limit has none in the budget."
    return _section(
        "totals",
        "Totals",
        tiles,
        el("p", patience, class_="note"),
        el("div", el("h3", "Where the time went"), parts(cost.seconds), class_="block") if cost.seconds else None,
        _models(trajectory),
    )


def _tile(name: str, amount: str, used: float, limit: float | None, limit_words: str) -> Html:
    if limit is None:
        return el("div", el("dt", name), el("dd", el("strong", amount)))
    share = 100.0 if used >= limit else max(0.0, 100 * used / limit)
    bar = el("span", el("span", style=f"width:{share:.1f}%"), class_="bar", aria_hidden="true")
    return el("div", el("dt", name), el("dd", el("strong", amount), el("span", f"of {limit_words}", class_="limit"), bar))


def _models(trajectory: Trajectory) -> Html | None:
    if not trajectory.models:
        return None
    rows = (el("div", el("dt", el("bdi", shorten(role, 60))), el("dd", said(name))) for role, name in trajectory.models.items())
    return el("div", el("h3", "Models"), el("dl", *rows, class_="facts"), class_="block")
