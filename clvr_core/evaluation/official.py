"""Results of the benchmarks' own scripts, read into the same tables: these are the benchmarks' own numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..reading import json_of
from .benchmarks.base import Answers, Benchmark, Item, mapping, records, text_of
from .scoring import Key

FAILED = (999, 9.9)
"""Grades that WISE's scripts write when the judge failed."""
Read = dict[Key, Answers]


def read_official(bench: Benchmark, items: Sequence[Item], path: Path) -> tuple[Read, list[str]]:
    """Read the answers of the official judge, and remarks on oddities of the file. Raises BadInput for a file of
    another kind.

    A verdict on the whole picture becomes the answer to each of its atoms, because the official files do not separate
    them.
    """
    if bench.name not in READERS:
        raise BadInput(f"the result files of {bench.name} cannot be read; those of {', '.join(READERS)} can")
    if not path.is_file():
        raise BadInput(f"{path} is not there; give the file that the official script wrote")
    found, odd = READERS[bench.name]({item.id: item for item in items}, path)
    if not found:
        raise BadInput(f"{path} tells of no item of this benchmark; is it the file that the official script wrote?")
    expected = {(item.id, k) for item in items for k in range(item.pictures)}
    if missing := len(expected - found.keys()):
        odd.append(f"the file tells nothing of {missing} of {len(expected)} pictures")
    return found, odd


def _whole(item: Item, correct: float | None) -> Answers:
    return {atom.id: correct for atom in item.atoms}


def _geneval(items: Mapping[str, Item], path: Path) -> tuple[Read, list[str]]:
    found: Read = {}
    odd: list[str] = []
    for where, record in records(path):
        match = re.search(r"(\d+)[/\\]samples[/\\](\d+)\.png$", str(record.get("filename", "")))
        item = items.get(f"{int(match[1]):05d}") if match else None
        if match is None or item is None or not isinstance(record.get("correct"), bool):
            raise BadInput(
                f"{where}: filename {record.get('filename')!r:.80} and correct {record.get('correct')!r:.20} are no result of GenEval"
            )
        if record.get("prompt") not in (None, item.prompt):
            raise BadInput(
                f"{where}: the prompt of item {item.id} is {record['prompt']!r:.60}, and the data have {item.prompt!r:.60}"
            )
        correct, many = record["correct"], _more_than_asked(item, record.get("details"))
        known = {atom.id: float(correct and not (atom.extra and many)) for atom in item.atoms}
        _put(found, odd, (item.id, int(match[2])), known, where)
    # The official layout numbers from 0; a hand-made one may start elsewhere.
    return _renumbered(found), odd


def _more_than_asked(item: Item, details: Any) -> bool:
    """Say, by the boxes in the official file, whether there are more things than asked for."""
    try:
        boxes = json_of(details) if isinstance(details, str) else {}
    except ValueError:
        boxes = {}
    counts = {clause["class"]: clause.get("count", 1) for clause in item.record.get("include", ())}
    return (
        any(len(boxes.get(name) or ()) > count for name, count in counts.items()) if isinstance(boxes, dict) else False
    )


def _renumbered(found: Read) -> Read:
    places: dict[str, list[int]] = {}
    for name, k in sorted(found):
        places.setdefault(name, []).append(k)
    return {(name, places[name].index(k)): answers for (name, k), answers in found.items()}


def _plus(items: Mapping[str, Item], path: Path) -> tuple[Read, list[str]]:
    found: Read = {}
    odd: list[str] = []
    results = mapping(path).get("overall_results")
    if not isinstance(results, list):
        raise BadInput(f"{path} has no overall_results, which GenEval++'s script writes")
    for place, record in enumerate(results, 1):
        where = f"{path} result {place}"
        item = items.get(str(record.get("id"))) if isinstance(record, dict) else None
        result = record.get("result") if item else None
        if item is None or not isinstance(result, dict) or result.get("correct") not in (-1, 0, 1):
            raise BadInput(f"{where} is no result of GenEval++: {record!r:.100}")
        # A missing picture is written as 0 and a judge's failure as -1; neither is a judgment.
        silent = result["correct"] == -1 or result.get("reason") == "Image not found"
        _put(found, odd, (item.id, 0), _whole(item, None if silent else float(result["correct"])), where)
    return found, odd


def _geneval2(items: Mapping[str, Item], path: Path) -> tuple[Read, list[str]]:
    lists = _parsed(path)
    if not isinstance(lists, list) or len(lists) != len(items):
        count = len(lists) if isinstance(lists, list) else 0
        raise BadInput(
            f"{path} has {count} lists of scores for {len(items)} prompts; score_lists.json has one for each, in their order"
        )
    found: Read = {}
    for item, scores in zip(items.values(), lists):
        fits = isinstance(scores, list) and len(scores) == len(item.atoms)
        if not fits or not all(isinstance(score, (int, float)) and 0 <= score <= 1.001 for score in scores):
            raise BadInput(
                f"{path}: the scores of {item.prompt!r:.60} are {scores!r:.80}; one from 0 to 1 for each of its atoms is expected"
            )
        found[item.id, 0] = {atom.id: min(1.0, float(score)) for atom, score in zip(item.atoms, scores)}
    return found, []


def _wise(items: Mapping[str, Item], path: Path) -> tuple[Read, list[str]]:
    found: Read = {}
    odd: list[str] = []
    failed = 0
    for where, record in records(path):
        item = items.get(str(record.get("prompt_id")))
        if item is None:
            raise BadInput(f"{where}: prompt_id {record.get('prompt_id')!r:.40} is in none of the data")
        names = [scale.id for scale in item.scales] or ["score"]
        grades: dict[str, Any] = {name: record.get(name) for name in names}
        if not all(isinstance(grade, (int, float)) for grade in grades.values()):
            raise BadInput(f"{where}: {', '.join(names)} are expected as numbers, found {grades!r:.100}")
        silent = any(grade in FAILED for grade in grades.values())
        failed += silent
        known = {(name if item.scales else "meant"): None if silent else float(grade) for name, grade in grades.items()}
        _put(found, odd, (item.id, 0), known, where)
    if failed:
        odd.append(
            f"the judge failed for {failed} pictures (a grade of 999); the official script then leaves the whole part out"
        )
    return found, odd


GRADE = re.compile(r"(Fantasy Fulfillment|Identity Preservation|Aesthetic Quality)\W{0,6}(\d{1,2})")
NAMES = {"Fantasy Fulfillment": "fantasy", "Identity Preservation": "identity", "Aesthetic Quality": "aesthetic"}


def _imagine(items: Mapping[str, Item], path: Path) -> tuple[Read, list[str]]:
    found: Read = {}
    odd: list[str] = []
    lines = records(path)
    for where, record in lines:
        item = items.get(str(record.get("id")))
        text = record.get("evaluation") or record.get("evaluation_text")
        if item is None or not isinstance(text, str):
            raise BadInput(f"{where} is no result of ImagineBench: {record!r:.100}")
        grades = {NAMES[name]: min(10.0, float(grade)) for name, grade in GRADE.findall(text)}
        _put(found, odd, (item.id, 0), {scale.id: grades.get(scale.id) for scale in item.scales}, where)
    return found, odd


def _imgedit(items: Mapping[str, Item], path: Path) -> tuple[Read, list[str]]:
    found: Read = {}
    for key, said in mapping(path).items():
        item = items.get(key)
        if item is None:
            raise BadInput(f"{path}: {key!r:.40} is in none of the data")
        names = [scale.id for scale in item.scales]
        if isinstance(said, str):
            grades = [
                int(match[1]) for line in said.splitlines() if (match := re.fullmatch(r"[^:]*: (\d+)", line.strip()))
            ]
            known = dict(zip(names, map(float, grades))) if len(grades) == len(names) else dict.fromkeys(names)
        elif isinstance(said, (int, float)) and not isinstance(said, bool):
            # The averages of the second script: the three grades are not told apart.
            known = dict.fromkeys(names, float(said))
        else:
            known = dict.fromkeys(names)
        found[key, 0] = known
    return found, []


UNTOLD = {"geneval++": ("overall, any style",)}
"""Measures that an official file cannot give, because it has one verdict for the whole picture."""
READERS: dict[str, Callable[[Mapping[str, Item], Path], tuple[Read, list[str]]]] = {
    "geneval": _geneval,
    "geneval++": _plus,
    "geneval2": _geneval2,
    "wise": _wise,
    "wise-verified": _wise,
    "imagine": _imagine,
    "imgedit": _imgedit,
}


def _put(found: Read, odd: list[str], key: Key, answers: Answers, where: str) -> None:
    if key in found:
        odd.append(f"{where} tells of item {key[0]}, picture {key[1]}, a second time; the first stands")
        return
    found[key] = answers


def _parsed(path: Path) -> Any:
    try:
        return json_of(text_of(path))
    except ValueError as error:
        raise BadInput(f"{path} is no JSON: {error}") from error
