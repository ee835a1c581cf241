"""What a benchmark is to the runner: items read from its own files, places for pictures in its own layout, questions, and its numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...errors import BadInput
from ..complexity import Parse

HOLDS = 0.5
"""From this probability of a yes on, an atom holds."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
MAX_FILE = 256 << 20

Answers = Mapping[str, float | None]
"""Of one picture: probability 0..1 of a yes for each atom, a grade on its own scale for each scale; None where no answer came."""


@dataclass(frozen=True, slots=True)
class Atom:
    """A statement that holds of a picture or does not.

    question: yes means that it holds. parents: atoms without which it cannot hold. extra: asked for a second reading only, and no part
    of the benchmark's own.
    """

    id: str
    text: str
    question: str
    kind: str = ""
    parents: tuple[str, ...] = ()
    extra: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    """A grade from `low` up. rungs: (grade, what a picture must be to have at least it), ascending."""

    id: str
    asked: str
    low: float
    rungs: tuple[tuple[float, str], ...]

    @property
    def high(self) -> float:
        return self.rungs[-1][0]


@dataclass(frozen=True, slots=True)
class Item:
    """One task. tag: the part of the benchmark whose mean it enters. pictures: how many the benchmark has drawn for it. source: picture
    to edit, relative to the data folder, or empty. complexity: the benchmark's own measure. record: the line as it was read."""

    id: str
    prompt: str
    tag: str
    atoms: tuple[Atom, ...] = ()
    scales: tuple[Scale, ...] = ()
    pictures: int = 1
    source: str = ""
    complexity: float | None = None
    parse: Parse | None = None
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measure:
    """One of the benchmark's numbers.

    value: of one picture, None if answers are missing for it. over: mean of the tags' means, or of all items alike. weights: of the
    tags; one that is not named has no part in it. unit: how much an item weighs among its like. best: the best of an item's pictures
    instead of each. top: the most that can be had.
    """

    name: str
    value: Callable[[Item, Answers], float | None]
    over: Literal["tags", "items"] = "tags"
    weights: Mapping[str, float] | None = None
    unit: Callable[[Item], float] = lambda item: 1.0
    best: bool = False
    top: float = 1.0


class Benchmark:
    """name: as typed. title: as printed: what is measured here is like the benchmark and not it. expected: items in its own file.
    licence: of its data, in a sentence. notes: what is to be known of its official numbers."""

    name = ""
    title = ""
    expected: int | None = None
    licence = ""
    files: tuple[str, ...] = ()
    measures: tuple[Measure, ...] = ()
    notes: tuple[str, ...] = ()

    def find(self, folder: Path) -> tuple[Path, ...]:
        """The files to read, in order; none if the folder does not hold this benchmark."""
        found = [path for name in self.files for path in sorted(folder.glob(name)) if path.is_file()]
        return tuple(dict.fromkeys(found))

    def read(self, folder: Path) -> list[Item]:
        """Raises BadInput naming file, line and field for what cannot be read."""
        raise NotImplementedError

    def path(self, item: Item, k: int) -> str:
        """Where the benchmark's own script looks for picture `k` of the item, relative to the folder of pictures."""
        raise NotImplementedError

    def sidecars(self, items: Sequence[Item], folder: str) -> dict[str, str]:
        """Other files that the official script reads: path relative to the folder of pictures -> text."""
        return {}

    def passed(self, item: Item, answers: Answers) -> float | None:
        """1 if the picture is all that was asked for, else 0."""
        return all_hold(item, answers)


def settled(item: Item, answers: Answers, extra: bool = False) -> dict[str, float | None]:
    """The atoms' answers, with 0 where a parent does not hold: without a dog there is no brown one."""
    known: dict[str, float | None] = {}
    for atom in item.atoms:
        if atom.extra and not extra:
            continue
        above = [known.get(parent) for parent in atom.parents]
        known[atom.id] = 0.0 if any(value is not None and value < HOLDS for value in above) else answers.get(atom.id)
    return known


def all_hold(item: Item, answers: Answers, extra: bool = False) -> float | None:
    values = list(settled(item, answers, extra).values())
    if not values:
        return None
    # One atom that does not hold decides, whatever the others are.
    if any(value is not None and value < HOLDS for value in values):
        return 0.0
    return None if any(value is None for value in values) else 1.0


def mean_of(values: Iterable[float | None]) -> float | None:
    """None if any is missing."""
    values = list(values)
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def graded(combine: Callable[[Mapping[str, float]], float]) -> Callable[[Item, Answers], float | None]:
    """A number made of the grades; None if one is missing."""

    def value(item: Item, answers: Answers) -> float | None:
        grades = {scale.id: answers.get(scale.id) for scale in item.scales}
        known = {name: grade for name, grade in grades.items() if grade is not None}
        return combine(known) if known and len(known) == len(grades) else None

    return value


def records(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(where, record) for each line of a JSONL file, whatever its ending, or each entry of a JSON list."""
    text = text_of(path)
    if path.suffix == ".jsonl" or text.lstrip().startswith("{"):
        found = []
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                found.append((f"{path} line {number}", _parsed(line, f"{path} line {number}")))
    else:
        data = _parsed(text, str(path))
        if not isinstance(data, list):
            raise BadInput(f"{path} holds {type(data).__name__}; a list of records is expected")
        found = [(f"{path} record {number}", record) for number, record in enumerate(data, 1)]
    for where, record in found:
        if not isinstance(record, dict):
            raise BadInput(f"{where} is {record!r:.60}; an object is expected")
    if not found:
        raise BadInput(f"{path} is empty")
    return found


def text_of(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE:
            raise BadInput(f"{path} has {path.stat().st_size:,} bytes; at most {MAX_FILE:,} are read")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8: {error}") from error


def mapping(path: Path) -> dict[str, Any]:
    data = _parsed(text_of(path), str(path))
    if not isinstance(data, dict) or not data:
        raise BadInput(f"{path} holds {type(data).__name__}; an object with an entry for each item is expected")
    return data


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where} is no JSON: {error}") from error


def need(record: Mapping[str, Any], name: str, kind: type | tuple[type, ...], where: str) -> Any:
    value = record.get(name)
    if not isinstance(value, kind) or isinstance(value, bool) or (isinstance(value, str) and not value.strip()):
        wanted = " or ".join(one.__name__ for one in kind) if isinstance(kind, tuple) else kind.__name__
        raise BadInput(f"{where}: {name} is {value!r:.60}; a {wanted} is expected")
    return value


def unlike(items: Sequence[Item], path: Callable[[Item, int], str]) -> Sequence[Item]:
    """The items, if no two have one id or one place for their picture. Raises BadInput naming the first that do."""
    seen: dict[str, str] = {}
    for item in items:
        for key in dict.fromkeys((f"id {item.id}", f"picture {path(item, 0)}")):
            if key in seen:
                raise BadInput(
                    f"two items have the {key}: {seen[key]!r:.60} and {item.prompt!r:.60}; each needs its own"
                )
            seen[key] = item.prompt
    return items


def inside(name: str, where: str) -> str:
    """A path from a data file, which must stay in its folder. Raises BadInput for one that leaves it."""
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts or "\\" in name or ":" in name or "\0" in name:
        raise BadInput(f"{where}: {name!r:.60} is no path inside the data folder")
    return name
