"""The report of all results in a folder of pictures: one page, one plot, one table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...errors import BadInput
from ...storage.atomic import write_bytes
from .gather import gather
from .page import page
from .plots import plot
from .table import table


@dataclass(frozen=True, slots=True)
class Written:
    html: Path
    png: Path
    csv: Path
    results: int


def write_report(images: Path, out: Path, data: Path | None = None, baseline: str | None = None) -> Written:
    """Write report.html, report.png and report.csv into `out`.

    data: the benchmark's folder, for pictures side by side.

    Raises BadInput if there are no results, or the files cannot be written.
    """
    groups = gather(images, data, baseline)
    written = Written(
        out / "report.html", out / "report.png", out / "report.csv", sum(len(group.entries) for group in groups)
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        plot(groups, written.png)
        write_bytes(written.csv, table(groups).encode())
        write_bytes(written.html, page(groups, written.png.read_bytes()).encode())
    except OSError as error:
        raise BadInput(
            f"the report cannot be written to {out}: {error.strerror}; choose another folder with --out"
        ) from error
    return written
