"""The folder for what can be computed again: deleting it costs time and nothing else."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """Return CLVR_CACHE, or else `clvr` in the folder that the system has for caches. It may not exist yet."""
    if given := os.environ.get("CLVR_CACHE"):
        return Path(given)
    home = Path(os.path.expanduser("~"))
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "clvr" / "cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "clvr"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "clvr"
