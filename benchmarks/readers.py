"""What reading takes: processor seconds and memory for each reader of what others wrote, from 1e3 to 1e6 characters, and
for small files that hold huge things. Each reading is a process of its own, so that Pillow's memory counts too.

The bars: ten times the input takes at most twenty times as long, and memory at most 300 MB above the input and what it
honestly holds. The exit status is 1 if one is missed.

python benchmarks/readers.py [--json FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from clvr_core.controller.prompts import GoalsReply
from clvr_core.report.pictures import embedded
from clvr_core.storage.png import read_png, trajectory_of
from clvr_core.vlm.replies import parse
from tests.test_readers import BOMBS, READERS, REFUSED, REPLIES, SIZES, Read, chunk, filled, made, picture_readers, png

ROOM = 300
"""MB above the input and what it honestly holds."""
SHORT = 0.5
"""Seconds of which no ratio is taken: most of them are noise."""


def huge(side: int) -> bytes:
    """A black picture, unpacked only where it is read."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(1 + 3 * side)) for _ in range(side)) + packer.flush()
    whole = png(width=side, height=side, rows=b"")
    return whole[:33] + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def four(read: Read) -> Read:
    return lambda path: list(ThreadPoolExecutor(4).map(read, [path] * 4))


def replied(path: Path) -> object:
    return parse(path.read_text(), True, GoalsReply)


def measured(read: Read, path: Path) -> dict[str, Any]:
    """Read the file in a child, and return its seconds, its MB above those before, and whether it was refused."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        before, start, said = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time(), "read"
        try:
            found = read(path)
            if isinstance(found, dict) and "missing" in found:
                said = "refused"
        except REFUSED:
            said = "refused"
        seconds = time.process_time() - start
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        os.write(writer, json.dumps({"seconds": seconds, "mb": (after - before) / 1024, "said": said}).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return json.loads(said) if said else {"seconds": 0.0, "mb": 0.0, "said": "DIED"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    growing: dict[str, tuple[str, Callable[[int], str | bytes], Read]] = dict(READERS)
    for name, text in REPLIES.items():
        growing[f"reply: {name}"] = ("a.txt", lambda size, text=text: filled(text, min(size, 390_000)), replied)
    small = {f"trajectory: {name}": (make, trajectory_of, 0) for name, (make, _) in BOMBS.items()}
    for side, honest in ((8192, 201), (13_000, 0)):
        for name, read in (picture_readers() | {"picture of a report": embedded}).items():
            small[f"{name}, {side} x {side}"] = (lambda side=side: huge(side), read, honest)
    small["four pictures of a report, 8192 x 8192"] = (lambda: huge(8192), four(embedded), 201)
    small["rows that are not there"] = (lambda: png(width=3, height=(1 << 24) - 1, rows=bytes(40)), read_png, 0)

    missed, record = [], {}
    with tempfile.TemporaryDirectory() as folder:
        print(
            "| reader | " + " | ".join(f"{size:g}" for size in SIZES) + " | MB at most |\n|" + "---|" * (len(SIZES) + 2)
        )
        for name, (file, make, read) in growing.items():
            rows = []
            for size in SIZES:
                path = made(Path(folder), file, make(size))
                rows.append(measured(read, path) | {"size": path.stat().st_size})
            record[name] = rows
            seconds = [row["seconds"] for row in rows]
            cells = [f"{row['seconds']:.3f}{'' if row['said'] == 'read' else ' ' + row['said']}" for row in rows]
            print(f"| {name} | " + " | ".join(cells) + f" | {max(row['mb'] for row in rows):.0f} |", flush=True)
            slow = any(more > 20 * less and more > SHORT for less, more in itertools.pairwise(seconds))
            if slow or any(row["mb"] > ROOM + row["size"] / 2**20 or row["said"] == "DIED" for row in rows):
                missed.append(name)
        print("\n| small file | KB | seconds | MB | |\n|---|---|---|---|---|")
        for name, (make, read, honest) in small.items():
            path = made(Path(folder), "mask-000.png", make())
            row = record[name] = measured(read, path) | {"size": path.stat().st_size}
            kb = row["size"] / 1024
            print(f"| {name} | {kb:.1f} | {row['seconds']:.2f} | {row['mb']:.0f} | {row['said']} |", flush=True)
            if row["mb"] > ROOM + honest + kb / 1024 or row["said"] == "DIED":
                missed.append(name)
    print(f"\nbars: {'met' if not missed else 'NOT MET by ' + ', '.join(missed)}")
    if options.json:
        options.json.write_text(json.dumps(record, indent=1))
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
