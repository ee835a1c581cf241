"""HTML in which everything is text until it is said to be markup: elements are always closed, strings always escaped."""

from __future__ import annotations

import re
from html import escape

FOLD_AT = 600
FOLD_LINES = 10
LONGEST = 200_000
"""Characters of one string that the page shows; the rest stands in the trajectory file."""

_VOID = frozenset({"br", "col", "hr", "img", "link", "meta"})
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Html(str):
    """Text that is markup already. Only this module and constants make it."""

    __slots__ = ()


def el(tag: str, *children: str | None, **attributes: object) -> Html:
    """<tag attributes>children</tag>. Plain strings are escaped, None is left out.

    Attribute names lose a trailing underscore and take hyphens for the others; True stands bare, False and None are left out.
    """
    opening = f"<{tag}{''.join(_attribute(name, value) for name, value in attributes.items())}>"
    if tag in _VOID:
        return Html(opening)
    return Html(f"{opening}{join(*children)}</{tag}>")


def join(*children: str | None) -> Html:
    return Html("".join(child if isinstance(child, Html) else escape(clean(child)) for child in children if child is not None))


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(clean(str(value)))}"'


def clean(text: str) -> str:
    """Line ends are \\n, and what no page may hold (control characters, half surrogates) is the replacement character."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n").replace("\r", "\n"))


def shorten(text: str, limit: int) -> str:
    """One line of at most `limit` characters, cut between words where that is possible."""
    line = " ".join(text[: 4 * limit].split())
    if len(line) <= limit and len(text) <= 4 * limit:
        return line
    cut = line[: limit - 1]
    return f"{cut.rsplit(' ', 1)[0] if ' ' in cut[limit // 2 :] else cut}…"


def said(text: str, limit: int = FOLD_AT) -> Html:
    """Words of a person or a model, in their own direction of writing; folded when they are long."""
    if len(text) <= limit and text.count("\n") <= FOLD_LINES:
        return el("p", text, class_="said", dir="auto")
    left = len(text) - LONGEST
    return el(
        "details",
        el(
            "summary",
            el("bdi", shorten(text, 240), class_="shut"),
            " ",
            el("span", f"Show all {len(text):,} characters", class_="more shut"),
            el("span", "Show less", class_="more open"),
        ),
        el("div", text[:LONGEST], class_="said", dir="auto"),
        el("p", f"{left:,} more characters stand in the trajectory file.", class_="note") if left > 0 else None,
        class_="fold",
    )


def icon(name: str) -> Html:
    return el("svg", el("use", href=f"#i-{name}"), class_="icon", aria_hidden="true", focusable="false")


def chip(kind: str, words: str, sign: str | None = None) -> Html:
    """A word with a sign; the colour is the third way to say the same."""
    return el("span", icon(sign or kind), words, class_=f"chip {kind}")


_STROKES = {
    "met": "M3 8.6l3.3 3.2L13 4.6",
    "unmet": "M4 4l8 8M12 4l-8 8",
    "broken": "M8 2.5v10.2M3.8 8.6L8 12.8l4.2-4.2",
    "pending": "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zM8 5v3.4l2.3 1.4",
    "unsure": "M5.2 6a2.8 2.8 0 1 1 4.3 2.4C8.5 9 8 9.5 8 10.4M8 13.1v.1",
    "error": "M8 2.2L14.5 13.5h-13zM8 6.4v3.4M8 11.7v.1",
    "back": "M6 3L2.8 6.2 6 9.4M3 6.2h6.5a3.6 3.6 0 0 1 0 7.2H6.5",
    "star": "M8 2l1.8 3.9 4.2.5-3.1 2.9.8 4.2L8 11.4l-3.7 2.1.8-4.2L2 6.4l4.2-.5z",
    "GENERATE": "M8 2l1.5 4.5L14 8l-4.5 1.5L8 14l-1.5-4.5L2 8l4.5-1.5z",
    "EDIT": "M3 13l.7-3L10.8 2.9l2.3 2.3L6 12.3z",
    "VALIDATE": "M1.5 8S4 3.8 8 3.8 14.5 8 14.5 8 12 12.2 8 12.2 1.5 8 1.5 8zM8 6.3a1.7 1.7 0 1 0 0 3.4 1.7 1.7 0 0 0 0-3.4z",
    "END": "M4 14V2.5h8.5L10.8 5.5l1.7 3H4",
    "start": "M8 5.5a2.5 2.5 0 1 0 0 5 2.5 2.5 0 0 0 0-5z",
}


def icons() -> Html:
    """The drawings that `icon` refers to; once in a page."""
    symbols = (el("symbol", el("path", d=strokes), id=f"i-{name}", viewBox="0 0 16 16") for name, strokes in _STROKES.items())
    return el("svg", *symbols, class_="symbols", aria_hidden="true", focusable="false")
