"""Names of files and folders that every system can have."""

from __future__ import annotations

import re

_DEVICES = re.compile("(con|prn|aux|nul|conin[$]|conout[$]|(com|lpt)[0-9\u00b9\u00b2\u00b3]) *([.].*)?", re.I | re.S)
"""Names that Windows keeps for devices, whatever ending they have."""
_SIGNS = re.compile(r'[<>:"/\\|?*\x00-\x1f]')


def is_portable(name: str) -> bool:
    """Whether a file or a folder can have this name here and on Windows."""
    return bool(name) and name[-1] not in ". " and not _SIGNS.search(name) and not _DEVICES.fullmatch(name)
