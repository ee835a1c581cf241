"""Briefs as a text: a prompt a line, CSV with a header, or JSON objects, one a line."""

from __future__ import annotations

import csv
import io
from typing import Any

from .errors import BadInput
from .reading import json_of

MOST = 10_000
"""Briefs of a list, at most."""
PROMPT = "prompt"
LONGEST_HEADER = 1000
"""Characters."""


def rows_of(text: str) -> list[tuple[int, Any]]:
    """Return number of the line and content of each brief: a prompt, or a dict of columns or keys to values.

    A list whose first line is a JSON object or a JSON string is JSON, one value a line. One whose first line is a header with the
    column `prompt` is CSV, split at commas, semicolons or tabs; its values are texts, and empty ones are left out.
    Any other has a prompt a line. Empty lines are skipped.

    Raises BadInput naming the line for what cannot be read, for an empty list and for more than MOST briefs.
    """
    text = text.removeprefix("\ufeff")
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise BadInput("the list holds no briefs; write one a line")
    first = lines[0][1]
    if header := _header(first):
        rows = _csv(text, header)
    elif _is_json(first):
        rows = [(number, _json(number, line)) for number, line in lines]
    else:
        rows = list(lines)
    if not rows:
        raise BadInput("the list has a header and no briefs below it; write one a line")
    if len(rows) > MOST:
        raise BadInput(f"the list has {len(rows):,} briefs; at most {MOST:,} are read")
    return rows


def _is_json(line: str) -> bool:
    """Whether the line is JSON or is meant to be. `{red|blue} ball` and `"OPEN" on a door` are prompts."""
    try:
        return line.startswith('{"') or isinstance(json_of(line), (dict, str))
    except ValueError:
        return False


def _json(number: int, line: str) -> Any:
    try:
        return json_of(line)
    except ValueError as error:
        raise BadInput(f"line {number}: {error}") from error


def _header(line: str) -> tuple[str, list[str]] | None:
    """Return delimiter and columns if the line is the header of a CSV, else None."""
    if len(line) > LONGEST_HEADER:
        return None
    for delimiter in ",;\t":
        columns = [column.strip().lower() for column in next(csv.reader([line], delimiter=delimiter), [])]
        if PROMPT in columns and all(columns) and len(set(columns)) == len(columns):
            return delimiter, columns
    return None


def _csv(text: str, header: tuple[str, list[str]]) -> list[tuple[int, dict[str, str]]]:
    delimiter, columns = header
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    rows, begun = [], False
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not begun:
                begun = True
                continue
            if len(cells) != len(columns):
                raise BadInput(
                    f"line {reader.line_num} has {len(cells)} values and the header {len(columns)} columns; "
                    f"put a prompt that has {delimiter!r} in it in double quotes"
                )
            named = {column: cell.strip() for column, cell in zip(columns, cells) if cell.strip()}
            rows.append((reader.line_num, named))
    except csv.Error as error:
        raise BadInput(f"line {reader.line_num}: {error}") from error
    return rows
