"""A run as one page that needs nothing beside itself: the viewer, the record and the pictures, all inside.

What matters most stands in the page as words and a picture too, for a reader whose browser runs no script.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..brief import Goal
from ..records import to_json
from ..storage.atomic import write_bytes
from ..trajectory import Trajectory
from . import bundle
from .markup import Html, el, shorten
from .pictures import embedded

WORDS = {"met": "met", "unmet": "unmet", "pending": "pending", "unsure": "unsure", "error": "judge error"}
MISSED = "nice to have, not met"
POLICY = "default-src 'none'; img-src data:; script-src '{}'; style-src '{}'; base-uri 'none'; form-action 'none'"
"""Even if markup of a model slipped through, the page would run nothing but the viewer and ask no one."""
LONGEST = 20_000


def write_report(
    trajectory: Trajectory, pictures: Callable[[int], Path | None] | Mapping[int, Path], out: str | os.PathLike[str]
) -> None:
    """Writes the page, UTF-8, whole or not at all.

    pictures: canvas index -> its file (PNG, JPEG or WebP). A picture that is missing or unreadable leaves a placeholder that says so.
    Pictures above 256 x 256 pixels are reduced to what the page shows. Raises OSError if `out` cannot be written.
    """
    write_bytes(out, page(trajectory, pictures.get if isinstance(pictures, Mapping) else pictures).encode())


def page(trajectory: Trajectory, find: Callable[[int], Path | None]) -> str:
    canvases = [candidate.canvas for step in trajectory.steps for candidate in step.candidates]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # Pillow works beside itself
        album = dict(zip(canvases, pool.map(embedded, map(find, canvases))))
    shown = trajectory.outcome.canvas if trajectory.outcome else trajectory.best
    # The picture that stands in the page already is not told twice.
    best = album.pop(shown, None) if shown is not None and "url" in album.get(shown, {}) else None
    record = _finite(to_json(trajectory)) | {"schema": trajectory.schema}
    code, look = bundle.script(), bundle.style()
    policy = POLICY.format(_digest(code), _digest(look))
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", f"{_outcome(trajectory)}: {shorten(trajectory.brief.prompt, 70)}"),
        el("style", Html(look)),
    )
    body = el(
        "body",
        essentials(trajectory, shown, best),
        el(
            "footer", el("p", f"Made by clvr from a trajectory of schema {trajectory.schema}. This page loads nothing.")
        ),
        el("script", _data({"record": record, "pictures": album}), type="application/json", id="clvr-run"),
        el("script", Html(code), type="module"),
    )
    return f"<!doctype html>\n{el('html', head, body, lang='en')}\n"


def essentials(trajectory: Trajectory, canvas: int | None, picture: Mapping[str, str] | None) -> Html:
    """Brief, outcome, picture and goals; the viewer takes their place."""
    prompt, outcome = trajectory.brief.prompt, trajectory.outcome
    step = trajectory.step_of(canvas)
    states = {verdict.goal: verdict.state for verdict in step.verdicts} if step else {}
    goals = trajectory.goals or trajectory.brief.goals
    some_must = any(goal.need == "must" for goal in goals)
    items = (
        el("li", el("bdi", goal.text[:LONGEST]), f": {_state(goal, states.get(goal.id), some_must)}") for goal in goals
    )
    alt = f"The picture {'handed over' if outcome else 'best so far'}: canvas {canvas}"
    return el(
        "main",
        el("h1", shorten(prompt, 280), dir="auto"),
        el("p", prompt[:LONGEST], dir="auto") if shorten(prompt, 280) != prompt.strip() else None,
        el("p", el("strong", _outcome(trajectory)), f" after {len(trajectory.steps)} steps."),
        el("p", outcome.reason[:LONGEST], dir="auto") if outcome and outcome.reason else None,
        el("img", src=picture["url"], alt=alt, data_canvas=canvas) if picture else el("p", "There is no picture."),
        el("h2", "Goals"),
        el("ul", *items),
        el("p", "The steps are shown where scripts may run; trajectory.jsonl beside this page holds them too."),
        id="clvr-essentials",
    )


def _state(goal: Goal, state: str | None, some_must: bool) -> str:
    """The judge's verdict in words. `some_must`: whether the run has goals that it must meet, so that it may miss a nice one."""
    if state is None:
        return "not judged"
    return MISSED if state == "unmet" and goal.need == "nice" and some_must else WORDS[state]


def _outcome(trajectory: Trajectory) -> str:
    if trajectory.outcome is None:
        return "Not finished"
    return "Brief met" if trajectory.outcome.met else "Brief not met"


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _data(value: object) -> Html:
    """JSON in ASCII without a "<", so that no text in it ends the element."""
    return Html(json.dumps(value, separators=(",", ":")).replace("<", "\\u003c"))


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
