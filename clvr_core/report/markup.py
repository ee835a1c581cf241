"""Building HTML: every string is escaped unless it is of type Html, and every element is closed."""

from __future__ import annotations

import re
from html import escape

_VOID = frozenset({"br", "col", "hr", "img", "link", "meta"})
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Html(str):
    """A string that is markup already and is not escaped. Only this module and constants make it."""

    __slots__ = ()


def el(tag: str, *children: str | None, **attributes: object) -> Html:
    """Return <tag attributes>children</tag>. Plain strings are escaped, None is left out.

    In attribute names a trailing underscore is dropped and other underscores become hyphens. An attribute that is True
    has no value; one that is False or None is left out.
    """
    opening = f"<{tag}{''.join(_attribute(name, value) for name, value in attributes.items())}>"
    if tag in _VOID:
        return Html(opening)
    return Html(f"{opening}{join(*children)}</{tag}>")


def join(*children: str | None) -> Html:
    return Html(
        "".join(child if isinstance(child, Html) else escape(clean(child)) for child in children if child is not None)
    )


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(clean(str(value)))}"'


def clean(text: str) -> str:
    """Make line ends \\n, and replace characters that no page may contain (control characters, lone surrogates)."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n").replace("\r", "\n"))


def shorten(text: str, limit: int) -> str:
    """Return the text as one line of at most `limit` characters, cut between words where possible."""
    line = " ".join(text[: 4 * limit].split())
    if len(line) <= limit and len(text) <= 4 * limit:
        return line
    cut = line[: limit - 1]
    return f"{cut.rsplit(' ', 1)[0] if ' ' in cut[limit // 2 :] else cut}\u2026"
