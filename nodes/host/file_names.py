"""Names that an artist gives to files and folders."""

from __future__ import annotations

import re

NAME = re.compile(r"\w[\w .-]{0,63}")


def name_error(name: str) -> str:
    """Return the sentence for a name that does not match NAME, an empty string for one that does."""
    if NAME.fullmatch(name):
        return ""
    return f"name is {name!r:.80}; it may have at most 64 letters, digits, spaces, dots and dashes, a letter or digit first"
