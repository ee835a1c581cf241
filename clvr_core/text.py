"""Words from outside, made safe to keep: they are data, whatever they say."""

from __future__ import annotations

import re

# Lone surrogates cannot be written as UTF-8, and control characters break terminals and XML.
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def clean(text: str) -> str:
    """The text with every character that cannot be written to a file replaced by U+FFFD."""
    return _UNWRITABLE.sub("\ufffd", text)


def clip(text: str, limit: int) -> str:
    """At most `limit` characters; a cut is shown by an ellipsis."""
    text = clean(text)
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}\u2026"


def one_line(text: str, limit: int) -> str:
    """At most `limit` characters on one line, so that a quotation cannot open a paragraph of its own in a prompt."""
    return clip(" ".join(text.split()), limit)
