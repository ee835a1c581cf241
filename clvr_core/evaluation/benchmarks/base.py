"""What every benchmark provides: items read from its own files, paths of pictures in its own layout, questions, and
measures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...errors import BadInput
from ...reading import json_of
from ..prompt_parse import Parse

HOLDS = 0.5
"""An atom holds from this probability of yes on."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
MAX_FILE = 256 << 20

Answers = Mapping[str, float | None]
"""Answers about one picture: the probability of yes, 0 to 1, for each atom, a grade for each scale, None without an
answer."""


@dataclass(frozen=True, slots=True)
class Atom:
    """A statement about a picture that holds or does not.

    id: unique among the item's atoms and scales.
    question: yes means that it holds.
    parents: atoms without which it cannot hold.
    extra: asked for a second, stricter reading only; it is not part of the benchmark.
    """

    id: str
    text: str
    question: str
    kind: str = ""
    parents: tuple[str, ...] = ()
    extra: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    """A graded question.

    low: the lowest grade.
    rungs: (grade, what a picture must be to get at least this grade), ascending.
    """

    id: str
    asked: str
    low: float
    rungs: tuple[tuple[float, str], ...]

    @property
    def high(self) -> float:
        return self.rungs[-1][0]


@dataclass(frozen=True, slots=True)
class Item:
    """One task of a benchmark.

    tag: the part of the benchmark whose mean it counts in.
    pictures: how many the benchmark draws for it.
    source: picture to edit, relative to the data folder, or "".
    complexity: the benchmark's own measure, None without one.
    record: the line as it was read.
    """

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

    value: of one picture; None if answers are missing for it.
    over: mean of the tags' means, or of all items alike.
    weights: of the tags; a tag without a weight does not count.
    unit: weight of an item within its tag.
    best: take the best of an item's pictures instead of their mean.
    top: the largest possible value.
    """

    name: str
    value: Callable[[Item, Answers], float | None]
    over: Literal["tags", "items"] = "tags"
    weights: Mapping[str, float] | None = None
    unit: Callable[[Item], float] = lambda item: 1.0
    best: bool = False
    top: float = 1.0


class Benchmark:
    """A benchmark.

    name: as typed on the command line.
    title: as printed, such as GenEval-compatible: the numbers here are like the benchmark's and not its own.
    expected: number of items in its own file.
    licence: of its data, in a sentence.
    notes: what to know about its official numbers.
    """

    name = ""
    title = ""
    expected: int | None = None
    licence = ""
    files: tuple[str, ...] = ()
    measures: tuple[Measure, ...] = ()
    notes: tuple[str, ...] = ()

    def find(self, folder: Path) -> tuple[Path, ...]:
        """Return the files to read, in order; () if the folder does not hold this benchmark."""
        found = [path for name in self.files for path in sorted(folder.glob(name)) if path.is_file()]
        return tuple(dict.fromkeys(found))

    def read(self, folder: Path) -> list[Item]:
        """Read the items. Raises BadInput naming file, line and field that cannot be read."""
        raise NotImplementedError

    def path(self, item: Item, k: int) -> str:
        """Return the path of picture `k` of an item, relative to the folder of pictures, where the benchmark's own
        script looks for it."""
        raise NotImplementedError

    def sidecars(self, items: Sequence[Item], folder: str) -> dict[str, str]:
        """Return other files that the official script reads, by path relative to the folder of pictures."""
        return {}

    def passed(self, item: Item, answers: Answers) -> float | None:
        """Return 1 if the picture shows everything asked for, else 0; None if answers are missing."""
        return all_hold(item, answers)


def settled(item: Item, answers: Answers, extra: bool = False) -> dict[str, float | None]:
    """Return the atoms' answers, with 0 where a parent does not hold: without a dog there is no brown one."""
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
    """Return the mean, None if a value is missing or there is none."""
    values = list(values)
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def graded(combine: Callable[[Mapping[str, float]], float]) -> Callable[[Item, Answers], float | None]:
    """Return a measure that combines the grades, None if one is missing."""

    def value(item: Item, answers: Answers) -> float | None:
        grades = {scale.id: answers.get(scale.id) for scale in item.scales}
        known = {name: grade for name, grade in grades.items() if grade is not None}
        return combine(known) if known and len(known) == len(grades) else None

    return value


def records(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Read (where, record) of each line of a JSONL file, whatever its name ends in, or of each entry of a JSON list."""
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
        return json_of(text)
    except ValueError as error:
        raise BadInput(f"{where} is no JSON: {error}") from error


def need(record: Mapping[str, Any], name: str, kind: type | tuple[type, ...], where: str) -> Any:
    value = record.get(name)
    if not isinstance(value, kind) or isinstance(value, bool) or (isinstance(value, str) and not value.strip()):
        wanted = " or ".join(one.__name__ for one in kind) if isinstance(kind, tuple) else kind.__name__
        raise BadInput(f"{where}: {name} is {value!r:.60}; a {wanted} is expected")
    return value


def unlike(items: Sequence[Item], path: Callable[[Item, int], str]) -> Sequence[Item]:
    """Return the items. Raises BadInput for the first two with the same id or the same path."""
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
    """Return a path from a data file. Raises BadInput if it leaves its folder."""
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts or "\\" in name or ":" in name or "\0" in name:
        raise BadInput(f"{where}: {name!r:.60} is no path inside the data folder")
    return name
