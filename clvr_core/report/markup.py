"""HTML in which everything is text until it is said to be markup: elements are always closed, strings always escaped."""

from __future__ import annotations

import re
from html import escape

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
    return Html(
        "".join(child if isinstance(child, Html) else escape(clean(child)) for child in children if child is not None)
    )


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
    return f"{cut.rsplit(' ', 1)[0] if ' ' in cut[limit // 2 :] else cut}\u2026"
