"""The results as one HTML page that needs no other file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...report.markup import Html, el, shorten
from ...report.pictures import embedded
from ..published import Row, beside, rows_for
from .examples import Example, counts, examples
from .gather import Entry, Group
from .style import CSS

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Content security policy. Even if markup of a model got into the page, it could run and load nothing."""


PROMPT = 2_000
"""Characters of a prompt shown, at most."""
TINY = 40_000
"""A file of fewer bytes is taken for a picture of few pixels, and shown larger."""


def page(groups: Sequence[Group], plot: bytes) -> str:
    title = ", ".join(dict.fromkeys(group.baseline.result["title"] for group in groups))
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", f"Evaluation: {title}"),
        el("style", Html(CSS)),
    )
    url = f"data:image/png;base64,{base64.b64encode(plot).decode()}"
    drawn = el(
        "img",
        src=url,
        class_="plot",
        alt="Pass over complexity, and the headline over the evaluations spent, for each name.",
    )
    body = el(
        "body",
        el("header", el("p", el("strong", "CLVR"), " evaluation", class_="brand"), class_="top"),
        el("main", el("h1", title), *(_group(group) for group in groups), el("section", el("h2", "Plots"), drawn)),
        el("footer", el("p", "Made by clvr eval report. This page loads nothing and runs no script.")),
    )
    return f"<!doctype html>\n{el('html', head, body, lang='en')}\n"


def _group(group: Group) -> Html:
    first = group.baseline.result
    facts = el(
        "p",
        f"Judge: {first['judge']}. Protocol: {first['protocol']}. {first['items']} items, data {first['data_sha256'][:12]}, "
        f"words {(first['words_sha256'] or 'the official ones')[:12]}. Seeds and hashes in full stand in the result files.",
        class_="note",
    )
    warnings = [(entry.name, warning) for entry in group.entries for warning in entry.result["warnings"]]
    return el(
        "section",
        el("h2", first["title"]),
        facts,
        _warnings(warnings),
        _table(group),
        el(
            "p",
            f"Gaps are to {group.baseline.name}, over the items that both have, 95 % by paired bootstrap.",
            class_="note",
        ),
        _parts(group),
        _rounds(group),
        _curves(group),
        _beside(group),
        _notes(first["notes"]),
        _examples(group),
    )


def _warnings(warnings: Sequence[tuple[str, str]]) -> Html | None:
    if not warnings:
        return None
    lines = [el("li", el("bdi", name), ": ", text) for name, text in warnings]
    return el("aside", el("h3", "To be read with care"), el("ul", *lines), class_="warnings")


def _notes(notes: Sequence[str]) -> Html | None:
    return (
        el("details", el("summary", "About this benchmark's numbers"), el("ul", *(el("li", note) for note in notes)))
        if notes
        else None
    )


def figure(value: float | None, of: float) -> str:
    return "-" if value is None else f"{value:.1f}" if of >= 100 else f"{value:.3f}"


def _value(measure: dict[str, Any] | None) -> Html:
    if measure is None:
        return el("td", "-")
    of, bounds = measure["of"], measure["ci95"]
    between = el("small", f"{figure(bounds[0], of)} to {figure(bounds[1], of)}") if bounds else None
    strict = None if measure["strict"] == measure["value"] else el("small", f"strict {figure(measure['strict'], of)}")
    return el("td", figure(measure["value"], of), between, strict)


def _gap(entry: Entry) -> Html:
    found = entry.gap or entry.pass_gap
    if found is None:
        return el("td", "-")
    gap, bounds = found
    of = entry.headline["of"] if entry.gap else 1.0
    what = None if entry.gap else el("small", "share passed")
    return el(
        "td",
        f"{'+' if gap > 0 else ''}{figure(gap, of)}",
        el("small", f"{figure(bounds.low, of)} to {figure(bounds.high, of)}"),
        what,
    )


def _table(group: Group) -> Html:
    names = list(dict.fromkeys(name for entry in group.entries for name in entry.result["measures"]))
    costs = ("evaluations", "VLM tokens", "seconds")
    heads = ["name", *names, "gap", "pictures", *costs]
    rows = [_row(entry, names) for entry in group.entries]
    known = [row for row in rows_for(group.bench.name) if row.measure in names and not row.tag]
    printed = [_printed(known, name, names, len(heads)) for name in dict.fromkeys(row.name for row in known)]
    return el(
        "div",
        el(
            "table",
            el("thead", el("tr", *(el("th", head, scope="col") for head in heads))),
            el("tbody", *rows, *printed),
            class_="numbers",
        ),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label="The numbers",
    )


def _row(entry: Entry, names: Sequence[str]) -> Html:
    result, spent = entry.result, entry.result.get("spent") or {}
    pictures = result["pictures"]
    made = (result.get("made_by") or {}).get("models", {}).get("executor")
    ways = [entry.way, *([f"the control beside {entry.control}"] if entry.control else []), *([made] if made else [])]
    costs = [
        f"{spent[key]:,.0f}" if key != "seconds" else f"{spent[key]:.1f}"
        for key in ("evaluations", "vlm_tokens", "seconds")
        if spent
    ]
    return el(
        "tr",
        el("th", el("bdi", entry.name), el("small", ", ".join(ways)), scope="row"),
        *(_value(result["measures"].get(name)) for name in names),
        _gap(entry),
        el("td", f"{pictures['judged'] - pictures['unanswered']} of {pictures['expected']}"),
        *(el("td", value) for value in costs or ["-", "-", "-"]),
    )


def _printed(known: Sequence[Row], name: str, names: Sequence[str], width: int) -> Html:
    """Return the line of one name: all that is printed of it, since a paper may give several measures."""
    mine = {row.measure: row for row in known if row.name == name}
    cells = [el("td", told(mine[measure]) if measure in mine else "-") for measure in names]
    first = next(iter(mine.values()))
    note = f"; {first.note}" if first.note else ""
    why = f"published: {first.source}; judge {first.judge}; not comparable{note}"
    return el(
        "tr",
        el("th", name, el("small", "published, not measured here"), scope="row"),
        *cells,
        el("td", why, colspan=width - len(names) - 1),
        class_="printed",
    )


def told(row: Row) -> str:
    return f"{row.bound} {row.value:g}".strip()


def _beside(group: Group) -> Html | None:
    """Return the printed numbers of what is not measured here."""
    measures = [name for entry in group.entries for name in entry.result["measures"]]
    found = beside(rows_for(group.bench.name), measures)
    if not found:
        return None
    lines = [
        el(
            "tr",
            el("th", measure, scope="row"),
            el("td", row.name),
            el("td", told(row)),
            el("td", f"{row.source}; judge {row.judge}"),
        )
        for measure, rows in found.items()
        for row in rows
    ]
    head = el("tr", *(el("th", name, scope="col") for name in ("what", "name", "value", "source")))
    return el(
        "details",
        el("summary", "Published numbers of what is not measured here"),
        el("div", el("table", el("thead", head), el("tbody", *lines), class_="numbers"), class_="scroll"),
    )


def _parts(group: Group) -> Html | None:
    """Return the headline measure by tag."""
    tags = list(dict.fromkeys(tag for entry in group.entries for tag in entry.headline["tags"]))
    if len(tags) < 2:
        return None
    rows = [
        el(
            "tr",
            el("th", el("bdi", entry.name), scope="row"),
            *(el("td", figure(entry.headline["tags"].get(tag), entry.headline["of"])) for tag in tags),
        )
        for entry in group.entries
    ]
    known = [row for row in rows_for(group.bench.name) if row.tag]
    for name in dict.fromkeys(row.name for row in known):
        values = {row.tag: row for row in known if row.name == name}
        cells = [el("td", told(values[tag]) if tag in values else "-") for tag in tags]
        label = el("small", f"published: {next(iter(values.values())).source}; not comparable")
        rows.append(el("tr", el("th", name, label, scope="row"), *cells, class_="printed"))
    head = el("thead", el("tr", el("th", "by part", scope="col"), *(el("th", tag, scope="col") for tag in tags)))
    return el(
        "div",
        el("table", head, el("tbody", *rows), class_="numbers"),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label="Parts",
    )


def _rounds(group: Group) -> Html | None:
    """Return how many runs drew in 1, 2, ... rounds."""
    told = {entry.name: (entry.result.get("spent") or {}).get("rounds") for entry in group.entries}
    found = {name: counts for name, counts in told.items() if counts}
    if not found:
        return None
    columns = sorted({int(rounds) for counts in found.values() for rounds in counts})
    rows = [
        el("tr", el("th", el("bdi", name), scope="row"), *(el("td", f"{counts.get(str(at), 0)}") for at in columns))
        for name, counts in found.items()
    ]
    head = el("tr", el("th", "runs by rounds", scope="col"), *(el("th", f"{at}", scope="col") for at in columns))
    return el("div", el("table", el("thead", head), el("tbody", *rows), class_="numbers"), class_="scroll")


def _curves(group: Group) -> Html | None:
    lines = []
    for entry in group.entries:
        if not (curve := entry.result.get("curve")):
            continue
        low, high = curve["auc_ci95"]
        half = (
            f"half is passed at {curve['c50']:.1f}"
            if "c50" in curve
            else "half is passed at no complexity within these tiers"
        )
        length = curve["length_given_complexity"]
        alone = (
            "" if length is None else f"; rank correlation of passing with length, complexity taken out, {length:+.2f}"
        )
        # Results of an earlier version have no median.
        median = curve.get("median_passed")
        middle = "" if median is None else f", median complexity of what is passed {median:.1f}"
        text = f": area {curve['auc']:.1f} ({low:.1f} to {high:.1f}), {half}{middle}, {curve['tail']:.2f} in the last tiers{alone}"
        lines.append(el("li", el("bdi", entry.name), text))
    return el("div", el("h3", "Pass over complexity"), el("ul", *lines)) if lines else None


def _examples(group: Group) -> Html | None:
    if len(group.entries) < 2:
        return None
    if not group.items:
        return el("p", "Give --data, the folder that was scored, for pictures side by side.", class_="note")
    parts = []
    for entry in group.entries[1:]:
        won, lost = counts(group, entry)
        shown = examples(group, entry)
        heading = el("h3", el("bdi", entry.name), f" against {group.baseline.name}: {won} items better, {lost} worse")
        parts.append(el("div", heading, *(_example(group, entry, example) for example in shown)))
    return el("div", el("h2", "Side by side"), *parts)


def _example(group: Group, entry: Entry, example: Example) -> Html:
    plates = [
        el(
            "figure",
            el("div", _picture(path, f"{name}: {shorten(example.item.prompt, 120)}"), class_="mat"),
            el("figcaption", el("span", el("bdi", name)), el("span", shorten(faults, 240))),
        )
        for name, faults, path in zip((group.baseline.name, entry.name), example.faults, example.files)
    ]
    verdict = "won" if example.won else "lost"
    where = f"{verdict}: {example.item.tag}, item {example.item.id}, picture {example.k}"
    return el(
        "article",
        el("p", where, class_="eyebrow"),
        el("p", example.item.prompt[:PROMPT], class_="said", dir="auto"),
        el("div", *plates, class_="pair"),
        class_="example",
    )


def _picture(path: Path | None, alt: str) -> Html:
    found = embedded(path)
    if path is None or "url" not in found:
        return el("p", f"no picture: it {found['missing']}", class_="note")
    small = path.stat().st_size < TINY
    return el("img", src=found["url"], alt=alt, class_="small" if small else None, decoding="async")
