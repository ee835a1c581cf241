"""Names that an artist gives to files and folders."""

from __future__ import annotations

import re

from ...clvr_core.storage.names import is_portable

NAME = re.compile(r"\w[\w .-]{0,63}")


def name_error(name: str) -> str:
    """Return the sentence for a name that does not match NAME or that Windows keeps for a device, an empty string for any
    other.
    """
    if NAME.fullmatch(name):
        # What is put behind it, a number or an ending, changes nothing in that.
        return "" if is_portable(f"{name}.x") else f"name is {name!r}, which Windows keeps for a device; choose another"
    return f"name is {name!r:.80}; it may have at most 64 letters, digits, spaces, dots and dashes, a letter or digit first"
