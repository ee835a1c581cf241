"""Makes text from people, models and servers safe to store and to quote."""

from __future__ import annotations

import re
import reprlib

# Lone surrogates cannot be written as UTF-8, and control characters break terminals and XML.
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 4, 400, 400, 400
_SHORT.maxlist = _SHORT.maxdict = _SHORT.maxtuple = 40


def clean(text: str) -> str:
    """Replace every character that cannot be written to a file by U+FFFD."""
    return _UNWRITABLE.sub("\ufffd", text)


def clip(text: str, limit: int) -> str:
    """Cut the text to at most `limit` characters, the last one an ellipsis if anything was cut."""
    text = clean(text)
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}\u2026"


def shown(value: object, limit: int = 80) -> str:
    """Write a value that was found as Python does, cut to `limit` characters, without spelling out what is cut."""
    return _SHORT.repr(value)[:limit]


def without_folder(name: str) -> str:
    """Return the last part of a path from the root of a disk, of either kind; any other name, as owner/name, as it is."""
    if not re.match(r"[/~\\]|[A-Za-z]:[/\\]", name):
        return name
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1] or name


def one_line(text: str, limit: int) -> str:
    """Put the text on one line of at most `limit` characters, so that a quotation cannot begin a paragraph
    in a prompt.
    """
    return clip(" ".join(text.split()), limit)
