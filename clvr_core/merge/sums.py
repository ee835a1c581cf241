"""The SHA-256 of files from earlier merges, so that a file that has not changed since is not hashed again."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..storage.atomic import write_bytes
from ..storage.cache import cache_folder
from ..weights.checkpoint import File

VERSION = 1
LIMIT = 1000
"""Files remembered, the last ones."""
SETTLED = 2_000_000_000
"""Nanoseconds that a file must have been left alone before it was hashed. A change within the clock tick of an earlier
one would not show in the file's times; those of FAT have steps of two seconds."""
_SHA256 = re.compile("[0-9a-f]{64}")


class Sums:
    """A table in the user's cache folder: for the path of a file its size, its times of modification and of the last
    change of its inode, its inode and its SHA-256. A table that is missing, damaged or not writable is an empty one."""

    def __init__(self, path: Path | None = None) -> None:
        """path: of the table, `sums.json` in the cache folder if None."""
        self.path = path or cache_folder() / "sums.json"

    def known(self, files: Iterable[File]) -> dict[File, str]:
        """Return the sums of the open files that are in the table and have not changed since."""
        table, found = self._table(), {}
        for file in files:
            name, seen = _seen(file)
            entry = table.get(name)
            if seen and isinstance(entry, list) and entry[:-1] == seen and _SHA256.fullmatch(str(entry[-1])):
                found[file] = entry[-1]
        return found

    def keep(self, sums: Mapping[File, str], begun: int) -> None:
        """Add the sums of open files, which were hashed after the time `begun` (ns since 1970). A file that was changed
        since, or just before, is left out."""
        fresh = {}
        for file, digest in sums.items():
            name, seen = _seen(file)
            if seen and max(seen[1:3]) < begun - SETTLED:
                fresh[name] = [*seen, digest]
        table = self._table()
        if all(table.get(name) == entry for name, entry in fresh.items()):
            return
        table = {name: entry for name, entry in table.items() if name not in fresh} | fresh
        text = json.dumps({"v": VERSION, "sums": dict(list(table.items())[-LIMIT:])})
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(self.path, text.encode())

    def _table(self) -> dict[str, list]:
        try:
            found = json.loads(self.path.read_bytes())
            table = found["sums"] if found["v"] == VERSION else {}
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return {}
        return table if isinstance(table, dict) else {}


def _seen(file: File) -> tuple[str, list[int] | None]:
    """Return the path of an open file without links, and its present size, times and inode; None for these if the file
    at the path is not the opened one any more, or the opened one was changed."""
    name = os.path.realpath(file.path)
    try:
        status = os.stat(name)
    except OSError:
        return name, None
    if (status.st_size, status.st_mtime_ns, status.st_ino) != file.stamp:
        return name, None
    return name, [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
