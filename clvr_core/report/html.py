"""A run as one HTML page that needs no other file: the viewer, the trajectory and the pictures are inside it.

The prompt, the outcome, the best picture and the goals are also there as plain HTML, for a browser that runs no
scripts. The viewer speaks the language of the browser, if it is one of locales/; the plain HTML is in English.
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
from .pictures import LOSSLESS, embedded

WORDS = {"met": "met", "unmet": "unmet", "pending": "pending", "unsure": "unsure", "error": "judge error"}
MISSED = "nice to have, not met"
POLICY = "default-src 'none'; img-src data:; script-src '{}'; style-src '{}'; base-uri 'none'; form-action 'none'"
"""Content security policy. Even if markup of a model got into the page, it could run only the viewer and load nothing.
"""
LONGEST = 20_000


def write_report(
    trajectory: Trajectory, pictures: Callable[[int], Path | None] | Mapping[int, Path], out: str | os.PathLike[str]
) -> None:
    """Write the page, UTF-8, whole or not at all.

    trajectory: finished or not.
    pictures: file of a canvas by its number (PNG, JPEG or WebP), as a mapping or a function. For a missing or
        unreadable picture the page says so.
    out: the page.

    Pictures of more than 256 x 256 pixels are reduced to the size that the page shows. Raises OSError if `out` cannot
    be written.
    """
    write_bytes(out, page(trajectory, pictures.get if isinstance(pictures, Mapping) else pictures).encode())


def page(trajectory: Trajectory, find: Callable[[int], Path | None]) -> str:
    canvases = [candidate.canvas for step in trajectory.steps for candidate in step.candidates]
    files = [find(canvas) for canvas in canvases]
    if any(path is not None and path.is_file() and path.stat().st_size > 3 * LOSSLESS for path in files):
        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # Pillow works in several threads at once
            album = dict(zip(canvases, pool.map(embedded, files)))
    else:
        album = dict(zip(canvases, map(embedded, files)))
    shown = trajectory.outcome.canvas if trajectory.outcome else trajectory.best
    # The picture that the plain HTML shows is not stored a second time.
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
        el("script", _data(bundle.words(), ascii_only=False), type="application/json", id="clvr-words"),
        el("script", Html(code), type="module"),
    )
    return f"<!doctype html>\n{el('html', head, body, lang='en')}\n"


def essentials(trajectory: Trajectory, canvas: int | None, picture: Mapping[str, str] | None) -> Html:
    """Return prompt, outcome, picture and goals as HTML, which the viewer replaces where scripts run."""
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
    """Return the judge's verdict on a goal in words.

    some_must: whether the run has goals of need `must`; only then is a missed `nice` goal no failure.
    """
    if state is None:
        return "not judged"
    return MISSED if state == "unmet" and goal.need == "nice" and some_must else WORDS[state]


def _outcome(trajectory: Trajectory) -> str:
    if trajectory.outcome is None:
        return "Not finished"
    return "Brief met" if trajectory.outcome.met else "Brief not met"


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _data(value: object, ascii_only: bool = True) -> Html:
    """Return the value as JSON without "<", so that no text in it can end the script element.

    ascii_only: False only for our own words, which hold no half of a surrogate pair.
    """
    return Html(json.dumps(value, separators=(",", ":"), ensure_ascii=ascii_only).replace("<", "\\u003c"))


def _finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not have, by None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
