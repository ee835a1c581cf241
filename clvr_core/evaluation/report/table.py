"""The numbers as CSV: a line for each name, measure and judge, and the numbers printed in papers, marked as such."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from ..published import rows_for
from .gather import Group

HEAD: tuple[str, ...] = (
    "bench",
    "name",
    "arm",
    "control_of",
    "measure",
    "value",
    "low95",
    "high95",
    "strict",
    "of",
    "items",
    "pictures",
    "missing",
    "unanswered",
    "gap_to_baseline",
    "gap_low95",
    "gap_high95",
    "evaluations",
    "vlm_tokens",
    "seconds",
    "title",
    "protocol",
    "judge",
    "data_sha256",
    "words_sha256",
    "published",
    "comparable",
    "source",
)


def table(groups: Sequence[Group]) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, HEAD, restval="", lineterminator="\n")
    writer.writeheader()
    for group in groups:
        for entry in group.entries:
            result, spent = entry.result, entry.result.get("spent") or {}
            for place, (name, measure) in enumerate(result["measures"].items()):
                low, high = measure["ci95"] or ("", "")
                line = {
                    "name": entry.name,
                    "arm": entry.way,
                    "control_of": entry.control,
                    "measure": name,
                    "low95": low,
                    "high95": high,
                    "pictures": result["pictures"]["judged"],
                    "missing": result["pictures"]["expected"] - result["pictures"]["there"],
                    "unanswered": result["pictures"]["unanswered"],
                    "published": "no",
                    "comparable": "within this table"
                    if result["title"].endswith("-compatible")
                    else "with the benchmark's own numbers",
                    **{key: measure[key] for key in ("value", "strict", "of", "items")},
                    **{key: spent.get(key, "") for key in ("evaluations", "vlm_tokens", "seconds")},
                    **{
                        key: result.get(key)
                        for key in ("bench", "title", "protocol", "judge", "data_sha256", "words_sha256")
                    },
                }
                if place == 0 and entry.gap:
                    gap, bounds = entry.gap
                    line |= {"gap_to_baseline": gap, "gap_low95": bounds.low, "gap_high95": bounds.high}
                writer.writerow({key: "" if value is None else value for key, value in line.items()})
    for bench in dict.fromkeys(group.bench.name for group in groups):
        for row in rows_for(bench):
            words = {
                "published": "yes",
                "comparable": "no: another judge and protocol",
                "source": row.source,
                "judge": row.judge,
            }
            measure = ", ".join(filter(None, (row.measure, row.tag)))
            value = f"{row.bound} {row.value}".strip()
            writer.writerow({"bench": bench, "name": row.name, "measure": measure, "value": value, **words})
    return file.getvalue()
